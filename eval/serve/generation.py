"""Chat completions from a `transformers` model: what serve=transformers does with a batch of requests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from eval.serve.chat_template import ChatTemplate
from eval.serve.loading import LOADING
from fusion.runtime.configure import Refusal
from fusion.runtime.templates.rendering import TemplateFault


class ChatJob(Protocol):
    """A request, and where its completion goes: an OpenAI chat completion, or {"refused": reason}."""

    messages: Any
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    top_logprobs: int | None
    result: dict[str, object] | None


class Generator:
    """A loaded model and its tokenizer; not safe to share between threads."""

    def __init__(self, model: Any, tokenizer: Any, *, longest: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self.template = ChatTemplate.of(tokenizer)
        self._longest = longest
        ends = model.generation_config.eos_token_id
        own = ends if isinstance(ends, list) else [ends]
        self._ends = {*own, tokenizer.eos_token_id, turn_end(tokenizer, self.template)} - {None}

    @classmethod
    def load(cls, checkpoint: Path, *, dtype: str, device: str, longest: int | None) -> Generator:
        """Raises Refusal when transformers cannot load the checkpoint."""
        try:
            with LOADING:
                tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
                model = AutoModelForCausalLM.from_pretrained(
                    checkpoint, dtype=dtype, local_files_only=True, use_safetensors=True
                )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise Refusal(f"{checkpoint} cannot be loaded by transformers ({error}): is it complete?") from error
        own = getattr(model.config, "max_position_embeddings", None) or 2**31
        return cls(model.eval().to(device), tokenizer, longest=min(own, longest or own))

    @property
    def dtype(self) -> str:
        """torch's name of the type that the weights were loaded in."""
        return str(self._model.dtype).removeprefix("torch.")

    def complete(self, jobs: Sequence[ChatJob]) -> None:
        """Fill in every job's `result`.  Jobs generated together must all have temperature 0."""
        prompts = [self._prompt(job) for job in jobs]
        ready = [i for i, ids in enumerate(prompts) if len(ids) < self._longest]
        for i in set(range(len(jobs))) - set(ready):
            jobs[i].result = {
                "refused": f"the prompt has {len(prompts[i])} tokens, the model's limit is {self._longest}"
            }
        if ready:
            for i, (said, alternatives) in zip(
                ready, self._generate([jobs[i] for i in ready], [prompts[i] for i in ready])
            ):
                jobs[i].result = self._completion(jobs[i], prompts[i], said, alternatives)

    def _prompt(self, job: ChatJob) -> list[int]:
        (rendered,) = job.messages  # by `template`, before it was sent
        return list(self._tokenizer(rendered["content"], add_special_tokens=False)["input_ids"])

    @torch.inference_mode()
    def _generate(self, jobs: Sequence[ChatJob], prompts: Sequence[list[int]]) -> list[tuple[list[int], list[Any]]]:
        """One token per step for the whole batch, left-padded, until every row has ended: [(tokens, alternatives)]."""
        width = max(map(len, prompts))
        rows = [[0] * (width - len(ids)) + ids for ids in prompts]
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=self._model.device)
        inputs = torch.tensor(rows, device=self._model.device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        limits = [min(job.max_tokens, self._longest - len(ids)) for job, ids in zip(jobs, prompts)]
        random = torch.Generator(device=self._model.device).manual_seed(jobs[0].seed)
        said: list[list[int]] = [[] for _ in jobs]
        alternatives: list[list[Any]] = [[] for _ in jobs]
        ended = [False] * len(jobs)
        cache = None
        while not all(ended):
            out = self._model(
                input_ids=inputs, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            )
            cache = out.past_key_values
            log_probs = torch.log_softmax(out.logits[:, -1].float(), dim=-1)
            chosen = [
                int(log_probs[i].argmax()) if job.temperature == 0 else _sampled(log_probs[i], job, random)
                for i, job in enumerate(jobs)
            ]
            for i, token in enumerate(chosen):
                if ended[i]:
                    continue
                said[i].append(token)
                if jobs[i].top_logprobs is not None:
                    alternatives[i].append(_alternatives(log_probs[i], token, jobs[i].top_logprobs or 0))
                ended[i] = token in self._ends or len(said[i]) >= limits[i]
            inputs = torch.tensor(chosen, device=self._model.device)[:, None]
            mask = torch.cat([mask, mask.new_ones(len(jobs), 1)], dim=1)
            positions = positions[:, -1:] + 1
        return list(zip(said, alternatives))

    def _completion(
        self, job: ChatJob, prompt: list[int], said: list[int], alternatives: list[Any]
    ) -> dict[str, object]:
        stopped = bool(said) and said[-1] in self._ends
        text = self._tokenizer.decode(said[:-1] if stopped else said, skip_special_tokens=True)
        choice: dict[str, object] = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop" if stopped else "length",
            "logprobs": None,
        }
        if job.top_logprobs is not None:
            choice["logprobs"] = {"content": [self._named(entry) for entry in alternatives]}
        return {
            "id": "chatcmpl-local",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": "model",
            "choices": [choice],
            "usage": {
                "prompt_tokens": len(prompt),
                "completion_tokens": len(said),
                "total_tokens": len(prompt) + len(said),
            },
        }

    def _named(self, entry: tuple[tuple[int, float], list[tuple[int, float]]]) -> dict[str, object]:
        def named(token: int, log_prob: float) -> dict[str, object]:
            return {"token": self._tokenizer.decode([token]), "logprob": log_prob, "bytes": None}

        chosen, top = entry
        return {**named(*chosen), "top_logprobs": [named(*pair) for pair in top]}


def turn_end(tokenizer: Any, template: ChatTemplate) -> int | None:
    """The special token with which the chat template ends an answer: merges and fine-tunes may have lost it from the
    end tokens of the model.  None where the template ends answers otherwise, or does not render two plain turns."""
    said = "said"
    try:
        text = template.conversation([{"role": "user", "content": "asked"}, {"role": "assistant", "content": said}])
    except TemplateFault:  # rendering real questions will say it
        return None
    after = tokenizer(text.rpartition(said)[2], add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids)
    return next((int(token) for token in after if token in special), None)


def _alternatives(log_probs: Tensor, token: int, count: int) -> tuple[tuple[int, float], list[tuple[int, float]]]:
    top = log_probs.topk(min(count, len(log_probs))) if count else None
    pairs = list(zip(top.indices.tolist(), top.values.tolist())) if top is not None else []
    return (token, float(log_probs[token])), pairs


def _sampled(log_probs: Tensor, job: ChatJob, random: torch.Generator) -> int:
    """A token from the tempered distribution, cut to the smallest set of tokens that holds `top_p` of the mass."""
    probabilities, order = torch.softmax(log_probs / job.temperature, dim=-1).sort(descending=True)
    before = probabilities.cumsum(0) - probabilities
    probabilities = torch.where(before < job.top_p, probabilities, 0.0)
    return int(order[torch.multinomial(probabilities, 1, generator=random)])
