"""safetensors shards, read and written tensor by tensor and piece by piece.

Files are read with positioned reads into small buffers that stay in the processor's cache, which costs no page faults,
and a file that another process truncates gives a refusal, not a signal.  A shard is written the same way: its header
says where every tensor goes, so threads fill it in any order.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.merge.checkpoints.roles import unwrapped
from fusion.runtime.configure import Refusal
from fusion.runtime.precision import ITEM_BYTES, TORCH_NAMES
from fusion.runtime.reading import decoded

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

FLOATS = frozenset(TORCH_NAMES)
# Bits of one entry, of these and of what else safetensors stores.
_BITS: Mapping[str, int] = {code: 8 * ITEM_BYTES[name] for code, name in TORCH_NAMES.items()} | {
    **dict.fromkeys(("I64", "U64", "C64"), 64),
    **dict.fromkeys(("I32", "U32"), 32),
    **dict.fromkeys(("I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
SAFETENSORS_NAMES = {name: code for code, name in TORCH_NAMES.items()}
_LARGEST_HEADER = 100 * 2**20
INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"
_NUMBERED = re.compile(r"model-(\d+)-of-(\d+)\.safetensors")
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """Where a tensor lies: `dtype` in safetensors' spelling, `offset` from the start of the file, `size` in bytes.

    Where it holds fewer entries than its shape has, the later ones are those of `further`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    size: int
    further: StoredTensor | None = None

    @property
    def elements(self) -> int:
        """Number of entries."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The tensors of one checkpoint directory in the order of its files and, within a file, of their bytes.

    Names are without what wrappers put into them.
    """

    directory: Path
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, Mapping[str, str]]  # by file name
    index: Mapping[str, Any] | None

    @property
    def files(self) -> list[str]:
        """Names of the shards."""
        return list(self.metadata)

    @property
    def written_as(self) -> Mapping[str, str]:
        """Names under which files of the same layout load, by the shards' own: these where an index lists them."""
        if self.index is not None:
            return {name: name for name in self.files}
        if len(self.files) == 1:
            return {self.files[0]: WHOLE}
        count = len(self.files)
        return {name: f"model-{n:05d}-of-{count:05d}.safetensors" for n, name in enumerate(self.files, start=1)}


def open_shards(directory: Path) -> Shards:
    """Find a checkpoint's safetensors files and read their headers.

    Raises Refusal for a directory that is missing, has pickles or adapters only, lacks a shard its index names, holds
    two sets of files, or a file that is not safetensors or is too short.
    """
    if not directory.is_dir():
        raise Refusal(f"there is no checkpoint directory {directory}")
    index = _read_index(directory / INDEX)
    names = _unlisted(directory) if index is None else sorted(set(index["weight_map"].values()))
    numbered = sorted(path.name for path in directory.glob("model-*.safetensors") if _NUMBERED.fullmatch(path.name))
    if (directory / WHOLE).exists() and (WHOLE not in names if index is not None else numbered):
        beside = "an index of other files" if index is not None else f"shards such as {numbered[0]}"
        raise Refusal(
            f"{directory} holds {WHOLE} and {beside}, and programs disagree on which of them is the"
            " model: delete the one that is not"
        )
    _refuse_unless_whole(directory, names)
    tensors: dict[str, StoredTensor] = {}
    metadata = {}
    for name in names:
        found, notes = read_header(directory / name)
        metadata[name] = notes
        for tensor in found:
            if tensor.name in tensors:
                raise Refusal(
                    f"parameter '{tensor.name}' is twice in {directory}, in {tensors[tensor.name].file.name} and in"
                    f" {name}: expected the files of one save; delete those of the other"
                )
            tensors[tensor.name] = tensor
    if index is not None:
        for parameter, file in index["weight_map"].items():
            held = tensors.get(unwrapped(parameter))
            if held is None or held.file.name != file:
                raise Refusal(
                    f"the index of {directory} places '{parameter}' in {file}, which does not hold it: copy index and"
                    f" files of one save there, or delete {INDEX}, without which numbered shards are read as they are"
                )
    return Shards(directory=directory, tensors=tensors, metadata=metadata, index=index)


def _read_index(file: Path) -> Mapping[str, Any] | None:
    if not file.exists():
        return None
    try:
        index = decoded(file.read_bytes())
        names = set(index["weight_map"].values())
        if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise ValueError("its weight_map names no files of this directory")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise Refusal(f"{file} cannot be read ({error}): expected an index with a weight_map") from error
    assert isinstance(index, Mapping)
    return index


