"""Of each question the answer that PairRM ranks first: Top1-LLM-Blender of FuseChat's Table 1 (2408.07990).

PairRM itself is not run here.  Its head is not part of transformers, and no checkpoint was at hand to prove a
re-implementation against; a ranking that looks right and is not would be worse than none.  What it said is read from a
file, so that the released package, or any other scorer of answers, can be used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eval.ensembles.selection import Option, Options, Selects, best
from eval.files import read_rows, wanted
from fusion.runtime.configure import Refusal


@dataclass(frozen=True, kw_only=True)
class Top1PairRM(Selects):
    """`file`: JSON lines (plain or .gz) with `benchmark` (its name), `question_id` and `scores` (model to number).

    A score is the sum over both orders of the model's whole row of PairRM's N(N-1) comparisons; larger is better.
    """

    file: str | None = None

    def __post_init__(self) -> None:
        if self.file is None:
            raise ValueError(
                "PairRM is not run here: rank the stored answers with the llm_blender package and give its scores as"
                " file=SCORES.jsonl (docs/ensembles.md has the form)"
            )

    def choose(self, options: Options) -> dict[str, int]:
        """Raises Refusal naming the file when it lacks a score of one of the answers to choose from."""
        scores = _scores(Path(str(self.file)))

        def score(question_id: str, option: Option) -> float:
            try:
                return scores[option.benchmark, question_id][option.model]
            except KeyError as error:
                raise Refusal(
                    f"{self.file} has no score of {option.model} on question {question_id} of {option.benchmark}"
                ) from error

        return {
            question_id: best(offered, lambda option, asked=question_id: score(asked, option))  # type: ignore[misc]
            for question_id, offered in options.items()
        }


def _scores(path: Path) -> dict[tuple[str, str], Mapping[str, float]]:
    found: dict[tuple[str, str], Mapping[str, float]] = {}
    for number, row in enumerate(read_rows(path), start=1):
        benchmark, question_id, scores = wanted(row, "benchmark", "question_id", "scores", path=path, number=number)
        if not isinstance(scores, dict) or not all(isinstance(value, (int, float)) for value in scores.values()):
            raise Refusal(f"{path}, row {number}: scores is {str(scores)[:60]!r}: expected model names with numbers")
        found[str(benchmark), str(question_id)] = scores
    return found
