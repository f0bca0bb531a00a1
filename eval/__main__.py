"""python -m eval checkpoint=DIR 'benchmark=[mt_bench,alpaca_eval]' judge=NAME out=DIR: serve a checkpoint, evaluate it.

With `answers=FILE` (a benchmark package's own format, plain or .gz) existing answers are judged and nothing is served.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusion.command import command


def run(settings: dict[str, Any]) -> None:
    """Evaluate one checkpoint, or judge existing answers, and write scores.csv and the leaderboard into `out`."""
    from eval.config import eval_config
    from eval.pipeline import evaluate, judge_answers
    from eval.report import write_report
    from eval.stages import Candidate
    from fusion.artifacts import directory_key
    from fusion.configure import Refusal
    from fusion.progress import RunProgress

    config = eval_config(settings)
    checkpoint, answers, out = settings["checkpoint"], settings["answers"], Path(settings["out"])
    if (checkpoint is None) == (answers is None):
        raise Refusal("expected exactly one of checkpoint=DIR (serve and ask it) and answers=FILE (judge what it says)")
    with RunProgress() as progress:
        if answers is not None:
            scored = judge_answers(Path(answers), config, progress, label=settings["label"])
        else:
            directory = Path(checkpoint).expanduser()
            if not (directory / "config.json").exists():
                raise Refusal(f"checkpoint={checkpoint}: there is no config.json; expected a Hugging Face directory")
            weights = directory_key(directory, config.artifacts / "digests.json")
            name = settings["label"] or directory.name
            candidate = Candidate(model=name, group="Models", path=directory, weights=weights)
            scored = evaluate([candidate], config, progress, {})
    write_report(
        scored,
        out,
        title=f"Evaluation of {', '.join(dict.fromkeys(s.model for s in scored))}",
        bootstrap=config.bootstrap,
    )
    print(f"scores: {out / 'scores.csv'}")


if __name__ == "__main__":
    command("eval", run)
