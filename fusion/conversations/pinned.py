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

from fusion.runtime.reading import read_object, read_text

_CLOCK = "strftime_now"  # what templates call to write today's date
_CODES = "aAbBcdDeFHIjmMpSTuUwxXyYZ"
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
    settings = checkpoint / "tokenizer_config.json"
    found = read_object(settings, expected="a tokenizer's settings").get("chat_template") if settings.exists() else None
    if isinstance(found, list):  # several by name; `default` is for conversations
        named = [entry for entry in found if isinstance(entry, dict) and entry.get("name") == "default"]
        found = named[0].get("template") if named else None
    return found if isinstance(found, str) else None


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
    """A Jinja expression for `format` with every code of strftime replaced by what it is on that day, at midnight."""
    try:
        day = datetime.datetime.strptime(date, "%Y-%m-%d")
    except ValueError as error:
        raise ValueError(f"template_date is {date!r}: expected a day such as 2024-07-26") from error
    codes = [f"%-{code}" for code in "dmHIMSj"] + [f"%{code}" for code in _CODES]
    replaced = "".join(f" | replace({code!r}, {day.strftime(code)!r})" for code in codes)
    return f"{{{{ format{replaced} | replace('%%', '%') }}}}"
