"""A checkpoint in this process: its logits step by step, which no server gives out whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from eval.serve.chat_template import ChatTemplate
from eval.serve.loading import LOADING
from fusion.runtime.configure import Refusal


class LocalModel:
    """A model, its tokenizer, and what ends its turn; not safe to share between threads."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self.tokenizer = tokenizer
        self.template = ChatTemplate.of(tokenizer)
        own = model.generation_config.eos_token_id
        ends = own if isinstance(own, list) else [own]
        self.ends: tuple[int, ...] = tuple(sorted({*ends, tokenizer.eos_token_id} - {None}))
        self.longest: int = getattr(model.config, "max_position_embeddings", None) or 2**31

    @classmethod
    def load(cls, checkpoint: Path, *, dtype: str = "auto", device: str = "cpu") -> LocalModel:
        """Raises Refusal when transformers cannot load the checkpoint."""
        with LOADING:
            try:
                logging.disable_progress_bar()
                tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
                model = AutoModelForCausalLM.from_pretrained(
                    checkpoint, dtype=dtype, local_files_only=True, use_safetensors=True
                )
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                raise Refusal(f"{checkpoint} cannot be loaded by transformers ({error}): is it complete?") from error
            finally:
                logging.enable_progress_bar()
        return cls(model.eval().to(device), tokenizer)

    def ids(self, text: str) -> list[int]:
        """The rendered text's tokens; the template has written the special ones."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @torch.inference_mode()
    def logits(self, ids: Sequence[int], places: Sequence[int]) -> NDArray[np.float64]:
        """What the model expects after the tokens at `places` of `ids`: [places, V]; -1 is the last token."""
        found = self._model(input_ids=torch.tensor([list(ids)], device=self._model.device)).logits[0]
        return np.asarray(found[list(places)].float().cpu().numpy(), np.float64)

    @torch.inference_mode()
    def log_probs(self, ids: Sequence[int]) -> list[float]:
        """Log-probabilities in nats of `ids`[1:], each given the ids before it."""
        found = self._model(input_ids=torch.tensor([list(ids)], device=self._model.device)).logits[0, :-1].float()
        chosen = torch.log_softmax(found, dim=-1).gather(1, torch.tensor(list(ids[1:]), device=found.device)[:, None])
        return [float(value) for value in chosen[:, 0]]
