"""How often questions were looked at: counted from the answers that a store keeps, by nobody's hand.

Whoever chooses settings by the questions that a table is made from finds differences that are not there.  So a table of
the pocket's own questions says which split they are of, and how many models were asked questions of that split.  Every
set of answers is one look at one model.  Only manifests are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from fusion.runtime.artifacts import Manifest, known_manifest
from fusion.runtime.progress import StageRecord

_SPLITS = {
    "test": "Test questions; choices are made on validation questions (data.pocket.asked=validation)",
    "validation": "Validation questions, on which choices are made (data.pocket.asked=validation)",
}


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What a store knows of who was asked the questions of some files.

    `answers` sets of answers by `models` different weights were computed on `days`; of `untold` sets it is not known
    which questions they answer, and `unreadable` ones are damaged: neither is counted among the others.
    """

    models: int
    answers: int
    days: tuple[date, ...]
    untold: int = 0
    unreadable: int = 0


def looks_notes(artifacts: Iterable[tuple[StageRecord, Path]]) -> list[str]:
    """A sentence for each split of the pocket's questions that these artifacts, each with its folder, ask.

    None where an experiment's questions are not its own.  Nothing that is damaged or gone raises.
    """
    asked = dict.fromkeys(
        (place.parent.parent, split)
        for record, place in artifacts
        if record.stage == "data" and (split := _split(known_manifest(place))) in _SPLITS
    )
    return [_sentence(split, count_looks(root, questions_of(root, split))) for root, split in asked if split]


def questions_of(root: Path, split: str) -> frozenset[str]:
    """The sha256 of every question file of this split that a store has: another seed or number of questions draws other
    ones from the same split."""
    found = (manifest for _, manifest in _manifests(root / "data") if manifest is not None)
    return frozenset(digest for manifest in found if _split(manifest) == split for digest in _question_files(manifest))


def count_looks(root: Path, files: frozenset[str]) -> Looks:
    """Who was asked the questions of these files (by sha256), as far as the store below `root` knows.

    Answers of older versions do not say what file their questions are from; theirs are the same where other answers to
    the same questions say it.
    """
    read = dict(_manifests(root / "answers"))
    known = {key: manifest for key, manifest in read.items() if manifest is not None}
    said = {_asked(manifest): file for manifest in known.values() if (file := _file(manifest))}
    sources = {key: _file(manifest) or said.get(_asked(manifest) or "") for key, manifest in known.items()}
    looks = [key for key, file in sources.items() if file in files]
    times = _times(root)
    days = {day for key in looks for day in times.get(key) or _written(root / "answers" / key)}
    return Looks(
        models=len({json.dumps(known[key].get("inputs"), sort_keys=True) for key in looks}),
        answers=len(looks),
        days=tuple(sorted(days)),
        untold=sum(file is None for file in sources.values()),
        unreadable=len(read) - len(known),
    )


def _sentence(split: str, found: Looks) -> str:
    when = ""
    if found.days:
        first, last = found.days[0].isoformat(), found.days[-1].isoformat()
        when = f" on {first}" if first == last else f" on {len(found.days)} days from {first} to {last}"
    said = (
        f"{_SPLITS[split]}: as far as this store knows, such questions were asked of"
        f" {_counted(found.models, 'model')}, who gave {_counted(found.answers, 'set')} of answers{when}."
    )
    for count, why in ((found.unreadable, "cannot be read"), (found.untold, "do not say what they answer")):
        said += f" {count} more {why}." if count else ""
    return said


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _manifests(stage: Path) -> Iterator[tuple[str, Manifest | None]]:
    """Of every finished artifact of a stage its key and its manifest; None for one that cannot be read."""
    try:
        places = sorted(place for place in stage.iterdir() if not place.name.startswith(".") and place.is_dir())
    except OSError:  # no such stage yet
        return
    for place in places:
        yield place.name, known_manifest(place)


def _split(manifest: Manifest | None) -> str | None:
    config = manifest.get("config") if manifest is not None else None
    split = config.get("asked") if isinstance(config, Mapping) else None
    return split if isinstance(split, str) else None


def _question_files(manifest: Manifest) -> list[str]:
    return [noted["sha256"] for name, noted in manifest["files"].items() if name.startswith("questions/")]


def _file(manifest: Manifest) -> str | None:
    """The sha256 of the file that these answers' questions were read from."""
    found = manifest.get("facts", {}).get("questions")
    return found if isinstance(found, str) else None


def _asked(manifest: Manifest) -> str | None:
    """The digest of the questions themselves, and of how they were asked."""
    config = manifest.get("config")
    found = config.get("asked") if isinstance(config, Mapping) else None
    return found if isinstance(found, str) else None


def _times(root: Path) -> dict[str, list[date]]:
    """By key the days on which answers were computed, as the store's log has them; damaged lines say nothing."""
    found: dict[str, list[date]] = {}
    try:
        lines = (root / "built.jsonl").read_bytes().splitlines()
    except OSError:
        return found
    for line in lines:
        try:
            row = json.loads(line)
            if row["stage"] == "answers":
                found.setdefault(row["key"], []).append(datetime.fromtimestamp(row["time"], UTC).date())
        except (ValueError, KeyError, TypeError, OverflowError, OSError):
            continue
    return found


def _written(place: Path) -> list[date]:
    """The day on which an artifact that the log does not know was finished; none where it is gone meanwhile."""
    try:
        return [datetime.fromtimestamp((place / "manifest.json").stat().st_mtime, UTC).date()]
    except OSError:
        return []
