"""What safetensors files and their index say of the tensors in them, without the weights: the project's one reader.

The format (https://github.com/huggingface/safetensors#format) has a header of JSON, at most 100 MB, that gives every
tensor a type, a shape and a place among the bytes behind it, which the tensors fill from first to last.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from fusion.runtime.configure import Refusal
from fusion.runtime.reading import decoded, read_object

INDEX = "model.safetensors.index.json"
_LFS_POINTER = b"version https://git-lfs"
_LARGEST_HEADER = 100 * 2**20
_LARGEST_EXTENT = 2**63
_MOST_EXTENTS = 64  # as many as torch takes
# Bits of one entry.
_BITS: Mapping[str, int] = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """One tensor: `dtype` in the format's spelling, its bytes from `offset` of the file on."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Header:
    """The tensors of a file in the order of their bytes, and the notes beside them."""

    tensors: tuple[TensorEntry, ...]
    metadata: Mapping[str, str]


def read_header(file: Path) -> Header:
    """The header of a safetensors file.

    Raises Refusal for a file that is missing or is none: a header that is no JSON, names a tensor twice, gives types,
    shapes or places of another form, or leaves bytes of the file to two tensors or to none.
    """
    try:
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise ValueError("it is no file")
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            first = stream.read(8)
            if first and _LFS_POINTER.startswith(first):
                raise ValueError("it is a pointer of git lfs; fetch the file itself with git lfs pull")
            length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
            if not 0 < length <= min(size - 8, _LARGEST_HEADER):
                raise ValueError("it does not begin with the length of a header that it holds")
            return _header(decoded(stream.read(length), once=True), start=8 + length, size=size)
    except FileNotFoundError:
        raise Refusal(f"the shard {file} is missing: copy it there again") from None
    except (OSError, ValueError) as error:
        raise Refusal(f"{file} is not readable as safetensors: {error}; write it or copy it there again") from error


def read_index(directory: Path) -> Mapping[str, Any] | None:
    """A checkpoint's index, whose `weight_map` names the file of each tensor; None where it has none.

    Raises Refusal for one that cannot be read or that names no safetensors files of this directory.
    """
    path = directory / INDEX
    if not path.exists():
        return None
    index = read_object(path, expected="an index with a weight_map")
    places, notes = index.get("weight_map"), index.get("metadata", {})
    if not isinstance(places, dict) or not places or not all(map(_is_file_name, places.values())):
        raise Refusal(
            f"{path} names no files of this directory: expected an index with a weight_map from tensors to .safetensors"
            " files"
        )
    if not isinstance(notes, dict):
        raise Refusal(f"{path} has metadata that are {_brief(notes)}: expected an index with a weight_map and notes")
    return index


def _header(found: object, *, start: int, size: int) -> Header:
    if not isinstance(found, dict):
        raise ValueError("its header is no object")
    metadata = found.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(note, str) for note in metadata.values()):
        raise ValueError("its __metadata__ is no object of texts")
    tensors = sorted(
        (_entry(name, noted, start) for name, noted in found.items()), key=lambda one: (one.offset, one.size)
    )
    position = start
    for tensor in tensors:
        if tensor.offset != position:
            relation = "shares bytes with" if tensor.offset < position else "leaves bytes unused behind"
            raise ValueError(f"'{tensor.name}' {relation} the tensor before it")
        position += tensor.size
    if position > size:
        raise ValueError(f"it has {size} bytes where its header promises {position}: it is probably cut short")
    if position < size:
        raise ValueError(f"it has {size} bytes where its header promises {position}")
    return Header(tensors=tuple(tensors), metadata=metadata)


def _entry(name: str, noted: object, start: int) -> TensorEntry:
    noted = noted if isinstance(noted, dict) else {}
    dtype, shape, offsets = noted.get("dtype"), noted.get("shape"), noted.get("data_offsets")
    if not isinstance(dtype, str):
        raise ValueError(f"the dtype of '{name}' is {_brief(dtype)}: expected a text")
    if not _are_sizes(shape) or len(shape) > _MOST_EXTENTS:
        raise ValueError(f"the shape of '{name}' is {_brief(shape)}: expected a list of sizes")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"the data_offsets of '{name}' are {_brief(offsets)}: expected where it begins and ends")
    size = offsets[1] - offsets[0]
    if dtype not in _BITS:
        raise ValueError(f"'{name}' is {dtype}, a type that is not known")
    if math.prod(shape) * _BITS[dtype] != size * 8:
        raise ValueError(f"'{name}' has {size} bytes, which does not fit {dtype} of shape {shape}")
    return TensorEntry(name=name, dtype=dtype, shape=tuple(shape), offset=start + offsets[0], size=size)


def _are_sizes(found: object) -> TypeGuard[list[int]]:
    return isinstance(found, list) and all(type(one) is int and 0 <= one < _LARGEST_EXTENT for one in found)


def _is_file_name(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors") and "\0" not in name


def _brief(found: object) -> str:
    text = repr(found)
    return text if len(text) < 60 else f"{text[:56]} ..."