def _unlisted(directory: Path) -> list[str]:
    """The files of a checkpoint without an index: the whole one, numbered ones, or any others; never an adapter's, nor
    the consolidated weights that some publish beside the others under names of their own."""
    found = sorted(path.name for path in directory.glob("*.safetensors"))
    if WHOLE in found:
        return [WHOLE]
    numbered = [name for name in found if _NUMBERED.fullmatch(name)]
    others = [name for name in found if not name.startswith(("adapter_", "consolidated"))]
    if numbered:
        return numbered
    if not others:
        consolidated = [name for name in found if name.startswith("consolidated")]
        if consolidated:
            raise Refusal(
                f"{directory} has only {consolidated[0]}, in which parameters have other names than Hugging Face's:"
                " give the directory in Hugging Face's layout, with model*.safetensors"
            )
        raise Refusal(_no_weights(directory))
    return others


def _refuse_unless_whole(directory: Path, names: Sequence[str]) -> None:
    """Refuse numbered shards of which some are missing, or which are of two saves."""
    parts = [found for name in names if (found := _NUMBERED.fullmatch(name))]
    if any(int(part[2]) != len(parts) for part in parts):
        by = "those that its index lists" if (directory / INDEX).exists() else "it has no index"
        raise Refusal(
            f"{directory} is not complete, its shards are not one whole set: {', '.join(part[0] for part in parts)}"
            f" ({by}); copy the missing ones there, and their index"
        )


def _no_weights(directory: Path) -> str:
    if any(directory.glob("adapter_*")):
        return (
            f"{directory} holds an adapter, not a model: give the model as BASE_DIRECTORY+{directory.name}, or merge it"
            " into its base with peft's merge_and_unload"
        )
    if gguf := sorted(path.name for path in directory.glob("*.gguf")):
        return f"{directory} has {gguf[0]}, which is not read here: give the safetensors that it was converted from"
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in directory.glob(pattern))
    if pickles:
        return (
            f"{directory} has pickled weights only ({pickles[0]}), which can run code when they are read: load them"
            " where you trust them and write safetensors with transformers' save_pretrained"
        )
    below = [path.parent for depth in ("*", "*/*") for path in sorted(directory.glob(f"{depth}/*.safetensors"))]
    way = f"did you mean {below[0]}?" if below else "expected a Hugging Face checkpoint directory"
    return f"{directory} has no .safetensors weights: {way}"


def read_header(file: Path) -> tuple[list[StoredTensor], Mapping[str, str]]:
    """The tensors of one safetensors file in the order of their bytes, and what else its header notes.

    Raises Refusal for a file that is missing, or that is not what safetensors' own reader takes.
    """
    try:
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise ValueError("it is no file")
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            start = stream.read(8)
            if _LFS_POINTER.startswith(start) and start:
                raise ValueError("it is a pointer of git lfs; fetch the file itself with git lfs pull")
            (length,) = struct.unpack("<Q", start)
            if length > min(size - 8, _LARGEST_HEADER):
                raise ValueError("its header is longer than the file")
            header = decoded(stream.read(length), once=True)
            if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
                raise ValueError("its header is not one of names and tensors")
            notes = header.pop("__metadata__", {})
            found = [_stored(file, 8 + length, name, entry) for name, entry in header.items()]
            found.sort(key=lambda tensor: (tensor.offset, tensor.size))
            end = 8 + length
            for tensor in found:
                if tensor.offset + tensor.size > size:
                    raise ValueError(f"the bytes of '{tensor.name}' lie outside of it; it is probably cut short")
                if tensor.offset != end:
                    raise ValueError(f"the bytes of '{tensor.name}' do not begin where those before it end")
                end += tensor.size
            if end != size:
                raise ValueError(f"{size - end} of its bytes belong to no tensor")
    except FileNotFoundError:
        raise Refusal(f"the shard {file} is missing: copy it there again") from None
    except (OSError, ValueError, struct.error) as error:
        raise Refusal(f"the shard {file} is not readable as safetensors: {error}; copy it there again") from error
    return found, notes


