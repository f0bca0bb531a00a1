"""A second checkpoint into a running vLLM server, and 80 questions at once, on a tiny Llama with random weights."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.row import Row, spelled
from bench.texts import sentences, trained
from eval.serve import VLLM, Server, engine, serving
from eval.serve.automatic import Automatic
from eval.serve.chat_client import ChatReply, ChatRequest, Patience, ask

_QUESTIONS, _TOKENS, _CONCURRENCY = 80, 64, 64


def rows() -> Iterator[Row]:
    """Both bars, or one row that says why vLLM cannot be started here."""
    chosen = engine(Automatic())
    if not isinstance(chosen, VLLM):
        yield Row(what="serving", measured="vLLM does not run here", bar="", reached=None)
        return
    text = sentences(4)
    words = text.split()
    questions = [" ".join(words[12 * i : 12 * i + 12]) for i in range(_QUESTIONS)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checkpoints = [_checkpoint(root / f"model-{seed}", text, seed) for seed in (0, 1)]
        with serving(chosen, logs=root / "logs", say=lambda line: print(line, file=sys.stderr)) as server:
            yield _reload(server, checkpoints)
            yield _answering(server, checkpoints[1], questions)


def _reload(server: Server, checkpoints: Sequence[Path]) -> Row:
    first = server.load(checkpoints[0])
    again = [server.load(checkpoints[turn % 2]) for turn in (1, 2, 3, 4, 5)]
    seconds = statistics.median(loaded.seconds for loaded in again)
    start = first.seconds
    in_place = all(loaded.how == "reloaded" for loaded in again)
    return Row(
        what="a second checkpoint into a running server, checks and probe included",
        measured=f"{spelled(seconds)}, {start / seconds:.0f} times faster than the start ({spelled(start)})",
        bar="at least 20 times faster",
        reached=in_place and start >= 20 * seconds,
    )


def _answering(server: Server, checkpoint: Path, questions: Sequence[str]) -> Row:
    """Completion tokens a second, since a random model may end an answer early."""
    requests = [ChatRequest(id=str(i), turns=(q,), max_tokens=_TOKENS) for i, q in enumerate(questions)]
    replies: list[ChatReply] = []
    speeds = []
    for _ in range(3):
        replies.clear()
        started = time.perf_counter()
        ask(
            server.endpoint,
            requests,
            lambda _, reply: replies.append(reply),
            patience=Patience(concurrency=_CONCURRENCY),
        )
        speeds.append(sum(reply.completion_tokens for reply in replies) / (time.perf_counter() - started))
    alone = _one_by_one(checkpoint, questions)
    together = statistics.median(speeds)
    return Row(
        what=f"answering {_QUESTIONS} questions: vLLM, {_CONCURRENCY} at once, beside generating one by one",
        measured=f"{together:,.0f} tokens/s beside {alone:,.0f}, {together / alone:.1f} times faster",
        bar="at least 7 times",
        reached=together >= 7 * alone,
    )


def _one_by_one(checkpoint: Path, questions: Sequence[str]) -> float:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint).to("cuda" if torch.cuda.is_available() else "cpu")
    some = questions[: _QUESTIONS // 4]
    started = time.perf_counter()
    for question in some:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(model.device)
        model.generate(**ids, min_new_tokens=_TOKENS, max_new_tokens=_TOKENS, do_sample=False)
    return len(some) * _TOKENS / (time.perf_counter() - started)


def _checkpoint(folder: Path, text: str, seed: int) -> Path:
    """Two layers, four heads of 32, a vocabulary of 1,000: what a tiny chat model is."""
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
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
