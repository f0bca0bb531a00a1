"""The card of a merged checkpoint: README.md with the hub's front matter, and recipe.yaml beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from ablations.cell_note import ChainArtifact
from ablations.model_card.chain import Chain
from eval.markdown import inert
from eval.report.tables import Heading, rounded
from eval.spreadsheet import read_csv
from fusion.merge import MERGE_RULES
from fusion.merge.checkpoints.coefficients import MERGED
from fusion.merge.recipes.written_recipe import written_recipe
from fusion.runtime.configure import choose

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_TEMPLATE = Path(__file__).parent / "card.md.jinja"


def write_card(chain: Chain, out: Path, *, title: str) -> None:
    """Write recipe.yaml and README.md into `out`, which holds the checkpoint and scores.csv."""
    from huggingface_hub import ModelCard, ModelCardData

    recipe = recipe_of(chain)
    spelt = yaml.safe_dump(recipe, sort_keys=False)
    (out / "recipe.yaml").write_text(spelt)
    scores = own_scores(chain)
    data = ModelCardData(
        model_name=title,
        base_model=hub_names(chain) or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["merge", "fusechat", recipe["merge_method"]],
        eval_results=[result(row, chain) for row in scores if row["value"]],
    )
    card = ModelCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        title=inert(title),
        chain=chain,
        recipe=spelt,
        coefficients=coefficients(chain.merge.path / "coefficients.parquet"),
        models=[(inert(row), inert(name or ""), chain.cell.weights[row]) for row, name in chain.models.items()],
        scores=[{name: inert(text) for name, text in shown(row).items()} for row in scores],
        judges=judges(chain),
        links=[(link, inert(link.what), settings_of(link)) for link in chain.links],
        versions=chain.merge.manifest["versions"],
        commits=sorted({link.manifest["git_commit"] or "unknown" for link in chain.links}),
        pocket=None in chain.models.values(),
    )
    card.save(out / "README.md")


def recipe_of(chain: Chain) -> dict[str, Any]:
    """The merge as `python -m fusion.merge` reads it, with the models' directories as the store has them."""
    described, seed, *merged = chain.merge.manifest["config"]
    name = next(name for name, rule in MERGE_RULES.items() if rule.__name__ == described["type"])
    fields = {key: value for key, value in described.items() if key != "type"}
    return written_recipe(
        choose(MERGE_RULES, {"name": name, **fields}, at="merge"),
        pivot=chain.named(chain.pivot),
        targets=[chain.named(target) for target in chain.targets],
        seed=seed,
        merged=merged[0] if merged else None,
    )


def hub_names(chain: Chain) -> list[str]:
    """The pivot and the sources that have a name on the hub; what was trained here or lies in a folder has none."""
    names = [name for name in chain.models.values() if name is not None]
    return [name for name in names if not name.startswith((".", "/", "~")) and not Path(name).is_dir()]


def own_scores(chain: Chain) -> list[dict[str, str]]:
    """The model's rows of scores.csv, as they are written there."""
    return [row for row in read_csv(chain.folder / "scores.csv") if row["model"] == chain.model]


def result(row: Mapping[str, str], chain: Chain) -> EvalResult:
    """A row of scores.csv for the hub: the number as it is, its interval and its count in its name."""
    from huggingface_hub import EvalResult

    said = shown(row)
    interval = f", 95% interval {said['interval']}" if said["interval"] else ""
    return EvalResult(
        task_type="text-generation",
        dataset_type=row["benchmark"],
        dataset_name=f"{row['benchmark']}, questions of {chain.cell.experiment}",
        dataset_config=row["slice"],
        metric_type=row["metric"],
        metric_value=float(row["value"]),
        metric_name=f"{row['metric']}, {row['slice']}{interval}, n {row['n']}, unscored {row['unscored']}",
    )


def shown(row: Mapping[str, str]) -> dict[str, str]:
    """A row of scores.csv as the card's table prints it; without a value the reason stands in its place."""
    heading = Heading(benchmark=row["benchmark"], metric=row["metric"], slice=row["slice"], title="")

    def interval(value: str, prefix: str = "", *, sign: bool = False) -> str:
        low, high = (rounded(float(row[f"{prefix}{end}"]), heading.decimals, sign=sign) for end in ("low", "high"))
        return f"{value} [{low}, {high}]".lstrip()

    value = rounded(float(row["value"]), heading.decimals) if row["value"] else f"not scored: {row['reason']}"
    difference = ""
    if row["difference_to_pivot"]:
        difference = rounded(float(row["difference_to_pivot"]), heading.decimals, sign=True)
        if row["difference_to_pivot_low"]:
            difference = interval(difference, "difference_to_pivot_", sign=True)
    return {
        **{name: row[name] for name in ("benchmark", "metric", "slice", "variant", "n", "unscored")},
        "value": value,
        "interval": interval("") if row["low"] and row["high"] else "",
        "difference": difference,
    }


def judges(chain: Chain) -> list[str]:
    """Who judged what, once each, as the verdicts' manifests have it."""
    found = []
    for link in chain.links:
        if link.stage == "verdicts":
            benchmark = link.manifest["config"]["benchmark"]
            name = " / ".join(filter(None, benchmark)) if isinstance(benchmark, list) else str(benchmark)
            found.append(f"{name}: {_spelt(link.manifest['config']['judge'])}")
    return list(dict.fromkeys(found))


def settings_of(link: ChainArtifact) -> str:
    """The settings in an artifact's manifest on one line, to be cut where they are long: the manifest has them all."""
    text = _spelt(link.manifest["config"])
    return text if len(text) <= 120 else f"{text[:117]}..."


def coefficients(file: Path) -> list[dict[str, str]]:
    """What the merge did with each target over all parameters: weights, distance, entries kept, signs against."""
    rows = []
    for target, part in pd.read_parquet(file).groupby("target", sort=False):
        elements, weight, conflict = part["elements"], part["weight"], part["sign_conflict_rate"]
        kept = elements * part["kept_fraction"]
        rows.append(
            {
                "target": "merged, less the pivot" if target == MERGED else str(target),
                "mean": "" if weight.isna().any() else f"{(weight * elements).sum() / elements.sum():.4f}",
                "range": "" if weight.isna().any() else f"{weight.min():.4f} to {weight.max():.4f}",
                "norm": f"{math.sqrt((part['delta_norm'] ** 2).sum()):.4g}",
                "kept": f"{kept.sum() / elements.sum():.1%}",
                "conflict": "" if conflict.isna().all() else f"{(conflict * kept).sum() / kept.sum():.1%}",
            }
        )
    return rows


def _spelt(config: object) -> str:
    """A manifest's config on one line, a rule by its class."""
    if isinstance(config, Mapping):
        fields = ", ".join(f"{key}={_spelt(value)}" for key, value in config.items() if key != "type")
        return f"{config['type']}({fields})" if "type" in config else fields
    if isinstance(config, list):
        return ", ".join(map(_spelt, config))
    return json.dumps(config, ensure_ascii=False).strip('"')
