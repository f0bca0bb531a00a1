"""A checkpoint's tokenizer and model, loaded whole or refused."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from fusion.runtime.configure import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_LOADING = threading.Lock()  # transformers sets process-wide defaults while it builds a model


def load_tokenizer(checkpoint: Path) -> PreTrainedTokenizerFast:
    """The checkpoint's tokenizer.  Raises Refusal when there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(checkpoint), local_files_only=True)
    except Exception as error:  # a dozen types; all mean: no tokenizer
        raise Refusal(
            f"{checkpoint} has no tokenizer that can be loaded ({_first_line(error)}): expected tokenizer.json"
        ) from error


def load_model(checkpoint: Path, *, dtype: str, device_map: str | None, device: str | None) -> PreTrainedModel:
    """The checkpoint's causal language model for inference; safetensors only, and no code from the checkpoint.

    Raises Refusal when it cannot be read, or when a tensor of its architecture is missing or of another shape.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        with _LOADING:
            model, report = AutoModelForCausalLM.from_pretrained(
                str(checkpoint),
                dtype=getattr(torch, dtype),
                device_map=device_map,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:
        raise Refusal(
            f"{checkpoint} cannot be loaded ({_first_line(error)}): expected a Hugging Face causal language model with"
            " safetensors weights; copy or convert it again"
        ) from error
    absent = sorted(str(name) for name in [*report["missing_keys"], *report["mismatched_keys"]])
    if absent:
        raise Refusal(
            f"{checkpoint} lacks {len(absent)} tensors of its own architecture, or has them in another shape (first:"
            f" {absent[0]}); a part of the model would be random. Copy or convert it again"
        )
    if device_map is None:
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return model.eval()


def vocabulary_size(checkpoint: Path) -> int:
    """The width of the model's logits, which can exceed the number of tokens.  Raises Refusal without a config.json."""
    from transformers import AutoConfig

    try:
        settings = AutoConfig.from_pretrained(str(checkpoint), local_files_only=True)
    except Exception as error:
        raise Refusal(f"{checkpoint} has no config.json that can be read ({_first_line(error)})") from error
    return int(settings.get_text_config().vocab_size)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
