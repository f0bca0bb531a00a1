"""Text that others wrote (names of models, replies, reasons), as text that a terminal or a page only shows."""

from __future__ import annotations

import re

# Control characters, lone surrogates, separators of lines, and marks that turn the direction of the text around them.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_PICTURES = 0x2400  # of the 32 first control characters, in their order
_UNKNOWN = "\ufffd"


def visible(text: str, *, lines: bool = False) -> str:
    """The text with a sign for every character that would act rather than show; `lines` keeps line breaks and tabs."""
    return _HIDDEN.sub(lambda found: _sign(found.group(), lines=lines), text)


def _sign(letter: str, *, lines: bool) -> str:
    if lines and letter in "\n\t":
        return letter
    return chr(_PICTURES + ord(letter)) if letter < " " else _UNKNOWN