def _stored(file: Path, start: int, name: str, entry: Mapping[str, Any]) -> StoredTensor:
    """A header's entry; `start` is where the tensors' bytes begin.  Raises ValueError for one that fits nothing."""
    try:
        begin, end = entry["data_offsets"]
        shape, dtype = list(entry["shape"]), str(entry["dtype"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"'{name}' is {str(entry)[:80]}: expected dtype, shape and two data_offsets") from None
    if not all(type(number) is int and number >= 0 for number in (begin, end, *shape)) or end < begin:
        raise ValueError(f"'{name}' has shape {shape} and bytes {begin} to {end}: expected whole numbers")
    if dtype not in _BITS:
        raise ValueError(f"'{name}' is {dtype}, a type that is not known")
    tensor = StoredTensor(
        name=unwrapped(name), dtype=dtype, shape=tuple(shape), file=file, offset=start + begin, size=end - begin
    )
    if tensor.elements * _BITS[dtype] != 8 * tensor.size:
        raise ValueError(f"'{name}' has {tensor.size} bytes, which does not fit {dtype} of shape {shape}")
    return tensor


def itemsize(dtype: str) -> int:
    """Bytes of one entry of a floating type."""
    return ITEM_BYTES[TORCH_NAMES[dtype]]


def torch_dtype(dtype: str) -> torch.dtype:
    """safetensors' spelling of a floating type to torch's."""
    import torch

    found = getattr(torch, TORCH_NAMES[dtype])
    assert isinstance(found, torch.dtype)
    return found


class TensorReader:
    """Reads runs of one tensor's entries, bf16 as its bits (uint16) or anything as fp32."""

    def __init__(self, tensor: StoredTensor) -> None:
        self._tensor = tensor
        self._item = itemsize(tensor.dtype)
        try:
            self._file = os.open(tensor.file, os.O_RDONLY)
        except OSError as error:
            raise Refusal(f"parameter '{tensor.name}' cannot be read from {tensor.file}: {error.strerror}") from error

    def read(self, start: int, row: NDArray[np.generic]) -> None:
        """Fill `row`, uint16 for bf16 or float32, from entry `start`; raises Refusal when the file ends before."""
        own = max(0, self._tensor.size // self._item - start)  # entries from here on that are its own
        if own < row.size and self._tensor.further is not None:
            with closing(TensorReader(self._tensor.further)) as further:
                further.read(start + own, row[own:])
            row = row[:own]
        self._read(start, row)

    def _read(self, start: int, row: NDArray[np.generic]) -> None:
        import torch

        offset = self._tensor.offset + start * self._item
        if self._tensor.dtype == ("BF16" if row.itemsize == 2 else "F32"):
            read_exactly(self._file, row.data.cast("B"), offset, self._tensor)
            return
        raw = bytearray(row.size * self._item)
        read_exactly(self._file, memoryview(raw), offset, self._tensor)
        if raw:
            torch.from_numpy(row).copy_(torch.frombuffer(raw, dtype=torch_dtype(self._tensor.dtype)))

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)


def read_exactly(file: int, view: memoryview, offset: int, tensor: StoredTensor) -> None:
    """Fill `view` from `offset`; raises Refusal when that cannot be."""
    try:
        done = 0
        while done < len(view):
            found = os.preadv(file, [view[done:]], offset + done)
            if found == 0:
                raise OSError("the file ends early")
            done += found
    except OSError as error:
        raise Refusal(f"parameter '{tensor.name}' cannot be read from {tensor.file}: {error}") from error


def read_bytes(tensor: StoredTensor) -> bytes:
    """All bytes of a tensor, for the few that are not floating."""
    raw = bytearray(tensor.size)
    file = os.open(tensor.file, os.O_RDONLY)
    try:
        read_exactly(file, memoryview(raw), tensor.offset, tensor)
    finally:
        os.close(file)
    return bytes(raw)


class ShardWriter:
    """Creates shards of the given layout, mode 0644, with their whole space reserved; tensors are then filled in."""

    def __init__(
        self, directory: Path, layout: Mapping[str, list[StoredTensor]], metadata: Mapping[str, Mapping[str, str]]
    ) -> None:
        """`layout` maps a file name to its tensors, whose `file` and `offset` are ignored.  Wider entries come first:
        then every tensor starts at a multiple of its entries' size, as readers that map the file need it.

        Raises OSError when the disk is full, before anything is computed.
        """
        self._files: dict[str, int] = {}
        self._places: dict[str, tuple[int, int]] = {}
        for name, tensors in layout.items():
            header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata.get(name, {})}}
            position = 0
            ordered = sorted(tensors, key=lambda tensor: -(tensor.size // max(tensor.elements, 1)))
            for tensor in ordered:
                header[tensor.name] = {
                    "dtype": tensor.dtype,
                    "shape": list(tensor.shape),
                    "data_offsets": [position, position + tensor.size],
                }
                position += tensor.size
            text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
            text += b" " * (-len(text) % 8)
            file = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
            os.fchmod(file, 0o644)
            self._files[name] = file
            start = 8 + len(text)
            os.posix_fallocate(file, 0, start + position)
            _write_exactly(file, memoryview(struct.pack("<Q", len(text)) + text), 0)
            for tensor in ordered:
                self._places[tensor.name] = (file, start)
                start += tensor.size

    def write(self, name: str, data: memoryview, offset: int = 0) -> None:
        """Put bytes at `offset` of the tensor `name`."""
        file, start = self._places[name]
        _write_exactly(file, data, start + offset)

    def close(self) -> None:
        """Give the files back."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()


def _write_exactly(file: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(file, data[done:], offset + done)
