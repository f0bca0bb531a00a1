"""A conversation's text by a chat template, rendered in a process of its own.

One process serves this one for as long as it lives; it is started at the first conversation, and again after a template
that it did not survive.  What a template may use up stands in `fusion/runtime/templates/render_child.py`.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusion.runtime.processes import signal_name
from fusion.runtime.templates import render_child
from fusion.runtime.templates.folding import RoleContent, left_out, readings

Turns = Sequence[Mapping[str, Any]]  # messages as a template sees them: role and content


class TemplateFault(Exception):
    """What a template did wrong, in words that can be shown: no control characters, not long."""


@dataclass(frozen=True, kw_only=True)
class RenderedPrompt:
    """Where an assistant turn's generation prompt parts from the conversation's text."""

    shared: int  # characters that both begin with
    rest: str  # what else is in the prompt (its first 200 characters); empty where the text continues it


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """A conversation as text, and the generation prompt of each of its assistant turns."""

    text: str
    prompts: tuple[RenderedPrompt, ...]


def rendered(template: str, messages: Turns, *, given: Mapping[str, object], waits: bool = False) -> Rendering:
    """The text of `messages`; `given` are the special tokens by the names that templates know them by.

    With `waits` the text ends with the generation prompt of the next answer, and those before it are not looked for.
    Raises TemplateFault for a template that fails, in whatever way, takes too long or too much memory, writes too long
    a text or asks for today's date.
    """
    request = {"template": template, "messages": messages, "given": given, "waits": waits}
    with _CHILD.asked:
        found = _CHILD.answer(json.dumps(request).encode() + b"\n")
    if "error" in found:
        raise TemplateFault(printable(found["error"]))
    prompts = tuple(RenderedPrompt(shared=shared, rest=rest) for shared, rest in found["prompts"])
    return Rendering(text=found["text"], prompts=prompts)


def as_taken(
    template: str, turns: Sequence[RoleContent], *, given: Mapping[str, object], waits: bool = False
) -> tuple[Rendering, bool]:
    """The conversation in the first reading (`readings`) that the template takes, and whether that is not the
    conversation as it is.  Raises TemplateFault where no reading helps, with what was wrong with the first.
    """
    faults = []
    for number, reading in enumerate(readings(turns)):
        try:
            found = rendered(template, reading, given=given, waits=waits)
        except TemplateFault as fault:
            faults.append(fault)
            continue
        unsaid = left_out([turn for turn in reading if turn["role"] != "assistant"], found.text)
        if unsaid is None:
            return found, number > 0
        faults.append(TemplateFault(f"it leaves out or changes a turn of the {unsaid}'s"))
    raise faults[0]


def printable(text: str, *, longest: int = 300) -> str:
    """A stranger's text for a message: on one line, nothing that a terminal obeys, not long."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:longest])
    return shown if len(text) <= longest else f"{shown}..."


class _Child:
    """The process that renders, one request at a time."""

    def __init__(self) -> None:
        self.asked = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def answer(self, line: bytes) -> dict[str, Any]:
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
            said = process.stdout.readline()
        except BrokenPipeError:
            said = b""
        if said.endswith(b"\n"):
            found: dict[str, Any] = json.loads(said)
            return found
        self._process = None
        status = _closed(process)
        if status >= 0:
            raise RuntimeError(f"the process that renders chat templates ended with status {status}")
        if -status in (signal.SIGXCPU, signal.SIGKILL):
            allowed = f"{render_child.SECONDS} s, and one for each {render_child.ANSWERS} answers"
            return {"error": f"it takes more than {allowed}, or too much memory for one conversation"}
        return {"error": f"it ended the process that renders it ({signal_name(-status)})"}

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(render_child.__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self._process

    def end(self) -> None:
        if self._process is not None:
            _closed(self._process)


def _closed(process: subprocess.Popen[bytes]) -> int:
    """Its exit status after it was told that nothing more is asked."""
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.close()
    except BrokenPipeError:
        pass
    process.stdout.close()
    return process.wait()


def _anew() -> None:
    global _CHILD
    _CHILD = _Child()


_CHILD = _Child()
os.register_at_fork(after_in_child=_anew)  # a fork would share the pipes of the process that it was made from
atexit.register(lambda: _CHILD.end())
