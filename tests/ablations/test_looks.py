"""How often questions were looked at: counted from the store, whatever of it is damaged, and said below the tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from ablations.looks import count_looks, looks_notes, questions_of
from ablations.report.__main__ import run
from fusion.runtime.progress import StageRecord

DAYS = {"first": date(2026, 1, 2), "last": date(2026, 3, 4)}


def artifact(root: Path, stage: str, key: str, **manifest: object) -> Path:
    place = root / stage / key
    place.mkdir(parents=True)
    (place / "manifest.json").write_text(json.dumps({"files": {}, "stage": stage, "key": key} | manifest))
    return place


def questions(root: Path, split: str, *digests: str) -> tuple[StageRecord, Path]:
    """A pocket's dialogues whose question files have these digests."""
    files = {f"questions/{place}.jsonl": {"bytes": 9, "sha256": one} for place, one in enumerate(digests)}
    files["fusion.jsonl"] = {"bytes": 9, "sha256": "dialogues"}
    place = artifact(root, "data", f"{split}-{'-'.join(digests)}", config={"asked": split, "seed": 0}, files=files)
    return StageRecord(stage="data", what="pocket dialogues", key=place.name, path=str(place)), place


def answers(root: Path, key: str, model: str, file: str | None, *, asked: str = "", day: date | None = None) -> None:
    """What a model of these weights answered to the questions of a file."""
    facts = {"answers": 3} | ({} if file is None else {"questions": file})
    artifact(root, "answers", key, config={"asked": asked or file}, inputs={"weights": model}, facts=facts)
    if day is not None:
        at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()
        with (root / "built.jsonl").open("a") as log:
            log.write(json.dumps({"stage": "answers", "key": key, "time": at}) + "\n")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three models asked test questions of two draws, one of them also a validation question, one a published one."""
    questions(tmp_path, "test", "mt", "alpaca")
    questions(tmp_path, "test", "mt of another seed")
    questions(tmp_path, "validation", "tuning")
    answers(tmp_path, "a1", "pivot", "mt", day=DAYS["first"])
    answers(tmp_path, "a2", "pivot", "alpaca", day=DAYS["first"])
    answers(tmp_path, "a3", "sft", "mt", day=DAYS["first"])
    answers(tmp_path, "a4", "linear", "mt of another seed", day=DAYS["last"])
    answers(tmp_path, "a5", "linear", "tuning", day=DAYS["last"])
    answers(tmp_path, "a6", "other", "published", day=DAYS["last"])
    return tmp_path


def test_every_model_that_was_asked_of_a_split_is_one_look_whatever_the_draw(store: Path):
    found = count_looks(store, questions_of(store, "test"))
    assert (found.models, found.answers, found.days) == (3, 4, (DAYS["first"], DAYS["last"]))
    assert (found.untold, found.unreadable) == (0, 0)
    tuned = count_looks(store, questions_of(store, "validation"))
    assert (tuned.models, tuned.answers, tuned.days) == (1, 1, (DAYS["last"],))


def test_questions_from_elsewhere_are_a_set_of_their_own(store: Path):
    assert count_looks(store, frozenset({"published"})).models == 1


def test_answers_that_were_computed_again_were_looked_at_again(store: Path):
    with (store / "built.jsonl").open("a") as log:
        log.write(json.dumps({"stage": "answers", "key": "a1", "time": datetime.now(UTC).timestamp()}) + "\n")
    found = count_looks(store, questions_of(store, "test"))
    assert found.answers == 4 and len(found.days) == 3 and found.days[-1] > DAYS["last"]


def test_older_answers_are_known_by_others_to_the_same_questions(store: Path):
    answers(store, "b1", "ties", None, asked="mt")
    answers(store, "b2", "sce", None, asked="nobody else's questions")
    found = count_looks(store, questions_of(store, "test"))
    assert (found.models, found.untold) == (4, 1)
    assert datetime.now(UTC).date() in found.days  # the log does not know them: the day of their files


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b'{"files": 3}',
        b'{"files": {}, "facts": []}',
        b"\xff\xfe",
        None,
    ],
    ids=str,
)
def test_damaged_answers_are_counted_apart_and_nothing_fails(store: Path, damage: bytes | None):
    where = store / "answers/a3/manifest.json"
    if damage is None:
        where.unlink()
    else:
        where.write_bytes(damage)
    found = count_looks(store, questions_of(store, "test"))
    assert (found.models, found.unreadable) == (2, 1)


@pytest.mark.parametrize("config", [None, [], "test", {"asked": ["test"]}, {"asked": None}], ids=str)
def test_dialogues_that_do_not_name_their_split_are_of_none(store: Path, config: object):
    place = artifact(store, "data", "odd", config=config)
    assert looks_notes([(StageRecord(stage="data", what="", key="odd", path=str(place)), place)]) == []
    answers(store, "odd", "pivot", None)
    artifact(store, "answers", "odder", config=config, facts={"questions": ["mt"]})
    assert count_looks(store, questions_of(store, "test")).untold == 2


def test_a_damaged_log_costs_dates_only(store: Path):
    (store / "built.jsonl").write_bytes(
        b'{"stage": "answers"}\n\xff\n{"stage": "answers", "key": [], "time": "x"}\n3\n'
    )
    found = count_looks(store, questions_of(store, "test"))
    assert (found.models, found.days) == (3, (datetime.now(UTC).date(),))


def test_unfinished_and_replaced_answers_are_none(store: Path):
    for name in (".partial-a9", ".replaced-a1"):
        (store / "answers" / name).mkdir()
    (store / "answers/.lock-a1").touch()
    assert count_looks(store, questions_of(store, "test")).unreadable == 0


def test_a_run_says_which_split_it_asks_and_how_often_that_was_done(store: Path):
    test, validation = questions(store, "test", "more"), questions(store, "validation", "more tuning")
    (said,) = looks_notes([test, (StageRecord(stage="fuse", what="", key="", path=""), store / "gone")])
    assert said == (
        "Test questions; choices are made on validation questions (data.pocket.asked=validation): as far as this store"
        " knows, such questions were asked of 3 models, who gave 4 sets of answers on 2 days from 2026-01-02 to"
        " 2026-03-04."
    )
    (said,) = looks_notes([validation, validation])
    assert said.startswith("Validation questions, on which choices are made (data.pocket.asked=validation): as far as")
    assert said.endswith(" such questions were asked of 1 model, who gave 1 set of answers on 2026-03-04.")
    (store / "answers/a1/manifest.json").unlink()
    answers(store, "b1", "ties", None, asked="something else")
    (said,) = looks_notes([test])
    assert said.endswith(" 1 more cannot be read. 1 more do not say what they answer.")
    assert looks_notes([(test[0], store / "gone")]) == []


def test_a_pooled_report_says_it_once_below_its_table(
    store: Path, cell: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    record, _ = questions(store, "test", "more")
    for rule in ("a", "b"):
        out = cell(store / "cells", {"pivot": [5.0] * 6, "merged": [6.0] * 6}, rule=rule)
        stages = [{"stage": record.stage, "what": record.what, "key": record.key, "path": record.path}]
        (out / "cell.json").write_text(json.dumps(json.loads((out / "cell.json").read_text()) | {"stages": stages}))
    run({"cells": str(store / "cells"), "out": str(store / "out"), "report": {},
         "paths": {"artifacts": "none"}})  # fmt: skip
    for name in ("leaderboard.md", "leaderboard.html"):
        assert (store / "out" / name).read_text().count("such questions were asked of 3 models") == 1
