"""Where in a conversation's text each answer lies, and whether all that others said is there, too."""

from __future__ import annotations

from collections.abc import Sequence

from fusion.runtime.templates.folding import RoleContent, left_out
from fusion.runtime.templates.rendering import RenderedPrompt, Rendering


class Misplaced(Exception):
    """Why labels cannot be placed in what a template wrote: the rest of a sentence that begins with the template."""


def placed(found: Rendering, turns: Sequence[RoleContent], name: str) -> list[tuple[int, int, int, int]]:
    """Of each answer where it begins and ends in the text (characters), what of its content's beginning is not there
    and how long the content is (bytes); `turns` are the conversation as it was rendered, `name` is its id.

    Raises Misplaced for an answer that does not stand behind its prompt, and for a turn of others that is not there.
    """
    contents: list[tuple[int, int, int, int]] = []
    prompts = iter(found.prompts)
    reached = 0
    before: list[RoleContent] = []
    for turn in turns:
        if turn["role"] != "assistant":
            before.append(turn)
            continue
        prompt, content = next(prompts), turn["content"]
        where = f"conversation '{name}', answer {len(contents) + 1}"
        span = _span(found.text, prompt, content)
        if span is None:
            raise Misplaced(_no_place(found, prompt, content, where))
        begin, end, skipped = span
        passed_over = left_out(before, found.text[reached:begin])
        if passed_over is not None:
            raise Misplaced(f"leaves out or changes a turn of the {passed_over}'s ({where})")
        contents.append((begin, end, len(content[:skipped].encode()), len(content.encode())))
        reached, before = end, []
    return contents


def _span(text: str, prompt: RenderedPrompt, content: str) -> tuple[int, int, int] | None:
    """Where an answer lies in the text after its prompt, and how many characters of its beginning are not there.

    The text may differ in whitespace, from the prompt at its end and from the content at both.
    """
    if prompt.rest.strip():
        return None
    core = content.strip()
    begin = len(text[: prompt.shared].rstrip())
    while begin < len(text) and text[begin].isspace():
        begin += 1
    if not text.startswith(core, begin):
        return None
    skipped = len(content) - len(content.lstrip())
    end, reached = begin + len(core), skipped + len(core)
    while skipped and begin > prompt.shared and text[begin - 1] == content[skipped - 1]:
        begin, skipped = begin - 1, skipped - 1
    while reached < len(content) and text[end : end + 1] == content[reached]:
        end, reached = end + 1, reached + 1
    return begin, end, skipped


def _no_place(found: Rendering, prompt: RenderedPrompt, content: str, where: str) -> str:
    """Why the labels of an answer cannot be placed."""
    written = found.text[prompt.shared : max(prompt.shared, found.text.find(content.strip(), prompt.shared))]
    if "think>" in written or "think>" in prompt.rest or "think>" in content:
        return (
            f"writes or drops thinking where its generation prompt does not ({where}), so labels cannot be placed. For"
            " answers without thinking set chat_template_kwargs: {enable_thinking: false} in conf/model; for several"
            " turns, or thinking that is to be learned, chat_template: qwen3, which keeps every answer as it was said;"
            " to learn answers without the thinking in the data, data.thinking=remove"
        )
    return (
        f"does not continue its own generation prompt with the assistant's content, or changes what was said before"
        f" ({where}), so labels cannot be placed"
    )
