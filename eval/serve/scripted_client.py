"""Answers from a script instead of a model: tests, dry runs, and scoring without a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.serve.chat_client import ChatReply, ChatRequest


@dataclass(frozen=True, kw_only=True)
class ScriptedClient:
    """Says `script[request.id]` turn by turn; `default` where the script has nothing, or a recorded failure if None.

    Tokens are counted as words.  `failures` maps request ids to the reason they fail with.
    """

    script: Mapping[str, Sequence[str]]
    default: str | None = None
    failures: Mapping[str, str] | None = None

    async def reply(self, request: ChatRequest) -> ChatReply:
        """The scripted reply; like a real client, turns beyond the script end in a `failure`."""
        failure = (self.failures or {}).get(request.id)
        said: list[str] = []
        if failure is None:
            lines = list(self.script.get(request.id, ()))[: len(request.turns)]
            if self.default is not None:
                lines += [self.default] * (len(request.turns) - len(lines))
            said = lines
            if len(lines) < len(request.turns):
                failure = f"the script has no turn {len(lines) + 1} for request {request.id}"
        return ChatReply(
            id=request.id,
            turns=tuple(said),
            finish_reasons=("stop",) * len(said),
            prompt_tokens=sum(len(turn.split()) for turn in request.turns[: len(said)]),
            completion_tokens=sum(len(turn.split()) for turn in said),
            failure=failure,
        )
