"""Stochastic rounding: up or down at random, the nearer neighbour the likelier, so that the mean is the value.

    P(up) = (x - down) / (up - down)

Rounding to the nearest number drops an update that is smaller than half a step of the type, everywhere in the same way;
drawn, it stays in the sum over many entries, at the price of noise in each (Gupta et al., arXiv 1502.02551).  A draw is
a function of seed, parameter and position alone: threads, pieces and shards do not show.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from fusion.merge.checkpoints.shards import torch_dtype

if TYPE_CHECKING:
    from torch import Tensor

# Of a type: the bits of fp32 that it drops, its smallest normal number (0: as small as fp32's), the step below that.
_NARROW = {
    "BF16": (16, np.float32(0), np.float32(0)),
    "F16": (13, np.float32(2.0**-14), np.float32(2.0**-24)),
}


def rounding_key(seed: int, name: str) -> tuple[int, int]:
    """The key of a parameter's draws: other random words than any rule's generator leads to."""
    digest = hashlib.sha256(f"rounding {seed} {name}".encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def drawn(values: Tensor, dtype: str, key: tuple[int, int], start: int) -> Tensor:
    """fp32 values from entry `start` of a parameter, rounded to safetensors' `dtype`; fp32 and wider hold them all."""
    import torch

    from fusion.merge import compiled

    if dtype not in _NARROW:
        return values.to(torch_dtype(dtype))
    out = np.empty(values.numel(), np.float32)
    compiled.stochastic(values.numpy(), start, key, *_NARROW[dtype], out)
    return torch.from_numpy(out).to(torch_dtype(dtype))
