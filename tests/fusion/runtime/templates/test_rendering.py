"""Templates are a stranger's programs: what they render, and how little they can use up."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from fusion.runtime.places import CONF
from fusion.runtime.templates import render_child
from fusion.runtime.templates.rendering import RenderedPrompt, TemplateFault, printable, rendered

SAID = [{"role": "user", "content": "Hi\n"}, {"role": "assistant", "content": "Grüße 😀"}]
GIVEN = {"bos_token": "<s>", "eos_token": "</s>"}
TEMPLATES = CONF / "template"

HOSTILE = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a loop in a filter": "{% for i in range(99999) %}{{ range(99999) | sum }}{% endfor %}",
    "macros that call twice": "{% macro f(n) %}{{ (f(n - 1) ~ f(n - 1)) if n }}{% endmacro %}{{ f(60) }}",
    "a power of a power": "{{ 9 ** (9 ** 9) }}",
    "text that doubles": "{% set n = namespace(s='a') %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "a list that doubles": "{% set n = namespace(s=[0]) %}{% for i in range(60) %}{% set n.s = n.s * 2 %}{% endfor %}",
    "a join that doubles": (
        "{% set n = namespace(s='a') %}{% for i in range(60) %}{% set n.s = [n.s, n.s] | join %}{% endfor %}"
    ),
    "a text too long to keep": "{{ 'a' * 10 ** 11 }}",
    "a text too long to send": "{{ 'a' * 10 ** 8 }}",
    "padding": "{{ 'a' | center(10 ** 10) }}",
    "filler": "{{ lipsum(n=10 ** 7) | length }}",
    "a range too long": "{% for i in range(10 ** 9) %}x{% endfor %}",
    "a macro of itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a division by zero": "{{ 1 / 0 }}",
    "an overflow": "{{ 10.0 ** 400 }}",
    "a wrong index": "{{ 'a'.index('z') }}",
    "an absent field": "{{ messages[0].name.first }}",
    "a way out of the sandbox": "{{ messages.__class__.__mro__ }}",
    "what cannot be read": "{% for %}",
    "half a letter": "{{ '\\ud83d' }}",
    "half a letter as it stands": "\udc00",
    "brackets too deep": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_refused_in_seconds_and_the_next_one_is_rendered(name: str) -> None:
    begun = time.monotonic()
    with pytest.raises(TemplateFault) as told:
        rendered(HOSTILE[name], SAID, given=GIVEN)
    assert time.monotonic() - begun < 10 * render_child.SECONDS  # seconds of processor, on a machine that does more
    assert 0 < len(str(told.value)) < 400
    assert rendered("{{ messages | length }}", SAID, given=GIVEN).text == "2"


def test_a_conversation_of_many_turns_gets_the_time_that_its_prompts_take() -> None:
    slow = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% for i in range(40) %}{{ range(9999) | sum }};"
    turns = 2 * 10 * render_child.ANSWERS  # thousands of prompts, each of milliseconds: more than SECONDS
    said = [{"role": SAID[i % 2]["role"], "content": "a"} for i in range(turns)]
    long = rendered(slow + "{% endfor %}", said, given=GIVEN)
    assert long.text.startswith("a" * turns)
    assert len(long.prompts) == turns // 2


def test_memory_is_bounded_in_the_process_that_renders() -> None:
    rendered("{{ messages[0]['content'] }}", SAID, given=GIVEN)  # it runs
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    command = {child: Path(f"/proc/{child}/cmdline").read_text() for child in children}
    (child,) = [child for child in children if "render_child" in command[child]]
    limits = Path(f"/proc/{child}/limits").read_text().splitlines()
    (space,) = [line.split() for line in limits if line.startswith("Max address space")]
    assert int(space[3]) == render_child.MEMORY


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.jinja")), ids=lambda path: path.stem)
def test_templates_are_rendered_as_transformers_renders_them(path: Path, prompt: bool) -> None:
    text = "{% set date_string = '1 May 2025' %}\n" + path.read_text()  # the rest asks for no clock
    said = SAID[:1] if prompt else SAID
    (expected,), _ = render_jinja_template(
        conversations=[said], chat_template=text, add_generation_prompt=prompt, **GIVEN
    )
    if prompt:
        found = rendered(text, SAID, given=GIVEN)
        assert found.text[: found.prompts[0].shared] + found.prompts[0].rest == expected
    else:
        assert rendered(text, said, given=GIVEN).text == expected


def test_what_transformers_adds_to_jinja_is_there() -> None:
    template = (
        "{% for m in messages %}\n  {% if loop.index0 %}{% break %}{% endif %}\n"
        "{% generation %}{{ m | tojson }}{% endgeneration %}\n{% endfor %}\n"
        "{{ tools is none and documents is none }} {{ [1, 'ü'] | tojson(indent=2) }}"
        "{% set x = 'before' %}{% generation %}{% set x = 'within' %}{{ x }}{% endgeneration %}{{ x }}"
    )
    (expected,), _ = render_jinja_template(conversations=[SAID], chat_template=template)
    assert rendered(template, SAID, given={}).text == expected
    with pytest.raises(TemplateFault, match="only for users"):
        rendered("{{ raise_exception('only for users') }}", SAID, given={})


def test_where_a_prompt_parts_from_the_text_is_told() -> None:
    template = (
        "{{ messages | length }}{% if add_generation_prompt %}>> {% else %}>{{ messages[-1]['content'] }}{% endif %}"
    )
    found = rendered(template, [*SAID, *SAID], given={})
    assert found.text == "4>Grüße 😀"
    assert found.prompts == (RenderedPrompt(shared=0, rest="1>> "), RenderedPrompt(shared=0, rest="3>> "))
    template = "{% for m in messages %}{{ m['content'] }}|{% endfor %}{{ 'A:' if add_generation_prompt }}"
    assert rendered(template, SAID, given={}).prompts == (RenderedPrompt(shared=4, rest="A:"),)


def test_a_template_that_asks_for_the_date_is_told_how_to_get_one() -> None:
    with pytest.raises(TemplateFault, match="template_date"):
        rendered("{{ strftime_now('%Y') }}", SAID, given={})


@pytest.mark.parametrize("template", ["{{ [1, 2, 3] | random }}", "{{ lipsum() }}", "{{ lipsum(n=2, html=false) }}"])
def test_a_template_that_draws_at_random_is_refused(template: str) -> None:
    with pytest.raises(TemplateFault, match="at random"):
        rendered(template, SAID, given={})


def test_what_a_template_says_cannot_speak_to_a_terminal() -> None:
    with pytest.raises(TemplateFault) as told:
        rendered("{{ raise_exception('\x1b[31mred\t\n\u202eback ' ~ 'x' * 9999) }}", SAID, given={})
    assert str(told.value).startswith(r"\x1b[31mred\t\n\u202eback x")
    assert len(str(told.value)) < 400
    assert printable("Grüße\t", longest=3) == "Grü..."


def test_a_forked_process_renders_with_one_of_its_own() -> None:
    rendered("x", SAID, given={})
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(write, rendered("forked", SAID, given={}).text.encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        assert said.read() == "forked"
    os.waitpid(child, 0)
    assert rendered("y", SAID, given={}).text == "y"
