"""What a parameter is, by its name and shape, in the spellings of the model families."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

# One row for each id of the vocabulary, whatever model they are inside of.
_EMBEDDING = re.compile(
    r"(?:^|\.)(?:embed_tokens|tok_embeddings|wte|embed_in|word_embeddings|shared|(?:backbone|model)\.embeddings?)\.weight$"
)
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output_layer)\.weight$|^output\.weight$")
# As many rows too, but neither the one nor the other.
_OF_VOCABULARY = re.compile(r"(?:^|\.)(?:embed_tokens_per_layer\.weight|(?:lm_head|embed_out)\.bias)$")
# What older releases of transformers save and newer ones compute: tables of positions, and masks of [1, 1, n, n].
_BUFFER = re.compile(
    r"(?:\.rotary_(?:pos_)?emb\w*\.\w*(?:inv_freq|cos_cached|sin_cached)|rope\.freqs|\.masked_bias"
    r"|embeddings\.token_type_ids|\.position_ids)$"
)
_MASK = re.compile(r"\.(?:attn|attention|self_attn)\.(?:bias|causal_mask)$")
# What torch.compile, FSDP and checkpointed activations put into the names of parameters, and DistributedDataParallel
# before them.
_WRAPPERS = re.compile(r"_orig_mod\.|_fsdp_wrapped_module\.|_checkpoint_wrapped_module\.")
_BEFORE = re.compile(r"^(?:module\.)+")
_LAYER = re.compile(r"^(.*?)\.(?:layers|h|blocks|block|layer)\.(\d+)\.")


def unwrapped(name: str) -> str:
    """A parameter's name without what the wrappers that a model was trained in put into it."""
    return _BEFORE.sub("", _WRAPPERS.sub("", name))


def is_embedding(name: str) -> bool:
    """Whether a parameter has one row for each vocabulary id: input embeddings, the output head, its bias."""
    return bool(_EMBEDDING.search(name) or is_head(name) or _OF_VOCABULARY.search(name))


def is_input_embedding(name: str) -> bool:
    """Whether a parameter is the input embeddings, which a tied model has for its output head too."""
    return bool(_EMBEDDING.search(name))


def is_head(name: str) -> bool:
    """Whether a parameter is the output head."""
    return bool(_HEAD.search(name))


def is_input(name: str) -> bool:
    """Whether a parameter outside of all layers lies before the first: embeddings, of whatever."""
    return "embed" in name.partition("embed_out")[0] or "wte" in name or "wpe" in name


def is_buffer(name: str, shape: Sequence[int]) -> bool:
    """Whether it is no parameter but a constant, which some releases of transformers save."""
    mask = _MASK.search(f".{name}") is not None and len(shape) == 4 and tuple(shape[:2]) == (1, 1)
    return mask or _BUFFER.search(f".{name}") is not None


def tied_to(head: str, names: Collection[str]) -> str | None:
    """The input embeddings that the output head `head` shares when it is tied; None when `head` is no output head."""
    return next((name for name in names if _EMBEDDING.search(name)), None) if is_head(head) else None


def layer_of(name: str) -> tuple[str, int] | None:
    """The stack of layers a parameter is in (what its name begins with) and the number of its layer; None outside."""
    found = _LAYER.search(f".{name}")
    return (found[1].removeprefix("."), int(found[2])) if found else None


def language_stack(names: Collection[str]) -> str | None:
    """The stack of the language model's layers: that beside the input embeddings, else the deepest; None without."""
    depths: dict[str, int] = {}
    for name in names:
        if (place := layer_of(name)) is not None:
            depths[place[0]] = max(depths.get(place[0], 0), place[1] + 1)
    beside = {name.rpartition(".weight")[0].rpartition(".")[0] for name in names if _EMBEDDING.search(name)}
    return max(depths, key=lambda stack: (stack in beside, depths[stack]), default=None)
