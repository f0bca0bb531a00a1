"""What a stage had to leave out is said from its facts, and nothing where it left out nothing."""

import pytest

from fusion.runtime.shortfall import shortfalls

WHOLE = {
    "align": {
        "positions": 90, "transferred": 80, "one_hot": 10, "empty": 0, "behind_source": 0, "kept_mass": 0.7,
        "given_mass": 0.9,
    },
    "fuse": {"positions": 90, "taught_by": {"label": 0.1, "pivot": 0.8, "x": 0.1, "y": 0.0}},
    "shuffled": {"positions": 90, "taught": 60, "removed": 0.05},
    "train": {
        "conversations": 8, "labels": 90, "labels_without_target": 0, "conversations_cut": 0,
        "conversations_without_target": 0,
    },
}  # fmt: skip


@pytest.mark.parametrize("stage", ["align", "fuse", "train", "pretrain", "verdicts"])
@pytest.mark.parametrize("facts", [{}, *WHOLE.values()])
def test_a_stage_that_left_out_nothing_or_does_not_say_is_passed_over(stage, facts):
    assert shortfalls(stage, "x", facts) == []


def test_labels_behind_the_targets_are_told_in_figures():
    cut = WHOLE["train"] | {"labels_without_target": 30, "conversations_cut": 5, "conversations_without_target": 2}
    (said,) = shortfalls("train", "target-x", cut)
    assert said.startswith("target-x: 30 of 90 labelled tokens (33.3%) have no fused target")
    assert "in 5 of 8 conversations, of which 2 have none at all" in said
    assert "train.max_length" in said and "represent.max_length" in said


def test_positions_behind_a_source_s_text_are_told():
    (said,) = shortfalls("align", "source-x", WHOLE["align"] | {"behind_source": 9})
    assert "9 of the pivot's 90 positions (10.0%) lie behind the text that it read" in said


@pytest.mark.parametrize(
    ("change", "share"),
    [
        ({"kept_mass": 0.09}, "10%"),
        ({"empty": 80, "kept_mass": 0.81}, "45%"),  # nine tenths of it, at every second position
        ({"transferred": 0, "empty": 80, "kept_mass": 0.0, "given_mass": 0.0}, "0%"),
    ],
)
def test_a_source_of_which_less_than_half_is_carried_is_told(change, share):
    (said,) = shortfalls("align", "source-x", WHOLE["align"] | change)
    assert said.startswith(f"source-x: {share} of the probability that it gives where it is aligned")


@pytest.mark.parametrize("change", [{"kept_mass": 0.46}, {"transferred": 0, "one_hot": 90, "given_mass": 0.0}])
def test_a_source_of_which_half_is_carried_or_that_is_asked_nowhere_is_not(change):
    assert shortfalls("align", "source-x", WHOLE["align"] | change) == []


def test_sources_that_teach_nowhere_are_told():
    nobody = {"label": 0.1, "pivot": 0.9, "x": 0.0, "y": 0.0}
    (said,) = shortfalls("fuse", "all sources", {"positions": 4321, "taught_by": nobody})
    assert said.startswith("all sources: the fusion rule lets it teach at none of the 4,321 positions")
    assert shortfalls("fuse", "pivot alone", {"positions": 90, "taught_by": {"label": 0.0, "pivot": 1.0}}) == []


def test_a_shuffled_control_with_little_to_remove_is_told():
    (said,) = shortfalls("fuse", "target-x, shuffled", WHOLE["shuffled"] | {"taught": 4321, "removed": 0.008})
    assert said == (
        "target-x, shuffled: shuffling moved 0.8% of the mass at the 4,321 positions that a source teaches, so this"
        " control has little to remove"
    )
    (said,) = shortfalls("fuse", "target-x, shuffled", WHOLE["shuffled"] | {"taught": 0, "removed": 0.0})
    assert "a source teaches at none of the 90 positions, so nothing was shuffled" in said
