"""Starts a training run in child processes and waits for it; imports no torch."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from fusion.runtime.configure import Refusal, plain
from fusion.runtime.disk import disk_fault
from fusion.runtime.nursery import NotForked, forked
from fusion.runtime.processes import Ending, child, last_lines, signal_name, thread_settings
from fusion.runtime.reading import read_object
from fusion.runtime.stage import Advance, unseen
from fusion.train.config import TrainConfig

LOG = "training_log.jsonl"  # a line per optimizer step
FACTS = ".facts.json"
REFUSAL = ".refusal.txt"
# What decides the trained weights; the store digests it, since the child is not reached by imports from here.
MODULES = ("fusion.train.run",)
_JOB = ".job.json"
_LOG = ".child.log"
# What torch and Python say of a GPU or a machine without room.
_OUT_OF_MEMORY = re.compile(r"OutOfMemoryError|MemoryError|can't allocate memory|Cannot allocate memory")


def train(
    *,
    initial: Path,
    conversations: Path,
    fused: Path | None,
    config: TrainConfig,
    out: Path,
    progress: Advance = unseen,
) -> dict[str, object]:
    """Train the checkpoint `initial` on `conversations`, towards `fused` targets if given; facts about the run.

    `out` receives a Hugging Face checkpoint (safetensors, tokenizer, chat template, generation config) and
    `training_log.jsonl`.  Working state has dotted names: after a kill, the same call continues from the newest whole
    checkpoint in `out/.checkpoints` and ends with the same bytes.  Another call's leftovers are discarded.
    `progress(step, steps, note)` is called about twice a second; the note has the last loss that was logged.

    Raises Refusal for input that cannot be trained on, and when the child dies: with what ended it, or with the end of
    its log.
    """
    _check(initial, conversations, fused)
    out.mkdir(parents=True, exist_ok=True)
    job = out / _JOB
    text = json.dumps(
        {
            "initial": str(initial.resolve()),
            "conversations": str(conversations.resolve()),
            "fused": str(fused.resolve()) if fused else None,
            "config": plain(config),
            "out": str(out.resolve()),
        },
        indent=1,
    )
    if not job.exists() or job.read_text() != text:
        shutil.rmtree(out / ".checkpoints", ignore_errors=True)
        job.write_text(text)
    for name in (FACTS, REFUSAL):
        (out / name).unlink(missing_ok=True)
    log = out / _LOG
    log.unlink(missing_ok=True)
    try:
        with _child(config, job, log) as process:
            while True:
                try:
                    status = process.wait(timeout=0.5)
                    break
                except subprocess.TimeoutExpired:
                    _report(out, progress)
    except NotForked as fault:
        status = fault.status
    _report(out, progress)
    if (out / REFUSAL).exists():
        raise Refusal((out / REFUSAL).read_text())
    if status != 0 or not (out / FACTS).exists():
        raise Refusal(_how_it_ended(status, log))
    return read_object(out / FACTS, expected="the facts of a training run")


def _child(config: TrainConfig, job: Path, log: Path) -> AbstractContextManager[Ending]:
    """The run's process: forked, where that saves its imports and no GPU's driver can be in the way, else started."""
    environment = thread_settings(config.threads)
    if config.device == "cpu" and config.processes == 1:
        return forked("fusion.train.__main__", [str(job)], log=log, environment=environment)
    return child(command(config, job), log=log, environment=environment)


def command(config: TrainConfig, job: Path) -> list[str]:
    """How the child is started: plainly for one process, through `accelerate launch` for several."""
    module = ["-m", "fusion.train", str(job)]
    if config.processes == 1:
        return [sys.executable, *module]
    # --multi_gpu is what makes the launcher start processes of its own; with no GPU they agree on gloo themselves.
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(config.processes)]
    return [
        sys.executable,
        *launcher,
        *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
        *module,
    ]


def _check(initial: Path, conversations: Path, fused: Path | None) -> None:
    if not (initial / "config.json").exists() or not any(initial.glob("*.safetensors")):
        raise Refusal(f"{initial} is no checkpoint to train: expected a directory with config.json and *.safetensors")
    if not conversations.exists():
        raise Refusal(f"there are no conversations at {conversations}")
    if fused is not None and not (fused / "index.json").exists():
        raise Refusal(f"{fused} holds no fused targets (index.json is missing): run the fuse stage first")


def _how_it_ended(status: int, log: Path) -> str:
    said = last_lines(log)
    # accelerate's own processes are ended one by one, and it says of a killed one what a shell would, or its signal.
    killed = status in (-signal.SIGKILL, 128 + signal.SIGKILL) or re.search(r"exitcode\s*: -9\b|SIGKILL", said)
    if killed or _OUT_OF_MEMORY.search(said):
        return (
            f"training {'was killed (signal 9), as the system does when' if killed else 'ended because'} memory ran"
            " out:"
            " give the machine more, or let training take less by a higher train.gradient_accumulation, by"
            " train.gradient_checkpointing=true or by a lower train.max_length; the steps that were kept are not"
            f" trained again{_end(said)}"
        )
    fault = disk_fault(RuntimeError(said))
    if fault is not None:
        return f"training ended: {fault}{_end(said)}"
    if status < 0:
        return (
            f"training was ended from outside by {signal_name(-status)}: give the command again, which"
            f" continues from the last step that was kept{_end(said)}"
        )
    return f"training ended with status {status}, and its log ({log}) says why{_end(said)}"


def _end(said: str) -> str:
    return f"; the end of its log:\n{said}" if said.strip() else ""


def _report(out: Path, progress: Advance) -> None:
    try:
        state = json.loads((out / ".progress.json").read_text())
        lines = (out / LOG).read_text().splitlines() if (out / LOG).exists() else []
        note = f"loss {json.loads(lines[-1])['loss']:.3f}" if lines else ""
        step, steps = state["step"], state["steps"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    progress(step, steps, note)
