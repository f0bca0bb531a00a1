"""A real vLLM on the loopback: one start, then every promise of the server is asked of it in turn."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from eval.errors import ServerFailure
from eval.serve import VLLM, Loaded, serving
from eval.serve.chat_client import ChatReply, ChatRequest, ask
from eval.serve.control import Control
from eval.serve.machine import unavailable
from eval.serve.vllm_server import VLLMServer, flags, variables
from fusion.runtime.configure import Refusal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(unavailable() is not None, reason=f"vLLM cannot run here: {unavailable()}"),
]

ROOT = Path(__file__).parents[3]
QUESTIONS = ("What is the sum of seven and nine?", "Because?", "7 + 9 =", "sixteen", "the answer is")
SETTINGS = VLLM(dtype="float32", max_model_len=128, kv_cache_gb=2)


@pytest.fixture(scope="module")
def first(make_checkpoint) -> Path:
    return make_checkpoint(1)


@pytest.fixture(scope="module")
def second(make_checkpoint) -> Path:
    return make_checkpoint(2)


@pytest.fixture(scope="module")
def running(tmp_path_factory, first) -> Iterator[tuple[VLLMServer, Loaded, list[str]]]:
    said: list[str] = []
    with serving(SETTINGS, logs=tmp_path_factory.mktemp("logs"), say=said.append) as server:
        assert isinstance(server, VLLMServer)
        yield server, server.load(first), said


def answers(server: VLLMServer) -> dict[str, ChatReply]:
    replies: dict[str, ChatReply] = {}
    requests = [ChatRequest(id=text, turns=(text, "And then?"), max_tokens=12) for text in QUESTIONS]
    ask(server.endpoint, requests, lambda request, reply: replies.__setitem__(request.id, reply))
    assert [reply.failure for reply in replies.values()] == [None] * len(QUESTIONS)
    return replies


def greedy(checkpoint: Path, replies: dict[str, ChatReply]) -> dict[str, tuple[str, ...]]:
    """What transformers says to the same messages, one token after the other: an independent implementation."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    found: dict[str, tuple[str, ...]] = {}
    for question, reply in replies.items():
        messages = []
        for user, model_turn in zip((question, "And then?"), reply.turns, strict=True):
            messages.append({"role": "user", "content": user})
            text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
            start = ids.shape[1]
            while ids.shape[1] < start + 12 and ids[0, -1] != tokenizer.eos_token_id:
                with torch.inference_mode():
                    ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
            found[question] = (*found.get(question, ()), tokenizer.decode(ids[0, start:], skip_special_tokens=True))
            messages.append({"role": "assistant", "content": model_turn})
    return found


def whole(turns: tuple[str, ...]) -> tuple[str, ...]:
    """Without a last character whose bytes are not all there: vLLM holds it back, a tokenizer writes a mark for it."""
    return tuple(turn.rstrip("\N{REPLACEMENT CHARACTER}") for turn in turns)


def test_the_start_is_proven_by_the_probe(running, first):
    _, loaded, _ = running
    assert loaded.how == "started"
    assert loaded.checkpoint == first
    assert loaded.probe < 1e-3  # two float32 implementations
    assert loaded.dtype == "float32"  # as the server's log has it


def test_answers_are_those_of_an_independent_greedy_decoding(running, first):
    server, _, _ = running
    replies = answers(server)
    expected = greedy(first, replies)
    assert {text: whole(reply.turns) for text, reply in replies.items()} == {k: whole(v) for k, v in expected.items()}


def test_seeded_sampling_survives_more_prompt_tokens_than_one_step_takes_and_repeats(running):
    server, _, _ = running
    # 60 prompts of more than 90 tokens: vLLM takes 2,048 a step on a CPU, so some would be cut in two.
    requests = [
        ChatRequest(id=str(i), turns=(f"{i} " + "q" * 80,), max_tokens=4, temperature=1.0, seed=i) for i in range(60)
    ]
    said: list[dict[str, ChatReply]] = [{}, {}]
    for replies in said:
        ask(server.endpoint, requests, lambda request, reply, kept=replies: kept.__setitem__(request.id, reply))
    assert {reply.failure for replies in said for reply in replies.values()} == {None}
    assert sum(reply.prompt_tokens for reply in said[0].values()) > 2 * 2048
    assert {key: reply.turns for key, reply in said[0].items()} == {key: reply.turns for key, reply in said[1].items()}


@pytest.mark.parametrize("path", ["/collective_rpc", "/reset_prefix_cache", "/v1/chat/completions", "/v1/models"])
@pytest.mark.parametrize("key", ["", "wrong"])
def test_every_path_needs_the_key(running, path, key):
    server, _, _ = running
    stranger = Control(root=server.endpoint.base_url.removesuffix("/v1"), key=key)
    status, _ = stranger.get(path) if path == "/v1/models" else stranger.post(path, {"method": "check_health"})
    assert status == 401
    assert stranger.get("/health")[0] == 200


def test_the_key_is_on_no_command_line_and_in_no_log(running):
    server, _, _ = running
    key = server.endpoint.key
    assert key not in Path(f"/proc/{server.pid}/cmdline").read_text()
    assert key not in server.log.read_text()


def test_a_second_checkpoint_is_reloaded_in_place_and_answers_as_itself(running, first, second):
    server, started, said = running
    pid = server.pid
    before = answers(server)
    loaded = server.load(second)
    assert (loaded.how, loaded.why, server.pid) == ("reloaded", "", pid)
    assert loaded.probe < 1e-3
    assert loaded.weights != started.weights
    replies = answers(server)
    expected = greedy(second, replies)
    assert {text: whole(reply.turns) for text, reply in replies.items()} == {k: whole(v) for k, v in expected.items()}
    assert server.load(second).how == "unchanged"
    assert server.load(first).how == "reloaded"
    assert answers(server) == before
    # A restart is announced; nothing of the kind was said.
    assert not [line for line in said if "restarted" in line]


