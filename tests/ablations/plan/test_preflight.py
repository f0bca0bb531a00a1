"""A run that would be refused later is refused before its first stage, with all problems at once; so is its plan."""

import json
import socket

import pytest

from ablations.plan.plan import before_start
from fusion.runtime.configure import Refusal
from fusion.runtime.outlook import process_outlook
from fusion.runtime.preflight import disk_problems, memory_problems, refuse


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    judge = ["judge=openai", "judge.model=far", "judge.key_variable=NO_SUCH_KEY"]
    where = [f"paths.artifacts={tmp_path}/artifacts", f"paths.data={tmp_path}/data"]

    def look_over(*overrides: str, files: bool = True) -> str:
        questions = [] if files else ["benchmark=mt_bench"]
        with pytest.raises(Refusal) as refused:
            before_start([*overrides, "experiment=pocket_smoke", *judge, *where, *questions])
        assert not (tmp_path / "artifacts").exists()
        return str(refused.value)

    return look_over


def test_a_missing_key_is_said_before_anything_is_computed(asked):
    said = asked()
    assert "NO_SUCH_KEY" in said
    assert "\n" not in said  # one problem is one sentence


def test_every_problem_is_in_one_numbered_list(asked):
    said = asked(files=False).splitlines()
    assert said[0].startswith("2 problems would stop this run")
    assert [line.split()[0] for line in said[1:]] == ["1.", "2."]
    assert "mt_bench" in said[1]
    assert "NO_SUCH_KEY" in said[2]


def test_a_plan_is_printed_and_refuses_what_its_run_would(asked, capsys):
    run = asked(files=False)
    capsys.readouterr()
    assert asked("plan=true", files=False) == run
    assert "to compute" in capsys.readouterr().out


def test_a_sweep_is_looked_over_once(asked):
    assert asked("-m", "seed=0,1").count("NO_SUCH_KEY") == asked().count("NO_SUCH_KEY")


def test_a_run_without_problems_goes_on_and_knows_how_many_stages_are_ahead(tmp_path, capsys):
    process_outlook.cache_clear()
    given = ["experiment=pocket_smoke", f"paths.artifacts={tmp_path}/artifacts"]
    before_start(given)
    out = tmp_path / "plan"
    with pytest.raises(SystemExit) as ended:
        before_start([*given, "plan=true", f"report.out={out}"])
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == f"plan: {out / 'plan.json'}"
    assert said.err.splitlines()[-1] == f"next: python -m ablations {' '.join(given)}"
    assert process_outlook().total == len(json.loads((out / "plan.json").read_text())["stages"])
    process_outlook.cache_clear()


def test_a_port_for_servers_must_be_free_before_models_are_trained(asked):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        serve = ("serve=vllm", f"serve.port={port}")
        assert f"port {port} is taken" in asked(*serve)
        assert f"port {port} is taken" in asked("plan=true", *serve)
    assert f"port {port} is taken" not in asked(*serve)


def test_an_endpoint_for_the_models_must_have_its_key(asked):
    said = asked("serve=endpoint", "serve.key_variable=NO_KEY_FOR_MODELS")
    assert "NO_KEY_FOR_MODELS" in said
    assert "NO_SUCH_KEY" in said


@pytest.mark.parametrize(("free", "refused"), [(9e9, True), (10e9, False), (11e9, False)])
def test_room_on_one_disk_is_counted_for_all_that_goes_there(tmp_path, free, refused):
    found = disk_problems({tmp_path / "a": 6e9, tmp_path / "b" / "c": 4e9}, free=lambda path: free)
    assert bool(found) == refused
    assert all("10 GB" in problem for problem in found)


def test_small_amounts_are_said_in_megabytes(tmp_path):
    (found,) = disk_problems({tmp_path: 3e6}, free=lambda path: 2e6)
    assert "about 3 MB would be written" in found
    assert "where 2 MB are free" in found


def test_memory_is_held_against_the_largest_model():
    assert memory_problems({"train a": 3e9, "represent b": 5e9}, held=5e9) == []
    (found,) = memory_problems({"train a": 3e9, "represent b": 5e9}, held=4e9)
    assert found.startswith("represent b needs at least 5 GB")


def test_a_problem_that_is_found_twice_is_said_once():
    with pytest.raises(Refusal, match="^no key$"):
        refuse(["no key", "no key"])
    refuse([])
