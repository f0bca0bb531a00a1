"""What vLLM says in its log and nowhere else, from an offset on."""

from __future__ import annotations

import re
from pathlib import Path

_PORT_TAKEN = (b"address already in use", b"errno 98", b"errno 48")


def complaint(log: Path, offset: int) -> str:
    """The line that says that weights were left out of a reload; empty where there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as stream:
        stream.seek(offset)
        news = stream.read().decode(errors="replace")
    return next((line.strip()[:300] for line in news.splitlines() if "weights were not loaded" in line), "")


def said_dtype(log: Path, offset: int) -> str | None:
    """The precision that vLLM names when it has read its settings; None where it does not."""
    found = re.search(rb"dtype=torch\.(float32|bfloat16|float16)\b", log.read_bytes()[offset:])
    return found.group(1).decode() if found else None


def port_taken(log: Path, offset: int) -> bool:
    """Whether it says that another program listens on its port."""
    news = log.read_bytes()[offset:].lower()
    return any(words in news for words in _PORT_TAKEN)
