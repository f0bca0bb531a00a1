"""The official benchmark files and tokenizers, fetched once and checked always.

    python -m eval.benchmark_data [set=mt_bench|alpaca_eval|tokenizers|verifiable] [paths.data=DIR]

`conf/benchmark_files.yaml` names every file with its address and the sha256 of its unpacked bytes.  A file that is
already below `paths.data` (default `data/`, or the environment variable FUSECHAT_LAB_DATA), plain or as `.gz`, is used
without any network.  A file with another checksum is refused, wherever it came from, and never used.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import http.client
import io
import os
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from eval.benchmark_data.convert_tokenizer import Conversion, convert
from fusion.runtime.command import command
from fusion.runtime.configure import Refusal, nearest, typed
from fusion.runtime.places import CONF

_CHUNK = 1 << 20
_SECONDS_OF_SILENCE = 60.0


@dataclass(frozen=True, kw_only=True)
class BenchmarkFile:
    """One published file: where it lies below the data root, where it comes from, and what it must hash to.

    `sha256` lists the checksums of the unpacked bytes that serve.  `member` is a path inside the archive (a wheel)
    that the address leads to.  Where `file` ends in `.gz`, what arrives is packed.
    """

    file: str
    origin: str
    path: str
    sha256: tuple[str, ...]
    member: str | None = None

    def __post_init__(self) -> None:
        if not self.sha256 or any(len(digest) != 64 for digest in self.sha256):
            raise ValueError(f"{self.file} needs at least one sha256 of 64 hexadecimal digits")


@dataclass(frozen=True, kw_only=True)
class Extract:
    """A table made of `columns` of the table `source`: the first row for each value of the first column."""

    file: str
    source: str
    columns: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where files lie."""

    data: str


@dataclass(frozen=True, kw_only=True)
class BenchmarkData:
    """The settings of the command: which `set` (None: all), and what each set is made of."""

    paths: Paths
    origins: Mapping[str, str]
    sets: Mapping[str, tuple[BenchmarkFile, ...]]
    extracts: Mapping[str, tuple[Extract, ...]]
    conversions: Mapping[str, tuple[Conversion, ...]]
    set: str | None = None
    debug: bool = False

    def __post_init__(self) -> None:
        if self.set is not None and self.set not in self.sets:
            raise ValueError(f"there is no set '{self.set}': {nearest(self.set, self.sets)}")
        for file in (file for files in self.sets.values() for file in files):
            if file.origin not in self.origins:
                raise ValueError(f"{file.file} comes from '{file.origin}': {nearest(file.origin, self.origins)}")


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """How a set came together: names of files found, fetched from the network, and made from others here."""

    found: tuple[str, ...]
    fetched: tuple[str, ...]
    made: tuple[str, ...]


class Unreachable(Refusal):
    """An address that does not answer; other files from the same place need not be tried."""


def gather(config: BenchmarkData) -> Gathered:
    """Have every file of the chosen sets below the data root.

    Raises Refusal naming each file that could not be fetched or differs from what was published; the others are in
    place then.
    """
    root = Path(config.paths.data)
    found: list[str] = []
    fetched: list[str] = []
    made: list[str] = []
    refused: list[str] = []
    silent: dict[str, int] = {}  # origins that do not answer, with the number of files not tried
    for name in [config.set] if config.set else list(config.sets):
        for file in config.sets[name]:
            try:
                if present(root, file.file, file.sha256) is not None:
                    found.append(file.file)
                elif file.origin in silent:
                    silent[file.origin] += 1
                else:
                    fetch(root, file, url=config.origins[file.origin] + file.path)
                    fetched.append(file.file)
            except Refusal as refusal:
                refused.append(str(refusal))
                if isinstance(refusal, Unreachable):
                    silent[file.origin] = 0
        for extract in config.extracts.get(name, ()):
            if (root / extract.source).exists():
                (made if _extracted(root, extract) else found).append(extract.file)
        for conversion in config.conversions.get(name, ()):
            if (root / conversion.folder / conversion.raw).exists():
                (made if convert(root, conversion) else found).append(f"{conversion.folder}/tokenizer.json")
    if any(silent.values()):
        refused.append(f"{sum(silent.values())} more files from the same places were not tried")
    if refused:
        raise Refusal("\n".join(refused))
    return Gathered(found=tuple(found), fetched=tuple(fetched), made=tuple(made))


