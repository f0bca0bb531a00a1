"""MT-Bench's published judgments: ratings read again, prompts rebuilt, means beside those of fastchat's own tool.

The prompt of a judgment can be rebuilt where the answer that was judged is below the data folder; a file of answers
that were made anew since, or no file at all, leaves rows out, and the note says how many and why.  A file may hold
failures and repeats: `rating_fastchat` counts it as fastchat does, the note gives what we count, one verdict per
question and turn.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.benchmarks import MTBench
from eval.benchmarks.fastchat.files import NO_SCORE, JudgmentRow
from eval.benchmarks.fastchat.judgments import shows
from eval.benchmarks.fastchat.means import counted_alike, fastchat_rows
from eval.benchmarks.fastchat.rules import fastchat_means
from eval.benchmarks.fastchat.single_rating import parse_rating
from eval.benchmarks.mt_bench import LoadedMTBench
from eval.files import read_rows
from eval.judges.recorded import Recorded
from eval.records import Answer, Unscored, Verdict
from eval.scores.intervals import Uncertainty
from eval.selfcheck.row import CheckRow

# Equal up to the order of summation.
EXACT = 1e-9
_WHOLE = ("all", "turn1", "turn2")


def rows(data: Path) -> list[CheckRow]:
    """Every model of every file below `mt_bench/model_judgment`.  Raises Refusal for bad files."""
    files = sorted((data / "mt_bench" / "model_judgment").glob("*_single.jsonl*"))
    if not files:
        return []
    settings = MTBench(
        questions="mt_bench/question.jsonl", judge_prompts="mt_bench/judge_prompts.jsonl", references="gpt-4"
    )
    benchmark = settings.load(settings.files(data))
    found = []
    for path in files:
        judged = read_rows(path)
        printed = _printed(judged, benchmark)
        for model in dict.fromkeys(str(row["model"]) for row in judged):
            own = [row for row in judged if row["model"] == model]
            answers = data / "mt_bench" / "model_answer" / f"{model}.jsonl"
            said = benchmark.read_answers(answers) if answers.exists() else []
            found += [
                _ratings(path, model, own),
                _prompts(path, model, own, benchmark, said),
                *_means(path, model, own, benchmark, said, printed),
            ]
    return found


def _ratings(path: Path, model: str, rows: Sequence[JudgmentRow]) -> CheckRow:
    failed = sum(row["score"] == NO_SCORE for row in rows)
    equal = sum(_rating(row["judgment"]) == row["score"] for row in rows)
    note = f"{failed} of them -1: unscored" if failed else ""
    return _row(path, model, "ratings read as recorded", equal, len(rows), 0, note)


def _rating(judgment: str) -> float:
    try:
        return parse_rating(judgment)
    except ValueError:
        return NO_SCORE


def _prompts(
    path: Path, model: str, rows: Sequence[JudgmentRow], benchmark: LoadedMTBench, answers: Sequence[Answer]
) -> CheckRow:
    """How many prompts are rebuilt to the byte, of those that show the very answers that are here."""
    requests = {(request.question_id, request.turn): request for request in benchmark.plan(answers).requests}
    turns = {answer.question_id: answer.turns for answer in answers}
    rebuilt = here = 0
    for row in rows:
        place = str(row["question_id"]), row["turn"]
        if place in requests and all(shows(row["user_prompt"], said) for said in turns[place[0]][: row["turn"]]):
            here += 1
            rebuilt += requests[place].messages[-1]["content"] == row["user_prompt"]
    note = ""
    if here < len(rows):
        why = "are on other answers than those in model_answer" if answers else "have no file in model_answer"
        note = f"{len(rows) - here} of {len(rows)} rows {why}"
    return _row(path, model, "prompts rebuilt", rebuilt, here, 0, note)


def _means(
    path: Path,
    model: str,
    rows: Sequence[JudgmentRow],
    benchmark: LoadedMTBench,
    answers: Sequence[Answer],
    printed: Mapping[str, Mapping[str, float]],
) -> list[CheckRow]:
    ours = {row.slice: row.value for row in fastchat_rows(rows, benchmark.questions, Uncertainty())}
    once = _one_verdict_each(path, model, benchmark, answers) if answers else {}
    alike = counted_alike(rows) and all(row.unscored == 0 for row in once.values())
    checked = []
    for name in _WHOLE:
        note = ""
        if once and not alike:
            counted = once[name]
            note = f"one verdict each: {counted.value:.3f} (n {counted.n}, unscored {counted.unscored})"
        checked.append(_row(path, model, f"rating_fastchat, {name}", ours[name], printed[name][model], EXACT, note))
    categories = [name for name in ours if name not in _WHOLE]
    equal = sum(_close(ours[name], printed[name].get(model)) for name in categories)
    checked.append(_row(path, model, "category means equal", equal, len(categories), 0, ""))
    if alike and once:
        equal = sum(_close(once[name].value, value) for name, value in ours.items())
        checked.append(_row(path, model, "means with one verdict each equal", equal, len(ours), 0, ""))
    return checked


def _one_verdict_each(path: Path, model: str, benchmark: LoadedMTBench, answers: Sequence[Answer]) -> dict[str, Any]:
    """`rating` by slice, as `judge=recorded` gives it."""
    plan = benchmark.plan(answers)
    judge = Recorded(file=str(path), model=model)
    verdicts: list[Verdict | Unscored] = list(plan.settled)
    judge.judge(
        plan.requests, lambda request, reply: verdicts.append(benchmark.read(request, reply, judge=judge.label))
    )
    return {row.slice: row for row in benchmark.metrics(verdicts, answers, Uncertainty())}


def _printed(rows: Sequence[JudgmentRow], benchmark: LoadedMTBench) -> dict[str, dict[str, float]]:
    """Means by slice and model as fastchat's show_result prints them; it knows no categories, so each is a file."""
    category = {question.id: question.category for question in benchmark.questions}
    with tempfile.TemporaryDirectory() as folder:

        def shown(name: str, kept: Sequence[JudgmentRow]) -> dict[str, dict[str, float]]:
            path = Path(folder) / f"{name}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
            return fastchat_means(path)

        found = shown("every", rows)
        for name in dict.fromkeys(category.values()):
            found[name] = shown(name, [row for row in rows if category.get(str(row["question_id"])) == name])["all"]
    return found


def _close(first: float | None, second: float | None) -> bool:
    return first is not None and second is not None and abs(first - second) <= EXACT


def _row(
    path: Path, model: str, quantity: str, ours: float | None, published: float | None, tolerance: float, note: str
) -> CheckRow:
    file = path.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix("_single")
    return CheckRow(
        benchmark="mt_bench",
        model=f"{model} ({file})",
        quantity=quantity,
        ours=ours,
        published=published,
        tolerance=tolerance,
        note=note,
    )
