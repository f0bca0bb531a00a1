"""python -m ablations.regression scores=FILE.csv baseline=FILE.json [update=true]: what moved against a kept table.

Beside the kept table lies FILE.chain.json: what every artifact behind it was made of and what came out.  So the check
can name the artifact that changed first, and why.  It fails, with exit status 1, when a metric left its
kept interval, up or down, is missing or can no longer be computed, and when code, settings or data gave an artifact
other content.  `update=true` keeps what is there now, after showing what moves, and writes the report's table into the
`pages` that have a place for it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ablations.regression.causes import compare_chains
from ablations.regression.chain import load_chain, read_chain, write_chain
from ablations.regression.pages import renew
from ablations.regression.report import Check, junit, markdown, text
from ablations.regression.scores import KEY, compare, read_scores, write_baseline
from fusion.runtime.command import command
from fusion.runtime.configure import Refusal
from fusion.runtime.next_step import say_next


def check(scores: Path, baseline: Path, *, replaced: bool = False) -> Check:
    """Compare a report with a baseline.  Raises Refusal for what is not there or cannot be read.

    Of a baseline that is to be `replaced` the chain may be unreadable, as one of an older version is.
    """
    table, kept = read_scores(scores), read_scores(baseline)
    chain, note = read_chain(scores.parent), ""
    try:
        known = load_chain(chain_file(baseline))
    except Refusal as refusal:
        if not replaced:
            raise
        known, note = [], str(refusal)
    if not chain:
        note = f"{scores.parent} has no cell.json that names its artifacts: which one changed first cannot be said"
    elif not known:
        note = note or f"there is no {chain_file(baseline)}: which artifact changed first cannot be said"
    return Check(
        places=tuple(" ".join(map(str, place)) for place in kept[KEY].itertuples(index=False)),
        moved=tuple(compare(table, kept)),
        links=tuple(f"{link.stage} {link.what}" for link in chain),
        changes=tuple(compare_chains(chain, known)) if chain and known else (),
        note=note,
    )


def chain_file(baseline: Path) -> Path:
    """Where the chain behind a baseline is kept."""
    return baseline.with_suffix(".chain.json")


def run(settings: dict[str, Any]) -> int:
    """Compare, and write regression.md and regression.xml beside the scores; with `update` keep what is there now."""
    scores, baseline = Path(settings["scores"]), Path(settings["baseline"])
    update = bool(settings["update"])
    found = check(scores, baseline, replaced=update) if baseline.exists() or not update else None
    if found is not None:
        print(text(found), end="")
        publish(found, scores.parent)
    if found is not None and not update:
        print(f"page: {scores.parent / 'regression.md'}")
        print(found.verdict)
        again = ["python", "-m", "ablations.regression", f"scores={scores}", f"baseline={baseline}"]
        say_next(*([*again, "update=true"] if found.failed else _after(scores.parent)))
        return int(found.failed)
    pages = [Path(page) for page in settings.get("pages") or ()]
    for page in pages:
        renew(page, baseline, scores.parent)
    write_baseline(read_scores(scores), baseline)
    write_chain(read_chain(scores.parent), chain_file(baseline))
    print(f"written: {', '.join(map(str, [baseline, chain_file(baseline), *pages]))}")
    say_next("python", "-m", "ablations.regression", f"scores={scores}", f"baseline={baseline}")
    return 0


def _after(report: Path) -> list[str]:
    """The command that goes on from a report in which nothing moved."""
    if (report / "cell.json").exists():
        return ["python", "-m", "ablations.report", f"cells={report}", f"out={report / 'report'}"]
    return ["python", "-m", "eval", "selfcheck=true"]


def publish(found: Check, out: Path) -> None:
    """Write regression.md and regression.xml into `out`, and append the page to the summary of a GitHub job."""
    (out / "regression.xml").write_text(junit(found))
    page = markdown(found)
    (out / "regression.md").write_text(page)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with Path(summary).open("a") as stream:
            stream.write(page)


if __name__ == "__main__":
    command("regression", run)
