"""The last line of a command: which command goes on from what it left."""

from __future__ import annotations

import shlex

from fusion.runtime.progress import terminal
from fusion.runtime.visible import visible


def say_next(*words: str) -> None:
    """Print the command on stderr, so that stdout stays what the command is asked for."""
    line = visible(f"next: {shlex.join(words)}")
    terminal().print(line, highlight=False, markup=False, soft_wrap=True)
