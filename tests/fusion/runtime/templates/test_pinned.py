"""Settings and a day written into a template hold for whoever renders it."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from fusion.runtime.configure import Refusal
from fusion.runtime.templates.pinned import own_template, pinned

SAID = [{"role": "user", "content": "Hi"}]


def _rendered(template: str, **given: Any) -> str:
    (text,), _ = render_jinja_template(conversations=[SAID], chat_template=template, **given)
    return str(text)


@pytest.mark.parametrize(
    "value", [False, True, None, 3, -2.5, "it's %} {{ 'x' }}\n", [1, ["a"]], {"a": {"b": [None]}}], ids=repr
)
def test_a_setting_is_what_it_was_whoever_renders_and_whatever_they_ask_for(value: Any) -> None:
    template = pinned("{{ mode | tojson }}", settings={"mode": value}, date="2024-07-26")
    assert json.loads(_rendered(template)) == value
    assert json.loads(_rendered(template, mode="another")) == value


@pytest.mark.parametrize("start", ["\n\n  text", "  {% if true %}x{% endif %}", "\n{{ 1 }}", "{#- c -#}\n y", "text"])
def test_nothing_else_of_the_template_changes(start: str) -> None:
    assert _rendered(pinned(start, settings={"mode": 1}, date="2024-07-26")) == _rendered(start)
    assert pinned(start, settings={}, date="2024-07-26") == start


@pytest.mark.parametrize("day", ["2024-07-06", "2025-12-31"])
def test_a_pinned_day_is_written_as_strftime_writes_it(day: str) -> None:
    formats = ["%d %b %Y", "%Y-%m-%d", "%B %d, %Y", "%A %-d.%-m. (%j, week %U) %H:%M", "100%% %D %y %F %e %a %p"]
    formats += [
        "%%d %%%d %%%%Y",
        "%-d/%-m/%y",
        "%_d %^b %#Z %0e",
        "%G-W%V-%u %C %k:%l %P %r %R",
        "%h%n%t%W",
        "",
        "%Q %",
        "%",
    ]
    template = pinned(
        "{% macro late(f) %}{{ strftime_now(f) }}{% endmacro %}"
        "{% if strftime_now is defined %}{% for f in formats %}{{ late(f) }}|{% endfor %}{% endif %}",
        settings={"formats": formats},
        date=day,
    )
    expected = datetime.datetime.strptime(day, "%Y-%m-%d")
    assert _rendered(template) == "".join(f"{expected.strftime(form)}|" for form in formats)


@pytest.mark.parametrize(
    ("settings", "date", "message"),
    [
        ({"messages": []}, "2024-07-26", "'messages'"),
        ({"enable-thinking": True}, "2024-07-26", "'enable-thinking'"),
        ({"a": object()}, "2024-07-26", "chat_template_kwargs.a"),
        ({}, "26 Jul 2024", "2024-07-26"),
        ({}, "2024-02-30", "2024-02-30"),
    ],
)
def test_what_no_template_can_be_given_is_refused(settings: dict[str, Any], date: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pinned("{{ strftime_now('%Y') }}", settings=settings, date=date)


def test_a_checkpoint_s_template_is_found_where_transformers_finds_it(tmp_path: Path) -> None:
    assert own_template(tmp_path) is None
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps({"chat_template": "in the settings"}))
    assert own_template(tmp_path) == "in the settings"
    settings.write_text(
        json.dumps({"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]})
    )
    assert own_template(tmp_path) == "d"
    settings.write_text(json.dumps({"chat_template": {"default": "m", "rag": "r"}}))
    assert own_template(tmp_path) == "m"
    settings.write_text(json.dumps({"chat_template": [{"name": "rag", "template": "r"}]}))
    assert own_template(tmp_path) is None
    (tmp_path / "chat_template.jinja").write_text("alone")
    assert own_template(tmp_path) == "alone"
    (tmp_path / "chat_template.jinja").unlink()
    said = ("3", '["x"]', '[{"name": "default"}]', '{"default": []}', '"\\ud83d"', '[{"name": [], "template": ""}]')
    for damaged in ("{", "[]", *(f'{{"chat_template": {one}}}' for one in said)):
        settings.write_text(damaged)
        with pytest.raises(Refusal, match=r"tokenizer_config\.json .*expected a tokenizer's settings"):
            own_template(tmp_path)
    (tmp_path / "chat_template.jinja").write_bytes("{{ messages }}".encode("utf-16"))
    with pytest.raises(Refusal, match="expected a chat template"):
        own_template(tmp_path)
