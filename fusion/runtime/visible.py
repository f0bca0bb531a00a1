"""Text that others wrote (names of models, replies, reasons), as text that a terminal or a page only shows."""

from __future__ import annotations

import re

# Control characters, lone surrogates, separators of lines, marks that turn the direction of the text around them, what
# has no shape and no width (but the joiners of emoji and of some scripts), and what is no character.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\u3164\ud800-\udfff"
    "\ufdd0-\ufdef\ufeff\uffa0\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)
_PICTURES = 0x2400  # of the 32 first control characters, in their order
_UNKNOWN = "\ufffd"


def visible(text: str, *, lines: bool = False) -> str:
    """The text with a sign for every character that would act rather than show; `lines` keeps line breaks and tabs."""
    return _HIDDEN.sub(lambda found: _sign(found.group(), lines=lines), text)


def _sign(letter: str, *, lines: bool) -> str:
    if lines and letter in "\n\t":
        return letter
    return chr(_PICTURES + ord(letter)) if letter < " " else _UNKNOWN
