"""What a file is, its first bytes say; one that is something else is refused as what it is."""

from __future__ import annotations

import bz2
import gzip
import http.server
import io
import json
import lzma
import os
import pickle
import sqlite3
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from fusion.conversations.conversation import DataConfig, load_conversations, read_conversations
from fusion.conversations.hub import dataset_key
from fusion.conversations.row_files import rows_of
from fusion.runtime.configure import Refusal, typed

ROWS: list[dict[str, Any]] = [
    {"id": "a", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Grüße"}]},
    {"id": "b", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
]


def _parquet(path: Path, rows: list[dict[str, Any]] = ROWS, **how: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, **how)
    return path


def _jsonl(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["x.parquet", "x.jsonl", "no_suffix"])
@pytest.mark.parametrize("compression", ["snappy", "zstd", "none"])
def test_a_parquet_file_is_read_whatever_it_is_called(tmp_path: Path, name: str, compression: str) -> None:
    path = _parquet(tmp_path / name, compression=compression, row_group_size=1)
    assert read_conversations(path) == read_conversations(_jsonl(tmp_path / "same.jsonl"))
    packed = tmp_path / "x.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_conversations(packed) == read_conversations(path)


def test_rows_of_several_forms_share_a_table_where_absent_is_null(tmp_path: Path) -> None:
    rows = [{"instruction": "Hi", "output": "Hello"}, {"prompt": "Hi", "completion": "Hello"}, ROWS[0]]
    columns = dict.fromkeys(key for row in rows for key in row)
    found = read_conversations(_parquet(tmp_path / "x.parquet", [{**columns, **row} for row in rows]))
    assert [message.content for row in found for message in row.messages] == [
        "Hi",
        "Hello",
        "Hi",
        "Hello",
        "Hi",
        "Grüße",
    ]
    bad = _parquet(tmp_path / "y.parquet", [ROWS[0], {"id": "c"}])
    with pytest.raises(Refusal, match=r"y\.parquet, row 2: .*among its keys \(id\)"):
        read_conversations(bad)


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    whole = _parquet(tmp_path / "x.parquet", ROWS * 1000, compression="none").read_bytes()
    for damaged in (whole[:200], b"PAR1", whole[:50] + b"\xff" * 400 + whole[450:]):
        (tmp_path / "d").write_bytes(damaged)
        with pytest.raises(Refusal, match="damaged Parquet file.*fetch it again"):
            list(rows_of(tmp_path / "d"))


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.jsonl", json.dumps(ROWS[0]))


def _numpy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("rows.jsonl")
        archive.addfile(member, io.BytesIO())
    return stream.getvalue()


def _arrow_stream() -> bytes:
    stream = io.BytesIO()
    table = pyarrow.Table.from_pylist(ROWS)
    with pyarrow.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


def _sqlite(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("create table rows (text)")
    database.close()


OTHERS: dict[str, Any] = {
    "zip archive": _zip,
    "bzip2": lambda path: path.write_bytes(bz2.compress(json.dumps(ROWS[0]).encode())),
    "packed by xz": lambda path: path.write_bytes(lzma.compress(json.dumps(ROWS[0]).encode())),
    "zstd": lambda path: path.write_bytes(pyarrow.compress(b"{}", codec="zstd", asbytes=True)),
    "Arrow": lambda path: pyarrow.feather.write_feather(pyarrow.Table.from_pylist(ROWS), path),
    "pickle": lambda path: path.write_bytes(pickle.dumps(ROWS)),
    "NumPy": lambda path: path.write_bytes(_numpy()),
    "SQLite": _sqlite,
    "UTF-16": lambda path: path.write_text(json.dumps(ROWS[0]), encoding="utf-16"),
    "UTF-16 text": lambda path: path.write_text(json.dumps(ROWS), encoding="utf-16-le"),
    "UTF-32": lambda path: path.write_text(json.dumps(ROWS[0]), encoding="utf-32"),
    "a tar archive": lambda path: path.write_bytes(_tar()),
    "tar archive": lambda path: path.write_bytes(gzip.compress(_tar())),
    "gzip twice": lambda path: path.write_bytes(gzip.compress(gzip.compress(json.dumps(ROWS[0]).encode()))),
    "lz4": lambda path: path.write_bytes(b"\x04\x22\x4d\x18" + pyarrow.compress(b"{}", codec="lz4", asbytes=True)),
    "Arrow stream.*data.dataset": lambda path: path.write_bytes(_arrow_stream()),
    "Git LFS.*git lfs pull": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "web page": lambda path: path.write_text("<!DOCTYPE html>\n<html>Sign in</html>"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_format_is_called_by_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data.jsonl"
    OTHERS[name](path)
    with pytest.raises(Refusal, match=rf"data\.jsonl is .*{name}") as told:
        read_conversations(path, on_bad_row="skip")
    assert "JSONL, JSON or Parquet" in str(told.value)
    assert "UTF-8 (byte" not in str(told.value)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".yaml"])
def test_a_text_format_is_known_by_its_suffix_unless_json_is_in_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data{suffix}"
    path.write_text("instruction,output\nHi,Hello\n")
    with pytest.raises(Refusal, match=r"is (CSV|YAML): .*write it as JSONL or Parquet"):
        read_conversations(path)
    assert len(read_conversations(_jsonl(path))) == 2


def test_a_folder_is_refused_with_the_pattern_that_names_its_files(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"is a folder.*\*\.jsonl"):
        read_conversations(tmp_path)


def test_numbers_of_thousands_of_digits_are_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"id": ' + "9" * 5000 + "}\n")
    with pytest.raises(Refusal, match=r"line 1: not a conversation"):
        read_conversations(tmp_path / "x.jsonl")
    for text in ("[" * 10**5, "[" + "9" * 5000 + "]"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(Refusal, match="no list of conversations"):
            read_conversations(tmp_path / "x.json")


@pytest.mark.parametrize("indent", [1, None])
@pytest.mark.parametrize("between", ["\n", "\r", "\r\n\r\n", ""])
def test_rows_over_several_lines_are_read_as_rows(tmp_path: Path, indent: int | None, between: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(between.join(json.dumps(row, indent=indent) for row in ROWS).encode())
    assert read_conversations(path) == read_conversations(_jsonl(tmp_path / "same.jsonl"))
    path.write_bytes(path.read_bytes() + b"\n{")
    with pytest.raises(Refusal, match="not JSON"):
        read_conversations(path)


def test_one_object_around_the_rows_is_refused_by_its_keys(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"version": 1, "data": ROWS}, indent=1))
    with pytest.raises(Refusal, match=r"row 1: .*among its keys \(version, data\)"):
        read_conversations(tmp_path / "x.json")


# ------------------------------------------------------------------------------------------------ which files
def test_a_pipe_which_is_read_once_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    for path in (tmp_path / "rows.jsonl", Path("/dev/zero")):
        with pytest.raises(Refusal, match="is a pipe or a device: write its rows to a file"):
            load_conversations(DataConfig(files=str(path)), seed=0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        ("x" * 300 + ".jsonl", "the name of no file"),
        ("x" * 300 + "*", "the name of no file"),
        ("x/" * 3000, "the name of no file"),
        ("a\0b", "the name of no file"),
        ("~no_user_is_called_so/x.jsonl", "no user of that name"),
        ("https://example.org/x.jsonl", "is an address.*data.dataset=owner/name"),
        ("hf://datasets/owner/name/x.parquet", "is an address"),
    ],
)
@pytest.mark.parametrize("key", ["files", "dataset"])
def test_what_is_the_name_of_no_file_is_refused_before_anything_is_read(key: str, name: str, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        typed({key: name}, DataConfig, at="data")


def test_names_of_files_may_hold_what_names_may_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    names = ["two words.jsonl", "ü[1].jsonl", "a,b=c.jsonl", os.fsdecode(b"caf\xe9.jsonl"), "x" * 250]
    for name in names:
        _jsonl(tmp_path / name)
        for given in (str(tmp_path / name), f"~/{name}"):
            assert len(load_conversations(DataConfig(files=given), seed=0)) == 2


def test_one_file_needs_no_list(tmp_path: Path) -> None:
    path = str(_jsonl(tmp_path / "a.jsonl"))
    assert typed({"files": path}, DataConfig) == typed({"files": [path]}, DataConfig) == DataConfig(files=(path,))
    assert [row.id for row in load_conversations(DataConfig(files=path), seed=0)] == ["a", "b"]


def test_a_pattern_stands_for_its_files_by_name_and_each_is_read_once(tmp_path: Path) -> None:
    for name in ("2.jsonl", "1.jsonl", "sub/3.jsonl", "1.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        _jsonl(path, [{**ROWS[0], "id": name}])

    def ids(*files: str) -> list[str]:
        return [row.id for row in load_conversations(DataConfig(files=files), seed=0)]

    assert ids(f"{tmp_path}/*.jsonl") == ["1.jsonl", "2.jsonl"]
    assert ids(f"{tmp_path}/**/*.jsonl") == ["1.jsonl", "2.jsonl", "sub/3.jsonl"]
    assert ids(f"{tmp_path}/2.jsonl", f"{tmp_path}/[12].jsonl") == ["2.jsonl", "1.jsonl"]
    with pytest.raises(Refusal, match=r"\*\.parquet: no file is called so"):
        ids(f"{tmp_path}/*.parquet")
    _jsonl(tmp_path / "a[1].jsonl")  # a name that is a pattern as well
    assert ids(f"{tmp_path}/a[1].jsonl") == ["a", "b"]


# ------------------------------------------------------------------------------------------------ data sets
def test_a_data_set_is_read_by_name_split_and_subset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is a data set to `datasets` as one of the hub is; nothing is fetched."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    _parquet(folder / "train-00000-of-00001.parquet")
    _parquet(folder / "test-00000-of-00001.parquet", [{**ROWS[0], "id": "t"}])
    config = DataConfig(dataset=str(tmp_path / "set"))
    assert load_conversations(config, seed=0) == read_conversations(_jsonl(tmp_path / "same.jsonl"))
    assert [r.id for r in load_conversations(DataConfig(dataset=str(tmp_path / "set"), split="test"), seed=0)] == ["t"]
    with pytest.raises(Refusal, match="cannot be loaded with .*data.split=none"):
        load_conversations(DataConfig(dataset=str(tmp_path / "set"), split="none"), seed=0)
    (folder / "train-00000-of-00001.parquet").unlink()
    _parquet(folder / "train-00000-of-00001.parquet", [ROWS[0], {"id": "x", "messages": []}])
    with pytest.raises(Refusal, match="row 2: there is no assistant turn"):
        load_conversations(config, seed=0)


def test_a_data_set_is_keyed_by_its_files_or_its_commit(tmp_path: Path) -> None:
    path = _jsonl(tmp_path / "train.jsonl")
    first = dataset_key(str(tmp_path), None)
    assert dataset_key(str(tmp_path), None) == first
    _jsonl(path, ROWS[:1])
    assert dataset_key(str(tmp_path), None) != first
    assert dataset_key("owner/name", "a" * 40) == "a" * 40
    with pytest.raises(Refusal, match="owner/name is neither a folder nor found on the hub.*data.revision"):
        dataset_key("owner/name", "main")  # tests are offline


class _Hub(http.server.BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = json.dumps({"id": "owner/name", "sha": "b" * 40, "private": False, "disabled": False}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_the_hub_is_asked_for_the_commit_of_a_branch() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
        code = "from fusion.conversations.hub import dataset_key; print(dataset_key('owner/name', 'tidy'))"
        told = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
        )
        hub.shutdown()
    assert told.stdout.strip() == "b" * 40
    assert any("/api/datasets/owner/name" in path and "tidy" in path for path in _Hub.asked)


def test_files_and_a_data_set_are_not_given_together() -> None:
    for settings in ({}, {"files": "x", "dataset": "y"}):
        with pytest.raises(Refusal, match="expected files or a dataset"):
            typed(settings, DataConfig)


@pytest.mark.parametrize("field", ["id", "domain"])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("between", ["", "\n"], ids=["one line a row", "rows over lines"])
def test_half_a_letter_is_refused_however_many_rows_and_lines_there_are(
    tmp_path: Path, field: str, rows: int, between: str
) -> None:
    turns = '"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"{field}": "\\ud83d{number}",{between} {turns}}}\n' for number in range(rows)))
    with pytest.raises(Refusal, match=r"half a surrogate pair|not JSON"):
        read_conversations(file)
