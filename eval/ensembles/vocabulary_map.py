"""From one vocabulary into another: the token of equal text, else the one at the smallest edit distance (MinED).

    map_into(reference, other)[i]     # the id in `other` whose logit stands for the reference's token i

A token's text is what decoding adds when the token follows an ordinary one, so that a space is a space whatever marks
it.  Pieces of characters decode to nothing readable and go by their written form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.runtime.configure import Refusal
from fusion.runtime.edit_distance import nearest_ids, numbered

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
    found = np.array([-1 if text is None else known.get(text, -1) for text in reference], np.int64)
    strange = [number for number, text in enumerate(reference) if text is not None and text not in known]
    texts = [text for number in strange if (text := reference[number]) is not None]
    ours, others = numbered(texts, list(known))
    # `known` is in the order of ids, so the first of several at one distance has the lowest.
    found[strange] = np.array([*known.values()])[nearest_ids(ours, np.arange(len(texts)), others)]
    return found
