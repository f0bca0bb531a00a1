"""What a training run leaves on disk while it works: its log, its progress, and which checkpoints are whole."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fusion.train.launch import LOG
from fusion.train.trainer import FusionTrainer

PROGRESS = ".progress.json"
CHECKPOINTS = ".checkpoints"
_WHOLE = "complete"  # written into a checkpoint last
_LINES_HELD = 50


def newest_checkpoint(out: Path) -> Path | None:
    """The last checkpoint that was written to its end, or None."""
    whole = [path.parent for path in (out / CHECKPOINTS).glob(f"checkpoint-*/{_WHOLE}")]
    return max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)


def trim_log(out: Path, steps: int) -> None:
    """Drop what was logged after step `steps`, which a resumed run does again."""
    log = out / LOG
    if log.exists():
        kept = [line for line in log.read_text().splitlines() if _step(line) <= steps]
        log.write_text("".join(line + "\n" for line in kept))


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except ValueError:  # the line a killed process was writing
        return float("inf")


class StepLog(TrainerCallback):
    """Writes one line per optimizer step, no clock in it, so that a resumed run leaves the same log."""

    def __init__(self, trainer: FusionTrainer, out: Path) -> None:
        self.trainer = trainer
        self.out = out
        self.seconds = 0.0
        self.steps_done = 0
        self.tokens = 0
        self._started = 0.0
        self._shown = 0.0
        self._rate = 0.0
        self._held: list[tuple[int, float, Tensor]] = []

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._started = time.monotonic()
        self._show(state)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._rate = self.trainer._get_learning_rate()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        norm = self.trainer.gradient_norm
        sums = self.trainer.step_sums
        values = torch.cat([sums, torch.as_tensor(norm, dtype=sums.dtype, device=sums.device).reshape(1)])
        self._held.append((state.global_step, self._rate, values))
        self.steps_done += 1
        # A checkpoint written at this step must find the log complete up to it.
        if len(self._held) >= _LINES_HELD or state.global_step % args.save_steps == 0:
            self._write()
        if time.monotonic() - self._shown > 0.5:
            self._show(state)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.trainer.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _WHOLE).touch()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._write()
        self._show(state)
        self.seconds = time.monotonic() - self._started

    def _write(self) -> None:
        if not self._held:
            return
        values = torch.stack([held[2] for held in self._held])
        if self.trainer.accelerator.num_processes > 1:
            norms = values[:, 3].clone()  # the same everywhere
            values = self.trainer.accelerator.reduce(values, reduction="sum")
            values[:, 3] = norms
        weight = self.trainer.config.lm_weight
        lines = []
        for (step, rate, _), (sft, fusion, tokens, norm) in zip(self._held, values.tolist(), strict=True):
            sft, fusion = sft / tokens, fusion / tokens
            self.tokens += int(tokens)
            line = {
                "step": step,
                "loss": weight * sft + (1 - weight) * fusion,
                "sft": sft,
                "fusion": fusion,
                "labelled_tokens": int(tokens),
                "learning_rate": rate,
                "gradient_norm": norm,
            }
            lines.append(json.dumps(line) + "\n")
        self._held.clear()
        if self.trainer.is_world_process_zero():
            with (self.out / LOG).open("a") as stream:
                stream.writelines(lines)

    def _show(self, state: TrainerState) -> None:
        self._shown = time.monotonic()
        if not state.is_world_process_zero:
            return
        text = json.dumps({"step": state.global_step, "steps": state.max_steps})
        scratch = self.out / (PROGRESS + ".new")
        scratch.write_text(text)
        scratch.replace(self.out / PROGRESS)
