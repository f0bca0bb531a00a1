"""Which bytes of a rendered text each of its tokens spells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def byte_offsets(text: str, size: int) -> NDArray[np.int64]:
    """The byte offset of every character of `text`, and of its end."""
    if size == len(text):
        return np.arange(size + 1, dtype=np.int64)
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    widths = 1 + (points > 0x7F).astype(np.int64) + (points > 0x7FF) + (points > 0xFFFF)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(widths)])


def spell_out(
    text: bytes,
    pieces: Sequence[bytes],
    special: NDArray[np.bool_],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
) -> None:
    """Make the spans exact to the byte, in place, where characters are shared by tokens or offsets are trimmed.

    Between two special tokens the pieces' bytes either spell the text there, perhaps after a dummy space, and their
    lengths are the spans; or a normaliser changed it, and the tokenizer's offsets stand.
    """
    borders = np.flatnonzero(special)
    begins = np.concatenate([[0], borders + 1])
    ends = np.concatenate([borders, [len(pieces)]])
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        if begin == end:
            continue
        low = int(last[begin - 1]) if begin else 0
        high = int(first[end]) if end < len(pieces) else len(text)
        run = pieces[begin:end]
        sizes = np.fromiter(map(len, run), np.int64, end - begin)
        joined = b"".join(run)
        dummy = len(joined) - (high - low)
        if dummy in (0, 1) and joined[dummy:] == text[low:high] and (dummy == 0 or joined[:1] == b" "):
            stops = low - dummy + np.cumsum(sizes)
            first[begin:end] = np.maximum(stops - sizes, low)
            last[begin:end] = np.maximum(stops, low)
        else:
            _share_out(text, low, high, sizes, first[begin:end], last[begin:end])


def _share_out(
    text: bytes, low: int, high: int, sizes: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]
) -> None:
    """Offsets as the tokenizer gives them, with gaps closed and characters that tokens share split by their bytes."""
    reached = low
    for token in range(len(first)):
        if first[token] > reached:
            if token == 0 or text[reached : first[token]].isspace():
                first[token] = reached  # whitespace that offsets leave out belongs to the word after it
            else:
                last[token - 1] = first[token]  # a combining mark that was composed with the letter before it
        last[token] = max(last[token], first[token])
        reached = max(reached, int(last[token]))
    last[-1] = max(int(last[-1]), high)
    begin = 0
    while begin < len(first):
        end, until = begin + 1, int(last[begin])
        while end < len(first) and first[end] < until:
            until = max(until, int(last[end]))
            end += 1
        if end - begin > 1:
            origin, total = int(first[begin]), max(int(sizes[begin:end].sum()), 1)
            stops = origin + np.cumsum(sizes[begin:end]) * (until - origin) // total
            last[begin:end] = stops
            first[begin + 1 : end] = stops[:-1]
        begin = end
