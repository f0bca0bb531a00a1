"""A second checkpoint into a running vLLM server, and 80 questions at once, on Llamas with random weights.

Answering is measured in float32 on two sizes, asked as the pipeline asks: all 80 at once.  The bar is held against the
size that a CPU really serves here, that of the pocket models.  100 M parameters stand beside, without a bar: one core
without matrix units is busy with the arithmetic of a batch (a layer takes 80 rows in about 9 times the time of one), so
no server could gain more than about 9 there; a GPU takes such a batch in hardly more time than one row.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.row import BenchRow, spelled
from bench.texts import sentences, trained
from eval.serve import VLLM, Server, serving
from eval.serve.automatic import Automatic
from eval.serve.chat_client import ChatReply, ChatRequest, ask
from eval.serve.endpoint_client import Patience

_QUESTIONS, _TOKENS = 80, 64
_CONCURRENCY = Patience().concurrency  # as answers are really asked: all 80 at once
_BAR = 7.0


@dataclass(frozen=True, kw_only=True)
class _Size:
    name: str
    layers: int
    hidden: int
    alone: int  # questions generated one by one


_TINY = _Size(name="0.7 M", layers=2, hidden=128, alone=20)
_SMALL = _Size(name="100 M", layers=14, hidden=768, alone=4)


def rows() -> Iterator[BenchRow]:
    """Both bars, or one row that says why vLLM cannot be started here."""
    chosen = Automatic(dtype="float32").chosen()[0]
    if not isinstance(chosen, VLLM):
        yield BenchRow(what="serving", measured="vLLM does not run here", bar="", reached=None)
        return
    text = sentences(4)
    words = text.split()
    questions = [" ".join(words[12 * i : 12 * i + 12]) for i in range(_QUESTIONS)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checkpoints = [_checkpoint(root / f"tiny-{seed}", text, seed, _TINY) for seed in (0, 1)]
        small = _checkpoint(root / "small", text, 0, _SMALL)
        with serving(chosen, logs=root / "logs", say=lambda line: print(line, file=sys.stderr)) as server:
            yield _reload(server, checkpoints)
            yield _answering(server, checkpoints[1], questions, _TINY, bar=_BAR)
            server.load(small)
            yield _answering(server, small, questions, _SMALL, bar=None)


def _reload(server: Server, checkpoints: Sequence[Path]) -> BenchRow:
    first = server.load(checkpoints[0])
    again = [server.load(checkpoints[turn % 2]) for turn in (1, 2, 3, 4, 5)]
    seconds = statistics.median(loaded.seconds for loaded in again)
    start = first.seconds
    in_place = all(loaded.how == "reloaded" for loaded in again)
    return BenchRow(
        what="a second checkpoint into a running server, checks and probe included",
        measured=f"{spelled(seconds)}, {start / seconds:.0f} times faster than the start ({spelled(start)})",
        bar="at least 20 times faster",
        reached=in_place and start >= 20 * seconds,
    )


def _answering(
    server: Server, checkpoint: Path, questions: Sequence[str], size: _Size, *, bar: float | None
) -> BenchRow:
    """Completion tokens a second, since a random model may end an answer early."""
    requests = [ChatRequest(id=str(i), turns=(q,), max_tokens=_TOKENS) for i, q in enumerate(questions)]
    generated = _one_by_one(checkpoint)
    rounds = []  # by turns, so that whatever else the machine does meets both
    for _ in range(3):
        replies: list[ChatReply] = []
        started = time.perf_counter()
        ask(
            server.endpoint,
            requests,
            lambda _, reply: replies.append(reply),  # noqa: B023  asked and answered within the round
            patience=Patience(concurrency=_CONCURRENCY),
        )
        speed = sum(reply.completion_tokens for reply in replies) / (time.perf_counter() - started)
        rounds.append((speed, generated(questions[: size.alone])))
    together, alone = (statistics.median(speeds) for speeds in zip(*rounds, strict=True))
    times = statistics.median(speed / other for speed, other in rounds)
    return BenchRow(
        what=f"answering {_QUESTIONS} questions, {size.name} parameters: vLLM, all at once, beside one by one",
        measured=f"{together:,.0f} tokens/s beside {alone:,.0f}, {times:.1f} times faster",
        bar=f"at least {bar:g} times" if bar else "",
        reached=times >= bar if bar else None,
    )


def _one_by_one(checkpoint: Path) -> Callable[[Sequence[str]], float]:
    """A loaded model that answers questions one after the other and gives its tokens a second."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint).to("cuda" if torch.cuda.is_available() else "cpu")

    def generated(questions: Sequence[str]) -> float:
        started = time.perf_counter()
        for question in questions:
            messages = [{"role": "user", "content": question}]
            ids = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            ).to(model.device)
            model.generate(**ids, min_new_tokens=_TOKENS, max_new_tokens=_TOKENS, do_sample=False)
        return len(questions) * _TOKENS / (time.perf_counter() - started)

    return generated


def _checkpoint(folder: Path, text: str, seed: int, size: _Size) -> Path:
    """Random weights, attention heads of 32 or 64, a vocabulary of 1,000."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = trained(text, 1_000)
    tokenizer.add_special_tokens({"eos_token": "<|end|>"})
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message.role }}: {{ message.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=size.hidden,
            intermediate_size=size.hidden * 8 // 3 // 64 * 64,
            num_hidden_layers=size.layers,
            num_attention_heads=size.hidden // (32 if size.hidden < 512 else 64),
            max_position_embeddings=512,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
