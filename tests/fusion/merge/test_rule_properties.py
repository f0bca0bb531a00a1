"""One list of properties; every rule of MERGE_RULES meets those its formula implies."""

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.merge import MERGE_RULES
from fusion.merge.parameter import PIECE, Context
from fusion.runtime.configure import Refusal

# Settings under which the formula returns a single target: weight one, nothing trimmed, dropped or unselected.  A rule
# that is not named does so by its defaults.
# SCE with tau below 1 selects by variance, which is zero over one target, so selecting is left out.
RETURNS_A_SINGLE_TARGET = {
    "linear": {"weight": 1.0, "normalize": False},
    "slerp": {"t": 1.0},
    "task_arithmetic": {"weight": 1.0},
    "ties": {"weight": 1.0, "density": 1.0},
    "dare": {"weight": 1.0, "density": 1.0},
    "sce": {"select": False},
}
# DARE's masks belong to the targets' places, so only undropped it does not care for their order.  Weights of one keep
# sums of values on a grid exact: where a sum is zero but for rounding, the order of the targets would elect the sign.
IN_ANY_ORDER = {"dare": {"density": 1.0, "weight": 1.0}, "ties": {"weight": 1.0}}

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in MERGE_RULES),
    ("ties", {"scope": "model", "aggregate": "sum"}),
    ("ties", {"count": "exactly", "density": 0.3}),
    ("dare", {"rescale": "match_l1", "merge": "ties"}),
    ("varm", {"granularity": "element", "statistic": "abs"}),
    ("varm", {"granularity": "layer"}),
    ("varm", {"granularity": "element", "unmoved": "uniform"}),
    ("sce", {"reading": "fuseai"}),
    ("sce", {"reading": "mergekit"}),
    ("sce", {"erase": False, "calculate": False, "select_topk": 1.0}),
]
IDS = ["-".join([name, *map(str, fields.values())]) for name, fields in VARIANTS]


def tensors(seed: int, targets: int = 2, shape: tuple[int, ...] = (5, 7)) -> tuple[torch.Tensor, list[torch.Tensor]]:
    random = torch.Generator().manual_seed(seed)
    pivot = torch.randn(shape, generator=random)
    return pivot, [pivot + 0.1 * torch.randn(shape, generator=random) for _ in range(targets)]


@pytest.mark.parametrize("name", MERGE_RULES)
@pytest.mark.parametrize("seed", range(3))
def test_merging_one_target_with_weight_one_returns_it(name: str, seed: int) -> None:
    pivot, (target,) = tensors(seed, targets=1)
    merged = MERGE_RULES[name](**RETURNS_A_SINGLE_TARGET.get(name, {}))(pivot, [target])
    torch.testing.assert_close(merged, target, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "fields"), VARIANTS, ids=IDS)
def test_the_pivot_is_returned_when_no_target_moved(name: str, fields: dict) -> None:
    pivot, _ = tensors(0)
    merged = MERGE_RULES[name](**fields)(pivot, [pivot.clone(), pivot.clone()])
    torch.testing.assert_close(merged, pivot, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("name", "fields"), VARIANTS, ids=IDS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_permuting_targets_changes_rounding_only(name: str, fields: dict, data: st.DataObject) -> None:
    count = 2 if name == "slerp" else data.draw(st.integers(2, 4))
    # Values on a coarse grid make ties in magnitude and variance common.
    grid = st.lists(st.integers(-8, 8), min_size=12, max_size=12)
    pivot = torch.tensor(data.draw(grid), dtype=torch.float32) / 16
    targets = [torch.tensor(data.draw(grid), dtype=torch.float32) / 16 for _ in range(count)]
    order = data.draw(st.permutations(range(count)))
    rule = MERGE_RULES[name](**{**fields, **IN_ANY_ORDER.get(name, {})})
    merged = rule(pivot, targets)
    permuted = rule(pivot, [targets[i] for i in order])
    torch.testing.assert_close(merged, permuted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "fields"), VARIANTS, ids=IDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shape_and_dtype_are_the_pivots(name: str, fields: dict, dtype: torch.dtype) -> None:
    pivot, targets = tensors(1, shape=(2, 3, 4))
    merged = MERGE_RULES[name](**fields)(pivot.to(dtype), [target.to(dtype) for target in targets])
    assert merged.shape == pivot.shape
    assert merged.dtype == dtype
    assert torch.isfinite(merged).all()


@pytest.mark.parametrize("name", MERGE_RULES)
def test_inputs_are_left_as_they_were(name: str) -> None:
    pivot, targets = tensors(2)
    before = [pivot.clone(), *(target.clone() for target in targets)]
    MERGE_RULES[name]()(pivot, targets)
    assert all(torch.equal(a, b) for a, b in zip(before, [pivot, *targets], strict=True))


@pytest.mark.parametrize("name", MERGE_RULES)
def test_another_shape_is_refused_with_the_parameter_and_both_shapes(name: str) -> None:
    pivot, targets = tensors(0)
    with pytest.raises(Refusal, match=r"'model\.norm\.weight' has shape \[3\] in target 1 and \[5, 7\] in the pivot"):
        MERGE_RULES[name]()(pivot, [targets[0], torch.zeros(3)], context=Context(name="model.norm.weight"))


@pytest.mark.parametrize("name", MERGE_RULES)
def test_no_target_is_refused(name: str) -> None:
    with pytest.raises(Refusal, match="no target"):
        MERGE_RULES[name]()(torch.zeros(3), [])


@pytest.mark.parametrize(
    "name", [name for name, rule in MERGE_RULES.items() if "weight" in {f.name for f in dataclasses.fields(rule)}]
)
def test_a_wrong_count_of_weights_is_refused(name: str) -> None:
    pivot, targets = tensors(0)
    with pytest.raises(Refusal, match="weight has 3 entries: expected one number, or one for each of the 2 targets"):
        MERGE_RULES[name](weight=(1.0, 2.0, 3.0))(pivot, targets)


@pytest.mark.parametrize("name", MERGE_RULES)
def test_hyperparameters_are_frozen_and_keyword_only(name: str) -> None:
    rule = MERGE_RULES[name]
    with pytest.raises(TypeError):
        rule(0.5)
    for field in dataclasses.fields(rule):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(rule(), field.name, 1)


@pytest.mark.parametrize("name", MERGE_RULES)
def test_a_parameter_of_several_pieces_merges_as_its_parts_where_rules_are_elementwise(name: str) -> None:
    """The seam between pieces must not show: a repeated tensor gives a repeated result (DARE: without dropping)."""
    # A multiple of ten, so that the kept fractions, 0.6 and 0.1, are whole numbers of entries in one part and in three.
    pivot, targets = tensors(3, shape=(PIECE * 5 // 8,))
    rule = MERGE_RULES[name](**IN_ANY_ORDER.get(name, {}))
    once = rule(pivot, targets)
    thrice = rule(pivot.repeat(3), [target.repeat(3) for target in targets])
    torch.testing.assert_close(thrice, once.repeat(3), rtol=1e-4, atol=1e-6)


def test_slerp_refuses_more_than_two_targets_and_takes_a_pair() -> None:
    pivot, targets = tensors(0, targets=3)
    with pytest.raises(Refusal, match="between two models and got 3 targets: choose two with pair"):
        MERGE_RULES["slerp"]()(pivot, targets)
    assert torch.equal(
        MERGE_RULES["slerp"](pair=(0, 2))(pivot, targets), MERGE_RULES["slerp"]()(pivot, [targets[0], targets[2]])
    )
