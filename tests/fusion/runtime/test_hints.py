"""What is said of a setting that does not exist: the whole path of the nearest that does, or who would take it."""

from pathlib import Path

import pytest

from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal
from fusion.runtime.hints import unknown_setting, written_settings
from fusion.runtime.places import CONF


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
        ("represent={kk: 3}", "unknown key 'represent.kk': did you mean 'represent.k'?"),
        ("budget={moeny: 3}", "unknown key 'budget.moeny': did you mean 'budget.money'?"),
        ("paths={data: x, artefacts: x}", "unknown key 'paths.artefacts': did you mean 'paths.artifacts'?"),
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
    for entry in (CONF / group).glob("*.yaml"):
        assert f"{group}={entry.stem}" in str(refused.value)


def test_the_settings_of_another_command_are_no_hint():
    with pytest.raises(Refusal) as refused:
        compose("merge_recipe", ["plan=true"])
    assert "unknown key 'plan'" in str(refused.value) and "'plan'?" not in str(refused.value)


def test_every_hint_is_a_setting_that_a_file_writes(tmp_path: Path):
    files = {
        "rule/a.yaml": "# @package rule.a\ndensity: 1\n",
        "rule/b.yaml": "weight: 1\n",
        "experiment/one.yaml": "# @package _global_\ndefaults: [x]\nname: one\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    written = written_settings({"seed": 0, "paths": {"data": "x"}}, tmp_path, tmp_path.rglob("*.yaml"))
    assert written == {
        "seed": (),
        "paths": (),
        "paths.data": (),
        "rule.a.density": ("rule=a",),
        "rule.weight": ("rule=b",),
        "name": (),
    }
    assert "'rule.a.density'" in unknown_setting("rule.a.densty", written)
    assert "does not have it, but rule=b" in unknown_setting("rule.weight", written)
    assert unknown_setting("xyzzy", written).endswith(
        "valid names: name, paths, paths.data, rule.a.density, rule.weight, seed"
    )
