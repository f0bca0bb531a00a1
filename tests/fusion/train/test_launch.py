"""Training as its callers see it: a child process, or several."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from fusion.experiment import fusion_config
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal, plain, restored, typed
from fusion.runtime.fingerprint import module_digests
from fusion.runtime.processes import thread_settings
from fusion.train.config import TrainConfig
from fusion.train.launch import MODULES, command, train
from fusion.train.objectives import OBJECTIVES

CONFIG = TrainConfig(max_steps=6, batch_size=4, learning_rate=3e-3, max_length=64, device="cpu")


def log(out):
    return [json.loads(line) for line in (out / "training_log.jsonl").read_text().splitlines()]


def test_settings_and_launching_need_no_torch():
    code = "import sys, fusion.train.launch; sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_settings_survive_the_way_to_the_child():
    for objective in OBJECTIVES.values():
        config = dataclasses.replace(CONFIG, objective=objective(tail="bucket"), betas=(0.9, 0.95), max_steps=None)
        text = json.loads(json.dumps(plain(config)))
        assert restored(text, (TrainConfig, *OBJECTIVES.values())) == config


def test_settings_of_another_version_are_refused():
    text = plain(CONFIG)
    text["objective"]["type"] = "OfLongAgo"
    with pytest.raises(Refusal, match="there is no 'OfLongAgo' among TrainConfig, "):
        restored(text, (TrainConfig, *OBJECTIVES.values()))


def test_a_new_objective_leaves_the_finished_runs_of_the_others_as_they_are():
    """What decides the trained weights reaches the default objective alone; the pipeline adds the one in use."""
    reached = {name for name in module_digests(MODULES) if name.startswith("fusion.train.objectives")}
    parts = ("cross_entropy", "objective", "outcomes")
    assert reached == {f"fusion.train.objectives.{part}" for part in parts}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lm_weight": 1.5}, "lm_weight is 1.5: expected 0 to 1"),
        ({"batch_size": 6, "processes": 4}, "batch_size 6 does not divide .* choose a multiple of 4"),
        ({"fsdp": True}, "fsdp shards over several processes"),
        ({"fsdp": True, "processes": 2, "device": "cpu"}, "fsdp shards over GPUs"),
        ({"objective": "kl"}, "train.objective is 'kl': expected Objective"),
        ({"epochs": 0.0}, "epochs is 0.0: expected more than 0"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"betas": (0.9, 1.0)}, "expected both in"),
    ],
)
def test_settings_out_of_range_are_refused(change, says):
    with pytest.raises(Refusal, match=says):
        typed(change, TrainConfig, at="train")


def test_the_papers_batch_divides_over_eight_gpus():
    config = TrainConfig(batch_size=128, processes=8, gradient_accumulation=4, fsdp=True)
    assert config.micro_batch_size == 4
    assert "accelerate.commands.launch" in command(config, "job.json")


def test_input_that_is_not_there_is_refused_before_a_child_starts(checkpoint, dialogues, tmp_path):
    with pytest.raises(Refusal, match="is no checkpoint to train"):
        train(initial=tmp_path, conversations=dialogues, fused=None, config=CONFIG, out=tmp_path / "out")
    with pytest.raises(Refusal, match="there are no conversations"):
        train(initial=checkpoint, conversations=tmp_path / "x", fused=None, config=CONFIG, out=tmp_path / "out")
    with pytest.raises(Refusal, match="run the fuse stage first"):
        train(initial=checkpoint, conversations=dialogues, fused=tmp_path, config=CONFIG, out=tmp_path / "out")


@pytest.mark.slow
def test_the_childs_refusal_is_ours(checkpoint, dialogues, tmp_path):
    config = dataclasses.replace(CONFIG, max_length=2)
    with pytest.raises(Refusal, match="has an assistant token within 2 tokens"):
        train(initial=checkpoint, conversations=dialogues, fused=None, config=config, out=tmp_path / "out")


@pytest.mark.slow
def test_two_processes_take_the_steps_that_one_takes(checkpoint, dialogues, tmp_path):
    shown = []
    facts = {}
    for processes in (1, 2):
        facts[processes] = train(
            initial=checkpoint,
            conversations=dialogues,
            fused=None,
            config=dataclasses.replace(CONFIG, processes=processes),
            out=tmp_path / str(processes),
            progress=lambda done, total, note="": shown.append((done, total, note)),
        )
    last = log(tmp_path / "2")[-1]["loss"]
    assert shown[-1] == (6, 6, f"loss {last:.3f}")
    for one, two in zip(log(tmp_path / "1"), log(tmp_path / "2"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3)
        assert two["labelled_tokens"] == one["labelled_tokens"]
    assert facts[2]["final_loss"] == pytest.approx(facts[1]["final_loss"], rel=1e-4)


@pytest.mark.slow
def test_a_forked_run_gives_the_bytes_of_one_that_is_started(checkpoint, dialogues, tmp_path):
    out = {way: tmp_path / way for way in ("forked", "started")}
    train(initial=checkpoint, conversations=dialogues, fused=None, config=CONFIG, out=out["forked"])
    job = json.loads((out["forked"] / ".job.json").read_text())
    out["started"].mkdir()
    (tmp_path / "job.json").write_text(json.dumps({**job, "out": str(out["started"])}))
    environment = {**os.environ, **thread_settings(CONFIG.threads)}
    subprocess.run(command(CONFIG, tmp_path / "job.json"), env=environment, check=True)
    for name in ("model.safetensors", "training_log.jsonl"):
        assert (out["forked"] / name).read_bytes() == (out["started"] / name).read_bytes()


@pytest.mark.slow
def test_a_killed_run_continues_to_the_bytes_of_an_undisturbed_one(checkpoint, dialogues, tmp_path):
    config = dataclasses.replace(CONFIG, max_steps=300, save_every=25)
    arguments = {"initial": checkpoint, "conversations": dialogues, "fused": None, "config": config}
    train(**arguments, out=tmp_path / "whole")
    out = tmp_path / "killed"
    code = (
        "from pathlib import Path; from fusion.runtime.configure import restored;"
        "from fusion.train.config import TrainConfig;"
        "from fusion.train.objectives import OBJECTIVES; from fusion.train.launch import train; import json, sys;"
        "a = json.loads(sys.argv[1]);"
        "train(initial=Path(a['initial']), conversations=Path(a['conversations']), fused=None,"
        " config=restored(a['config'], (TrainConfig, *OBJECTIVES.values())), out=Path(a['out']))"
    )
    text = json.dumps(
        {"initial": str(checkpoint), "conversations": str(dialogues), "config": plain(config), "out": str(out)}
    )
    parent = subprocess.Popen([sys.executable, "-c", code, text])
    deadline = time.monotonic() + 120
    while not list(out.glob(".checkpoints/*/complete")):
        assert parent.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    (child,) = psutil.Process(parent.pid).children()
    os.kill(parent.pid, signal.SIGKILL)
    child.kill()
    parent.wait()
    psutil.wait_procs([child])
    assert not (out / "model.safetensors").exists()
    facts = train(**arguments, out=out)
    assert 0 < facts["resumed_at"] < 300
    for name in ("model.safetensors", "training_log.jsonl", "config.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def killing(number: int, is_it: Callable[[psutil.Process], bool]) -> threading.Thread:
    """Sends the signal to the first process below this one of which `is_it` is true."""

    def wait_and_kill() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if is_it(process):
                        process.send_signal(number)
                        return
            time.sleep(0.02)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


def forked_run(process: psutil.Process) -> bool:
    above = process.parents()
    return all("fusion.runtime.nursery" in one.cmdline() for one in (process, *above[:2]))


def run_of_several(process: psutil.Process) -> bool:
    return process.cmdline()[1:3] == ["-m", "fusion.train"] or process.cmdline()[1:4] == ["-u", "-m", "fusion.train"]


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (
            signal.SIGKILL,
            r"killed \(signal 9\), as the system does when memory ran out: .*train\.gradient_accumulation",
        ),
        (signal.SIGTERM, "ended from outside by SIGTERM: give the command again, which continues"),
        (signal.SIGRTMIN + 3, f"ended from outside by signal {signal.SIGRTMIN + 3}: give the command again"),
    ],
)
def test_a_training_process_that_is_killed_is_told_with_the_way_out(checkpoint, dialogues, tmp_path, number, says):
    config = dataclasses.replace(CONFIG, max_steps=100_000)
    killer = killing(number, forked_run)
    with pytest.raises(Refusal, match=says):
        train(initial=checkpoint, conversations=dialogues, fused=None, config=config, out=tmp_path / "out")
    killer.join()
    assert not (tmp_path / "out/model.safetensors").exists()


@pytest.mark.slow
def test_one_of_several_training_processes_that_is_killed_is_told_with_the_way_out(checkpoint, dialogues, tmp_path):
    config = dataclasses.replace(CONFIG, processes=2, max_steps=100_000)
    killer = killing(signal.SIGKILL, run_of_several)
    with pytest.raises(Refusal, match=r"killed \(signal 9\).*memory ran out: .*train\.max_length"):
        train(initial=checkpoint, conversations=dialogues, fused=None, config=config, out=tmp_path / "out")
    killer.join()


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[3] / "conf" / "train").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_shipped_setting_is_valid(file):
    composed = compose("fusion", ["experiment=fusechat_7b_v2", f"train={file.stem}"])
    assert isinstance(fusion_config(composed).train, TrainConfig)
