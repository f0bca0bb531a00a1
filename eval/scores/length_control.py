"""Length-controlled win rate: what the win rate would be if both answers were equally long (Dubois et al. 2024).

A logistic model of the preference has a term for the standardised length difference; the rate is its mean prediction
with that term set to zero.  Two versions:

* `published`: the package's own function, for its own 805 instructions: a term for each instruction's difficulty, two
  deliberately long and short baselines as regularisation, the penalty chosen by cross-validation.  How the folds are
  dealt moves published figures by up to 0.15 points, so their order can be named, or the penalty fixed.
* `own_set`: any other instruction set has neither difficulties nor such baselines, so the model is length term and
  intercept only, with a fixed penalty.  Its figures are comparable with each other, not with the published ones.

Lengths are in characters; preferences here are 0 (baseline) to 1 (model), rates 0 to 1.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.errors import HarnessFailure
from eval.scores.alpaca_package import alpaca_module
from eval.scores.fold_order import FOLD_ORDERS, group_k_fold
from eval.scores.intervals import Ends, Interval, student_ends

if TYPE_CHECKING:
    from jaxtyping import Float64

# How the penalty of the published version is chosen: by cross-validation as the installed libraries do it, or with the
# folds dealt in a named order; or not at all.
LengthControl = Literal["package", "stable", "numpy1", "fixed"]
# The package's own default where it does not cross-validate.
PENALTY_C = 100.0
_NEWTON_STEPS = 60
_HALVINGS = 12
# df_gamed.csv's rows count for this much each: lambda 0.2, halved because there are two gamed baselines.
_GAMED_WEIGHT = 0.1


# Comparisons on a side of equal lengths below which `own_set` says nothing: with five and more of both, the intervals
# hold the truth as often as they say (`bench.coverage`).
FEWEST_ON_A_SIDE = 5
# Preferences within so much of each other say nothing of how they might have differed.
ALIKE = 1e-3
# Of its own residual a comparison's fit takes at most so much.
_MOST_TAKEN = 0.9


class EqualLengths(ValueError):
    """Every pair has the same length difference, so its effect cannot be separated from the intercept."""


class LengthsHardlyOverlap(ValueError):
    """Nearly all answers are longer than the baseline's, or shorter, so that equal lengths are beyond the data."""


def length_term(own: ArrayLike, baseline: ArrayLike) -> NDArray[np.float64]:
    """tanh of (baseline length - own length) over its sample standard deviation, [items].  Where the deviation is zero
    the term is zero.
    """
    difference = _length_differences(own, baseline)
    deviation = np.std(difference, ddof=1) if difference.size > 1 else 0.0
    return np.tanh(difference / deviation) if deviation > 0 else np.zeros_like(difference)


def fit_logistic(
    features: Float64[NDArray[np.float64], "fits items terms"],
    target: Float64[NDArray[np.float64], " items"],
    weights: Float64[NDArray[np.float64], "fits items"],
    *,
    c: float = PENALTY_C,
) -> Float64[NDArray[np.float64], "fits terms"]:
    """Coefficients [fits, terms] of logistic regressions with targets in [0, 1].

    Minimises sum_i w_i * cross_entropy(target_i, sigmoid(x_i . beta)) + |beta|^2 / (2 c) by Newton steps, halved until
    the objective falls; features [fits, items, terms], target [items], weights [fits, items].
    The squared penalty makes the optimum unique and smooth; the package's is an absolute one, of the same tiny size.
    """
    coefficients = np.zeros((features.shape[0], features.shape[2]))
    identity = np.eye(features.shape[2]) / c
    transposed = features.swapaxes(1, 2)
    enough = 1e-9 * weights.sum(axis=1).max()
    loss = _objective(coefficients, features, target, weights, c)
    for _ in range(_NEWTON_STEPS):
        predicted = _sigmoid((features @ coefficients[..., None])[..., 0])
        gradient = (transposed @ (weights * (predicted - target))[..., None])[..., 0] + coefficients / c
        if np.abs(gradient).max() < enough:
            break
        curvature = transposed @ (features * (weights * predicted * (1 - predicted))[..., None]) + identity
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        scale = np.ones((len(step), 1))
        for _ in range(_HALVINGS):
            trial = coefficients - scale * step
            trial_loss = _objective(trial, features, target, weights, c)
            worse = trial_loss > loss * (1 + 1e-12)
            if not worse.any():
                break
            scale[worse] /= 2
        coefficients, loss = np.where(worse[:, None], coefficients, trial), np.where(worse, loss, trial_loss)
    return coefficients


