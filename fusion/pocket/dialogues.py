"""Two-turn dialogues in three domains whose right answers are known: what the pocket models learn and are asked.

`numbers` writes one number in several forms, `arithmetic` computes with small whole numbers, `letters` rearranges
short rows of letters; four skills each.  The second turn builds on the first answer ("now reverse it").  Everything is
a pure function of a seed.  A question belongs to one split for ever, by a hash of its opening turn, so the train,
fusion, validation and test sets cannot share a question whatever their sizes.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from fusion.runtime.configure import Refusal

DOMAINS = ("numbers", "arithmetic", "letters")
SPLITS = {"train": 60, "fusion": 20, "validation": 10, "test": 10}  # percent of all questions


@dataclass(frozen=True, kw_only=True)
class PocketData:
    """How much of everything is written.  Counts are per domain."""

    seed: int = 0
    train: int = 5100  # dialogues that teach the four models to chat
    fusion: int = 400  # dialogues of the fusion set
    wrong_share: float = 0.1  # of the fusion dialogues, as real mixtures have wrong answers too
    covered_skills: float = 1.0  # share of each domain's skills that the fusion dialogues show
    # Which split the benchmarks' questions and instructions come from: settings are chosen on validation questions,
    # test questions are for the table.
    asked: Literal["validation", "test"] = "test"
    questions: int = 160
    instructions: int = 50
    baseline_wrong_share: float = 0.4  # of AlpacaEval's baseline answers

    def __post_init__(self) -> None:
        for name in ("train", "fusion", "questions", "instructions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 1")
        for name in ("wrong_share", "baseline_wrong_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected 0 to 1")
        if not 0.25 < self.covered_skills <= 1:
            raise ValueError(
                f"covered_skills is {self.covered_skills}: expected above 0.25, up to 1: a dialogue shows two of a"
                " domain's four skills"
            )


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One user turn and its right answer."""

    skill: str
    prompt: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """An opening and a follow-up.  `key` names the opening question whatever its wording."""

    domain: str
    key: str
    turns: tuple[Exchange, Exchange]


# ------------------------------------------------------------------------------------------------ numbers
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
_ROMAN = (
    (900, "CM"),
    (500, "D"),
    (400, "CD"),
    (100, "C"),
    (90, "XC"),
    (50, "L"),
    (40, "XL"),
    (10, "X"),
    (9, "IX"),
    (5, "V"),
    (4, "IV"),
    (1, "I"),
)


