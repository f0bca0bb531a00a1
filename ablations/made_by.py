"""By what code the stages behind finished cells were made: cells that are laid beside each other should agree in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ablations.cell_note import read_notes
from fusion.runtime.fingerprint import code_digest
from fusion.runtime.progress import StageRecord

# What turns a cell's verdicts into its table, and no artifact holds: the mean of repeats, a panel's verdict, the answer
# that an ensemble selects, metrics, differences.
_SCORING = (
    "eval.judging.repeats",
    "eval.judges.panel",
    "eval.ensembles",
    "eval.judging.scored_by",
    "eval.report.tables",
)
# By a stage and the modules its code begins in: a digest of that code.
Code = Mapping[str, str]


def code_of(stages: Iterable[StageRecord], scoring: str) -> Code:
    """The code behind one cell; `scoring` is the digest that `scoring_code` gave when its table was made."""
    made = {f"{stage.stage} by {', '.join(stage.modules)}": stage.code for stage in stages if stage.code}
    return made | ({f"score by {', '.join(_SCORING)}": scoring} if scoring else {})


def scoring_code() -> str:
    """The digest of what turns verdicts into tables, as it is now."""
    return code_digest(_SCORING)


def disagreements(cells: Mapping[str, Code]) -> list[str]:
    """A sentence for every stage that these cells, by name, did not all make by the same code."""
    found = []
    for label in sorted({label for code in cells.values() for label in code}):
        makers: dict[str, list[str]] = {}
        for name, code in cells.items():
            if label in code:
                makers.setdefault(code[label], []).append(name)
        if len(makers) > 1:
            few, most = sorted(makers.values(), key=len)[0], sum(map(len, makers.values()))
            named = ", ".join(few[:3]) + (", ..." if len(few) > 3 else "")
            found.append(f"{label}: {len(few)} of {most} cells were made by other code than the rest ({named})")
    return found


def outdated(cells: Mapping[str, Code]) -> list[str]:
    """A sentence for every stage of finished cells whose code is not what it was; moved modules are not looked for."""
    now = {}
    for label in {label for code in cells.values() for label in code}:
        modules = tuple(label.partition(" by ")[2].split(", "))
        try:
            now[label] = code_digest(modules)
        except (ModuleNotFoundError, LookupError):  # the module or the name in it is gone
            continue
    stale = {label: sum(code.get(label, digest) != digest for code in cells.values()) for label, digest in now.items()}
    return [
        f"{label}: its code has changed since {count} of the finished cells were made"
        for label, count in sorted(stale.items())
        if count
    ]


def read_code(cells: Sequence[Path]) -> dict[str, Code]:
    """By folder name, the code behind the finished cells in these folders; one that cannot be read is left out."""
    return {path.name: code_of(note.stages, note.code) for path, note in read_notes(cells).items()}
