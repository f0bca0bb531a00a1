"""How surprised a model is by a conversation: by what the user says, and by its own answers.

The whole conversation is rendered once in the checkpoint's own chat template and every token is conditioned on all
before it; counted are the tokens that hold characters of a message, the template's own are not.  The log-probabilities
come from the running server's `prompt_logprobs`, or from transformers in this process where that is what serves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from eval.likelihood.chat_text import ChatText, ChatTokens, chat_text, chat_tokens, conversation
from eval.records import Answer, Question
from eval.serve import probe
from eval.serve.chat_template import ChatTemplate
from eval.serve.control import Control
from eval.serve.loading import LOADING
from eval.serve.server import Endpoint, InProcess

Per = Literal["token", "byte"]
# From token ids [T] to the log-probabilities in nats [T-1] of those after the first.
LogProbs = Callable[[Sequence[int]], Sequence[float]]
_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Share:
    """Negative log-likelihood in nats of some tokens, how many they are, and the UTF-8 bytes they spell."""

    nats: float
    tokens: int
    bytes: int

    def mean(self, per: Per) -> float | None:
        """Nats per token or per byte; None of nothing.  The perplexity is its exponential."""
        count = self.tokens if per == "token" else self.bytes
        return self.nats / count if count else None


@dataclass(frozen=True, kw_only=True)
class Surprise:
    """The user's turns and the model's own answers of one conversation."""

    prompt: Share
    answer: Share


def surprise(messages: Sequence[Mapping[str, str]], said: ChatText, tokens: ChatTokens, found: LogProbs) -> Surprise:
    """Sum the log-probabilities by who speaks.  A first token has no probability and is not counted."""
    nats = dict(enumerate((-float(log_prob) for log_prob in found(tokens.ids)), start=1))

    def share(role: str) -> Share:
        spans = [span for message, span in zip(messages, said.spans, strict=True) if message["role"] == role]
        places = {place for span in spans for place in tokens.within(*span) if place in nats}
        return Share(
            nats=sum(nats[place] for place in sorted(places)),
            tokens=len(places),
            bytes=sum(len(said.text[start:end].encode()) for start, end in spans),
        )

    return Surprise(prompt=share("user"), answer=share("assistant"))


def measure(
    questions: Sequence[Question],
    answers: Sequence[Answer],
    tokenizer: Any,
    found: LogProbs,
    *,
    longest: int,
    at_once: int = _AT_ONCE,
) -> dict[str, Surprise | str]:
    """The surprise of every question that was answered completely, or the reason why there is none."""
    said = {answer.question_id: answer for answer in answers if answer.reason is None}
    template = ChatTemplate.of(tokenizer)

    def one(question: Question) -> Surprise | str:
        messages = conversation(question, said[question.id])
        try:
            text = chat_text(template, messages)
        except ValueError as error:
            return str(error)
        tokens = chat_tokens(tokenizer, text.text)
        if len(tokens.ids) >= longest:
            return f"the conversation has {len(tokens.ids)} tokens, the model's limit is {longest}"
        return surprise(messages, text, tokens, found)

    asked = [question for question in questions if question.id in said]
    with ThreadPoolExecutor(max_workers=at_once) as workers:
        return dict(zip((question.id for question in asked), workers.map(one, asked), strict=True))


def measure_served(
    checkpoint: Path, endpoint: Endpoint, questions: Sequence[Question], answers: Sequence[Answer]
) -> dict[str, Surprise | str]:
    """By the server's own log-probabilities of a prompt.  Raises ServerFailure where it does not give any."""
    from transformers import AutoTokenizer

    control = Control(root=endpoint.base_url.removesuffix("/v1"), key=endpoint.key)
    _, listed = control.get("/v1/models")
    limits = [entry.get("max_model_len") for entry in listed.get("data", [])] if isinstance(listed, dict) else []

    def found(ids: Sequence[int]) -> Sequence[float]:
        return probe.served(control, model=endpoint.model, ids=ids)

    with LOADING:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    return measure(questions, answers, tokenizer, found, longest=(limits or [None])[0] or 2**31)


def measure_here(
    checkpoint: Path, questions: Sequence[Question], answers: Sequence[Answer], how: InProcess
) -> dict[str, Surprise | str]:
    """By a forward pass of transformers in this process."""
    from eval.likelihood.local_model import LocalModel

    model = LocalModel.load(checkpoint, dtype=how.dtype, device=how.device)
    longest = min(model.longest, how.longest or 2**31)
    return measure(questions, answers, model.tokenizer, model.log_probs, longest=longest, at_once=1)


def write_surprises(path: Path, found: Mapping[str, Surprise | str]) -> None:
    """One JSON object on one line per question: `prompt` and `answer` with nats, tokens, bytes; or a `reason`."""
    with path.open("w") as stream:
        for question_id, one in found.items():
            body = {"reason": one} if isinstance(one, str) else asdict(one)
            stream.write(json.dumps({"question_id": question_id, **body}, ensure_ascii=False) + "\n")


def read_surprises(path: Path) -> dict[str, Surprise]:
    """Those that could be measured."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {
        row["question_id"]: Surprise(prompt=Share(**row["prompt"]), answer=Share(**row["answer"]))
        for row in rows
        if "reason" not in row
    }
