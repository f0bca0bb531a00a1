"""What a parameter is, by its name and shape, in the spellings of the model families."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

# One row for each id of the vocabulary, whatever model they are inside of.
_EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|embed_tokens_per_layer|wte|embed_in|word_embeddings|shared)\.weight$")
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out)\.weight$")
# What older releases of transformers save and newer ones compute: tables of positions, and masks of [1, 1, n, n].
_BUFFER = re.compile(
    r"(?:rotary_(?:pos_)?emb\.(?:inv_freq|cos_cached|sin_cached)|rope\.freqs|\.masked_bias|\.position_ids)$"
)
_MASK = re.compile(r"\.(?:attn|attention|self_attn)\.bias$")
_LAYER = re.compile(r"^(.*?)\.(?:layers|h|blocks|layer)\.(\d+)\.")


def is_embedding(name: str) -> bool:
    """Whether a parameter has one row for each vocabulary id: the input embeddings or the output head."""
    return bool(_EMBEDDING.search(name) or is_head(name))


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
