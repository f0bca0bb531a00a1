"""Which of two answers a judge calls better, read from its words by MT-Bench's published rule."""

from __future__ import annotations

# The scale of preferences: how much the model under test is preferred to its opponent.
LOSS, TIE, WIN = 1.0, 1.5, 2.0
_LETTERS = {"[[A]]": WIN, "[[B]]": LOSS, "[[C]]": TIE}


def parse_verdict(text: str, *, shown_first: bool) -> float:
    """2 where the model's answer is called better, 1 where the opponent's is, 1.5 for a tie.

    As in fastchat's `run_judge_pair` the letters are looked for in the order A, B, C anywhere in the text, so a reply
    that names several counts for the first of that order.  `shown_first`: whether the model's answer was A.  Raises
    ValueError when there is none.
    """
    for letter, value in _LETTERS.items():
        if letter in text:
            return value if shown_first else LOSS + WIN - value
    raise ValueError("no verdict of the form [[A]], [[B]] or [[C]] in the reply")


def verdict_letter(value: float, *, shown_first: bool) -> str:
    """The letter that says a preference; `parse_verdict` reads it back as 2, 1.5 or 1."""
    if value == TIE:
        return "[[C]]"
    return "[[A]]" if (value > TIE) == shown_first else "[[B]]"
