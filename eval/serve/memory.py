"""How much memory a checkpoint's weights take on this machine while it is served."""

from __future__ import annotations

from pathlib import Path

from eval.serve.checkpoint import noted_dtype, shards
from eval.serve.server import Serve
from fusion.runtime.precision import ITEM_BYTES
from fusion.runtime.work import Size


def size_of(checkpoint: Path) -> Size:
    """A checkpoint's size by its files and its config's type.  Raises Refusal when config or weights are missing."""
    each = ITEM_BYTES.get(noted_dtype(checkpoint), 2)  # quantised weights are unpacked to 16 bits
    parameters = sum(path.stat().st_size for path in shards(checkpoint)) / each
    return Size(parameters=parameters, active=parameters, bytes_each=each)


def served_bytes(size: Size, serve: Serve) -> float:
    """Bytes in memory here while it is served: those on disk, unless the server takes the weights to another type; none
    where another machine may hold them."""
    if serve.runs_on is None:
        return 0.0
    types = {each: dtype for dtype, each in reversed([*ITEM_BYTES.items()])}
    served = serve.precision(types[round(size.bytes_each)])
    return size.bytes if served is None else size.parameters * ITEM_BYTES[served]
