"""A model's answers to a benchmark's questions: what is already in the journal is kept, only the rest is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from eval.benchmarks.protocol import Asking
from eval.records import Answer, Journal, Question, read_records
from eval.serve.chat_client import CUT, ChatReply, ChatRequest, ask
from eval.serve.server import Endpoint


def collect_answers(
    *,
    benchmark: Asking,
    endpoint: Endpoint,
    model: str,
    weights: str,
    journal: Path,
    advance: Callable[[int, int], None],
) -> tuple[list[Answer], int]:
    """One answer per question, in the benchmark's order, and how many failed for a reason that may pass.

    `journal` must belong to exactly these weights and questions (an artifact's directory does).  Each answer is in it
    the moment it is complete; a question whose answer failed is asked once more on the next call.  Raises
    ServerFailure when the server answers no more.
    """
    done = {answer.question_id: answer for answer in read_records(journal, Answer) if answer.reason is None}
    missing = [question for question in benchmark.questions if question.id not in done]
    total = len(benchmark.questions)
    passing = 0
    with Journal(journal) as written:

        def keep(request: ChatRequest, reply: ChatReply) -> None:
            nonlocal passing
            answer = Answer(
                question_id=request.id,
                model=model,
                turns=reply.turns,
                weights=weights,
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
                reason=reply.failure,
                cut=tuple(turn for turn, why in enumerate(reply.finish_reasons, start=1) if why == CUT),
                thought=reply.thought,
            )
            passing += reply.kind not in (None, "refused")
            written.append(answer)
            done[answer.question_id] = answer
            advance(len(done), total)

        if missing:
            ask(endpoint, [chat_request(benchmark, question) for question in missing], keep)
    return [done[question.id] for question in benchmark.questions], passing


def chat_request(benchmark: Asking, question: Question) -> ChatRequest:
    """What is asked of the model; the seed of a sampled answer depends on the question alone."""
    sampling = benchmark.sampling(question)
    seed = int.from_bytes(hashlib.sha256(question.id.encode()).digest()[:4], "big") >> 1
    return ChatRequest(
        id=question.id,
        turns=question.turns,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        seed=seed if sampling.temperature > 0 else None,
    )
