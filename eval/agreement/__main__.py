"""python -m eval.agreement 'verdicts=[A,B,...]' out=DIR: how far judges, or judges and people, agree.

Each file is one rater of the same answers: our verdicts.jsonl, fastchat's judgments (single or pair), alpaca-eval's
annotations, or human votes in the form of lmsys/mt_bench_human_judgments.  Written are agreement.csv and agreement.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusion.runtime.command import command


def run(settings: dict[str, Any]) -> None:
    """Read the files, compare every two raters, write and print the table."""
    from eval.agreement.table import agreement_rows, as_csv, as_markdown
    from eval.agreement.votes import Votes, read_votes
    from eval.files import read_rows, wanted
    from eval.scores.intervals import Uncertainty
    from fusion.runtime.configure import Refusal, typed
    from fusion.runtime.next_step import say_next

    uncertainty = typed(settings["report"], Uncertainty, at="report")
    given = settings["verdicts"]
    paths = [Path(name).expanduser() for name in ([given] if isinstance(given, str) else given)]
    numbers: dict[str, str] = {}
    if settings["questions"] is not None:
        asked = Path(settings["questions"]).expanduser()
        for number, row in enumerate(read_rows(asked)):
            numbers[str(wanted(row, "instruction", path=asked, number=number + 1)[0])] = str(number)
    raters: list[Votes] = [read_votes(path, questions=numbers) for path in paths]
    names = [rater.rater for rater in raters]
    for rater, path in zip(raters, paths, strict=True):
        if names.count(rater.rater) > 1:
            rater.rater = str(path)
    model = settings["judged"]
    if model is None and any(rater.nameless for rater in raters) and not all(rater.nameless for rater in raters):
        named = set.union(*(rater.models for rater in raters if not rater.nameless))
        if len(named) != 1:
            raise Refusal(
                f"some files do not say whose answers they judge, the others name {', '.join(sorted(named)[:10])}:"
                " set judged=NAME to the one that all of them judge"
            )
        (model,) = named
    if model is not None:
        raters = [rater.of(model) for rater in raters]
    rows = agreement_rows(raters, uncertainty)
    if not rows:
        raise Refusal(
            "no two of the files judge the same question, turn and models in one way, and none judges anything twice:"
            f" {', '.join(f'{rater.rater} has {len(rater.by_item)} {rater.kind}s' for rater in raters)}"
        )
    out = Path(settings["out"])
    out.mkdir(parents=True, exist_ok=True)
    table = as_markdown(rows, uncertainty)
    (out / "agreement.csv").write_text(as_csv(rows))
    (out / "agreement.md").write_text(f"# Agreement\n\n{table}")
    print(table)
    for rater in raters:
        if rater.replaced:
            print(f"{rater.rater}: {rater.replaced} votes were on answers that later rows replaced, and are left out")
    print(f"agreement: {out / 'agreement.csv'}")
    say_next("python", "-m", "eval", "selfcheck=true", f"out={out}")


if __name__ == "__main__":
    command("agreement", run)
