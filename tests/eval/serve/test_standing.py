"""Servers that stay up between evaluations: who takes which piece, what is started, and what is ended when."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from eval.serve import standing
from eval.serve.server import Endpoint, Loaded
from eval.serve.standing import Servers, assign, process_servers

EVENTS: list[tuple[str, str, int]] = []


class Counted:
    """A server of nothing, which remembers the thread it was started in."""

    note = ""
    endpoint = Endpoint(base_url="http://127.0.0.1:1", model="m", key="k")

    def __init__(self, logs: Path) -> None:
        self.logs = logs

    def load(self, checkpoint: Path) -> Loaded:
        return Loaded(how="given", checkpoint=checkpoint, weights="", seconds=0.0)


@dataclass(frozen=True)
class Counting:
    """Notes every start and end with its thread."""

    name: str = "a"
    port: int | None = None

    @contextlib.contextmanager
    def start(self, *, logs: Path, say) -> Iterator[Counted]:
        EVENTS.append(("start", self.name, threading.get_ident()))
        say(f"starting {self.name}")
        yield Counted(logs)
        EVENTS.append(("end", self.name, threading.get_ident()))


@pytest.fixture(autouse=True)
def no_events():
    EVENTS.clear()


def asked(what: str, serve: Counting, server) -> None:
    server().load(Path(what))


def test_a_second_evaluation_starts_no_server(tmp_path):
    said = []
    with Servers() as servers:
        for _ in range(3):
            servers.take([("llama", "x")], (Counting(),), asked, logs=tmp_path, say=said.append)
        assert [event for event, _, _ in EVENTS] == ["start"]
    assert [event for event, _, _ in EVENTS] == ["start", "end"]
    assert EVENTS[0][2] == EVENTS[1][2] != threading.get_ident()  # one thread of its own from start to end
    assert said == ["starting a"]


def test_a_server_is_started_only_when_a_question_needs_it(tmp_path):
    with Servers() as servers:
        servers.take([("llama", "x")], (Counting(),), lambda *given: None, logs=tmp_path, say=print)
    assert EVENTS == []


@pytest.mark.parametrize(
    ("waiting", "idle", "found"),
    [
        (["llama", "qwen"], [None, None], (0, 0)),
        (["llama", "qwen"], ["qwen", None], (1, 0)),  # what is served already comes first
        (["llama"], ["qwen", None], (0, 1)),  # a new server rather than a restart
        (["llama"], ["qwen", "gpt"], (0, 0)),
        (["llama"], ["qwen", "llama"], (0, 1)),
    ],
)
def test_a_piece_goes_to_the_server_of_its_architecture(waiting, idle, found):
    assert assign(waiting, idle) == found


def test_pieces_are_taken_side_by_side_and_come_back_to_their_own_server(tmp_path):
    both = threading.Barrier(2, timeout=30)
    threads: dict[str, set[int]] = {}

    def together(what: str, serve: Counting, server) -> None:
        server()
        threads.setdefault(what, set()).add(threading.get_ident())
        both.wait()

    with Servers() as servers:
        for order in (["llama", "qwen"], ["qwen", "llama"]):
            pieces = [(architecture, architecture) for architecture in order]
            servers.take(pieces, (Counting(), Counting()), together, logs=tmp_path, say=print)
    assert [len(found) for found in threads.values()] == [1, 1]
    assert threads["llama"] != threads["qwen"]


def test_other_settings_end_the_servers_that_no_longer_fit(tmp_path):
    with Servers() as servers:
        servers.take([("llama", "x")], (Counting("a"),), asked, logs=tmp_path, say=print)
        servers.take([("llama", "x")], (Counting("b"),), asked, logs=tmp_path, say=print)
        assert [event[:2] for event in EVENTS] == [("start", "a"), ("end", "a"), ("start", "b")]


def test_an_error_is_raised_after_those_under_way_are_finished_and_the_server_is_ended(tmp_path):
    finished = []

    def work(what: str, serve: Counting, server) -> None:
        server()
        if what == "bad":
            raise ValueError(what)
        finished.append(what)

    pieces = [("llama", "bad"), ("qwen", "good"), ("gpt", "never")]
    with pytest.raises(ValueError, match="bad"), Servers() as servers:
        servers.take(pieces, (Counting("a"),), work, logs=tmp_path, say=print)
    assert finished == []
    assert [event[:2] for event in EVENTS] == [("start", "a"), ("end", "a")]


@pytest.mark.parametrize(
    ("gpus", "port", "ended"), [((), None, []), (("0",), None, ["end"]), ((), 8000, ["end"])]
)  # a judge that is served next may be told to take the same port
def test_room_is_made_on_gpus_and_at_ports(tmp_path, monkeypatch, gpus, port, ended):
    monkeypatch.setattr(standing, "visible_gpus", lambda: gpus)
    with Servers() as servers:
        servers.take([("llama", "x")], (Counting(port=port),), asked, logs=tmp_path, say=print)
        servers.make_room()
        assert [event for event, _, _ in EVENTS] == ["start", *ended]
        servers.take([("llama", "x")], (Counting(port=port),), asked, logs=tmp_path, say=print)  # it can be used again


def test_a_process_has_one_set_of_servers():
    assert process_servers() is process_servers()
