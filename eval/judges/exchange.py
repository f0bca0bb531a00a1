"""What passes between a benchmark and a judge: a request, and the reply that the benchmark then reads.

How to ask and how to read is the benchmark's; the judge gives the reply and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eval.records import Placed

# The label of a judge that replays a file begins with this.
RECORDED = "recorded"


@dataclass(frozen=True, kw_only=True)
class JudgeRequest(Placed):
    """One question put to a judge about one turn of one answer.

    `messages` (role, content) is the benchmark's published prompt, filled in; empty where the prompt file was not
    given, which only judges that read the fields can answer.  `form`: how the reply says its verdict
    (`eval.judges.forms`).  `answers` are the answers as shown: one for a rating, two in shown order for a preference;
    `switched` says that the second is the baseline's.  `opponent`, `order` and `repeat` tell several showings of one
    turn apart (`eval.records.Placed`).
    """

    benchmark: str
    model: str
    form: str
    question: str
    answers: tuple[str, ...]
    reference: str | None
    messages: tuple[Mapping[str, str], ...]
    switched: bool = False
    temperature: float = 0.0
    max_tokens: int = 2048
    top_logprobs: int | None = None
    # Further fields of the published annotator's request, such as its function-calling tools.
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the judge said.  `top_logprobs` are those of its first token, in nats.

    `value` is set by replay alone: the verdict as the published file states it, in the benchmark's scale.  `failure`
    says why there is no reply; asking again may help, unless it is `missing` from a replayed file or was `rejected`
    by the endpoint for what it asks (too long, filtered).
    """

    text: str = ""
    top_logprobs: tuple[tuple[str, float], ...] = ()
    value: float | None = None
    failure: str | None = None
    missing: bool = False
    rejected: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
