"""One training run from start to finish, inside the process (or processes) started for it."""

from __future__ import annotations

import json
import operator
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import logging

from fusion.conversations.conversation import read_conversations
from fusion.conversations.template import LabelledRow, label_rows
from fusion.distribution import NO_TOKEN, TopK
from fusion.fuse.shards import FusedRow, open_fused
from fusion.represent.checkpoint import load_model, load_tokenizer
from fusion.rounding import UpdateTally
from fusion.runtime.configure import Refusal
from fusion.runtime.precision import spelled
from fusion.train.batching import TrainingRow, schedule, steps_for
from fusion.train.config import TrainConfig
from fusion.train.head import keeps_apart
from fusion.train.journal import CHECKPOINTS, StepLog, newest_checkpoint, trim_log
from fusion.train.launch import LOG
from fusion.train.trainer import FusionTrainer, OrderedRows, on_cpu, training_arguments

_PIECE = 2**20  # entries that are compared at a time
# Everything beside the weights that a user of the checkpoint needs, taken over from the initial one byte by byte.
_HANDED_ON = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "chat_template*",
    "generation_config.json",
)


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What a run works on: checkpoint directory, conversations file, fused targets or none, settings, and where to."""

    initial: Path
    conversations: Path
    fused: Path | None
    config: TrainConfig
    out: Path


def run(job: TrainingJob) -> dict[str, object] | None:
    """Train, and write a Hugging Face checkpoint into `job.out`; facts about the run, or None on all ranks but 0.

    A whole checkpoint in `out/.checkpoints` is continued from.  Raises Refusal for conversations without a label or
    longer than what the model sees, fused targets that belong to other text, and a loss that is no longer finite.
    """
    config = job.config
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(config.threads)
    if on_cpu(config):
        if config.fsdp:
            raise Refusal("train.fsdp shards over GPUs and this machine shows none: set train.fsdp=false")
    else:
        # Embedding and gather gradients add up in any order on a GPU unless set otherwise.
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    rows, counted = training_rows(job)
    steps = steps_for(rows=len(rows), batch_size=config.batch_size, epochs=config.epochs, max_steps=config.max_steps)
    order = schedule(
        [len(row.input_ids) for row in rows],
        batch_size=config.batch_size,
        steps=steps,
        generator=np.random.default_rng(config.seed),
        group_by_length=config.group_by_length,
    )
    model = _load(job)
    _check_lengths(model, rows, job.initial)
    if config.packing and len(rows) > 1:
        one, other = (torch.from_numpy(row.input_ids).long() for row in rows[:2])
        if not keeps_apart(model, one, other):
            raise Refusal(
                f"{job.initial} does not keep two conversations apart that share a row, as recurrent layers do not: set"
                " train.packing=false"
            )
    resume = newest_checkpoint(job.out)
    arguments = training_arguments(config, checkpoints=job.out / CHECKPOINTS, steps=steps)
    trainer = FusionTrainer(config=config, model=model, plan=OrderedRows(rows, order), arguments=arguments)
    if trainer.is_world_process_zero():
        trim_log(job.out, int(resume.name.split("-")[1]) if resume else 0)
    journal = StepLog(trainer, job.out)
    trainer.add_callback(journal)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    precision = _save(trainer, job)
    if not trainer.is_world_process_zero():
        return None
    last = [json.loads(line) for line in (job.out / LOG).read_text().splitlines()[-max(1, steps // 10) :]]
    loss = float(np.mean([line["loss"] for line in last]))
    if not np.isfinite(loss):
        raise Refusal(f"the training loss is {loss} at the end: lower train.learning_rate, or use train.precision=fp32")
    return {
        "steps": steps,
        "resumed_at": int(resume.name.split("-")[1]) if resume else 0,
        **counted,
        "loss_in_chunks": trainer.in_chunks,
        "final_loss": loss,
        **precision,
        "final_sft": float(np.mean([line["sft"] for line in last])),
        "final_fusion": float(np.mean([line["fusion"] for line in last])),
        "loop_seconds": round(journal.seconds, 3),
        "labelled_tokens_per_second": round(journal.tokens / max(journal.seconds, 1e-9), 1),
    }


def training_rows(job: TrainingJob) -> tuple[list[TrainingRow], dict[str, int]]:
    """The conversations as the pivot's labelled tokens, with fused targets, and counts of them for the manifest.

    `left_out` conversations had no label to learn from.  With fused targets: how many `labels` there are, how many of
    them lie behind the end of their conversation's targets (`labels_without_target`), how many conversations have such
    labels (`conversations_cut`), and how many no other.
    """
    tokenizer = load_tokenizer(job.initial)
    fused = open_fused(job.fused) if job.fused is not None else None
    rows, behind = [], []
    conversations = read_conversations(job.conversations)
    for conversation, labelled in zip(
        conversations, label_rows(tokenizer, conversations, max_length=job.config.max_length), strict=True
    ):
        if labelled is None or not (labelled.positions > 0).any():
            continue
        targets = None
        if fused is not None:
            if conversation.id not in fused:
                raise Refusal(
                    f"conversation '{conversation.id}' of {job.conversations} has no fused targets in {job.fused}: fuse"
                    " the same conversations that are trained on"
                )
            targets = fused[conversation.id]
            behind.append(max(0, len(labelled.positions) - len(targets.label_ids)))
        rows.append(training_row(labelled, targets))
    if not rows:
        raise Refusal(
            f"no conversation of {job.conversations} has an assistant token within {job.config.max_length} tokens:"
            " raise train.max_length or check the data"
        )
    counted = {"conversations": len(rows), "left_out": len(conversations) - len(rows)}
    if fused is not None:
        labels = [len(row.positions) for row in rows]
        counted |= {
            "labels": sum(labels),
            "labels_without_target": sum(behind),
            "conversations_cut": sum(count > 0 for count in behind),
            "conversations_without_target": sum(map(operator.ge, behind, labels)),
        }
    return rows, counted


def training_row(row: LabelledRow, fused: FusedRow | None) -> TrainingRow:
    """Tokens, labelled positions and, where given, the teacher's distribution at each of them.

    Fused targets may reach further than this row (a longer max_length) or less far; positions they do not reach have
    no entry, and the objective treats those as labels.  Raises Refusal when the labelled tokens differ.
    """
    positions = row.positions
    if fused is None:
        positions = positions[positions > 0]  # nothing predicts the first token
        return TrainingRow(input_ids=row.input_ids, positions=positions)
    shared = min(len(positions), len(fused.label_ids))
    if not np.array_equal(row.input_ids[positions[:shared]], fused.label_ids[:shared]):
        raise Refusal(
            f"conversation '{row.conversation_id}': the fused targets were made for other tokens than the pivot's"
            " template and tokenizer give now; fuse again with this checkpoint"
        )
    teacher = _fill(fused.top[:shared], len(positions))
    predicted = positions > 0
    return TrainingRow(input_ids=row.input_ids, positions=positions[predicted], teacher=teacher[predicted])


def _fill(top: TopK, length: int) -> TopK:
    missing, k = length - len(top), top.ids.shape[1]
    if not missing:
        return top
    return TopK(
        ids=np.concatenate([top.ids, np.full((missing, k), NO_TOKEN, np.int32)]),
        log_probs=np.concatenate([top.log_probs, np.full((missing, k), -np.inf, np.float32)]),
        tail=np.concatenate([top.tail, np.zeros(missing, np.float32)]),
    )


def _check_lengths(model: PreTrainedModel, rows: Sequence[TrainingRow], initial: Path) -> None:
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(len(row.input_ids) for row in rows)
    if limit is not None and longest > limit:
        raise Refusal(f"a conversation has {longest} tokens and {initial} sees {limit}: set train.max_length={limit}")


def _load(job: TrainingJob) -> PreTrainedModel:
    dtype = "bfloat16" if job.config.precision == "bf16_pure" else "float32"
    model: PreTrainedModel = load_model(job.initial, dtype=dtype, device_map=None, device="cpu")
    # A published generation config that contradicts itself would stop every save; the original file is handed on.
    model.generation_config = GenerationConfig()
    return model


def _save(trainer: FusionTrainer, job: TrainingJob) -> dict[str, object]:
    """Write the checkpoint; for the manifest its precisions, and what they keep of what training changed."""
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not trainer.is_world_process_zero():
        return {}
    cast = _cast(state, getattr(torch, job.config.save_dtype))
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.save_pretrained(job.out, state_dict=cast)
    precision = _measured(job, state, cast)
    config = json.loads((job.initial / "config.json").read_text())
    config.pop("torch_dtype", None)
    config["dtype"] = job.config.save_dtype
    (job.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for pattern in _HANDED_ON:
        for path in sorted(job.initial.glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, job.out / path.name)
    return precision


def _measured(
    job: TrainingJob, state: Mapping[str, torch.Tensor], cast: Mapping[str, torch.Tensor]
) -> dict[str, object]:
    """At which precision the weights were found, trained and saved, and what is left there of what training changed.

    Counted are the initial checkpoint's parameters, tied ones once; training starts from them in its own precision.
    """
    tally, found = UpdateTally(), set()
    for file in sorted(job.initial.glob("*.safetensors")):
        with safe_open(file, framework="pt") as stream:
            for name in stream.keys():  # noqa: SIM118  it is no mapping
                if name not in state or not state[name].is_floating_point():
                    continue
                before = stream.get_tensor(name)
                found.add(str(before.dtype).removeprefix("torch."))
                parts = (before.to(state[name].dtype).float(), state[name].float(), cast[name])
                for pieces in zip(*(part.cpu().reshape(-1).split(_PIECE) for part in parts), strict=True):
                    tally.add(*pieces)
    return {
        "dtype": {
            "initial": spelled(found),
            "trained": "bfloat16" if job.config.precision == "bf16_pure" else "float32",
            "arithmetic": "float32" if job.config.precision == "fp32" else "bfloat16",
            "stored": job.config.save_dtype,
        },
        "update": tally.facts(),
    }


def _cast(state: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """`state` in `dtype`; tensors that share memory (tied embeddings) share it afterwards too."""
    done: dict[tuple[int, Sequence[int]], torch.Tensor] = {}
    cast = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tuple(tensor.shape))
        if place not in done:
            done[place] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        cast[name] = done[place]
    return cast
