"""What passes between a benchmark and a judge: a request, and the reply that the benchmark then reads.

How to ask and how to read is the benchmark's; the judge gives the reply and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from eval.records import Placed

# The label of a judge that replays a file begins with this.
RECORDED = "recorded"


@dataclass(frozen=True, kw_only=True)
class JudgeRequest(Placed):
    """One question put to a judge about one turn of one answer."""

    benchmark: str
    model: str
    form: str
    question: str
    answers: tuple[str, ...]  # as shown: one for a rating, two in shown order for a preference
    reference: str | None
    # (role, content) of the benchmark's published prompt, filled in; empty where the prompt file was not given, which
    # only judges that read the fields can answer.
    messages: tuple[Mapping[str, str], ...]
    switched: bool = False  # the second answer is the baseline's
    temperature: float = 0.0
    max_tokens: int = 2048
    top_logprobs: int | None = None
    # Further fields of the published annotator's request, such as its function-calling tools.
    extra: Mapping[str, object] | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the judge said."""

    text: str = ""
    top_logprobs: tuple[tuple[str, float], ...] = ()  # of its first token, in nats
    # Set by replay alone: the verdict as the published file states it, in the benchmark's scale.
    value: float | None = None
    failure: str | None = None  # why there is no reply; asking again may help, unless it is `missing` or was `rejected`
    missing: bool = False  # the replayed file does not hold it
    rejected: bool = False  # by the endpoint for what it asks (too long, filtered)
    prompt_tokens: int = 0
    completion_tokens: int = 0


# Where a judge's reply to a request goes, as soon as it is there.
HandOver = Callable[[JudgeRequest, Reply], None]