def own_set(preferences: ArrayLike, own: ArrayLike, baseline: ArrayLike, *, c: float = PENALTY_C) -> float:
    """Length-controlled win rate on any instruction set: sigmoid of the fitted intercept.

    Raises EqualLengths when every pair has the same length difference, ValueError when there are no items.
    """
    target = np.asarray(preferences, dtype=np.float64)
    return float(_sigmoid(_own_set_fit(target, _own_set_features(target, own, baseline), c)[1]))


def own_set_interval(
    preferences: ArrayLike, own: ArrayLike, baseline: ArrayLike, *, c: float = PENALTY_C, confidence: float = 0.95
) -> Interval:
    """`own_set` with its interval; `low` and `high` are None where all comparisons came out alike.

    The error is that of the fitted intercept: the infinitesimal jackknife (Jaeckel 1972), each comparison's influence
    through the score and through the deviation by which lengths are standardised, divided by what the fit took of its
    own residual (MacKinnon and White 1985, HC3); Student's t on the log odds.

    What it estimates is the preference at equal lengths.  Where hardly any answer is as short, or as long, as the
    baseline's, no data are there: the rate would be a guess by the model's form, and the penalty decides it.  Raises
    LengthsHardlyOverlap with fewer than FEWEST_ON_A_SIDE comparisons on a side of equal lengths, and as `own_set`.
    """
    target = np.asarray(preferences, dtype=np.float64)
    features = _own_set_features(target, own, baseline)
    difference = _length_differences(own, baseline)
    for kind, side in (("as long as", difference <= 0), ("as short as", difference >= 0)):
        if (count := int(np.count_nonzero(side))) < FEWEST_ON_A_SIDE:
            raise LengthsHardlyOverlap(
                f"{count} of {target.size} answers are at least {kind} the baseline's, and {FEWEST_ON_A_SIDE} are"
                " needed: what the win rate would be at equal lengths cannot be told from answers that hardly ever are"
            )
    fitted = _own_set_fit(target, features, c)
    rate = float(_sigmoid(fitted[1]))
    if np.ptp(target) < ALIKE:
        return Interval(value=rate, low=None, high=None, n=target.size)
    through_fit = _influences(features, target, np.ones(target.size), fitted, difference, c)[:, 1]
    error = math.sqrt(float(np.sum(through_fit**2))) * rate * (1 - rate)
    low, high = rate_ends(rate, error, target.size - 2, confidence)
    return Interval(value=rate, low=low, high=high, n=target.size)


def rate_ends(rate: float, error: float, degrees: float, confidence: float) -> Ends:
    """The interval of a fitted rate (0 to 1) with its standard error: Student's on the log odds, which stays within 0
    to 1; none at an end of it."""
    if not 0 < rate < 1:
        return None, None
    odds = math.log(rate / (1 - rate))
    low, high = student_ends(odds, error / (rate * (1 - rate)), degrees, confidence)
    return (None, None) if low is None or high is None else (float(_sigmoid(low)), float(_sigmoid(high)))