def in_words(value: int) -> str:
    """347 -> 'three hundred forty seven'; for 0 <= value < 1000."""
    if value < 20:
        return _ONES[value]
    if value < 100:
        return _TENS[value // 10] + ("" if value % 10 == 0 else f" {_ONES[value % 10]}")
    rest = "" if value % 100 == 0 else f" {in_words(value % 100)}"
    return f"{_ONES[value // 100]} hundred{rest}"


def in_roman(value: int) -> str:
    """347 -> 'C C C X L V I I', the signs set apart; for 0 < value < 1000."""
    signs = []
    for size, sign in _ROMAN:
        while value >= size:
            signs.append(sign)
            value -= size
    return " ".join("".join(signs))


def in_digits(value: int) -> str:
    """347 -> 'three four seven'."""
    return " ".join(_ONES[int(digit)] for digit in str(value))


def in_figures(value: int) -> str:
    """347 -> '347'."""
    return str(value)


_FORMS: Mapping[str, Callable[[int], str]] = {
    "words": in_words,
    "roman": in_roman,
    "digits": in_digits,
    "figures": in_figures,
}


def _numbers(draw: random.Random) -> Dialogue:
    value = draw.randrange(1, 1000)
    given, first, second = draw.sample(sorted(_FORMS), 3)
    shown = _FORMS[given](value)
    opening = Exchange(skill=first, prompt=f"write {shown} in {first}", answer=_FORMS[first](value))
    follow_up = Exchange(skill=second, prompt=f"now in {second}", answer=_FORMS[second](value))
    return Dialogue(domain="numbers", key=f"{first} {shown}", turns=(opening, follow_up))


# --------------------------------------------------------------------------------------------- arithmetic
def add_five(value: int) -> int:
    """37 -> 42."""
    return value + 5


def take_five(value: int) -> int:
    """42 -> 37."""
    return value - 5


def double(value: int) -> int:
    """37 -> 74."""
    return 2 * value


def halve(value: int) -> int:
    """74 -> 37; for even values."""
    return value // 2


_STEPS: Mapping[str, Callable[[int], int]] = {
    "add 5 to": add_five,
    "take 5 from": take_five,
    "double": double,
    "halve": halve,
}


def _arithmetic(draw: random.Random) -> Dialogue:
    value = draw.randrange(10, 800)
    first = draw.choice([step for step in sorted(_STEPS) if step != "halve" or value % 2 == 0])
    middle = _STEPS[first](value)
    second = draw.choice([step for step in sorted(_STEPS) if step != first and (step != "halve" or middle % 2 == 0)])
    opening = Exchange(skill=first, prompt=f"{first} {value}", answer=str(middle))
    follow_up = Exchange(skill=second, prompt=f"now {second} it", answer=str(_STEPS[second](middle)))
    return Dialogue(domain="arithmetic", key=f"{first} {value}", turns=(opening, follow_up))


# ------------------------------------------------------------------------------------------------ letters
def reverse(letters: str) -> str:
    """'ktam' -> 'matk'."""
    return letters[::-1]


def in_order(letters: str) -> str:
    """'ktam' -> 'akmt'."""
    return "".join(sorted(letters))


def next_letters(letters: str) -> str:
    """'ktaz' -> 'luba': every letter's successor, after z comes a."""
    return "".join(chr((ord(letter) - ord("a") + 1) % 26 + ord("a")) for letter in letters)


def previous_letters(letters: str) -> str:
    """'luba' -> 'ktaz': every letter's predecessor, before a comes z."""
    return "".join(chr((ord(letter) - ord("a") - 1) % 26 + ord("a")) for letter in letters)


_REWORKINGS: Mapping[str, Callable[[str], str]] = {
    "reverse": reverse,
    "sort": in_order,
    "advance": next_letters,
    "lower": previous_letters,
}


def _letters(draw: random.Random) -> Dialogue:
    letters = "".join(draw.sample("abcdefghijklmnopqrstuvwxyz", 3))
    first, second = draw.sample(sorted(_REWORKINGS), 2)
    middle = _REWORKINGS[first](letters)
    opening = Exchange(skill=first, prompt=f"{first} {' '.join(letters)}", answer=" ".join(middle))
    follow_up = Exchange(skill=second, prompt=f"now {second} it", answer=" ".join(_REWORKINGS[second](middle)))
    return Dialogue(domain="letters", key=f"{first} {letters}", turns=(opening, follow_up))


_DRAW = {"numbers": _numbers, "arithmetic": _arithmetic, "letters": _letters}
SKILLS: Mapping[str, tuple[str, ...]] = {
    "numbers": tuple(sorted(_FORMS)),
    "arithmetic": tuple(sorted(_STEPS)),
    "letters": tuple(sorted(_REWORKINGS)),
}


def shows_only(dialogue: Dialogue, share: float) -> bool:
    """Whether both turns ask for skills that are covered where `share` of each domain's are: the first by name."""
    skills = SKILLS[dialogue.domain]
    covered = skills[: math.ceil(share * len(skills))]
    return all(turn.skill in covered for turn in dialogue.turns)


def split_of(dialogue: Dialogue) -> str:
    """The one split this opening question belongs to: a hash of the question, not of the run."""
    place = int.from_bytes(hashlib.sha256(f"{dialogue.domain}:{dialogue.key}".encode()).digest()[:4], "big") % 100
    for name, share in SPLITS.items():
        if place < share:
            return name
        place -= share
    raise AssertionError("the shares of SPLITS sum to 100")


def dialogues(*, domain: str, split: str, seed: int) -> Iterator[Dialogue]:
    """An endless, reproducible stream of the dialogues of one domain and split; questions may come again."""
    if domain not in DOMAINS or split not in SPLITS:
        raise ValueError(
            f"no dialogues of domain {domain!r}, split {split!r}: choose from {DOMAINS} and {tuple(SPLITS)}"
        )
    draw = random.Random(f"{seed}/{domain}/{split}")
    while True:
        dialogue = _DRAW[domain](draw)
        if split_of(dialogue) == split:
            yield dialogue


def opening_of(dialogue: Dialogue) -> str:
    """What makes two dialogues the same question."""
    return dialogue.key


def wording_of(dialogue: Dialogue) -> str:
    """What makes two dialogues the same text: opening and follow-up."""
    return f"{dialogue.key} / {dialogue.turns[1].prompt}"


def distinct(stream: Iterator[Dialogue], count: int, by: Callable[[Dialogue], str]) -> list[Dialogue]:
    """The first `count` dialogues of the stream that differ in `by`.

    Raises Refusal when 1000 draws in a row bring nothing new: the split has no more to give.
    """
    found: dict[str, Dialogue] = {}
    stale = 0
    while len(found) < count:
        dialogue = next(stream)
        stale = stale + 1 if by(dialogue) in found else 0
        if stale >= 1000:
            raise Refusal(f"this split has about {len(found)} different dialogues: expected at most that, not {count}")
        found.setdefault(by(dialogue), dialogue)
    return list(found.values())


def mistaken(dialogue: Dialogue, draw: random.Random) -> Dialogue:
    """The same dialogue with a slip in every answer: one word, figure or letter is changed for another of its kind."""
    return replace(dialogue, turns=tuple(replace(turn, answer=slip(turn.answer, draw)) for turn in dialogue.turns))  # type: ignore[arg-type]


def slip(answer: str, draw: random.Random) -> str:
    """`answer` with one word, figure or letter changed; never equal to it."""
    words = answer.split()
    place = draw.randrange(len(words))
    word = words[place]
    if word.isdigit():
        figure = draw.randrange(len(word))
        low = 1 if figure == 0 and len(word) > 1 else 0
        other = draw.choice([d for d in "0123456789"[low:] if d != word[figure]])
        changed = word[:figure] + other + word[figure + 1 :]
    elif len(word) == 1:
        alphabet = "IVXLCD" if word.isupper() else "abcdefghijklmnopqrstuvwxyz"
        changed = draw.choice([letter for letter in alphabet if letter != word])
    else:
        changed = draw.choice([other for other in (*_ONES, *_TENS[2:], "hundred") if other != word])
    return " ".join([*words[:place], changed, *words[place + 1 :]])
