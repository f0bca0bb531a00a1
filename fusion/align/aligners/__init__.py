"""Sequence aligners: which positions of two tokenizations of one text belong together.

    token_dtw.py    the papers': the cheapest warping path by edit distance
    byte_span.py    exact: positions behind equal prefixes of the text
    equal_span.py   exact and strict: of these, the tokens that also end together

To add one: a file here, a line below, a file in conf/align.  It meets `fusion.align.method.AlignerBuilder`.
"""

from __future__ import annotations

from fusion.align.aligners.byte_span import ByteSpan
from fusion.align.aligners.equal_span import EqualSpan
from fusion.align.aligners.token_dtw import TokenDTW
from fusion.align.method import AlignerBuilder

SEQUENCE_ALIGNERS: dict[str, AlignerBuilder] = {
    "token_dtw": TokenDTW,
    "byte_span": ByteSpan,
    "equal_span": EqualSpan,
}
