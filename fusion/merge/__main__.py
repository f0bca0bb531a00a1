"""python -m fusion.merge recipe=FILE out=DIR [explain=true]: merge checkpoints by a recipe.

The result is a Hugging Face checkpoint directory with `coefficients.parquet` and `manifest.json`.  It is written beside
`out` under a name that starts with a dot and renamed when it is complete.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.runtime.command import command
from fusion.runtime.configure import Refusal, plain, typed

if TYPE_CHECKING:
    from fusion.merge.recipes.recipe import MergePlan

ROUNDED = {"nearest": "to nearest", "stochastic": "stochastically"}


@dataclass(frozen=True, kw_only=True)
class MergeCommand:
    """What the command line says.  `seed` replaces the recipe's; `threads` is 2 where there are so many cores.

    `digests` also puts a sha256 of every input shard into the manifest, for which they are read once more.
    """

    recipe: str | None = None
    out: str | None = None
    explain: bool = False
    seed: int | None = None
    threads: int | None = None
    digests: bool = False
    debug: bool = False


def run(settings: Mapping[str, Any]) -> int:
    """Merge, or with `explain` print what would be done."""
    from fusion.merge.recipes.recipe import read_recipe
    from fusion.runtime.next_step import say_next

    given = typed(settings, MergeCommand)
    if given.recipe is None:
        raise Refusal("recipe is missing: give recipe=FILE, a YAML file with merge_method, base_model and models")
    plan = read_recipe(Path(given.recipe))
    for note in plan.notes:
        print(f"note: {note}", file=sys.stderr)
    seed = plan.recipe.seed if given.seed is None else given.seed
    if given.explain:
        print(explained(plan, seed))
        return 0
    if given.out is None:
        raise Refusal("out is missing: give out=DIR, a directory that does not exist yet")
    merge_recipe(plan, out=Path(given.out), seed=seed, threads=given.threads, digests=given.digests)
    print(given.out)
    say_next("python", "-m", "eval", f"checkpoint={given.out}", "benchmark=mt_bench", f"out={given.out}-scores")
    return 0


def merge_recipe(plan: MergePlan, *, out: Path, seed: int, threads: int | None = None, digests: bool = False) -> None:
    """Merge by `plan` into `out`, which must not hold anything yet.

    Raises Refusal for that, for whatever the merge refuses, for a lost update where the recipe says refuse, and when
    the disk is full; nothing is left behind then.
    """
    from fusion.merge.checkpoints.checkpoint_stream import merge
    from fusion.merge.checkpoints.shards import open_shards
    from fusion.runtime.artifacts import sync
    from fusion.runtime.digests import file_digest
    from fusion.runtime.precision import check_update, kept_as_stored
    from fusion.runtime.versions import git_commit, versions

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Refusal(f"{out} exists and is not empty: give another out, or remove it")
    started = time.monotonic()
    out = out.resolve()  # a link to an empty directory, or the directory one is in
    partial = out.parent / f".{out.name}.partial-{os.getpid()}"
    for left in out.parent.glob(f".{out.name}.partial-*"):  # by a run that was killed
        if not Path("/proc", left.name.rpartition("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        places = apply_adapters(plan, partial / ".adapted")
        models = [places.get(model, model) for model in (plan.pivot, *plan.targets)]
        with as_given(places):
            facts = merge(
                pivot=models[0],
                targets=models[1:],
                rule=plan.rules,
                out=partial,
                seed=seed,
                dtype=plan.dtype,
                rounding=plan.recipe.rounding,
                embeddings=plan.recipe.embeddings,
                tokenizer=plan.recipe.tokenizer,
                threads=threads,
            )
        notes = list(plan.notes)
        told = f"the merge, written in {facts['dtype']['stored']},"
        check_update(told, kept_as_stored(facts), "set dtype: float32", plan.recipe.lost_update, notes.append)
        for note in notes[len(plan.notes) :]:
            print(f"note: {note}", file=sys.stderr)
        inputs = {
            str(model): {
                name: {"bytes": (place / name).stat().st_size}
                | ({"sha256": file_digest(place / name)} if digests else {})
                for name in open_shards(place).files
            }
            for model, place in zip((plan.pivot, *plan.targets), models, strict=True)
        }
        shutil.rmtree(partial / ".adapted", ignore_errors=True)
        files = sorted(path for path in partial.iterdir())
        manifest = {
            "recipe": plain(plan.recipe),
            "seed": seed,
            "inputs": inputs,
            "facts": facts,
            "notes": notes,
            "files": {path.name: {"bytes": path.stat().st_size, "sha256": file_digest(path)} for path in files},
            "versions": versions(),
            "git_commit": git_commit(),
            "wall_seconds": round(time.monotonic() - started, 3),
        }
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
        for path in partial.iterdir():
            path.chmod(0o644)
            sync(path)
        partial.chmod(0o755)
        partial.rename(out)
    except OSError as error:
        if error.errno == 28:
            raise Refusal(f"no space left on the disk of {out}: free some, or give an out on another disk") from error
        raise Refusal(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def apply_adapters(plan: MergePlan, below: Path) -> dict[Path, Path]:
    """Write the models that the recipe gives as a base with an adapter; where each is now."""
    from fusion.merge.checkpoints.adapters import write_adapted

    places = {}
    for number, (model, (base, adapter)) in enumerate(plan.adapted.items()):
        places[model] = below / str(number) / adapter.name
        write_adapted(base, adapter, places[model])
    return places


@contextmanager
def as_given(places: Mapping[Path, Path]) -> Iterator[None]:
    """Models are called what the recipe calls them where one is refused, not by the place they were written to."""
    try:
        yield
    except Refusal as refusal:
        text = str(refusal)
        for model, place in places.items():
            text = text.replace(str(place), str(model))
        raise Refusal(text) from refusal


def explained(plan: MergePlan, seed: int) -> str:
    """What merging by `plan` would read, compute and write, after the same checks of names and shapes."""
    from fusion.merge.checkpoints.checkpoint_plan import examine

    with tempfile.TemporaryDirectory(prefix="fusechat-adapted-") as scratch:
        places = apply_adapters(plan, Path(scratch))
        pivot, *targets = [places.get(model, model) for model in (plan.pivot, *plan.targets)]
        with as_given(places):
            found = examine(pivot, targets, embeddings=plan.recipe.embeddings, tokenizer=plan.recipe.tokenizer)
    groups: dict[str, list[str]] = {}
    for context in found.contexts:
        groups.setdefault(repr(plan.rules.rule_for(context)), []).append(context.name)
    lines = [
        f"pivot    {plan.pivot}: config, tokenizer, chat template and shard layout are its",
        *(f"target {k} {target}" for k, target in enumerate(plan.targets)),
        f"writes   {found.elements:,} numbers in {len(found.contexts)} parameters and {found.files} files,"
        f" {plan.dtype or found.dtype}, rounded {ROUNDED[plan.recipe.rounding]}; seed {seed}",
    ]
    for rule, names in groups.items():
        lines.append(f"{rule}")
        lines.append(f"    for {len(names)} parameters: {names[0]}" + (f" ... {names[-1]}" if len(names) > 1 else ""))
    return "\n".join(lines)


if __name__ == "__main__":
    command("merge_recipe", run)
