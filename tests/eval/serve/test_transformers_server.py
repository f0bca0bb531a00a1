"""The fallback answers the same requests as vLLM does, behind the same guard."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from eval.serve import Automatic, Transformers, serving
from eval.serve.chat_client import ChatReply, ChatRequest, ask
from eval.serve.control import Control
from eval.serve.endpoint_client import Patience
from eval.serve.machine import unavailable
from eval.serve.server import Server


@pytest.fixture(scope="module")
def checkpoints(make_checkpoint) -> tuple[Path, Path]:
    return make_checkpoint(1), make_checkpoint(2)


@pytest.fixture(scope="module")
def server(checkpoints, tmp_path_factory) -> Iterator[Server]:
    with serving(Transformers(dtype="float32"), logs=tmp_path_factory.mktemp("logs")) as running:
        running.load(checkpoints[0])
        yield running


def asked(server: Server, requests: list[ChatRequest], *, at_once: int = 8) -> dict[str, ChatReply]:
    replies: dict[str, ChatReply] = {}
    patience = Patience(concurrency=at_once, attempts=1)
    ask(server.endpoint, requests, lambda request, reply: replies.__setitem__(request.id, reply), patience=patience)
    return replies


def test_what_is_generated_together_is_what_is_generated_alone(server):
    requests = [ChatRequest(id=str(i), turns=("seven " * i, "And then?"), max_tokens=3 + i) for i in range(1, 7)]
    together, alone = asked(server, requests), asked(server, requests, at_once=1)
    assert together == alone
    assert all(reply.failure is None and len(reply.turns) == 2 for reply in together.values())


def test_a_second_checkpoint_takes_the_firsts_place_and_back(server, checkpoints):
    requests = [ChatRequest(id="q", turns=("seven and nine",), max_tokens=8)]
    before = asked(server, requests)
    assert server.load(checkpoints[1]).how == "reloaded"
    assert asked(server, requests) != before
    assert server.load(checkpoints[0]).how == "reloaded"
    assert server.load(checkpoints[0]).how == "unchanged"
    assert asked(server, requests) == before


@pytest.mark.parametrize(("asked_for", "answers"), [("auto", "float32"), ("bfloat16", "bfloat16")])
def test_the_precision_that_answers_is_the_one_that_was_promised(asked_for, answers, checkpoints, tmp_path):
    settings = Transformers(dtype=asked_for)
    with serving(settings, logs=tmp_path) as server:
        assert server.load(checkpoints[0]).dtype == settings.precision("float32") == answers


def test_a_sampled_answer_depends_on_its_seed_alone(server):
    requests = [
        ChatRequest(id=f"{seed}-{i}", turns=("sixteen",), max_tokens=10, temperature=1.5, seed=seed)
        for seed in (1, 2)
        for i in (1, 2)
    ]
    replies = asked(server, requests)
    assert replies["1-1"].turns == replies["1-2"].turns
    assert replies["1-1"].turns != replies["2-1"].turns


def test_a_prompt_beyond_the_models_length_is_a_recorded_failure(server):
    reply = asked(server, [ChatRequest(id="q", turns=("7 + 9 " * 300,), max_tokens=5)])["q"]
    assert "the model's limit is 256" in reply.failure


@pytest.mark.parametrize("key", ["", "wrong"])
def test_every_path_needs_the_key(server, key):
    stranger = Control(root=server.endpoint.base_url.removesuffix("/v1"), key=key)
    assert stranger.post("/v1/chat/completions", {"messages": []})[0] == 401
    assert stranger.get("/v1/models")[0] == 401
    assert stranger.get("/health")[0] == 200


def test_the_fallback_says_what_it_is(tmp_path):
    said: list[str] = []
    with serving(Transformers(), logs=tmp_path, say=said.append) as server:
        assert "not by vLLM" in server.note
    assert "transformers" in said[0]


def test_auto_comes_down_to_vllm_only_where_vllm_can_run():
    assert type(Automatic(dtype="float32").chosen()[0]).__name__ == ("Transformers" if unavailable() else "VLLM")
