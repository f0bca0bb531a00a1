"""What an evaluation leaves for the benchmarks' own tools: MT-Bench's answers and judgments as fastchat's files."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from eval.benchmarks import LoadedBenchmark
from eval.benchmarks.fastchat.files import FileRow, answer_rows, file_name, pair_rows, single_rows, write_jsonl
from eval.benchmarks.slots import NOBODY
from eval.config import EvalConfig
from eval.judging.repeats import collapse
from eval.records import Answer, Unscored, Verdict
from eval.scored import ScoredModel, ShownAnswers

Named = tuple[str, ShownAnswers]


def write_fastchat_files(scored: Sequence[ScoredModel], config: EvalConfig, out: Path) -> None:
    """Write `out/<entry>/model_answer/<model>.jsonl` and `out/<entry>/model_judgment/<judge>_single.jsonl` (`_pair`)
    of every MT-Bench entry; the folders are those of fastchat's data.
    """
    written = time.time()
    for entry, settings in config.judged.items():
        if settings.package != "fastchat":
            continue
        benchmark = settings.load(settings.files(config.data))
        models = [
            (file_name(one.model), one.shown)
            for one in scored
            if one.benchmark == benchmark.name and one.shown and one.shown.questions == benchmark.questions
        ]
        label = config.judges[entry].label
        for model, answers in _answers(models).items():
            write_jsonl(out / entry / "model_answer" / f"{model}.jsonl", answer_rows(answers, written=written))
        kind = "single" if benchmark.head_to_head is None else "pair"
        rows = _judgments(benchmark, models, label, written)
        judge = re.sub(r"(_single|_pair)?\.jsonl(\.gz)?$", "", label)  # a replayed file's own name is such a one
        write_jsonl(out / entry / "model_judgment" / f"{file_name(judge)}_{kind}.jsonl", rows)


def _answers(models: Sequence[Named]) -> dict[str, Sequence[Answer]]:
    """By model, those under test before those they were compared with."""
    found: dict[str, Sequence[Answer]] = {model: shown.answers for model, shown in models}
    for _, shown in models:
        for name in dict.fromkeys(answer.model for answer in shown.opponents):
            found.setdefault(file_name(name), [answer for answer in shown.opponents if answer.model == name])
    return found


def _judgments(benchmark: LoadedBenchmark, models: Sequence[Named], label: str, written: float) -> Iterator[FileRow]:
    paired: set[frozenset[str]] = set()
    for model, shown in models:
        verdicts: list[Verdict | Unscored] = collapse([r for r in shown.verdicts if r.judge in (label, NOBODY)])
        games = benchmark.head_to_head
        if games is None:
            requests = benchmark.plan(shown.answers).requests
            yield from single_rows(benchmark.questions, requests, verdicts, model=model, judge=label, written=written)
            continue
        names = {answer.model: file_name(answer.model) for answer in shown.opponents}
        names = {name: own for name, own in names.items() if frozenset((model, own)) not in paired}
        paired |= {frozenset((model, own)) for own in names.values()}
        bound = games.against({name: [a for a in shown.opponents if a.model == name] for name in names})
        requests = bound.plan(shown.answers).requests
        yield from pair_rows(
            benchmark.questions, requests, verdicts, model=model, names=names, judge=label, written=written
        )
