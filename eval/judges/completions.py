"""What is sent to a judge model for one request, and what its completion says: all that can change a verdict.

Retries and timeouts are elsewhere (`eval.serve.endpoint_client`), so that changing them leaves paid verdicts valid.

With `reply="json"` the judge is asked for one JSON object, and its `rating` or `verdict` field is written the way the
benchmark's own prompt wants it said, so the benchmark's parser reads both kinds alike.  A JSON reply carries no
first-token probabilities: a preference that rests on them becomes a plain choice.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any, Literal

from eval.exchange import JudgeRequest, Reply
from eval.judges.forms import FORMS
from eval.serve.said import said_in, without_thinking
from fusion.runtime.reading import decoded

ReplyKind = Literal["text", "json"]

_JSON_TOKENS = 512  # at least: an annotator that wants one token of text needs room for an object


def body(request: JudgeRequest, *, reply: ReplyKind, extra: Mapping[str, Any], seeded: bool) -> dict[str, Any]:
    """The fields of a chat completion request, the model's name apart; `extra` comes last and replaces,
    and leaves out where it says null.

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
        found["seed"] = int.from_bytes(hashlib.sha256(repr(astuple(request.place)).encode()).digest()[:4], "big") >> 1
    return {name: value for name, value in {**found, **extra}.items() if value is not None}


def read_completion(completion: Any, request: JudgeRequest, *, reply: ReplyKind) -> Reply:
    """Text (or the arguments of a forced function call) and first-token probabilities of a decoded completion.

    Raises ValueError when the body is not a completion.
    """
    try:
        choice = completion["choices"][0]
        message = choice["message"]
        text = without_thinking(said_in(message))
        if message.get("tool_calls"):
            text = message["tool_calls"][0]["function"]["arguments"]
            if not isinstance(text, str):
                raise TypeError(f"the arguments of its call are {text!r}"[:100])
        first = ((choice.get("logprobs") or {}).get("content") or [])[:1]
        top = tuple(
            (str(entry["token"]), float(entry["logprob"]))
            for token in first
            for entry in token["top_logprobs"]
            if math.isfinite(entry["logprob"])  # what is none is no probability
        )
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"the body is not a chat completion ({error!r})") from error
    if reply == "json":
        return said_in_words(text, request)
    return Reply(text=text, top_logprobs=top)


def said_in_words(text: str, request: JudgeRequest) -> Reply:
    """A JSON reply in the benchmark's own form; text that holds no such object is left as it is, to be unscored."""
    form = FORMS[request.form]
    try:
        found = decoded(text)
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
