"""From one vocabulary into another: the token of equal text, else the one at the smallest edit distance (MinED).

    map_into(reference, other)[i]     # the id in `other` whose logit stands for the reference's token i

A token's text is what decoding adds when the token follows an ordinary one, so that a space is a space whatever marks
it.  Pieces of characters decode to nothing readable and go by their written form.  Exact; the search visits texts by
difference of length, which bounds the distance from below, and computes all distances of one length at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.configure import Refusal

_UNREADABLE = "\ufffd"


def token_texts(tokenizer: Any) -> list[str | None]:
    """The text of every id; None for special tokens and ids that have no token.  Raises Refusal for a tokenizer that
    cannot even encode a letter."""
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
    if not anchor:
        raise Refusal(f"{type(tokenizer).__name__} does not encode the letter a: is it a tokenizer of text?")
    alone = tokenizer.decode(anchor)
    special = set(tokenizer.all_special_ids)
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    texts: list[str | None] = []
    for number, piece in enumerate(pieces):
        if piece is None or number in special:
            texts.append(None)
            continue
        text = tokenizer.decode([*anchor, number], clean_up_tokenization_spaces=False)
        readable = text.startswith(alone) and _UNREADABLE not in text and len(text) > len(alone)
        texts.append(text[len(alone) :] if readable else piece)
    return texts


def map_into(reference: Sequence[str | None], other: Sequence[str | None]) -> NDArray[np.int64]:
    """For every id of `reference` an id of `other`; -1 where the reference has no text, and of several equally near the
    lowest.  Raises ValueError when `other` has no text at all."""
    known: dict[str, int] = {}
    for number, text in enumerate(other):
        if text is not None:
            known.setdefault(text, number)
    if not known:
        raise ValueError("the other vocabulary has no token with a text")
    search = _Search(known)
    found = np.full(len(reference), -1, np.int64)
    for number, text in enumerate(reference):
        if text is not None:
            equal = known.get(text)
            found[number] = search.nearest(text) if equal is None else equal
    return found


class _Search:
    """Texts by length: the codes [length, texts] of their characters, and their ids."""

    def __init__(self, known: dict[str, int]) -> None:
        by_length: dict[int, list[tuple[int, str]]] = {}
        for text, number in known.items():
            by_length.setdefault(len(text), []).append((number, text))
        self._ids = {length: np.array([number for number, _ in rows]) for length, rows in by_length.items()}
        self._codes = {
            length: np.ascontiguousarray(codes([text for _, text in rows]).reshape(len(rows), length).T)
            for length, rows in by_length.items()
        }
        self._lengths = sorted(by_length)

    def nearest(self, text: str) -> int:
        own = codes([text])
        best, best_id = 2**62, -1
        for length in sorted(self._lengths, key=lambda length: abs(length - len(text))):
            if abs(length - len(text)) > best:
                break
            distances = edit_distances(own, self._codes[length])
            least = int(distances.min())
            if least <= best:
                number = int(self._ids[length][distances == least].min())
                best, best_id = least, number if least < best else min(number, best_id)
        return best_id


def codes(texts: Sequence[str]) -> NDArray[np.int32]:
    """The Unicode code points of the texts, end to end."""
    return np.array([ord(letter) for text in texts for letter in text], np.int32)


def edit_distances(text: NDArray[np.int32], others: NDArray[np.int32]) -> NDArray[np.int16]:
    """Levenshtein distance of `text` [n] to each column of `others` [m, N]; insert, delete and replace cost 1."""
    length, count = others.shape
    # above[j]: the distances of the text's first letters, one fewer than now, to the first j of each other text.
    above = np.repeat(np.arange(length + 1, dtype=np.int16)[:, None], count, axis=1)
    row = np.empty_like(above)
    for i, letter in enumerate(text, start=1):
        differs = others != letter
        row[0] = i
        for j in range(1, length + 1):
            np.minimum(above[j], row[j - 1], out=row[j])
            row[j] += 1
            np.minimum(row[j], above[j - 1] + differs[j - 1], out=row[j])
        above, row = row, above
    return above[length]
