"""What is said of a setting that does not exist: the whole path of the nearest that does, or who would take it."""

from pathlib import Path

import pytest

from fusion.runtime.command import CONF, compose
from fusion.runtime.configure import Refusal
from fusion.runtime.hints import unknown_setting, written_settings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("trian.lm_weight=1", "unknown key 'trian.lm_weight': did you mean 'train.lm_weight'?"),
        ("train.lm_wieght=1", "unknown key 'train.lm_wieght': did you mean 'train.lm_weight'?"),
        ("train.temperature=2", "unknown key 'train.temperature': did you mean 'train.objective.temperature'?"),
        ("train.tail=bucket", "unknown key 'train.tail': did you mean 'train.objective.tail'?"),
        ("merge.sce.select_topc=1", "did you mean 'merge.sce.select_topk'?"),
        ("serve.tensor_parallel=2", "the chosen entry of serve does not have it, but serve=vllm"),
        ("represent.kk=3", "did you mean 'represent.k'?"),
        ("sed=1", "did you mean 'seed'?"),
    ],
)
def test_a_mistyped_setting_is_answered_with_a_whole_path(given, said):
    with pytest.raises(Refusal) as refused:
        compose("ablations", ["experiment=small_gpu", "serve=auto", given])
    assert said in str(refused.value)


@pytest.mark.parametrize("group", ["serve", "train", "align"])
def test_settings_in_a_groups_place_are_told_how_a_group_is_chosen(group):
    with pytest.raises(Refusal) as refused:
        compose("ablations", ["experiment=pocket", f"{group}={{a: 1}}"])
    assert f"choose one by {group}=NAME" in str(refused.value)
    for entry in (CONF / group).glob("*.yaml"):
        assert entry.stem in str(refused.value)


def test_every_hint_is_a_setting_that_a_file_writes(tmp_path: Path):
    (tmp_path / "shared.yaml").write_text("defaults: [_self_]\nseed: 0\npaths: {data: x}\n")
    (tmp_path / "rule").mkdir()
    (tmp_path / "rule" / "a.yaml").write_text("# @package rule.a\ndensity: 1\n")
    (tmp_path / "rule" / "b.yaml").write_text("weight: 1\n")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "one.yaml").write_text("# @package _global_\nname: one\n")
    expected = {
        "seed": (),
        "paths": (),
        "paths.data": (),
        "rule.a.density": ("rule=a",),
        "rule.weight": ("rule=b",),
        "name": (),
    }
    assert {path: entries for path, entries in written_settings(tmp_path).items() if path != "rule.a"} == expected
    assert "'rule.a.density'" in unknown_setting("rule.a.densty", tmp_path)
    assert "does not have it, but rule=b" in unknown_setting("rule.weight", tmp_path)
    assert unknown_setting("xyzzy", tmp_path).endswith(
        "valid names: name, paths, paths.data, rule.a.density, rule.weight, seed"
    )
