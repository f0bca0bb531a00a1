"""Ten thousand recorded judgments to a score table: files read, replies parsed, verdicts kept, intervals drawn."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

from bench.row import BenchRow, once, spelled
from eval.benchmarks import MTBench
from eval.benchmarks.fastchat.rules import fastchat_common
from eval.config import EvalConfig
from eval.judges import Recorded
from eval.pipeline import judge_answers
from eval.report.write import write_report
from eval.scores.intervals import Uncertainty
from eval.serve import ExistingEndpoint
from fusion.runtime.progress import RunProgress

MODELS, QUESTIONS = 63, 80  # two turns each: 10,080 judgments
BAR = 20.0
UNCERTAINTY = Uncertainty()
WORDS = "the answer is clear and correct but leaves out a step that the question asks for so it loses a little".split()


def rows() -> list[BenchRow]:
    """Seconds from fastchat's files to scores.csv, all models together; importing fastchat (11 s) is apart."""
    fastchat_common()
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        answers = _written(where)
        taken = once(lambda: _scored(where, answers))
    return [
        BenchRow(
            what=f"{MODELS * QUESTIONS * 2:,} recorded judgments of {MODELS} models scored, with reports",
            measured=spelled(taken),
            bar=f"under {BAR:g} s",
            reached=taken < BAR,
        )
    ]


def _scored(where: Path, answers: list[Path]) -> None:
    scored = []
    with RunProgress() as progress:
        for path in answers:
            config = EvalConfig(
                serve=ExistingEndpoint(base_url="http://unused", model="unused"),
                benchmarks={"mt_bench": MTBench(questions="question.jsonl")},
                judges={"mt_bench": Recorded(file=str(path.with_suffix(".judgments")))},
                uncertainty=UNCERTAINTY,
                data=where,
                artifacts=where / "artifacts",
            )
            scored += judge_answers(path, config, progress)
    assert all(one.metrics[0].n == QUESTIONS * 2 for one in scored)
    write_report(scored, where / "report", title="bench", uncertainty=UNCERTAINTY)


def _written(where: Path) -> list[Path]:
    """Questions, and a file of answers and one of judgments for each model, of about the published lengths."""
    draw = random.Random(0)
    kinds = [f"kind {i}" for i in range(8)]
    questions = [
        {"question_id": i, "category": kinds[i % 8], "turns": [f"first {i}", f"second {i}"]} for i in range(QUESTIONS)
    ]
    _lines(where / "question.jsonl", questions)
    paths = []
    for model in range(MODELS):
        judgments = []
        name = f"model-{model}"
        said = [[" ".join(draw.choices(WORDS, k=300)) for _ in range(2)] for _ in questions]
        paths.append(where / f"{name}.jsonl")
        choices = [
            {"question_id": i, "model_id": name, "choices": [{"index": 0, "turns": turns}]}
            for i, turns in enumerate(said)
        ]
        _lines(paths[-1], choices)
        for i, turns in enumerate(said):
            for turn in (1, 2):
                rating = draw.randint(1, 10)
                judgments.append(
                    {
                        "question_id": i,
                        "model": name,
                        "judge": ["gpt-4", "single-v1"],
                        "user_prompt": f"[Question] {questions[i]['turns']} [Answer] {turns[0]} {turns[turn - 1]}",
                        "judgment": f"{' '.join(draw.choices(WORDS, k=120))} Rating: [[{rating}]]",
                        "score": rating,
                        "turn": turn,
                        "tstamp": 0.0,
                    }
                )
        _lines(paths[-1].with_suffix(".judgments"), judgments)
    return paths


def _lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
