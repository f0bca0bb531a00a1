"""The rows of a data file, each with its place: JSONL, one JSON list, or Parquet; the first two plain or gzipped.

What a file is, its first bytes say, not its name.  One that is something else is refused as what it is.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from fusion.runtime.configure import Refusal
from fusion.runtime.reading import decoded

_PARQUET = b"PAR1"
_GZIP = b"\x1f\x8b"
_AGAIN = "write it as JSONL or Parquet"
_UTF8 = "write it again as UTF-8"
_UNPACK = "unpack it first; gzip is read as it is"
# Formats by their first bytes, and the way out.
_OTHERS: Sequence[tuple[bytes, str, str]] = (
    (b"PK\x03\x04", "a zip archive or an Excel sheet", f"unpack it, or {_AGAIN}"),
    (b"BZh", "packed by bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "packed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", _UNPACK),
    (b"\x04\x22\x4d\x18", "packed by lz4", _UNPACK),
    (_GZIP, "packed by gzip twice", "unpack it once"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"ARROW1", "an Arrow file", f"{_AGAIN} (pyarrow.parquet.write_table)"),
    (b"FEA1", "a Feather file", _AGAIN),
    (b"\xff\xff\xff\xff", "an Arrow stream, as datasets keeps them", "name the data set as data.dataset, or " + _AGAIN),
    (b"PARE", "an encrypted Parquet file", "decrypt it first"),
    (b"ORC", "an ORC file", _AGAIN),
    (b"Obj\x01", "an Avro file", _AGAIN),
    (b"SQLite format 3\x00", "an SQLite database", _AGAIN),
    (b"\x89HDF\r\n", "an HDF5 file", _AGAIN),
    (b"\x93NUMPY", "a NumPy array", _AGAIN),
    (b"\x80\x04", "a Python pickle, which can run code and is not read", _AGAIN),
    (b"\x80\x05", "a Python pickle, which can run code and is not read", _AGAIN),
    (b"%PDF", "a PDF document", _AGAIN),
    (b"\x89PNG", "an image", "name the file of the conversations"),
    (b"\xff\xfe\0\0", "UTF-32 text", _UTF8),
    (b"\0\0\xfe\xff", "UTF-32 text", _UTF8),
    (b"\xff\xfe", "UTF-16 text", _UTF8),
    (b"\xfe\xff", "UTF-16 text", _UTF8),
    (b"version https://git-lfs", "a pointer of Git LFS to the file", "fetch the file itself with git lfs pull"),
    (b"<!DOCTYPE html", "a web page", "download the file itself, not the page that shows it"),
    (b"<!doctype html", "a web page", "download the file itself, not the page that shows it"),
    (b"<html", "a web page", "download the file itself, not the page that shows it"),
)
_TEXT_FORMATS = {".csv": "CSV", ".tsv": "CSV", ".yaml": "YAML", ".yml": "YAML", ".xml": "XML"}


def rows_of(path: Path) -> Iterator[tuple[str, object]]:
    """Each row's place (line 3; in a list or a table row 3) and its content, or a ValueError that says why there is
    none.

    Raises Refusal for a file that is missing or damaged, and for one of another format.
    """
    data = _bytes(path)
    if data.startswith(_PARQUET):
        yield from _table(path, data)
        return
    _refuse_other(path, data)
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data.lstrip()[:1] == b"[":
        yield from _list(path, data)
        return
    lines = [(number, line) for number, line in enumerate(data.split(b"\n"), start=1) if line.strip()]
    if lines and isinstance(_parsed(lines[0][1]), ValueError):
        whole = _over_lines(data)
        if whole is not None:
            yield from ((f"row {number}", row) for number, row in enumerate(whole, start=1))
            return
    for number, line in lines:
        yield f"line {number}", _parsed(line)


def _bytes(path: Path) -> bytes:
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe is empty when it is read again
            raise Refusal(f"{path} is a pipe or a device: write its rows to a file, and name that")
        data = path.read_bytes()
    except IsADirectoryError as error:
        raise Refusal(f"{path} is a folder: name its files, as in data.files='{path}/*.jsonl'") from error
    except OSError as error:
        raise Refusal(
            f"{path} cannot be read ({error.strerror}): expected a file of conversations, JSONL or JSON (plain or .gz)"
            " or Parquet"
        ) from error
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise Refusal(f"{path} is a damaged gzip file ({error}): fetch it again") from error
    return data


def _refuse_other(path: Path, data: bytes) -> None:
    for magic, name, way_out in _OTHERS:
        if data.startswith(magic):
            raise Refusal(f"{path} is {name}: expected conversations as JSONL, JSON or Parquet; {way_out}")
    if data[:1] in (b"{", b"[") and data[1:2] == b"\0":
        raise Refusal(f"{path} is UTF-16 text: expected conversations as JSONL, JSON or Parquet; {_UTF8}")
    if data[257:262] == b"ustar":
        raise Refusal(f"{path} is a tar archive: expected conversations as JSONL, JSON or Parquet; unpack it first")
    name = _TEXT_FORMATS.get(path.suffix.lower(), "")
    if name and data.lstrip()[:1] not in (b"{", b"["):
        raise Refusal(f"{path} is {name}: expected conversations as JSONL, JSON or Parquet; {_AGAIN}")


def _table(path: Path, data: bytes) -> Iterator[tuple[str, object]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        table = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data))
        for batch in table.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        said = str(error).splitlines()[0]
        raise Refusal(f"{path} is a damaged Parquet file (behind row {number}: {said}): fetch it again") from error


def _list(path: Path, data: bytes) -> Iterator[tuple[str, object]]:
    try:
        rows = decoded(data)
    except UnicodeDecodeError as error:
        at = data.count(b"\n", 0, error.start) + 1
        raise Refusal(f"{path}, line {at}: {_not_utf8(error)}. Write the file again as UTF-8") from error
    except json.JSONDecodeError as error:
        raise Refusal(
            f"{path}, line {error.lineno}: not JSON ({error.msg}). Expected one list of conversations"
        ) from error
    except ValueError as error:
        raise Refusal(f"{path} is no list of conversations ({str(error).splitlines()[0]})") from error
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", row


def _over_lines(data: bytes) -> list[object] | None:
    """JSON values one behind the other, each over as many lines as it likes; None where there is anything else."""
    decoder, at = json.JSONDecoder(), 0
    found: list[object] = []
    try:
        text = data.decode().strip()
        while at < len(text):
            begun = at
            _, at = decoder.raw_decode(text, at)
            found.append(decoded(text[begun:at]))
            while at < len(text) and text[at].isspace():
                at += 1
    except (ValueError, RecursionError):
        return None
    return found


def _parsed(line: bytes) -> object:
    try:
        return decoded(line)
    except UnicodeDecodeError as error:
        return ValueError(_not_utf8(error))
    except json.JSONDecodeError as error:
        return ValueError(f"not JSON ({error.msg} at column {error.colno})")
    except ValueError as error:
        return ValueError(f"not a conversation: {error}")


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"not UTF-8 (byte 0x{error.object[error.start]:02x})"
