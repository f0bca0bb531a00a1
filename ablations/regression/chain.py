"""The chain behind a score table: what every artifact was made of and what came out, kept beside a baseline as JSON.

    data - initialise - pretrain - represent - align - fuse - train - merge - answers - verdicts - score - table

The links up to the verdicts are artifacts, as cell.json names them.  `score` and `table` are the arithmetic behind
them: verdicts to items, and items to metrics with their intervals.  Digests are cut to 12 hexadecimal digits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ablations.cell_note import CELL, ChainArtifact, read_artifacts, read_note
from eval.report.tables import SCORE_COLUMNS
from fusion.runtime.configure import Refusal
from fusion.runtime.digests import file_digest
from fusion.runtime.fingerprint import code_digest, module_digests
from fusion.runtime.reading import decoded
from fusion.runtime.versions import versions

# Entry modules of what turns verdicts into items, and items into the table; how a server runs is in neither.
_SCORE = ("eval.judging.scored_by",)
_TABLE = ("eval.judging.scored_by", "eval.report.tables")
_NO_ARITHMETIC = "eval.serve"
# What of a file says when, where or from which keys it was made, not what is in it.
_NOT_CONTENT: Mapping[str, frozenset[str]] = {
    "answers.jsonl": frozenset({"model", "weights"}),
}
_LOGS = frozenset({"training_log.jsonl"})


@dataclass(frozen=True, kw_only=True)
class Link:
    """One use of an artifact: what it was made from, and what came out."""

    stage: str
    what: str
    key: str
    config: Any
    inputs: Mapping[str, str]  # contents by role
    code: Mapping[str, str]  # digests by module; empty where the modules are not those that made the artifact any more
    versions: Mapping[str, str]
    output: Mapping[str, str]  # a digest for each file that came out
    content: str  # a digest of all that came out
    # Of answers what gave them, as scores.csv has it (`eval.scored.ScoredModel`).
    role: str = ""


def read_chain(report: Path) -> list[Link]:
    """The chain of the finished cell whose report lies in `report`; empty where none was noted.

    Raises Refusal for an artifact that is gone or damaged.
    """
    if not (report / CELL).exists():
        return []
    note = read_note(report)
    if not note.stages:
        return []
    table = pd.read_csv(report / "scores.csv", keep_default_na=False)
    roles = dict(zip(table["model"], table["role"], strict=True)) if "role" in table else {}
    links = [_link(made, roles) for made in read_artifacts(note)]
    return [*links, *_scoring(report, note.scoring)]


def write_chain(links: Sequence[Link], path: Path) -> None:
    """Keep the chain: a line for each link, and once each set of modules and of versions that links share."""
    shared: dict[str, dict[str, object]] = {"code": {}, "versions": {}}
    rows = []
    for link in links:
        row = asdict(link)
        for name, table in shared.items():
            digest = _digest(row[name])
            table[digest], row[name] = row[name], digest
        rows.append(row)
    lines = [f'"{name}": {json.dumps(table, indent=1)},' for name, table in shared.items()]
    links_text = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("{\n" + "\n".join(lines) + f'\n"links": [\n{links_text}\n]\n}}\n')


def load_chain(path: Path) -> list[Link]:
    """A kept chain; empty when there is none.  Raises Refusal for a file that is not one."""
    if not path.exists():
        return []
    try:
        kept = decoded(path.read_bytes())
        return [
            Link(**{**row, "code": kept["code"][row["code"]], "versions": kept["versions"][row["versions"]]})
            for row in kept["links"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(
            f"{path} cannot be read as a chain ({error!r}): write it anew with `make eval UPDATE=1`"
        ) from error


def _link(made: ChainArtifact, roles: Mapping[str, str]) -> Link:
    manifest = made.manifest
    return Link(
        stage=made.stage,
        what=made.what,
        key=made.key,
        config=manifest["config"],
        inputs=manifest["inputs"],
        code=_code(tuple(manifest["modules"]), manifest["code"]),
        versions=manifest["versions"],
        output={
            name: _content(made.path / name, noted["sha256"])
            for name, noted in manifest["files"].items()
            if Path(name).name not in _LOGS
        },
        content=made.content,
        role=roles.get(made.what.split(" · ")[0], "") if made.stage == "answers" else "",
    )


def _code(modules: tuple[str, ...], made_by: str) -> Mapping[str, str]:
    try:
        return module_digests(modules) if code_digest(modules) == made_by else {}
    except ModuleNotFoundError:
        return {}


def _content(path: Path, sha256: str) -> str:
    """The digest of a file, without what is not its content."""
    left_out = _NOT_CONTENT.get(path.name)
    if left_out is None:
        return sha256[:12]
    try:
        data = path.read_bytes()
        rows = [decoded(line) for line in (data.splitlines() if path.suffix == ".jsonl" else [data])]
    except (OSError, ValueError) as error:
        raise Refusal(f"{path} is not the file that was written there ({error}): run the cell again") from error
    return _digest([{name: value for name, value in row.items() if name not in left_out} for row in rows])


def _scoring(report: Path, settings: Any) -> list[Link]:
    # A fitted rate is not the same to the last bit in every run.
    table = pd.read_csv(report / "scores.csv")[SCORE_COLUMNS].to_json(orient="records", double_precision=6)
    outputs = {"items.csv": file_digest(report / "items.csv")[:12]}, {"scores.csv": _digest(table)}
    links = []
    for stage, modules, output in zip(("score", "table"), (_SCORE, _TABLE), outputs, strict=True):
        code = {name: digest for name, digest in module_digests(modules).items() if not _only_serves(name)}
        links.append(
            Link(
                stage=stage,
                what="all models",
                key=_digest([settings, code]),
                config=settings,
                inputs={},
                code=code,
                versions=versions(),
                output=output,
                content=_digest(output),
            )
        )
    return links


def _only_serves(module: str) -> bool:
    return module == _NO_ARITHMETIC or module.startswith(f"{_NO_ARITHMETIC}.")


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
