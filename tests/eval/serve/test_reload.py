"""A swap is believed only when files agreed before it and the probe agrees after it."""

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from eval.serve.checkpoint import Signature
from eval.serve.control import Control
from eval.serve.probe import Expectation, distance
from eval.serve.reload import ServedCheckpoint, doubt, objection, swap

OLD = (-1.0, -2.0, -3.0)
NEW = (-1.5, -2.5, -1.0)


def served(name: str, log_probs: tuple[float, ...], tensors: dict | None = None) -> ServedCheckpoint:
    return ServedCheckpoint(
        checkpoint=Path(name),
        weights=name,
        signature=Signature(config={}, tensors=tensors or {"a": ("F32", (2,))}, tokenizer={"tokenizer.json": "x"}),
        expected=Expectation(ids=(5, 6, 7, 8), log_probs=log_probs),
        seen=log_probs,
    )


def test_equal_headers_and_a_probe_allow_the_swap():
    assert objection(served("old", OLD), served("new", NEW)) == ""


def test_files_replaced_in_place_are_not_swapped():
    now = served("same", OLD)
    assert "changed in place" in objection(now, replace(now, weights="other"))


def test_without_a_probe_nothing_is_swapped():
    assert "probe" in objection(replace(served("old", OLD), seen=None), served("new", NEW))


def test_the_first_difference_is_told_and_the_others_counted():
    now = served("old", OLD, tensors={"a": ("F32", (2,)), "b": ("F32", (2,)), "c": ("F32", (2,))})
    why = objection(now, served("new", NEW, tensors={"a": ("F32", (2,))}))
    assert why == "tensor b is missing (and 1 more differences)"


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (NEW, ""),
        (OLD, "more than 0.01"),
        ((-1.5, -2.5, float("nan")), "more than 0.01"),
        (tuple((a + b) / 2 for a, b in zip(OLD, NEW)), "more than 0.01"),  # a blend of both checkpoints
    ],
)
def test_the_probe_proves_the_new_weights_or_leaves_a_doubt(seen, message):
    found = doubt(seen, now=served("old", OLD), wanted=served("new", NEW), tolerance=0.01)
    assert message in found
    assert bool(found) == bool(message)


def test_two_checkpoints_closer_than_the_tolerance_are_still_distinguishable():
    near = tuple(value + 0.05 for value in OLD)
    now, wanted = served("old", OLD), served("new", near)
    assert doubt(near, now=now, wanted=wanted, tolerance=0.15) == ""
    assert "did not move" in doubt(OLD, now=now, wanted=wanted, tolerance=0.15)
    almost_old = tuple(value + 0.01 for value in OLD)
    assert "closer to the checkpoint served before" in doubt(almost_old, now=now, wanted=wanted, tolerance=0.15)


def test_distance_is_the_mean_of_absolute_differences():
    assert distance((1.0, 2.0), (1.5, 1.0)) == pytest.approx((0.5 + 1.0) / 2)


class Scripted:
    """Gives `replies[path]` (status, body), to the probe the log-probabilities of its `replicas`, to its log `news`."""

    def __init__(self, replies: dict, replicas: list[tuple[float, ...]], log: Path, news: str) -> None:
        self.asked: list[tuple[str, str | None]] = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                replica = self.headers["X-data-parallel-rank"]
                scripted.asked.append((self.path, replica))
                if self.path == "/collective_rpc":
                    log.write_text(log.read_text() + news)
                if self.path == "/v1/completions":
                    said = replicas[int(replica or 0)]
                    entries = [{str(i): {"logprob": p}} for i, p in zip(body["prompt"][1:], said, strict=True)]
                    status, found = 200, {"choices": [{"prompt_logprobs": [None, *entries]}]}
                else:
                    status, found = replies.get(self.path, (200, {"success": True}))
                data = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def swapped(tmp_path):
    """`swapped(replies, replicas)` swaps against such a server: the doubt, and what was asked in which order."""
    opened = []

    def run(replies=None, replicas=(NEW,), *, news=""):
        log = tmp_path / "vllm.log"
        log.write_text("Following weights were not loaded: an older line\n")
        server = Scripted(replies or {}, list(replicas), log, news)
        opened.append(server)
        control = Control(root=f"http://127.0.0.1:{server.http.server_port}", key="k")
        why, seen = swap(
            control,
            model="model",
            now=served("old", OLD),
            wanted=served("new", NEW),
            tolerance=0.01,
            log=log,
            replicas=range(len(replicas)) if len(replicas) > 1 else (None,),
        )
        return why, seen, server.asked

    yield run
    for server in opened:
        server.http.shutdown()
        server.http.server_close()


def test_weights_are_swapped_then_the_prefix_cache_is_emptied_then_the_probe_is_asked(swapped):
    why, seen, asked = swapped()
    assert (why, seen) == ("", NEW)
    assert asked == [("/collective_rpc", None), ("/reset_prefix_cache", None), ("/v1/completions", None)]


def test_a_shape_that_the_engine_refuses_ends_in_a_doubt_and_nothing_more_is_asked(swapped):
    why, _, asked = swapped({"/collective_rpc": (500, {"error": "size mismatch"})})
    assert "reload_weights answered 500" in why
    assert len(asked) == 1  # the next request would kill the engine


@pytest.mark.parametrize("reply", [(200, {"success": False}), (404, {}), (500, {})])
def test_a_prefix_cache_that_is_not_emptied_ends_in_a_doubt(swapped, reply):
    why, _, asked = swapped({"/reset_prefix_cache": reply})
    assert "reset_prefix_cache answered" in why
    assert len(asked) == 2


def test_a_partial_checkpoint_answered_with_200_is_found_in_the_servers_log(swapped):
    why, _, _ = swapped(news="WARNING Following weights were not loaded from checkpoint: {'model.norm.weight'}\n")
    assert "model.norm.weight" in why
    assert swapped()[0] == ""  # an older complaint is another checkpoint's


def test_each_copy_of_a_data_parallel_model_is_probed_and_one_stale_copy_is_enough_for_a_doubt(swapped):
    why, _, asked = swapped(replicas=[NEW, NEW, NEW])
    assert why == ""
    assert [replica for path, replica in asked if path == "/v1/completions"] == ["0", "1", "2"]
    assert "more than 0.01" in swapped(replicas=[NEW, OLD, NEW])[0]