def published(
    annotations: Sequence[Mapping[str, object]], gamed: Path, how: LengthControl = "package", *, c: float = PENALTY_C
) -> dict[str, float]:
    """The package's `get_length_controlled_winrate` on rows in the order of its 805 instructions, in percent: its keys
    `length_controlled_winrate` and `lc_standard_error`.

    Rows have `preference` (NaN where unscored), `output_1`, `generator_1`, `output_2`, `generator_2`.  The position of
    a row is its instruction's number.  `gamed` is the package's df_gamed.csv, which it would otherwise download.
    With `how` fixed, the penalty is `c` and nothing is cross-validated.  Nothing is written: the package's default
    would save weights inside its own installation.
    """
    import pandas

    frame = pandas.DataFrame(list(annotations))
    with _prepared_metrics(gamed, how) as metrics:
        model = metrics.glm_winrate.GLM_INFO["length_controlled_v1"]
        if how == "fixed":
            model = {**model, "kwargs": {"n_splits": 0, "C": c}}
        found = metrics.get_length_controlled_winrate(
            frame,
            save_weights_dir=None,
            is_add_glm_preference_inplace=False,
            is_warn_extreme_changes=False,
            glm_info=model,
        )
    return {name: float(found[name]) for name in ("length_controlled_winrate", "lc_standard_error")}


@dataclass(frozen=True, kw_only=True)
class GamedRows:
    """What the published model has beside a model's own rows: every instruction's `difficulty` [items], and of the long
    and short baselines' answers [rows] the length term, the difficulty and the preference."""

    difficulty: NDArray[np.float64]
    terms: NDArray[np.float64]
    difficulties: NDArray[np.float64]
    preferences: NDArray[np.float64]


def gamed_rows(path: Path) -> GamedRows:
    """The package's df_gamed.csv."""
    import pandas

    frame = pandas.read_csv(path)
    return GamedRows(
        difficulty=frame.drop_duplicates("index")["instruction_difficulty"].to_numpy(dtype=np.float64),
        terms=np.tanh(frame["std_delta_len"].to_numpy(dtype=np.float64)),
        difficulties=frame["instruction_difficulty"].to_numpy(dtype=np.float64),
        preferences=frame["preference"].to_numpy(dtype=np.float64),
    )


def published_rate_and_error(
    preferences: Float64[NDArray[np.float64], " items"], own: ArrayLike, baseline: ArrayLike, gamed: GamedRows
) -> tuple[float, float]:
    """The published model's rate with the fixed penalty, and its standard error over instruction sets that might have
    been asked, both in rates 0 to 1.

    Cross-validation jumps between penalties, so `published` lies beside this rate by some tenths of a point; the error
    is that of both.  NaN preferences carry no weight.  The infinitesimal jackknife, as in `own_set_interval`: an
    instruction moves the mean prediction by its own prediction and through the fit.  The package's own error leaves out
    that the model was fitted, and is about 2.2 times too small.
    """
    scored = ~np.isnan(preferences)
    items = len(gamed.difficulty)
    target = np.concatenate([np.where(scored, preferences, 0.5), gamed.preferences])
    term = length_term(own, baseline)
    features = np.concatenate(
        [
            np.stack([term, gamed.difficulty, np.ones_like(term)], axis=1),
            np.stack([gamed.terms, gamed.difficulties, np.zeros_like(gamed.terms)], axis=1),
        ]
    )
    weights = np.concatenate([scored.astype(np.float64), np.full(len(gamed.terms), _GAMED_WEIGHT)])
    fitted = fit_logistic(features[None], target, weights[None])[0]
    through_fit = _influences(features, target, weights, fitted, _length_differences(own, baseline), PENALTY_C)
    predicted = _sigmoid(features[:items, 1:] @ fitted[1:])
    slopes = (predicted * (1 - predicted)) @ features[:items, 1:] / items
    moved = (predicted - predicted.mean()) / items + through_fit[:, 1:] @ slopes
    return float(predicted.mean()), math.sqrt(float(np.sum(moved**2)) * items / (items - 1))


