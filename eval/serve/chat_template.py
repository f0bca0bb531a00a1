"""A served checkpoint's chat template: every conversation is rendered by us before a server of ours is asked.

A template is a stranger's program, which a server would run without bounds and tell the real date.  Here it runs as it
does for training (`fusion.runtime.templates`): in a process of its own with little time and memory, on the pinned day,
with a system turn that it refuses in the first user's.  The server then takes the text as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.serve.loading import LOADING
from fusion.runtime.configure import Refusal
from fusion.runtime.templates.pinned import DATE, pinned
from fusion.runtime.templates.rendering import TemplateFault, as_taken, printable

Messages = Sequence[Mapping[str, str]]

# What a server of ours is given for a template: one message, whose content is the rendered conversation.
AS_RENDERED = "{{ messages[0]['content'] }}"
_MISSING = "{{ raise_exception('there is none: add chat_template.jinja, nothing is guessed from names') }}"


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """The template's text, date pinned, and the special tokens by the names that it knows them by."""

    text: str
    given: Mapping[str, Any]

    @classmethod
    def of(cls, tokenizer: Any) -> ChatTemplate:
        """A loaded tokenizer's.  Where there is none, rendering says so."""
        try:
            own = tokenizer.get_chat_template()
        except ValueError:  # none, or several without a default
            own = _MISSING
        return cls(text=pinned(own, settings={}, date=DATE), given=tokenizer.special_tokens_map)

    def prompt(self, messages: Messages) -> str:
        """The conversation, ready for its next answer.  Raises TemplateFault where the template fails."""
        found, _ = as_taken(self.text, [dict(message) for message in messages], given=self.given, waits=True)
        return found.text

    def conversation(self, messages: Messages) -> str:
        """The conversation as it ends.  Raises TemplateFault where the template fails."""
        found, _ = as_taken(self.text, [dict(message) for message in messages], given=self.given)
        return found.text

    def begun(self, messages: Messages) -> str:
        """The conversation up to the end of its last message, whose speaker goes on.  Raises TemplateFault."""
        text, last = self.conversation(messages), messages[-1]["content"].strip()
        return text[: text.rindex(last) + len(last)] if last in text else text

    def one_message(self, messages: Messages) -> list[dict[str, str]]:
        """The conversation as a server of ours takes it.  Raises TemplateFault where the template fails."""
        return [{"role": "user", "content": self.prompt(messages)}]


def chat_template(checkpoint: Path) -> ChatTemplate:
    """A checkpoint directory's.  Raises Refusal for a tokenizer that cannot be loaded."""
    from transformers import AutoTokenizer

    try:
        with LOADING:
            return ChatTemplate.of(AutoTokenizer.from_pretrained(checkpoint, local_files_only=True))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        said = printable(str(error))
        raise Refusal(f"{checkpoint}: its tokenizer cannot be loaded ({said}): is the checkpoint complete?") from error


def refuse_unfit(template: ChatTemplate, conversations: Iterable[Messages], *, where: Path) -> None:
    """Raise Refusal for a template that fails on one of the `conversations`."""
    try:
        for messages in conversations:
            template.prompt(messages)
    except TemplateFault as fault:
        raise Refusal(
            f"the chat template of {where} cannot be served ({fault}). Put another on with chat_template in an entry of"
            " conf/model"
        ) from fault
