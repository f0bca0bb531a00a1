"""One named parameter of the pivot and its targets, read in pieces small enough for the processor's cache.

Every rule is written once, over pieces: `measure` folds what the rule must know of the whole parameter (a threshold, an
energy, an angle), `combine` is its formula, elementwise given that.  A tensor in memory and a tensor in a checkpoint of
any size are then merged by the same arithmetic in the same order, so both give the same bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeVar

import numpy as np

from fusion.merge.mergekit import InRecipes
from fusion.runtime.configure import Refusal

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Float32
    from numpy.typing import NDArray
    from torch import Tensor

# Elements in a piece: 512 KiB as fp32.  Sums run within a piece in fp32 and over pieces in Python's float64, so another
# size would change last bits.
PIECE = 2**17


A = TypeVar("A")
B = TypeVar("B")


class Mapper(Protocol):
    """The builtin `map`, or one that works with threads."""

    def __call__(self, function: Callable[[A], B], items: Iterable[A], /) -> Iterable[B]: ...


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a rule may know of a parameter besides its values.

    `layer` is the index in the name (`model.layers.3.mlp...` is 3), None outside the layers; `after` says that it then
    lies behind them, as the output head does, and not before; `layers` is their count; `in_language` is false in
    another stack than the language model's, such as a vision tower's; `survey` is what the rule's own `survey` returned
    for the whole checkpoint, None where there was none.
    """

    name: str = ""
    layer: int | None = None
    layers: int | None = None
    in_language: bool = True
    after: bool = False
    survey: Any = None


@dataclass(frozen=True)
class Piece:
    """Elements `start` to `start + n` of the flattened parameter; valid until the next piece is read.

    `rows` are they as stored, `[1 + targets, n]` with the pivot first: bf16 as its bits (uint16), all else as fp32.
    The tensors are fp32, those of the targets `[targets, n]`.
    """

    start: int
    rows: NDArray[np.generic]

    @cached_property
    def pivot(self) -> Float32[Tensor, " n"]:
        """The pivot's elements."""
        return self._wide(self.rows[0])

    @cached_property
    def targets(self) -> Float32[Tensor, "S n"]:
        """The targets' elements."""
        return self._wide(self.rows[1:])

    @cached_property
    def deltas(self) -> Float32[Tensor, "S n"]:
        """The task vectors, target minus pivot (Ilharco et al., arXiv 2212.04089)."""
        import torch

        from fusion.merge import compiled

        out = np.empty((len(self.rows) - 1, self.rows.shape[1]), np.float32)
        compiled.deltas(self.rows, out)
        return torch.from_numpy(out)

    def _wide(self, rows: NDArray[np.generic]) -> Tensor:
        import torch

        stored = torch.from_numpy(rows)
        return stored if rows.dtype == np.float32 else stored.view(torch.bfloat16).float()


class Combined(NamedTuple):
    """A merged piece, and for the coefficient table what it was combined from.

    `vectors` are the task vectors after trimming, dropping or selecting (None: the plain ones); `elected` is the tensor
    whose sign won at each position (None where the rule elects none).
    """

    merged: Tensor
    vectors: Tensor | None = None
    elected: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What `measure` found: one weight for each target as the table shows it, and what else `combine` needs."""

    weights: tuple[float, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter that can be read from its first piece to its last, as often as a rule needs."""

    name: str
    elements: int
    targets: int
    layer: int | None
    layers: int | None
    pieces: Callable[[], Iterator[Piece]]


class PiecewiseRule(ABC):
    """How the rules of this package are built, so that a checkpoint streams through them: frozen dataclasses whose
    fields are the hyperparameters.

    A rule whose weights or thresholds span several parameters is a SurveyingRule.
    """

    in_recipes: ClassVar[InRecipes] = InRecipes()

    @abstractmethod
    def measure(self, parameter: Parameter, *, generator: torch.Generator | None, context: Context) -> Measured:
        """What the formula needs to know of the whole parameter; `generator` is for random choices, None means seed 0.

        Raises Refusal where the rule cannot merge that many targets, or a hyperparameter has another count of entries.
        """

    @abstractmethod
    def combine(self, piece: Piece, measured: Measured) -> Combined:
        """The rule's formula on one piece, elementwise, in fp32."""

    def __call__(
        self,
        pivot: Float[Tensor, "*shape"],
        targets: Sequence[Tensor],
        *,
        generator: torch.Generator | None = None,
        context: Context | None = None,
    ) -> Float[Tensor, "*shape"]:
        """One parameter that lies in memory, merged: fp32 arithmetic, the pivot's shape and dtype out.

        Raises Refusal as `measure` does, and when there is no target or one has another shape than the pivot.
        """
        import torch

        context = context or Context()
        parameter = in_memory(pivot, targets, context=context)
        merged = torch.empty(parameter.elements)
        measured = self.measure(parameter, generator=generator, context=context)
        for piece in parameter.pieces():
            merged[piece.start : piece.start + piece.rows.shape[1]] = self.combine(piece, measured).merged
        return merged.view(pivot.shape).to(pivot)


class SurveyingRule(PiecewiseRule):
    """A rule whose `survey` is called first, over all parameters that share the rule, when `surveys` is true.

    Each parameter's context then carries what it returned.  A parameter without a survey is taken for the whole.
    """

    @property
    @abstractmethod
    def surveys(self) -> bool:
        """Whether these hyperparameters need the survey."""

    @abstractmethod
    def survey(self, parameters: Sequence[Parameter], *, map: Mapper = map) -> Any:
        """What each parameter is to know of all of them; `map` may work with threads."""


def in_memory(pivot: Tensor, targets: Sequence[Tensor], *, context: Context) -> Parameter:
    """Tensors as a Parameter; raises Refusal when shapes differ or there is no target."""
    where = f"parameter '{context.name}'" if context.name else "a parameter"
    if not targets:
        raise Refusal(f"{where} has no target to merge: give at least one")
    for number, target in enumerate(targets):
        if target.shape != pivot.shape:
            raise Refusal(
                f"{where} has shape {list(target.shape)} in target {number} and {list(pivot.shape)} in the pivot:"
                " only models of one structure can be merged"
            )
    models = [tensor.detach().reshape(-1).float().cpu().numpy() for tensor in (pivot, *targets)]

    def pieces() -> Iterator[Piece]:
        for start in range(0, pivot.numel(), PIECE):
            yield Piece(start, np.stack([model[start : start + PIECE] for model in models]))

    return Parameter(
        name=context.name,
        elements=pivot.numel(),
        targets=len(targets),
        layer=context.layer,
        layers=context.layers,
        pieces=pieces,
    )


def per_target(value: float | Sequence[float], count: int, name: str) -> tuple[float, ...]:
    """A hyperparameter as one number for each target, in the targets' order; raises Refusal when the count differs."""
    if isinstance(value, (int, float)):
        return (float(value),) * count
    if len(value) != count:
        raise Refusal(f"{name} has {len(value)} entries: expected one number, or one for each of the {count} targets")
    return tuple(float(item) for item in value)
