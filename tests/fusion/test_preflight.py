"""Fusion that would be refused is refused before it trains: models of the hub, templates on dialogues, the machine."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fusion.__main__ import run
from fusion.experiment import fusion_config
from fusion.preflight import machine_problems
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal
from fusion.runtime.preflight import machine_memory

ROOT = Path(__file__).parent.parent.parent
TEMPLATE = (
    "{% for m in messages %}{% if 'xyzzy' in m['content'] %}{{ raise_exception('no magic here') }}{% endif %}"
    "<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
# What the hub says of a model: to the question whether it may be read, and of the model itself.
HUB = {
    "open": (200, {}),
    "gated": (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model is restricted"}),
    "missing": (404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}),
}


@pytest.fixture
def hub(loopback):
    """An address that answers as the hub does for owner/open, owner/gated and owner/missing."""

    def react(path, *_):
        (name,) = (name for name in HUB if f"/owner/{name}" in path)
        return *HUB[name], {"id": f"owner/{name}", "sha": "0" * 40, "siblings": []}

    return loopback(react, gets=True)


def said_of_the_hub(tmp_path, names, **environment):
    """What is said of models of the hub, by their names; a process of its own, since addresses are read once."""
    code = (
        "import sys, json; from fusion.models import ModelConfig; from fusion.runtime.given_model import hub_problem\n"
        "found = [hub_problem(ModelConfig(label=name, path=f'owner/{name}')) for name in sys.argv[1:]]\n"
        "print(json.dumps(found))"
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    ended = subprocess.run(
        [sys.executable, "-c", code, *names],
        cwd=ROOT,
        env={**inherited, "HF_HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(names, json.loads(ended.stdout), strict=True))


def test_models_of_the_hub_are_asked_for_without_being_fetched(hub, tmp_path):
    found = said_of_the_hub(tmp_path, list(HUB), HF_ENDPOINT=hub)
    assert found["open"] is None
    for name in ("gated", "missing"):
        assert found[name].startswith(f"model '{name}': owner/{name} is neither a directory nor available"), found
        assert "HF_TOKEN" in found[name]
    assert "GatedRepo" in found["gated"]


def test_a_hub_that_is_out_of_reach_is_said_with_the_way_out(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        for environment in ({"HF_ENDPOINT": address}, {"HF_HUB_OFFLINE": "1"}):
            found = said_of_the_hub(tmp_path, ["open"], **environment)["open"]
            assert found.startswith("model 'open': owner/open is neither a directory nor available"), found
            assert "network" in found


@pytest.fixture
def settings(tmp_path, coarse, fine):
    """The settings of an experiment on two models of which only the tokenizers can be read."""
    for name, tokenizer in (("one", coarse), ("two", fine)):
        tokenizer.chat_template = TEMPLATE
        tokenizer.save_pretrained(tmp_path / name)
        (tmp_path / name / "config.json").write_text(json.dumps({"model_type": "llama", "torch_dtype": "bfloat16"}))
        (tmp_path / name / "model.safetensors").write_bytes(bytes(2000))

    def composed(*said, overrides=()):
        turns = [[{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}] for text in said]
        rows = "".join(json.dumps({"messages": messages}) + "\n" for messages in turns)
        (tmp_path / "dialogues.jsonl").write_text(rows)
        # Two entries of an experiment that exists stand for models of one's own.
        given = [
            "experiment=pocket_smoke",
            f"pivot={tmp_path}/one",
            f"sources=[{tmp_path}/two]",
            "data=files",
            f"data.files={tmp_path}/dialogues.jsonl",
            f"paths.artifacts={tmp_path}/artifacts",
        ]
        return compose("fusion", [*given, *overrides])

    return composed


def test_the_command_refuses_dialogues_that_a_template_fails_on_before_it_works(settings, tmp_path):
    with pytest.raises(Refusal) as refused:
        run(settings("hello", "say xyzzy", "and xyzzy again"))
    said = str(refused.value).splitlines()
    assert said[0].startswith("2 problems")
    for label, line in zip(("one", "two"), said[1:], strict=True):  # each model at the first of the two dialogues
        assert f"model '{label}'" in line
        assert "no magic here" in line
    assert not (tmp_path / "artifacts").exists()


def test_missing_models_and_dialogues_are_said_together(settings, tmp_path):
    given = settings("hello", overrides=[f"sources=[{tmp_path}/nowhere]", f"data.files={tmp_path}/none.jsonl"])
    with pytest.raises(Refusal) as refused:
        run(given)
    said = str(refused.value).splitlines()
    assert said[0].startswith("2 problems")
    assert f"there is no directory {tmp_path}/nowhere" in said[1]
    assert "none.jsonl" in said[2]
    assert not (tmp_path / "artifacts").exists()


def test_a_model_that_no_memory_holds_is_refused_for_what_training_takes(settings, tmp_path):
    given = settings("hello")
    assert machine_problems(fusion_config(given), None) == []
    with (tmp_path / "one" / "model.safetensors").open("wb") as weights:
        weights.truncate(int(2 * machine_memory()))  # of which nothing is written
    found = machine_problems(fusion_config(given), None)
    assert any(problem.startswith("train ") and "of memory" in problem for problem in found)
