"""A swap is believed only when files agreed before it and the probe agrees after it."""

from dataclasses import replace
from pathlib import Path

import pytest

from eval.serve.checkpoint import Signature
from eval.serve.probe import Expectation, distance
from eval.serve.reload import Served, doubt, objection

OLD = (-1.0, -2.0, -3.0)
NEW = (-1.5, -2.5, -1.0)


def served(name: str, log_probs: tuple[float, ...], tensors: dict | None = None) -> Served:
    return Served(
        checkpoint=Path(name),
        weights=name,
        signature=Signature(config={}, tensors=tensors or {"a": ("F32", (2,))}, tokenizer={"tokenizer.json": "x"}),
        expected=Expectation(ids=(5, 6, 7, 8), log_probs=log_probs),
        seen=log_probs,
    )


def test_equal_headers_and_a_probe_allow_the_swap():
    assert objection(served("old", OLD), served("new", NEW)) == ""


def test_files_replaced_in_place_are_not_swapped():
    now = served("same", OLD)
    assert "changed in place" in objection(now, replace(now, weights="other"))


def test_without_a_probe_nothing_is_swapped():
    assert "probe" in objection(replace(served("old", OLD), seen=None), served("new", NEW))


def test_the_first_difference_is_told_and_the_others_counted():
    now = served("old", OLD, tensors={"a": ("F32", (2,)), "b": ("F32", (2,)), "c": ("F32", (2,))})
    why = objection(now, served("new", NEW, tensors={"a": ("F32", (2,))}))
    assert why == "tensor b is missing (and 1 more differences)"


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (NEW, ""),
        (OLD, "more than 0.01"),
        ((-1.5, -2.5, float("nan")), "more than 0.01"),
        (tuple((a + b) / 2 for a, b in zip(OLD, NEW)), "more than 0.01"),  # a blend of both checkpoints
    ],
)
def test_the_probe_proves_the_new_weights_or_leaves_a_doubt(seen, message):
    found = doubt(seen, now=served("old", OLD), wanted=served("new", NEW), tolerance=0.01)
    assert message in found
    assert bool(found) == bool(message)


def test_two_checkpoints_closer_than_the_tolerance_are_still_told_apart():
    near = tuple(value + 0.05 for value in OLD)
    now, wanted = served("old", OLD), served("new", near)
    assert doubt(near, now=now, wanted=wanted, tolerance=0.15) == ""
    assert "did not move" in doubt(OLD, now=now, wanted=wanted, tolerance=0.15)
    almost_old = tuple(value + 0.01 for value in OLD)
    assert "closer to the checkpoint served before" in doubt(almost_old, now=now, wanted=wanted, tolerance=0.15)


def test_distance_is_the_mean_of_absolute_differences():
    assert distance((1.0, 2.0), (1.5, 1.0)) == pytest.approx((0.5 + 1.0) / 2)
