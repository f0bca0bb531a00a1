"""What settings carry over of their sources, from the facts of their align and fuse stages."""

import json

import pytest

from ablations.cell import Cell
from ablations.studies.carried import carried, carried_table, shuffled_table, taught_by_sources
from fusion.runtime.progress import StageRecord


def facts(transferred, one_hot, empty, kept):
    return {
        "positions": transferred + one_hot + empty, "transferred": transferred, "one_hot": one_hot, "empty": empty,
        "kept_mass": kept, "given_mass": 0.8,
    }  # fmt: skip


def test_shares_are_of_the_positions_and_of_the_mass_that_the_source_gave():
    found = carried(facts(60, 30, 10, 0.4))
    assert (found.positions, found.labels, found.mass) == pytest.approx((0.6, 0.3, 0.5))
    assert found.of_all == pytest.approx(0.6 * 0.5)
    assert carried(facts(0, 0, 0, 0.4)) is None and carried({}) is None
    assert carried(facts(0, 1, 0, 0.0) | {"given_mass": 0.0}).of_all == 0


def test_sources_teach_what_neither_the_pivot_nor_the_label_does():
    assert taught_by_sources({"taught_by": {"label": 0.1, "pivot": 0.4, "a": 0.3, "b": 0.2}}) == pytest.approx(0.5)
    assert taught_by_sources({"taught_by": {"label": 0.0, "pivot": 1.0}}) is None
    assert taught_by_sources({"positions": 9, "taught": 3}) is None


@pytest.fixture
def cell(tmp_path):
    """Makes a finished cell of stages that noted these facts."""

    def made(row, seed, *stages):
        records = []
        for number, (stage, noted) in enumerate(stages):
            folder = tmp_path / f"{row}-{seed}-{number}"
            folder.mkdir()
            (folder / "manifest.json").write_text(json.dumps({"facts": noted, "files": {}}))
            records.append(StageRecord(stage=stage, what="w", key=folder.name, path=str(folder)))
        gone = StageRecord(stage="align", what="w", key="gone", path=str(tmp_path / "gone"))
        records = [*records, gone] if records else []
        return Cell(
            path=tmp_path, name="", experiment="", study=None, seed=seed, axes={"row": row}, weights={},
            stages=tuple(records),
        )  # fmt: skip

    return made


def test_the_table_has_each_settings_mean_and_range_and_none_where_no_source_is_read(cell):
    def taught(a):
        return ("fuse", {"taught_by": {"label": 0.1, "pivot": 0.9 - a, "a": a}})

    lines = carried_table(
        [
            cell("labels", 0),
            cell("strict", 0, ("align", facts(60, 30, 10, 0.4)), taught(0.2)),
            cell("strict", 1, ("align", facts(80, 20, 0, 0.8)), taught(0.4), ("train", {"positions": 5})),
        ]
    )
    assert lines[-2] == "| row=labels | — | — | — | — | — | 0 |"
    # Of all: .6 * .5 and .8 * 1.
    assert lines[-1] == (
        "| row=strict | 70% (60 to 80) | 25% (20 to 30) | 75% (50 to 100) | 55% (30 to 80) | 30% (20 to 40) | 2 |"
    )


def test_what_shuffling_took_away_is_told_for_each_setting_that_shuffles(cell):
    def shuffled(taught, removed):
        noted = {"positions": 10, "taught": taught, "removed": removed, "removed_of_all": removed * taught / 10}
        return ("fuse", noted)

    fused = cell("fused", 0, ("fuse", {"positions": 10, "taught_by": {"label": 0.1, "pivot": 0.4, "a": 0.5}}))
    lines = shuffled_table([fused, cell("shuffled", 0, shuffled(4, 0.2)), cell("shuffled", 1, shuffled(6, 0.3))])
    # Of all: .2 * .4 and .3 * .6.
    assert lines[-1] == "| row=shuffled | 50% (40 to 60) | 25% (20 to 30) | 13% (8 to 18) | 2 |"
    assert not any("row=fused" in line for line in lines)
    assert shuffled_table([fused]) == []
