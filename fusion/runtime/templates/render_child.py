"""The process in which chat templates run.  A template is a stranger's program, so here it has little time and memory.

`fusion.runtime.templates.rendering` starts this file and asks it line by line, in JSON; it answers in the same way.  It
imports nothing of the project and of libraries jinja2 alone, so it starts in a tenth of a second.  Templates find the
surroundings that transformers gives them (`apply_chat_template`), but for the clock and for chance: a text that depends
on the day it was rendered on would be another text the next day.

A sandbox keeps a template from files and from Python; what it may use up is bounded here: a request that takes more
processor time ends this process, one that takes more memory or writes too long a text is answered with an error.
"""

import functools
import json
import re
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

SECONDS = 2  # of processor time for a conversation, and up to one more; thousands are rendered in one
ANSWERS = 100  # so many get a second more: the prompt of each is rendered with all that was said before
MEMORY = 2**30  # bytes of address space
# Characters of a rendered text: so many, and so many times what was said.  The longest system text of a published
# template has about 5,000.
LONGEST, TIMES = 2**20, 4
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks an assistant's text for other trainers; what is in it is rendered as it stands."""

    tags = {"generation"}  # noqa: RUF012  jinja2 declares it an attribute of the instance

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return [jinja2.nodes.Scope(body).set_lineno(line)]  # what is set within is forgotten behind it


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _clock(_format: str) -> NoReturn:
    raise jinja2.TemplateError("it writes today's date, so tomorrow's text would be another; template_date pins one")


def _chance(*_given: object, **_named: object) -> NoReturn:
    raise jinja2.TemplateError("it draws at random, so the same conversation would have another text each time")


def _to_json(value: object, **how: Any) -> str:
    return json.dumps(value, **{"ensure_ascii": False, **how})


@functools.lru_cache(maxsize=16)
def compiled(template: str) -> jinja2.Template:
    """The template as transformers compiles it, without clock and chance."""
    surroundings = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    surroundings.filters.update(tojson=_to_json, random=_chance)
    surroundings.globals.update(raise_exception=_raise, strftime_now=_clock, lipsum=_chance)
    return surroundings.from_string(template)


def answer(request: Mapping[str, Any]) -> dict[str, object]:
    """The conversation's text, and where each assistant turn's generation prompt parts from it: [characters that both
    begin with, what else is in the prompt].  Of a conversation that waits for its next answer, the text alone."""
    messages: Sequence[Mapping[str, Any]] = request["messages"]
    limit = LONGEST + TIMES * sum(len(message["content"]) for message in messages)
    template = compiled(request["template"])

    def rendered(said: Sequence[Mapping[str, Any]], prompt: bool) -> str:
        given = {**request["given"], "messages": said, "tools": None, "documents": None}
        text = template.render(**given, add_generation_prompt=prompt)
        if len(text) > limit:
            raise OverflowError(f"its text has {len(text):,} characters")
        if _SURROGATE.search(text):
            raise ValueError("its text has half a surrogate pair, which no UTF-8 spells")
        return text

    if request["waits"]:
        return {"text": rendered(messages, True), "prompts": []}
    text = rendered(messages, False)
    prompts = [
        _parting(text, rendered(messages[:number], True))
        for number, message in enumerate(messages)
        if message["role"] == "assistant"
    ]
    return {"text": text, "prompts": prompts}


def _parting(text: str, prompt: str) -> tuple[int, str]:
    if text.startswith(prompt):
        return len(prompt), ""
    pairs = enumerate(zip(text, prompt, strict=False))
    shared = next((place for place, (one, other) in pairs if one != other), min(len(text), len(prompt)))
    return shared, prompt[shared : shared + 200]


def _hold(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _allow(seconds: int) -> None:
    _hold(resource.RLIMIT_CPU, int(time.process_time()) + 1 + seconds)


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks decides when it is over
    _hold(resource.RLIMIT_AS, MEMORY)
    _hold(resource.RLIMIT_CORE, 0)
    for line in sys.stdin:
        _allow(SECONDS)
        try:
            request = json.loads(line)
            _allow(SECONDS + sum(message["role"] == "assistant" for message in request["messages"]) // ANSWERS)
            said = json.dumps(answer(request))
        except Exception as error:  # whatever a template does wrong is told to whoever asked
            said = json.dumps({"error": str(error)[:500] or type(error).__name__, "type": type(error).__name__})
        print(said, flush=True)


if __name__ == "__main__":
    main()
