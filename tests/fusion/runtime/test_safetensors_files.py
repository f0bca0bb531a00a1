"""Headers of safetensors files: read as the format's own library reads them, and what it would refuse is refused."""

import json
import math
import struct

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from eval.serve.checkpoint import signature
from fusion.merge.checkpoints.shards import open_shards
from fusion.runtime.configure import Refusal
from fusion.runtime.safetensors_files import INDEX, read_header, read_index

TWO = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def written(path, header, size=8):
    """A file of this header, an object or bytes, and `size` bytes behind it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    return path


DAMAGED = {
    "no header": (b"", 0),
    "a list": ([], 0),
    "deep": (b'{"a":' * 40_000, 0),
    "digits": (b'{"a": {"dtype": "F32", "shape": [' + b"1" * 5_000 + b'], "data_offsets": [0, 8]}}', 8),
    "an entry that is a number": ({"a": 3}, 8),
    "a dtype that is a number": ({"a": {**TWO, "dtype": 3}}, 8),
    "an extent that is text": ({"a": {**TWO, "shape": ["2"]}}, 8),
    "an extent that is a fraction": ({"a": {**TWO, "shape": [2.0]}}, 8),
    "an extent that is no number": ({"a": {**TWO, "shape": [math.nan]}}, 8),
    "an extent that is a truth value": ({"a": {**TWO, "shape": [True, 2]}}, 8),
    "an extent below zero": ({"a": {**TWO, "shape": [-2]}}, 8),
    "an extent beyond 64 bits": ({"a": {**TWO, "shape": [2**70]}}, 8),
    "an offset without end": ({"a": {**TWO, "data_offsets": [0, math.inf]}}, 8),
    "one offset": ({"a": {**TWO, "data_offsets": [8]}}, 8),
    "offsets in the other order": ({"a": {**TWO, "shape": [0], "data_offsets": [8, 0]}}, 8),
    "more bytes than the shape": ({"a": {**TWO, "shape": [1]}}, 8),
    "one tensor within another": ({"a": TWO, "b": {**TWO, "shape": [1], "data_offsets": [4, 8]}}, 8),
    "the same bytes twice": ({"a": TWO, "b": TWO}, 8),
    "bytes between": ({"a": TWO, "b": {**TWO, "data_offsets": [12, 20]}}, 20),
    "bytes before": ({"a": {**TWO, "data_offsets": [4, 12]}}, 12),
    "bytes behind": ({"a": TWO}, 9),
    "cut short": ({"a": TWO}, 7),
    "notes that are a list": ({"a": TWO, "__metadata__": []}, 8),
    "a note that is a number": ({"a": TWO, "__metadata__": {"format": 1}}, 8),
    "a name of half a letter": (b'{"\\ud800": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', 8),
}  # fmt: skip


@pytest.mark.parametrize(("header", "size"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_header_is_one_refusal_for_whoever_reads_it(tmp_path, header, size):
    file = written(tmp_path / "model.safetensors", header, size)
    with pytest.raises((SafetensorError, ValueError)):  # so nothing is refused here that others load
        safe_open(file, framework="numpy")
    (tmp_path / "config.json").write_text("{}")
    for read in (read_header, lambda path: open_shards(path.parent), lambda path: signature(path.parent)):
        with pytest.raises(Refusal, match=r"model\.safetensors is not readable as safetensors: .*copy it there again"):
            read(file)


def test_a_tensor_or_a_setting_of_it_given_twice_is_refused(tmp_path):
    entry = json.dumps(TWO)
    for header in (f'{{"a": {entry}, "a": {entry}}}', f'{{"a": {{"dtype": "F16", {entry[1:]}}}'):
        with pytest.raises(Refusal, match="twice"):
            read_header(written(tmp_path / "a.safetensors", header.encode()))


@pytest.mark.parametrize("length", [0, 2**63, 2**64 - 1])
def test_a_length_that_the_file_does_not_have_is_refused_without_reading_so_much(tmp_path, length):
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(Refusal, match="length of a header"):
        read_header(tmp_path / "a.safetensors")


def test_whatever_the_library_writes_is_read_with_its_bytes_in_place(tmp_path):
    rng = np.random.default_rng(3)
    kinds = (np.float64, np.float32, np.float16, np.int64, np.int8, np.uint8, np.bool_)
    tensors = {f"t{n}": (rng.random((n, 3)) * 9).astype(kind) for n, kind in enumerate(kinds)} | {
        "scalar": np.array(2.5)
    }
    file = tmp_path / "model.safetensors"
    save_file(tensors, file, metadata={"format": "np"})
    found = read_header(file)
    assert found.metadata == {"format": "np"}
    assert {entry.name for entry in found.tensors} == tensors.keys()
    data = file.read_bytes()
    for entry in found.tensors:
        assert entry.shape == tensors[entry.name].shape
        assert data[entry.offset : entry.offset + entry.size] == tensors[entry.name].tobytes()


INDEXES = {
    "not JSON": "{",
    "a list": "[]",
    "no map": "{}",
    "a map that is text": '{"weight_map": "model.safetensors"}',
    "an empty map": '{"weight_map": {}}',
    "a file that is a list": '{"weight_map": {"a": ["model.safetensors"]}}',
    "a file elsewhere": '{"weight_map": {"a": "../model.safetensors"}}',
    "a file of the system": '{"weight_map": {"a": "/etc/passwd"}}',
    "a pickle": '{"weight_map": {"a": "pytorch_model.bin"}}',
    "a name with a null byte": '{"weight_map": {"a": "a\\u0000.safetensors"}}',
    "notes that are a number": '{"metadata": 3, "weight_map": {"a": "model.safetensors"}}',
}


@pytest.mark.parametrize("text", INDEXES.values(), ids=INDEXES.keys())
def test_a_damaged_index_is_refused_for_whoever_reads_it(tmp_path, text):
    written(tmp_path / "model.safetensors", {"a": TWO})
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / INDEX).write_text(text)
    for read in (read_index, open_shards, signature):
        with pytest.raises(Refusal, match=r"index\.json .*expected an index with a weight_map"):
            read(tmp_path)


def test_a_directory_without_index_has_none(tmp_path):
    assert read_index(tmp_path) is None
