"""PackLLM (Mavromatis et al., 2404.11531): several models generate one answer from their weighted logits.

    l_m      mean negative log-likelihood of the prompt under model m
    sim      w = softmax(-l / tau)
    opt      by rising l, a for what is mixed so far and 1 - a for the next model: the a in {0, step, ..., 1} with the
             smallest NLL(a z + (1 - a) z_next) of the prompt, weights multiplied through
    answer   greedy by sum_m w_m z_m, in the vocabulary of the model with the lowest l

`eval.ensembles.mixture` says how models with different tokenizers are brought together, which the formulas leave open.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from eval.benchmarks.protocol import ModelDtype
from eval.ensembles.selection import Made, Need

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """The models' logits [M][P, V] at P places of the prompt in the reference's vocabulary, the tokens that follow
    there [P], and which model has logits at which place [M, P]; models in their own order.
    """

    logits: Sequence[NDArray[np.float64]]
    known: NDArray[np.bool_]
    targets: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class PackLLM(ABC):
    """What both share.  `per`: what a mean likelihood is over; on `device` all models are held at once, in `dtype`."""

    selects: ClassVar[bool] = False
    oracle: ClassVar[str] = ""
    needs: ClassVar[frozenset[Need]] = frozenset({"models"})
    together: ClassVar[bool] = True

    per: Literal["token", "byte"] = "token"
    dtype: ModelDtype = "auto"
    device: str = "cpu"

    @abstractmethod
    def weights(self, nll: Sequence[float], evidence: Callable[[], Evidence]) -> NDArray[np.float64]:
        """One number per model, 0 or more, that sum to one; `evidence` costs a forward pass of every model."""

    def check(self, models: Collection[str]) -> None:
        """It names no model."""
        return

    def row(self, members: Mixes[T]) -> T:
        return members.mix(self)


class Mixes(Protocol[Made]):
    """Members that can decode together."""

    def mix(self, rule: PackLLM) -> Made:
        """The answers that all members give together, token by token."""


@dataclass(frozen=True, kw_only=True)
class PackLLMSim(PackLLM):
    """Weights by how unsurprised each model is by the prompt; a larger `tau` makes them more equal."""

    tau: float = 1.0

    def __post_init__(self) -> None:
        if self.tau <= 0:
            raise ValueError(f"tau is {self.tau}: expected more than 0")

    def weights(self, nll: Sequence[float], evidence: Callable[[], Evidence]) -> NDArray[np.float64]:
        return softmax(-np.asarray(nll, np.float64) / self.tau)


@dataclass(frozen=True, kw_only=True)
class PackLLMOpt(PackLLM):
    """Weights that fit the mixture to the prompt, found greedily on a grid of `step`."""

    step: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1:
            raise ValueError(f"step is {self.step}: expected a share in (0, 1]")

    def weights(self, nll: Sequence[float], evidence: Callable[[], Evidence]) -> NDArray[np.float64]:
        return greedy_weights(nll, evidence(), self.step)


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along a vector."""
    raised = np.exp(values - values.max())
    return np.asarray(raised / raised.sum(), np.float64)


def greedy_weights(nll: Sequence[float], evidence: Evidence, step: float) -> NDArray[np.float64]:
    """The weights of `opt`.  A step is judged at the places where all models mixed so far and the next have logits;
    where there are none, and where two shares do as well, what is mixed so far keeps the larger share.
    """
    first, *rest = (int(place) for place in np.argsort(nll, kind="stable"))
    shares = np.linspace(0.0, 1.0, round(1 / step) + 1)[::-1]
    weights = np.zeros(len(nll), np.float64)
    weights[first] = 1.0
    mixed, known = evidence.logits[first], evidence.known[first]
    for following in rest:
        both = known & evidence.known[following]
        if not both.any():
            continue
        ours, theirs, targets = mixed[both], evidence.logits[following][both], evidence.targets[both]
        losses = [mean_nll(blend(share, ours, theirs), targets) for share in shares]
        share = float(shares[int(np.argmin(losses))])
        if share == 1:
            continue
        weights *= share
        weights[following] = 1 - share
        mixed, known = blend(share, mixed, evidence.logits[following]), both
    return weights


def blend(share: float, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    """share * ours + (1 - share) * theirs, where a share of nothing is nothing even of infinity."""
    if share in (0, 1):
        return ours if share else theirs
    return np.asarray(share * ours + (1 - share) * theirs, np.float64)


def mean_nll(logits: NDArray[np.float64], targets: NDArray[np.int64]) -> float:
    """Mean negative log-likelihood in nats of `targets` [P] under `logits` [P, V]; infinite for an impossible one."""
    peak = logits.max(axis=1, keepdims=True)
    total = peak[:, 0] + np.log(np.exp(logits - peak).sum(axis=1))
    return float((total - logits[np.arange(len(targets)), targets]).mean())
