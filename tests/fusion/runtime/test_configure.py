from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pytest

from fusion.runtime.configure import Refusal, choose, nearest, plain, typed


@dataclass(frozen=True, kw_only=True)
class Inner:
    density: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.density <= 1:
            raise ValueError(f"density is {self.density}: expected 0 to 1")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    steps: int = 3
    weights: float | tuple[float, ...] = 1.0
    mode: Literal["ce", "kl"] = "ce"
    inner: Inner = Inner()
    table: Mapping[str, Inner] | None = None
    flag: bool = False


def test_a_mapping_becomes_the_dataclass_with_lists_as_tuples_and_whole_numbers_as_floats():
    built = typed({"name": "x", "weights": [1, 0.5], "inner": {"density": 1}, "table": {"a": {"density": 0.25}}}, Outer)
    assert built == Outer(name="x", weights=(1.0, 0.5), inner=Inner(density=1.0), table={"a": Inner(density=0.25)})


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"name": "x", "stps": 1}, ["'stps'", "did you mean 'steps'"]),
        ({"name": "x", "inner": {"densty": 1}}, ["'inner.densty'", "did you mean 'density'"]),
        ({"name": "x", "steps": "three"}, ["steps is 'three'", "expected int"]),
        ({"name": "x", "steps": 1.5}, ["steps is 1.5", "expected int"]),
        ({"name": "x", "steps": True}, ["steps is True", "expected int"]),
        ({"name": "x", "flag": 1}, ["flag is 1", "expected bool"]),
        ({"name": "x", "mode": "kll"}, ["mode is 'kll'", "did you mean 'kl'"]),
        ({"name": "x", "weights": "much"}, ["weights is 'much'", "expected"]),
        ({"name": "x", "inner": {"density": 2}}, ["inner", "density is 2.0: expected 0 to 1"]),
        ({"name": "x", "inner": 3}, ["inner is 3", "group of settings"]),
        ({"steps": 1}, ["'name' is missing", "str"]),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place_and_the_way_out(mapping, words):
    with pytest.raises(Refusal) as refusal:
        typed(mapping, Outer)
    for word in words:
        assert word in str(refusal.value)


def test_a_rule_is_chosen_by_its_name_and_built_from_the_other_keys():
    table = {"inner": Inner}
    assert choose(table, {"name": "inner", "density": 0.1}, at="merge") == Inner(density=0.1)
    with pytest.raises(Refusal, match=r"merge.name is 'iner': did you mean 'inner'\?"):
        choose(table, {"name": "iner"}, at="merge")
    with pytest.raises(Refusal, match="unknown key 'merge.scale'"):
        choose(table, {"name": "inner", "scale": 1}, at="merge")


def test_a_far_name_lists_the_valid_ones():
    assert nearest("xyz", ["linear", "ties"]) == "valid names: linear, ties"
    assert nearest("xyz", [f"name{i}" for i in range(300)]).startswith("nothing like it is among the 300")


def test_plain_tells_apart_two_rules_with_equal_fields():
    @dataclass(frozen=True, kw_only=True)
    class Other:
        density: float = 0.5

    assert plain(Inner()) == {"type": "Inner", "density": 0.5}
    assert plain(Other()) != plain(Inner())
    assert plain({"a": (1, 2), "b": None}) == {"a": [1, 2], "b": None}
