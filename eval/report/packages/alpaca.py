"""AlpacaEval results as the alpaca-eval package's own files, so that its tools and leaderboard read them.

    out/alpaca_eval/<model>/model_outputs.json       what `alpaca_eval --model_outputs` takes
    out/alpaca_eval/<model>/annotations.json         one row per answered instruction; `judge.file` takes it too
    out/alpaca_eval/<model>/alpaca_leaderboard.csv   one row; `precomputed_leaderboard` takes it, and "*" for several

Published annotations keep the judge's completion under `raw_completion`; so do these.  An unscored pair has no
preference, which the package leaves out of every rate.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from eval.benchmarks import judged
from eval.benchmarks.pairwise_preference import SHOWN_FIRST, SHOWN_SECOND, judged_pairs
from eval.records import Unscored, Verdict
from eval.scored import ScoredModel, ShownAnswers
from eval.scores.win_rate import win_rate
from eval.spreadsheet import rows_csv

# The package's leaderboard tells "minimal", "verified" and "community" entries apart; its own default is the last.
_MODE = "community"
_ORDERS = {SHOWN_FIRST: "_shown_first", SHOWN_SECOND: "_shown_second"}


def write_alpaca_files(scored: Iterable[ScoredModel], out: Path, *, annotator: str) -> list[Path]:
    """Write the three files of every AlpacaEval result that still has its answers; return the folders."""
    folders = []
    for entry in scored:
        known = judged(entry.benchmark)
        if known is None or known.package != "alpaca_eval" or entry.shown is None:
            continue
        folder = out / known.package / (re.sub(r"[^\w.@+-]", "_", entry.model).lstrip(".") or "model")
        folder.mkdir(parents=True, exist_ok=True)
        outputs = output_rows(entry.model, entry.shown)
        (folder / "model_outputs.json").write_text(_json(outputs), encoding="utf-8")
        (folder / "annotations.json").write_text(
            _json(annotation_rows(entry.model, entry.shown, annotator=annotator)), encoding="utf-8"
        )
        row = leaderboard_row(entry, entry.shown)
        table = rows_csv([["", *row], [entry.model, *row.values()]])
        (folder / "alpaca_leaderboard.csv").write_text(table, encoding="utf-8")
        folders.append(folder)
    return folders


def output_rows(model: str, shown: ShownAnswers) -> list[dict[str, object]]:
    """The package's outputs: dataset, instruction, output, generator of every answered instruction."""
    said = {answer.question_id: answer.turns[0] for answer in shown.answers if answer.turns}
    return [
        {"dataset": q.category, "instruction": q.turns[0], "output": said[q.id], "generator": model}
        for q in shown.questions
        if q.id in said
    ]


def annotation_rows(model: str, shown: ShownAnswers, *, annotator: str) -> list[dict[str, object]]:
    """The package's annotations in the order of the instructions: `output_1` is the baseline's, `output_2` the model's.

    Where a pair was shown in both orders, `preference` is the mean, and both completions are kept.
    """
    said = {answer.question_id: answer.turns[0] for answer in shown.answers if answer.turns}
    baselines = {answer.question_id: answer for answer in shown.opponents}
    name = next(iter(baselines.values())).model if baselines else model
    pairs = judged_pairs(shown.verdicts)
    records: dict[str, list[Verdict | Unscored]] = {}
    for record in shown.verdicts:
        records.setdefault(record.question_id, []).append(record)
    rows = []
    for question in shown.questions:
        if question.id not in said:
            continue
        own, pair = said[question.id], pairs.get(question.id)
        row: dict[str, object] = {
            "dataset": question.category,
            "instruction": question.turns[0],
            # The same output on both sides is not shown to any judge.
            "output_1": baselines[question.id].turns[0] if question.id in baselines else own,
            "generator_1": name,
            "output_2": own,
            "generator_2": model,
            "annotator": annotator,
            "preference": None if pair is None else pair.preference,
        }
        for record in records.get(question.id, ()):
            row[f"raw_completion{_ORDERS.get(record.order, '')}"] = _completion(record)
        rows.append(row)
    return rows


def leaderboard_row(entry: ScoredModel, shown: ShownAnswers) -> dict[str, object]:
    """The columns of the package's leaderboard; a figure that is not the package's (variant `own_set`) stays empty."""
    found = {row.metric: row for row in entry.metrics if row.slice == "all" and row.variant != "own_set"}
    values = {name: row.value for name, row in found.items()}
    length = values.get("average_length")
    preferences = [pair.preference for pair in judged_pairs(shown.verdicts).values() if pair.preference is not None]
    counts = win_rate(preferences) if preferences else None
    return {
        "win_rate": values.get("win_rate"),
        "standard_error": values.get("standard_error"),
        "n_wins": counts.wins if counts else 0,
        "n_wins_base": counts.losses if counts else 0,
        "n_draws": counts.draws if counts else 0,
        "n_total": counts.total if counts else 0,
        "discrete_win_rate": values.get("discrete_win_rate"),
        "mode": _MODE,
        "avg_length": None if length is None else int(length),
        "length_controlled_winrate": values.get("length_controlled_win_rate"),
        "lc_standard_error": values.get("length_controlled_standard_error"),
    }


def _completion(record: Verdict | Unscored) -> dict[str, object] | None:
    """A completion as far as the record keeps it: the text, and the probabilities of its first token."""
    top = record.top_logprobs if isinstance(record, Verdict) else ()
    if not record.text and not top:
        return None
    content = [{"token": record.text, "top_logprobs": [{"token": t, "logprob": p} for t, p in top]}] if top else []
    return {"text": record.text, "logprobs": {"content": content}} if top else {"text": record.text}


def _json(rows: Sequence[Mapping[str, object]]) -> str:
    return json.dumps(rows, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
