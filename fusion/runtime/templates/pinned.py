"""What a model's chat template is told once and for all: a template with its settings written in front of it.

A checkpoint directory is all that training, merging and serving get to see, so a setting that is to hold for all of
them belongs into the directory's chat_template.jinja:

    {% set enable_thinking = false %}
    {% macro strftime_now(format) %}...the pinned day...{% endmacro %}
    (the template itself)

Transformers, vLLM and this project then render the same text, whoever asks and whatever day it is.
"""

from __future__ import annotations

import datetime
import keyword
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion.runtime.configure import Refusal
from fusion.runtime.reading import read_object, read_text

DATE = "2024-07-26"  # today, for a template that asks and was told no other day; Llama 3's own falls back on it
_CLOCK = "strftime_now"  # what templates call to write today's date
_CODES = "aAbBcCdDeFgGhHIjklmMnpPrRStTuUVwWxXyYzZ"
_FLAGS = "-_0^#"  # of the C library: %-d is 6 where %d is 06
# Everything behind a % begins with a code, but for what follows a second one.
_WRITTEN = (
    "{%% set day = %s %%}{%% set now = namespace(text=true) %%}"
    "{%% for part in format.split('%%') %%}"
    "{%% if now.text %%}{{ part }}{%% set now.text = false %%}"
    "{%% elif part == '' %%}{{ '%%' }}{%% set now.text = true %%}"
    "{%% elif part[:2] in day %%}{{ day[part[:2]] ~ part[2:] }}"
    "{%% elif part[0] in day %%}{{ day[part[0]] ~ part[1:] }}"
    "{%% elif part[0] in '%s' and part[1:2] in day %%}{{ day[part[1:2]] ~ part[2:] }}"
    "{%% else %%}{{ '%%' ~ part }}{%% endif %%}{%% endfor %%}"
)
_TAKEN = ("messages", "add_generation_prompt", "tools", "documents")  # said anew with every conversation


def pinned(template: str, *, settings: Mapping[str, Any], date: str) -> str:
    """The template with `settings` for whoever renders it, and `date` (2024-07-26) for today where it asks for that.

    A template that needs neither is returned as it is.  Raises ValueError for a setting that no template can be given
    in this way and for what is no date.
    """
    lines = []
    for name, value in settings.items():
        if not name.isidentifier() or keyword.iskeyword(name) or name in _TAKEN:
            raise ValueError(f"chat_template_kwargs has {name!r}: expected the name of a setting of the template")
        lines.append(f"{{% set {name} = {_literal(name, value)} %}}\n")
    if _CLOCK in template:
        lines.append(f"{{% macro {_CLOCK}(format) %}}{_written_date(date)}{{% endmacro %}}\n")
    return "".join(lines) + template


def own_template(checkpoint: Path) -> str | None:
    """The chat template that a checkpoint directory brings, if any.  Raises Refusal for one that cannot be read."""
    alone = checkpoint / "chat_template.jinja"
    if alone.exists():
        return read_text(alone, expected="a chat template")
    path = checkpoint / "tokenizer_config.json"
    found = read_object(path, expected="a tokenizer's settings").get("chat_template") if path.exists() else None
    try:
        if isinstance(found, list):  # several by name
            found = {entry["name"]: entry["template"] for entry in found}
        if isinstance(found, Mapping):
            found = found.get("default")  # the one for conversations
    except (KeyError, TypeError):
        found = 0
    if found is not None and not isinstance(found, str):
        raise Refusal(
            f"{path} has a chat template that is neither text nor texts by name: expected a tokenizer's settings"
        )
    return found


def _literal(name: str, value: object) -> str:
    """As Jinja spells it, which is as Python does for what YAML can say."""
    plain = isinstance(value, (str, int, float, bool, type(None)))
    if plain:
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_literal(name, item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_literal(name, item)}" for key, item in value.items()) + "}"
    raise ValueError(f"chat_template_kwargs.{name} is {value!r}: expected text, a number, true, false, null, or these")


def _written_date(date: str) -> str:
    """Jinja that writes `format` with every code of strftime replaced by what it is on that day, at midnight."""
    try:
        day = datetime.datetime.strptime(date, "%Y-%m-%d")
    except ValueError as error:
        raise ValueError(f"template_date is {date!r}: expected a day such as 2024-07-26") from error
    told = {code: day.strftime(f"%{code}") for code in _CODES}
    flagged = {f"{flag}{code}": day.strftime(f"%{flag}{code}") for flag in _FLAGS for code in _CODES}
    told |= {code: text for code, text in flagged.items() if text != told[code[1]]}
    return _WRITTEN % (_literal(_CLOCK, told), _FLAGS)