def test_a_reload_is_twenty_times_faster_than_a_start(running, first, second):
    server, started, _ = running
    swaps = [server.load(checkpoint) for checkpoint in (second, first, second, first)]
    assert {loaded.how for loaded in swaps} == {"reloaded"}
    assert min(loaded.seconds for loaded in swaps) * 20 <= started.seconds


def altered(source: Path, out: Path, change: Callable[[dict], None]) -> Path:
    out.mkdir()
    for path in source.iterdir():
        if path.suffix != ".safetensors":
            (out / path.name).write_bytes(path.read_bytes())
    tensors = load_file(source / "model.safetensors")
    change(tensors)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return out


def test_a_shard_cut_short_is_refused_and_the_server_goes_on(running, first, second, tmp_path):
    server, _, _ = running
    server.load(first)
    broken = altered(second, tmp_path / "cut", lambda tensors: None)
    os.truncate(broken / "model.safetensors", (broken / "model.safetensors").stat().st_size - 100)
    with pytest.raises(Refusal, match="its header promises"):
        server.load(broken)
    assert server.load(first).how == "unchanged"


def test_a_partial_checkpoint_is_never_served_as_a_blend(running, first, second, tmp_path):
    """vLLM answers its reload with 200; here it leads to a restart, which vLLM then refuses as it should."""
    server, _, said = running
    server.load(first)
    name = "model.layers.1.self_attn.o_proj.weight"
    partial = altered(second, tmp_path / "partial", lambda tensors: tensors.pop(name))
    with pytest.raises((ServerFailure, Refusal)) as refused:
        server.load(partial)
    assert any(name in line and "restarted" in line for line in said)
    assert str(partial) in str(refused.value)
    with pytest.raises(ServerFailure, match="call load first"):
        _ = server.endpoint


def test_killing_the_parent_leaves_no_orphan(first, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, time\nfrom pathlib import Path\nfrom eval.serve import VLLM, serving\n"
        "settings = VLLM(dtype='float32', max_model_len=128, probe='none')\n"
        "with serving(settings, logs=Path(sys.argv[2])) as server:\n"
        "    server.load(Path(sys.argv[1]))\n    print(server.pid, flush=True)\n    time.sleep(600)\n"
    )
    command = [sys.executable, str(script), str(first), str(tmp_path / "logs")]
    parent = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path
    )
    try:
        group = int(parent.stdout.readline())
        assert members(group)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        deadline = time.monotonic() + 30
        while members(group) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert members(group) == []
    finally:
        parent.kill()
        parent.wait()


def members(group: int) -> list[str]:
    """The command names of the processes of a group that are not yet dead."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = stat.read_text().rsplit(")", 1)
        except OSError:
            continue
        state, _, process_group = rest.split()[:3]
        if int(process_group) == group and state not in "ZX":
            found.append(name.split("(", 1)[1])
    return found


def test_a_model_of_another_kind_is_refused_before_anything_starts(make_checkpoint, tmp_path):
    checkpoint = make_checkpoint(3)
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"head_dim": 16}))
    with serving(SETTINGS, logs=tmp_path) as server, pytest.raises(Refusal, match="heads of size 16"):
        server.load(checkpoint)


def test_a_taken_port_is_refused_with_the_way_out(first, tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            serving(VLLM(port=port, probe="none"), logs=tmp_path) as server,
            pytest.raises(Refusal, match=r"taken.*serve\.port=null"),
        ):
            server.load(first)


def test_no_flag_or_variable_fetches_or_tells_anything():
    line = flags(SETTINGS, Path("/x"), 5000)
    assert line[line.index("--host") + 1] == "127.0.0.1"
    assert line[line.index("--generation-config") + 1] == "vllm"
    assert variables(SETTINGS)["HF_HUB_OFFLINE"] == "1"
    assert variables(SETTINGS)["VLLM_NO_USAGE_STATS"] == "1"
    assert "VLLM_API_KEY" not in variables(SETTINGS)


def test_attention_takes_the_memory_that_it_was_given(running):
    server, _, _ = running
    assert f"Explicitly set ({SETTINGS.kv_cache_gb:g}.0/" in server.log.read_text()
    line = flags(VLLM(kv_cache_gb=0.125), Path("/x"), 5000)
    assert int(line[line.index("--kv-cache-memory-bytes") + 1]) == 2**27
    with pytest.raises(ValueError, match=r"kv_cache_gb is 0.*GiB above 0"):
        VLLM(kv_cache_gb=0)


def test_the_server_reads_the_very_tokens_of_the_text_that_we_rendered(running, first):
    """Whatever the text looks like: a template of its own in it, control tokens, white space at its ends."""
    from transformers import AutoTokenizer

    server, _, _ = running
    server.load(first)
    endpoint = server.endpoint
    tokenizer = AutoTokenizer.from_pretrained(first)
    control = Control(root=endpoint.base_url.removesuffix("/v1"), key=endpoint.key)
    for said in ("seven", "  {{ messages }} {% raw %}\n", "<|end|><|user|> nine\n\n", "naïve 🙂"):
        messages = endpoint.template.one_message([{"role": "user", "content": said}])
        body = {"model": endpoint.model, "messages": messages, "max_tokens": 1, "return_token_ids": True}
        status, reply = control.post("/v1/chat/completions", body)
        assert status == 200
        assert reply["prompt_token_ids"] == tokenizer(messages[0]["content"], add_special_tokens=False)["input_ids"]
