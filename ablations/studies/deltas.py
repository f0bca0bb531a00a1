"""What training changed in the weights, and how much of it bf16 can hold: task vectors, fp32 inside."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ablations.cell import Cell
from ablations.precisions import facts_of
from eval.markdown import markdown_table
from eval.scores.intervals import Uncertainty
from fusion.runtime.configure import Refusal
from fusion.runtime.precision import Kept, kept_as_served, kept_as_stored


@dataclass(frozen=True, kw_only=True)
class Delta:
    """The task vector target - pivot: its L2 norm; the norm of what is left of it between the two checkpoints rounded
    to bf16; the share of parameters that are the same bf16 number in both; the cosine with another target's vector.

    A norm is in the weights' unit; the cosine is None without another target, or where a vector is zero.
    """

    norm: float
    norm_bf16: float
    unchanged_bf16: float
    cosine: float | None


def delta(pivot: Path, target: Path, *, beside: Path | None = None) -> Delta:
    """The delta of two checkpoint directories, one parameter in memory at a time.

    Raises Refusal when they, or `beside`, do not hold parameters of the same names and shapes.
    """
    import torch

    places = [_places(directory) for directory in (pivot, target, *([beside] if beside else []))]
    if any(found.keys() != places[0].keys() for found in places):
        raise Refusal(f"{target} and {pivot} hold parameters of other names: a delta needs two models of one structure")
    squares = kept = other = product = 0.0
    same = count = 0
    for name in places[0]:
        before, after, *rest = (_read(found[name], name) for found in places)
        if any(one.shape != before.shape for one in (after, *rest)):
            raise Refusal(f"{name} has other shapes in {target} and {pivot}: a delta needs two models of one structure")
        change = (after.float() - before.float()).double()
        rounded = (after.bfloat16(), before.bfloat16())
        squares += float(change.square().sum())
        kept += float((rounded[0].double() - rounded[1].double()).square().sum())
        same += int((rounded[0] == rounded[1]).sum())
        count += before.numel()
        if rest:
            else_changed = (rest[0].float() - before.float()).double()
            other += float(else_changed.square().sum())
            product += float(torch.sum(change * else_changed))
    both = math.sqrt(squares * other)
    return Delta(
        norm=math.sqrt(squares),
        norm_bf16=math.sqrt(kept),
        unchanged_bf16=same / count,
        cosine=product / both if both else None,
    )


def delta_table(cells: Sequence[Cell], *, axis: str, reference: str) -> list[str]:
    """A Markdown table of every setting's targets: mean and range over targets and seeds.  The cosine is with the same
    target and seed under `axis=reference`.  Raises Refusal for cells that do not say which of their models are targets.
    """
    like = {cell.seed: cell for cell in cells if cell.axes.get(axis) == reference}
    found: dict[str, list[Delta]] = {}
    for cell in cells:
        other = like.get(cell.seed)
        if cell.checkpoints and not cell.roles:
            raise Refusal(f"{cell.path / 'cell.json'} does not say which models are targets: run the cell again")
        pivots = [model for model, role in cell.roles.items() if role == "pivot"]
        targets = [model for model, role in cell.roles.items() if role == "target"]
        for pivot, target in itertools.product(pivots, targets):
            beside = Path(other.checkpoints[target]) if other is not None else None
            measured = delta(Path(cell.checkpoints[pivot]), Path(cell.checkpoints[target]), beside=beside)
            found.setdefault(cell.axes.get(axis, ""), []).append(measured)
    rows = [
        [
            setting,
            mean_and_range([one.norm for one in deltas]),
            mean_and_range([one.norm_bf16 for one in deltas]),
            mean_and_range([100 * one.unchanged_bf16 for one in deltas], unit="%"),
            mean_and_range([one.cosine for one in deltas]),
            str(len(deltas)),
        ]
        for setting, deltas in found.items()
    ]
    return [
        "",
        f"Task vectors of the targets, mean (least to most) over targets and seeds; cosine with {axis}={reference}:",
        "",
        *markdown_table((axis, "norm", "norm in bf16", "parameters unchanged in bf16", "cosine", "n"), rows),
    ]


def kept_table(cells: Sequence[Cell], *, axis: str) -> list[str]:
    """A Markdown table of what the files of every setting's merges keep of the update, and what bf16 would keep of
    them: mean and range over seeds, from the merges' manifests."""
    found: dict[tuple[str, str], list[tuple[Kept, Kept]]] = {}
    for cell in cells:
        for model, path in cell.checkpoints.items():
            facts = facts_of(Path(path), cell.weights.get(model, ""))
            stored, narrow = kept_as_stored(facts), kept_as_served(facts, "bfloat16")
            if "rounding" in facts.get("dtype", {}) and stored is not None and narrow is not None:
                found.setdefault((model, cell.axes.get(axis, "")), []).append((stored, narrow))
    rows = [
        [
            model,
            setting,
            mean_and_range([one.cosine for one, _ in both]),
            mean_and_range([one.norm_ratio for one, _ in both]),
            mean_and_range([100 * one.moved for one, _ in both], unit="%"),
            mean_and_range([one.cosine for _, one in both]),
            mean_and_range([one.norm_ratio for _, one in both]),
            str(len(both)),
        ]
        for (model, setting), both in found.items()
    ]
    in_bf16 = ("cosine in bf16", "norm ratio in bf16")
    return [
        "",
        "What merges keep of the update (merged minus pivot), in their files and computed with in bf16, mean (least to"
        " most) over seeds; 1 is all of it, cosine times norm ratio the share along the update:",
        "",
        *markdown_table(("merge", axis, "cosine", "norm ratio", "entries moved", *in_bf16, "n"), rows),
    ]


def precision_tables(cells: Sequence[Cell], uncertainty: Uncertainty) -> list[str]:
    """The targets' deltas and what merges keep of theirs, by the precision of training and merging."""
    return [*delta_table(cells, axis="row", reference="precision/fp32"), *kept_table(cells, axis="row")]


def mean_and_range(values: Sequence[float | None], *, unit: str = "") -> str:
    """The mean of the known values with the least and the most of them, as tables print it."""
    known = [value for value in values if value is not None]
    if not known:
        return "—"
    return f"{np.mean(known):.4g}{unit} ({min(known):.4g} to {max(known):.4g})"


def _places(directory: Path) -> Mapping[str, Path]:
    from safetensors import safe_open

    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise Refusal(f"{directory} holds no *.safetensors: expected a checkpoint directory")
    places: dict[str, Path] = {}
    for file in files:
        with safe_open(file, framework="pt") as stream:
            places |= dict.fromkeys(stream.keys(), file)
    return places


def _read(file: Path, name: str) -> Any:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as stream:
        return stream.get_tensor(name)