def _influences(
    features: Float64[NDArray[np.float64], "rows terms"],
    target: Float64[NDArray[np.float64], " rows"],
    weights: Float64[NDArray[np.float64], " rows"],
    fitted: Float64[NDArray[np.float64], " terms"],
    difference: Float64[NDArray[np.float64], " items"],
    c: float,
) -> Float64[NDArray[np.float64], "items terms"]:
    """By how much each sampled item moves the coefficients; the first of the rows are the items, and their first term
    is `length_term` of `difference`.
    """
    items = len(difference)
    predicted = _sigmoid(features @ fitted)
    spread = weights * predicted * (1 - predicted)
    inverse = np.linalg.inv((features * spread[:, None]).T @ features + np.eye(len(fitted)) / c)
    own, residual = features[:items], (weights * (target - predicted))[:items]
    taken = spread[:items] * np.einsum("it,ts,is->i", own, inverse, own)
    scores = own * residual[:, None]
    # An item also moves the deviation by which all differences are divided, and so every item's length term.
    deviation = float(np.std(difference, ddof=1))
    moves = ((difference - difference.mean()) ** 2 - deviation**2) / (2 * deviation * items)
    steeper = -(1 - own[:, 0] ** 2) * difference / deviation**2
    through_deviation = -own.T @ (spread[:items] * fitted[0] * steeper)
    through_deviation[0] += float(residual @ steeper)
    scores = scores + moves[:, None] * through_deviation
    return np.asarray(scores @ inverse / (1 - np.minimum(taken, _MOST_TAKEN))[:, None])


def _length_differences(own: ArrayLike, baseline: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(baseline, dtype=np.float64) - np.asarray(own, dtype=np.float64)


def _own_set_features(
    target: NDArray[np.float64], own: ArrayLike, baseline: ArrayLike
) -> Float64[NDArray[np.float64], "items terms"]:
    if target.size == 0:
        raise ValueError("no scored items")
    if np.ptp(_length_differences(own, baseline)) == 0:
        raise EqualLengths("all answers differ from the baseline's by the same length: its effect cannot be estimated")
    term = length_term(own, baseline)
    return np.stack([term, np.ones_like(term)], axis=-1)


def _own_set_fit(
    target: Float64[NDArray[np.float64], " items"], features: Float64[NDArray[np.float64], "items terms"], c: float
) -> Float64[NDArray[np.float64], " terms"]:
    return np.asarray(fit_logistic(features[None], target, np.ones((1, target.size)), c=c)[0])


def _sigmoid(x: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(np.exp(-np.logaddexp(0.0, np.negative(x))), dtype=np.float64)


def _objective(
    coefficients: Float64[NDArray[np.float64], "fits terms"],
    features: Float64[NDArray[np.float64], "fits items terms"],
    target: Float64[NDArray[np.float64], " items"],
    weights: Float64[NDArray[np.float64], "fits items"],
    c: float,
) -> Float64[NDArray[np.float64], " fits"]:
    logits = (features @ coefficients[..., None])[..., 0]
    losses = np.logaddexp(0.0, logits) - target * logits
    penalty = np.sum(coefficients**2, axis=1) / (2 * c)
    return np.asarray(np.sum(weights * losses, axis=1) + penalty)


@contextmanager
def _prepared_metrics(gamed: Path, how: LengthControl) -> Iterator[Any]:
    """The package's metrics with its one download answered by a local file and its folds dealt as asked.

    Both are names of one of its modules, put back afterwards; so is scikit-learn's configuration, which it changes.
    """
    import sklearn

    metrics = alpaca_module("metrics")
    module: Any = alpaca_module("metrics.glm_winrate")

    def local(*, repo_id: str, filename: str, **_settings: object) -> str:
        if filename != "df_gamed.csv":
            raise HarnessFailure(f"alpaca-eval asked the hub for {repo_id}/{filename}; only df_gamed.csv is known here")
        return str(gamed)

    root = logging.getLogger()
    level = root.level
    found = {name: getattr(module, name) for name in ("hf_hub_download", "GroupKFold")}
    module.hf_hub_download = local
    root.setLevel(logging.WARNING)  # what it says of every row without a preference, the unscored column says
    if how in FOLD_ORDERS:
        module.GroupKFold = group_k_fold(FOLD_ORDERS[how])
    try:
        with sklearn.config_context(), warnings.catch_warnings():
            # scikit-learn 1.9 warns of what 1.10 will drop: the package names its penalty the old way.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", message="Inconsistent values: penalty=l1", category=UserWarning)
            yield metrics
    finally:
        for name, value in found.items():
            setattr(module, name, value)
        root.setLevel(level)
