"""Proof that the right weights answer: log-probabilities of a fixed text from the server against our own forward pass.

A reload that went half way still answers requests, with a blend of two checkpoints.  The probe compares, token by
token, what the server says with what `transformers` computes from the same files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.errors import ServerFailure
from eval.serve.control import Control
from eval.serve.loading import LOADING
from fusion.runtime.configure import Refusal

TEXT = (
    "What is 17 plus 25? The answer is 42, because 17 + 25 = 42. Name three colours: red, green and blue."
    " Write the number 1204 in words: one thousand two hundred and four."
)
TOKENS = 64
# Largest mean absolute difference, in nats per token, between two correct implementations, by the served precision.
TOLERANCE = {"float32": 0.01, "bfloat16": 0.15, "float16": 0.05}


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """The probe's token ids [N] and, by an independent forward, log-probabilities [N-1] in nats of tokens 1..N-1."""

    ids: tuple[int, ...]
    log_probs: tuple[float, ...]


def expectation(checkpoint: Path, *, longest: int) -> Expectation:
    """Run the probe text, at most `longest` tokens, through the checkpoint with transformers on the CPU.

    Weights up to 1 GB are computed with in float32, larger ones in their own precision to spare memory.
    """
    with LOADING:
        return _forward(checkpoint, longest)


def _forward(checkpoint: Path, longest: int) -> Expectation:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    size = sum(path.stat().st_size for path in checkpoint.glob("*.safetensors"))
    try:
        logging.disable_progress_bar()
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            checkpoint, dtype=torch.float32 if size <= 2**30 else "auto", local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise Refusal(
            f"{checkpoint} cannot be loaded by transformers ({error}): is the checkpoint complete?"
        ) from error
    finally:
        logging.enable_progress_bar()
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"][: min(TOKENS, longest)]
    with torch.inference_mode():
        logits = model.eval()(torch.tensor([ids])).logits[0, :-1].float()
        chosen = torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    return Expectation(ids=tuple(ids), log_probs=tuple(chosen.tolist()))


def served(
    control: Control, *, model: str, ids: Sequence[int], replica: int | None = None, timeout: float = 120.0
) -> tuple[float, ...]:
    """The server's log-probabilities of `ids`[1:], each given the ids before it.  Raises ServerFailure without them.

    `replica` is the data-parallel copy of the model that must answer; None where there is only one.
    """
    body = {"model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    headers = {} if replica is None else {"X-data-parallel-rank": str(replica)}
    status, reply = control.post("/v1/completions", body, timeout=timeout, headers=headers)
    if status != 200:
        raise ServerFailure(f"the server answered {status} to the probe: {str(reply)[:300]}")
    return _log_probs(reply, ids)


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Mean absolute difference of two equally long sequences; infinite when any entry is not a number."""
    gaps = [abs(a - b) for a, b in zip(one, other, strict=True)]
    mean = sum(gaps) / max(len(gaps), 1)
    return mean if math.isfinite(mean) else math.inf


def _log_probs(reply: Any, ids: Sequence[int]) -> tuple[float, ...]:
    try:
        entries = reply["choices"][0]["prompt_logprobs"][1:]
        found = tuple(float(entry[str(token)]["logprob"]) for entry, token in zip(entries, ids[1:], strict=True))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ServerFailure(f"the server's answer to the probe has no prompt log-probabilities ({error!r})") from error
    return found
