"""python -m eval checkpoint=MODEL 'benchmark=[mt_bench,alpaca_eval]' judge=NAME out=DIR: serve a model, evaluate it.

MODEL is a directory (./DIR), a model of the hub (OWNER/NAME) or an entry of conf/model.
With `answers=FILE` (a benchmark package's own format, plain or .gz) existing answers are judged and nothing is served.
An annotations file that judge=recorded replays holds the answers too, so `answers` may be left out.
`python -m eval selfcheck=true` compares this installation with every published figure below `paths.data`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.runtime.command import command

if TYPE_CHECKING:
    from eval.config import EvalConfig


def run(settings: dict[str, Any]) -> int | None:
    """Evaluate one checkpoint, or judge existing answers, and write scores.csv and the leaderboard into `out`."""
    if settings["selfcheck"]:
        return selfcheck(Path(settings["paths"]["data"]), settings["out"])
    from eval.answer.candidate import Candidate
    from eval.config import eval_config
    from eval.pipeline import answered, evaluate, judge_answers
    from eval.preflight import judge_problems, problems, wanted_to_evaluate, wanted_to_judge
    from eval.report.made import artifacts_section, made_now
    from eval.report.packages.alpaca import write_alpaca_files
    from eval.report.packages.fastchat import write_fastchat_files
    from eval.report.terminal import show
    from eval.report.write import write_report
    from fusion.runtime.configure import Refusal, typed
    from fusion.runtime.given_model import family_of, given_model, located
    from fusion.runtime.preflight import Preflight, disk_problems, refuse
    from fusion.runtime.progress import RunProgress

    if settings["out"] is None:
        raise Refusal("out is missing: give it as out=VALUE")
    config = eval_config(settings)
    checkpoint, answers, out = settings["checkpoint"], settings["answers"], Path(settings["out"])
    if checkpoint is None and answers is None:
        answers = recorded_answers(config)
    if (checkpoint is None) == (answers is None):
        raise Refusal(
            "expected exactly one of checkpoint=MODEL (to serve and ask) and answers=FILE (judge what it says)"
        )
    look = typed(settings["preflight"], Preflight, at="preflight")
    with RunProgress() as progress:
        if answers is not None:
            wanting = wanted_to_judge(answered(Path(answers), config, label=settings["label"]), config)
            room = disk_problems({config.artifacts: float(Path(answers).stat().st_size)})
            refuse([*room, *judge_problems(wanting, config, ask=look.online(planning=False))])
            scored = judge_answers(Path(answers), config, progress, label=settings["label"])
        else:
            given = given_model(str(checkpoint), settings["model"], folder=settings["paths"]["models"])
            directory, weights = located(given, config.artifacts)
            name = settings["label"] or given.label
            config = replace(config, kinship=config.kinship.with_family(name, family_of(given)))
            candidate = Candidate(model=name, group="Models", path=directory, weights=weights)
            wanted = wanted_to_evaluate([candidate], config)
            refuse(problems([candidate], config, wanted, ask=look.online(planning=False)))
            scored = evaluate([candidate], config, progress, {})
    table = write_report(
        scored,
        out,
        title=f"Evaluation of {', '.join(dict.fromkeys(s.model for s in scored))}",
        uncertainty=config.uncertainty,
        sections=lambda _: artifacts_section(progress.records(), out),
        made=made_now(),
    )
    annotators = [entry.annotator for entry in config.judged.values() if entry.package == "alpaca_eval"]
    if len(annotators) == 1:  # two entries would write the same files
        write_alpaca_files(scored, out, annotator=annotators[0])
    write_fastchat_files(scored, config, out)
    print(f"scores: {out / 'scores.csv'}")
    show(table, out, uncertainty=config.uncertainty, next_command=["python", "-m", "eval", "selfcheck=true"])
    return None


def recorded_answers(config: EvalConfig) -> Path | None:
    """The one judge's recorded file, where it holds the answers beside the verdicts; None for another judge.

    Raises Refusal for a file of judgments: they hold an answer only inside the judge's prompt.
    """
    from eval.files import read_rows
    from fusion.runtime.configure import Refusal

    judges = list(config.judges.values())
    if len(judges) != 1 or judges[0].replayed is None:
        return None
    path, _ = judges[0].replayed
    if "output_2" not in read_rows(path)[0]:
        raise Refusal(
            f"{path} holds verdicts without the answers they are on (in judgments these stand only inside the judge's"
            " prompt): give the answers too, as answers=FILE"
        )
    return path


def selfcheck(data: Path, out: str | None) -> int:
    """Print our figure beside every published one, write selfcheck.md and .csv into `out`; 1 when one is off."""
    from eval.selfcheck import check, table
    from fusion.runtime.next_step import say_next
    from fusion.runtime.visible import visible

    rows = check(data.expanduser())
    print(visible(table.text(rows), lines=True))
    print(table.summary(rows))
    if out is not None:
        table.write(rows, Path(out))
        print(f"table: {Path(out) / 'selfcheck.md'}")
    agree = all(row.ok for row in rows)
    evaluation = ["eval", "checkpoint=DIR", "benchmark=[mt_bench,alpaca_eval]", "out=DIR"]
    say_next("python", "-m", *(evaluation if agree else ["eval.benchmark_data", f"paths.data={data}"]))
    return 0 if agree else 1


if __name__ == "__main__":
    command("eval", run)