def present(root: Path, name: str, sha256: tuple[str, ...]) -> Path | None:
    """The file `name` below `root`, plain or as `.gz`, if it is there; its unpacked bytes are checked.

    Raises Refusal when a file of that name is there and is another one.
    """
    plain_name = name.removesuffix(".gz")
    for path in (root / plain_name, root / f"{plain_name}.gz"):
        if not path.exists():
            continue
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except (OSError, EOFError) as error:
            raise Refusal(f"{path} cannot be read ({error}): move it away, and it is fetched again") from error
        if digest not in sha256:
            raise Refusal(
                f"{path} is not the published file (sha256 of its unpacked bytes {digest}, expected"
                f" {' or '.join(sha256)}): move it away, and it is fetched again"
            )
        return path
    return None


def fetch(root: Path, file: BenchmarkFile, *, url: str) -> Path:
    """Download `file` from `url` to its place below `root`; it appears there whole and checked, or not at all.

    Raises Unreachable when the address does not answer, Refusal when it has no such file, the disk is full, or the
    bytes are not the published ones.
    """
    target = root / file.file
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        arrived = _arrived(url)
        data = _member(arrived, file.member, url) if file.member else arrived
        digest = hashlib.sha256(data).hexdigest()
        if digest not in file.sha256:
            raise Refusal(
                f"{url} gave other bytes than were published (sha256 {digest}, expected {' or '.join(file.sha256)}):"
                " nothing was kept"
            )
        with _whole(target) as stream:
            stream.write(gzip.compress(data, 9, mtime=0) if target.suffix == ".gz" else data)
    except urllib.error.HTTPError as error:
        raise Refusal(f"{file.file} could not be fetched: {url} answers {error.code} {error.reason}") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise Unreachable(
            f"{file.file} could not be fetched from {url} ({error}): is there a network? A copy put at {target} will"
            f" do, if its sha256 is {file.sha256[0]}"
        ) from error
    except OSError as error:
        raise Refusal(f"{target} cannot be written ({error}): set paths.data or FUSECHAT_LAB_DATA") from error
    return target


def _arrived(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "fusechat-lab"})
    with urllib.request.urlopen(request, timeout=_SECONDS_OF_SILENCE) as response:
        parts = list(iter(lambda: response.read(_CHUNK), b""))
        data = b"".join(parts)
        expected = response.headers.get("Content-Length")
    if expected is not None and int(expected) != len(data):
        raise http.client.IncompleteRead(data[:0], int(expected) - len(data))
    return data


def _member(archive: bytes, member: str, url: str) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            return opened.read(member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise Refusal(f"{url} holds no {member} ({error}): nothing was kept") from error


def _extracted(root: Path, extract: Extract) -> bool:
    if present(root, extract.file, (extract.sha256,)) is not None:
        return False
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(extract.columns)
    seen: set[str] = set()
    with (root / extract.source).open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if row[extract.columns[0]] not in seen:
                seen.add(row[extract.columns[0]])
                table.writerow([row[column] for column in extract.columns])
    data = out.getvalue().encode()
    digest = hashlib.sha256(data).hexdigest()
    if digest != extract.sha256:
        raise Refusal(f"{extract.file} made from {extract.source} hashes to {digest}, expected {extract.sha256}")
    with _whole(root / extract.file) as stream_out:
        stream_out.write(data)
    return True


@contextmanager
def _whole(target: Path) -> Iterator[IO[bytes]]:
    """A file that is renamed to `target` when the block ends well, and removed when it does not."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def benchmark_data(settings: Mapping[str, object]) -> BenchmarkData:
    """The command's settings together with the list of files.

    The list is read here and not composed by Hydra, which would need seconds for it and print it all as usage.
    """
    import yaml

    with (CONF / "benchmark_files.yaml").open(encoding="utf-8") as stream:
        return typed({**settings, **yaml.safe_load(stream)}, BenchmarkData)


def _run(settings: dict[str, object]) -> None:
    from fusion.runtime.next_step import say_next

    config = benchmark_data(settings)
    gathered = gather(config)
    for verb, names in (("fetched", gathered.fetched), ("made", gathered.made)):
        for name in names:
            print(f"{verb:<8} {name}")
    total = sum(len(names) for names in (gathered.found, gathered.fetched, gathered.made))
    print(f"{total} files in {config.paths.data}, {len(gathered.found)} of them there before; checksums agree")
    say_next("python", "-m", "eval", "selfcheck=true", f"paths.data={config.paths.data}")


if __name__ == "__main__":
    command("benchmark_data", _run, alone=True)
