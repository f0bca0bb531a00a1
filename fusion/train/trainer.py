"""A Hugging Face Trainer whose loss is the sparse fusion objective, in an order fixed before the first step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainingArguments

from fusion.train.batching import TrainingRow, collate
from fusion.train.config import TrainConfig
from fusion.train.head import RowLosses, returns_losses
from fusion.train.losses import position_losses
from fusion.train.objectives.objective import Teacher

_MODEL_INPUTS = ("input_ids", "position_ids", "places")


class OrderedRows(Dataset[TrainingRow]):
    """The rows in the order they are trained on, step after step."""

    def __init__(self, rows: Sequence[TrainingRow], order: NDArray[np.int64]) -> None:
        self.rows = rows
        self.order = order.reshape(-1)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> TrainingRow:
        return self.rows[int(self.order[index])]


def on_cpu(config: TrainConfig) -> bool:
    """Whether the run computes on the CPU: asked for, or no GPU is there."""
    return config.device == "cpu" or (config.device == "auto" and not torch.cuda.is_available())


def training_arguments(config: TrainConfig, *, checkpoints: Path, steps: int) -> TrainingArguments:
    """The Hugging Face Trainer's arguments; everything it would do on the side (reports, bars, workers) is off."""
    cpu = on_cpu(config)
    return TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        max_steps=steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.scheduler,
        warmup_steps=math.ceil(config.warmup_ratio * steps),
        weight_decay=config.weight_decay,
        adam_beta1=config.betas[0],
        adam_beta2=config.betas[1],
        adam_epsilon=config.epsilon,
        max_grad_norm=config.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=config.precision == "bf16_mixed",
        gradient_checkpointing=config.gradient_checkpointing and not config.fsdp,
        gradient_checkpointing_kwargs={"use_reentrant": False} if config.gradient_checkpointing else None,
        fsdp=True if config.fsdp else None,
        fsdp_config=_fsdp(config) if config.fsdp else None,
        ddp_backend="gloo" if cpu and config.processes > 1 else None,
        ddp_find_unused_parameters=False,
        use_cpu=cpu,
        seed=config.seed,
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=2,  # the older one stays until the newer one is marked complete
        logging_strategy="no",
        logging_nan_inf_filter=False,
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=not cpu,
        dataloader_num_workers=0,
    )


def _fsdp(config: TrainConfig) -> dict[str, str | int | bool]:
    return {
        "version": 2,
        "state_dict_type": "FULL_STATE_DICT",
        "activation_checkpointing": config.gradient_checkpointing,
    }


class FusionTrainer(Trainer):
    """Trains on `OrderedRows` rows with `lm_weight * SFT + (1 - lm_weight) * fusion`, averaged over labelled tokens.

    The average runs over all labelled tokens of an optimizer step, whatever processes and micro-batches it is divided
    into; with `normalisation: micro_batch` over each micro-batch's, as in the papers' code.

    `in_chunks` says that no logits of a whole micro-batch are held (fusion.train.head).
    After each step `step_sums` [3] holds, for this process, the summed SFT loss, the summed fusion loss and the number
    of labelled tokens, `gradient_norm` the norm before clipping.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self, *, config: TrainConfig, model: PreTrainedModel, plan: OrderedRows, arguments: TrainingArguments
    ) -> None:
        self.in_chunks = returns_losses(model, torch.from_numpy(plan.rows[0].input_ids).long())
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=plan,
            data_collator=partial(collate, pad_id=0, packed=config.packing),
        )
        self.config = config
        self.step_sums = torch.zeros(3, dtype=torch.float64)
        self.gradient_norm: float | Tensor = 0.0

    def _get_train_sampler(self, train_dataset: OrderedRows | None = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Tensor]], device: torch.device) -> Tensor:
        count = torch.tensor(sum(len(batch["gold"]) for batch in batch_samples), device=device)
        if self.accelerator.num_processes > 1:
            count = self.accelerator.reduce(count, reduction="sum")
        self.step_sums.zero_()
        return count

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: float | Tensor | None = None) -> float | Tensor:
        self.gradient_norm = 0.0 if grad_norm is None else grad_norm
        if hasattr(self.gradient_norm, "full_tensor"):  # sharded parameters have a sharded norm
            self.gradient_norm = self.gradient_norm.full_tensor()
        return self.gradient_norm

    def floating_point_ops(self, inputs: dict[str, Tensor]) -> int:
        """Not counted: walking over all parameters would cost a tiny model a tenth of its step."""
        return 0

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, object]:
        """The loss of one micro-batch (fusion.train.batching.collate), scaled so that the step's sum is the mean."""
        shown = {name: inputs[name] for name in _MODEL_INPUTS if name in inputs}
        total, sums = model(**shown, losses=self._losses(inputs))
        self.step_sums = self.step_sums.to(sums.device) + sums.double()
        # Gradients are averaged over processes afterwards, and summed over micro-batches.
        if self.config.normalisation == "micro_batch":
            loss = total / len(inputs["gold"]) / self.config.gradient_accumulation
        else:
            assert num_items_in_batch is not None
            loss = total * (self.accelerator.num_processes / num_items_in_batch)
        return (loss, total) if return_outputs else loss

    def _losses(self, inputs: dict[str, Tensor]) -> RowLosses:
        """What some labels cost, by the logits that predict them: in all, and of SFT, of fusion and their number."""
        config, gold = self.config, inputs["gold"]
        teacher = None
        if "teacher_ids" in inputs:
            teacher = Teacher(
                ids=inputs["teacher_ids"], log_probs=inputs["teacher_log_probs"], tail=inputs["teacher_tail"]
            )

        def losses(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            sft, fusion = position_losses(
                logits,
                gold[rows],
                None if teacher is None else teacher[rows],
                objective=config.objective,
                label_smoothing=config.label_smoothing,
            )
            sums = torch.stack([sft.sum(), fusion.sum(), sft.new_tensor(len(sft))])
            weight = 1.0 if teacher is None else config.lm_weight
            return weight * sums[0] + (1 - weight) * sums[1], sums

        return losses
