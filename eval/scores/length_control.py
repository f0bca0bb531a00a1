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
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.errors import HarnessFailure
from eval.scores.alpaca_package import alpaca_module
from eval.scores.fold_order import FOLD_ORDERS, group_k_fold
from eval.scores.intervals import Bootstrap, batches, resample_counts

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


class EqualLengths(ValueError):
    """Every pair has the same length difference, so its effect cannot be separated from the intercept."""


def length_term(own: ArrayLike, baseline: ArrayLike, counts: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """tanh of (baseline length - own length) over its sample standard deviation, [items] or, for resampled `counts`
    [resamples, items], [resamples, items].  Where the deviation is zero the term is zero.
    """
    difference = np.asarray(baseline, dtype=np.float64) - np.asarray(own, dtype=np.float64)
    if counts is None:
        deviation = np.std(difference, ddof=1) if difference.size > 1 else 0.0
        return np.tanh(difference / deviation) if deviation > 0 else np.zeros_like(difference)
    total = counts.sum(axis=1)
    mean = counts @ difference / total
    # Deviations from the mean, not moments, so that equal differences give exactly zero.
    squares = np.sum(counts * (difference[None, :] - mean[:, None]) ** 2, axis=1)
    deviation = np.sqrt(squares / (total - 1))
    usable = deviation > 1e-9 * np.abs(difference).max(initial=1.0)
    return np.where(usable[:, None], np.tanh(difference[None, :] / np.where(usable, deviation, 1.0)[:, None]), 0.0)


def fit_logistic(
    features: Float64[NDArray[np.float64], "resamples items terms"],
    target: Float64[NDArray[np.float64], " items"],
    weights: Float64[NDArray[np.float64], "resamples items"],
    *,
    c: float = PENALTY_C,
) -> Float64[NDArray[np.float64], "resamples terms"]:
    """Coefficients [resamples, terms] of logistic regressions with targets in [0, 1].

    Minimises sum_i w_i * cross_entropy(target_i, sigmoid(x_i . beta)) + |beta|^2 / (2 c) by Newton steps, halved until
    the objective falls; features [resamples, items, terms], target [items], weights [resamples, items].
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
    if target.size == 0:
        raise ValueError("no scored items")
    if np.ptp(np.asarray(baseline, dtype=np.float64) - np.asarray(own, dtype=np.float64)) == 0:
        raise EqualLengths("all answers differ from the baseline's by the same length: its effect cannot be estimated")
    return float(_own_set_fits(target, length_term(own, baseline)[None], np.ones((1, target.size)), c)[0])


def own_set_refits(
    preferences: ArrayLike, own: ArrayLike, baseline: ArrayLike, bootstrap: Bootstrap, *, c: float = PENALTY_C
) -> Float64[NDArray[np.float64], " resamples"]:
    """`own_set` of every resample: items resampled, lengths standardised and the model fitted anew each time."""
    target = np.asarray(preferences, dtype=np.float64)
    counts = resample_counts(target.size, bootstrap)
    draws = [
        _own_set_fits(target, length_term(own, baseline, counts[part]), counts[part], c)
        for part in batches(len(counts))
    ]
    return np.concatenate(draws)


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


def published_refits(
    preferences: Float64[NDArray[np.float64], " items"],
    own: ArrayLike,
    baseline: ArrayLike,
    gamed: Path,
    bootstrap: Bootstrap,
) -> Float64[NDArray[np.float64], " resamples"]:
    """How far each resample's rate lies from that of all 805 instructions, in rates 0 to 1.

    The same model as `published`, refitted to every resample with the fixed penalty (cross-validation would jump
    between penalties); NaN preferences carry no weight.  Added to the published estimate they give its interval, and
    their deviation its standard error: the package's own leaves out that the model was fitted, and is about 2.2 times
    too small.
    """
    rows = _gamed_rows(gamed)
    difficulty = rows["difficulty"]
    scored = ~np.isnan(preferences)
    target = np.concatenate([np.where(scored, preferences, 0.5), rows["preferences"]])
    term = length_term(own, baseline)
    features = np.concatenate(
        [
            np.stack([term, difficulty, np.ones_like(term)], axis=1),
            np.stack([rows["term"], rows["row_difficulty"], np.zeros_like(rows["term"])], axis=1),
        ]
    )

    def refitted(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        weights = np.concatenate([counts * scored, np.full((len(counts), len(rows["term"])), _GAMED_WEIGHT)], axis=1)
        fitted = fit_logistic(np.broadcast_to(features, (len(counts), *features.shape)), target, weights)
        predicted = _sigmoid(fitted[:, 1:2] * difficulty[None, :] + fitted[:, 2:3])
        rates: NDArray[np.float64] = np.sum(predicted * counts, axis=1) / counts.sum(axis=1)
        return rates

    centre = refitted(np.ones((1, len(term))))[0]
    counts = resample_counts(len(term), bootstrap)
    draws = np.concatenate([refitted(counts[part]) for part in batches(len(counts), size=50)])
    return np.asarray(draws - centre)


def _gamed_rows(path: Path) -> dict[str, NDArray[np.float64]]:
    import pandas

    frame = pandas.read_csv(path)
    difficulty = frame.drop_duplicates("index")["instruction_difficulty"].to_numpy(dtype=np.float64)
    return {
        "difficulty": difficulty,
        "row_difficulty": frame["instruction_difficulty"].to_numpy(dtype=np.float64),
        "term": np.tanh(frame["std_delta_len"].to_numpy(dtype=np.float64)),
        "preferences": frame["preference"].to_numpy(dtype=np.float64),
    }


def _own_set_fits(
    target: Float64[NDArray[np.float64], " items"],
    term: Float64[NDArray[np.float64], "resamples items"],
    counts: Float64[NDArray[np.float64], "resamples items"],
    c: float,
) -> Float64[NDArray[np.float64], " resamples"]:
    features = np.stack([term, np.ones_like(term)], axis=-1)
    return _sigmoid(fit_logistic(features, target, counts, c=c)[:, 1])


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    share: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -x))
    return share


def _objective(
    coefficients: Float64[NDArray[np.float64], "resamples terms"],
    features: Float64[NDArray[np.float64], "resamples items terms"],
    target: Float64[NDArray[np.float64], " items"],
    weights: Float64[NDArray[np.float64], "resamples items"],
    c: float,
) -> Float64[NDArray[np.float64], " resamples"]:
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
