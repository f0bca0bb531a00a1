"""Settings of one training run; importing them needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fusion.train.objectives.cross_entropy import CrossEntropy
from fusion.train.objectives.objective import Objective


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a checkpoint is trained; the defaults are FuseChat's, but for fp32 weights (the released code: pure bf16).

    `batch_size` counts conversations per optimizer step over all processes and accumulated micro-batches, so that a
    run on other hardware changes `processes` and `gradient_accumulation` and takes the same steps.
    """

    # The loss: lm_weight * SFT + (1 - lm_weight) * objective.  Without fused targets it is SFT alone.
    objective: Objective = field(default_factory=CrossEntropy)  # an entry of fusion.train.objectives.OBJECTIVES
    lm_weight: float = 0.9
    label_smoothing: float = 0.0  # of the SFT term
    # Mean over the labelled tokens of the whole step, or (the papers' code) of each micro-batch, these then averaged.
    normalisation: Literal["step", "micro_batch"] = "step"

    epochs: float = 3.0
    max_steps: int | None = None  # replaces epochs
    batch_size: int = 128
    gradient_accumulation: int = 1
    max_length: int = 2048  # tokens of a rendered conversation; what lies beyond is dropped
    group_by_length: bool = False  # conversations of similar length share a step: less padding, another order

    packing: bool = False  # short conversations of a micro-batch share rows, none sees another: less padding

    learning_rate: float = 5e-6
    scheduler: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    max_grad_norm: float = 1.0  # 0: no clipping

    precision: Literal["fp32", "bf16_mixed", "bf16_pure"] = "fp32"
    save_dtype: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    seed: int = 0

    save_every: int = 500  # steps between checkpoints a killed run resumes from
    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: int = 1
    fsdp: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("lm_weight", "label_smoothing", "warmup_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected 0 to 1")
        for name in ("learning_rate", "epochs", "epsilon"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: expected more than 0")
        for name in ("batch_size", "gradient_accumulation", "max_length", "save_every", "processes", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 1")
        for name in ("weight_decay", "max_grad_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 0")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps is {self.max_steps}: expected at least 1, or null to count epochs")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {self.betas}: expected both in [0, 1)")
        shares = self.processes * self.gradient_accumulation
        if self.batch_size % shares:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide into processes {self.processes} x gradient_accumulation"
                f" {self.gradient_accumulation}: choose a multiple of {shares}"
            )
        if self.fsdp and self.processes < 2:
            raise ValueError(
                "fsdp shards over several processes: set processes to the number of GPUs, or fsdp to false"
            )
        if self.fsdp and self.device == "cpu":  # accelerate would copy the model to every process and say nothing
            raise ValueError("fsdp shards over GPUs: set device to cuda or fsdp=false")

    @property
    def micro_batch_size(self) -> int:
        """Conversations per process and forward pass."""
        return self.batch_size // (self.processes * self.gradient_accumulation)
