"""What is sent to a judge model for one request, and what its completion says: all that can change a verdict.

How patiently it is asked is elsewhere (`eval.judges.asking`), so that a better retry leaves paid verdicts valid.

With `reply="json"` the judge is asked for one JSON object, and its `rating` or `verdict` field is written the way the
benchmark's own prompt wants it said, so the benchmark's parser reads both kinds alike.  A JSON reply carries no
first-token probabilities: a preference that rests on them becomes a plain choice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from eval.judges.exchange import JudgeRequest, Reply
from eval.judges.forms import FORMS

ReplyKind = Literal["text", "json"]

_JSON_TOKENS = 512  # at least: an annotator that wants one token of text needs room for an object


def body(request: JudgeRequest, *, reply: ReplyKind, extra: Mapping[str, Any], seeded: bool) -> dict[str, Any]:
    """The fields of a chat completion request, the model's name apart; `extra` comes last and replaces.

    `seeded`: draw with a seed that depends on the request's place alone, for servers that take one.
    """
    found: dict[str, Any] = {
        "messages": [dict(message) for message in request.messages],
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
    }
    if reply == "json":
        found["messages"][-1]["content"] += f"\n\n{_json_wish(request)}"  # chat templates want the roles to alternate
        found["max_tokens"] = max(request.max_tokens, _JSON_TOKENS)
        found["response_format"] = {"type": "json_object"}
    else:
        found |= request.extra or {}
        if request.top_logprobs is not None:
            found |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if seeded:
        found["seed"] = int.from_bytes(hashlib.sha256(repr(request.place).encode()).digest()[:4], "big") >> 1
    return {**found, **extra}


def read_completion(completion: Any, request: JudgeRequest, *, reply: ReplyKind) -> Reply:
    """Text (or the arguments of a forced function call) and first-token probabilities.

    Raises ValueError when the body is not a completion.
    """
    try:
        choice = completion.choices[0]
        text = choice.message.content or ""
        if choice.message.tool_calls:
            text = choice.message.tool_calls[0].function.arguments
        first = choice.logprobs.content[:1] if choice.logprobs and choice.logprobs.content else []
        top = tuple((entry.token, entry.logprob) for token in first for entry in token.top_logprobs)
    except (AttributeError, IndexError, TypeError) as error:
        raise ValueError(f"the body is not a chat completion ({error})") from error
    if reply == "json":
        return said_in_words(text, request)
    return Reply(text=text, top_logprobs=top)


def usage(completion: Any) -> tuple[int, int]:
    """Prompt and completion tokens as the endpoint counts them; 0 where it does not say."""
    found = getattr(completion, "usage", None)
    return getattr(found, "prompt_tokens", None) or 0, getattr(found, "completion_tokens", None) or 0


def said_in_words(text: str, request: JudgeRequest) -> Reply:
    """A JSON reply in the benchmark's own form; text that holds no such object is left as it is, to be unscored."""
    form = FORMS[request.form]
    try:
        found = json.loads(text)
        value = found[form.field]
    except (ValueError, TypeError, KeyError):
        return Reply(text=text)
    why = str(found.get("explanation", "")).replace("[[", "[ [")  # the field is the verdict, whatever the reasons quote
    return form.from_json(value, why) or Reply(text=text)


def _json_wish(request: JudgeRequest) -> str:
    return (
        'Reply with one JSON object and nothing else: first "explanation" (your reasons in a few sentences), then '
        f"{FORMS[request.form].ask_as_json}."
    )
