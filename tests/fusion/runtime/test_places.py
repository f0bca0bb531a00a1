"""Where settings are found: hers before the project's, in every group, and by everything that looks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ablations.sweep.cells import expand
from fusion.models import ModelConfig
from fusion.pipeline import fusion_config
from fusion.runtime.command import GROUPS, compose, group_entry, group_names, help_text
from fusion.runtime.configure import Refusal
from fusion.runtime.given_model import template_file
from fusion.runtime.places import CONF, OWN, places

ROOT = Path(__file__).parents[3]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """./conf in a folder of hers that she stands in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(OWN, raising=False)
    (tmp_path / "conf").mkdir()
    return tmp_path / "conf"


def test_without_folders_of_hers_there_is_the_project_s_alone(tmp_path, monkeypatch):
    monkeypatch.delenv(OWN, raising=False)
    monkeypatch.chdir(tmp_path)
    assert places() == (CONF,)
    monkeypatch.chdir(CONF.parent)
    assert places() == (CONF,)


def test_a_named_folder_comes_first_then_the_one_beside_her(beside, tmp_path, monkeypatch):
    monkeypatch.setenv(OWN, "named")
    (tmp_path / "named").mkdir()
    assert places() == (tmp_path / "named", beside, CONF)


def test_a_named_folder_that_is_not_there_is_refused(beside, monkeypatch):
    monkeypatch.setenv(OWN, "nowhere")
    with pytest.raises(Refusal, match=r"nowhere: there is no such folder.*model/ and experiment/"):
        compose("fusion", [])


@pytest.mark.parametrize("group", [group for group in GROUPS if group_names(group)])
def test_an_entry_of_hers_is_there_in_every_group(beside, group):
    name = group_names(group)[0]
    write(beside / group / "hers.yaml", (CONF / group / f"{name}.yaml").read_text())
    assert group_entry(group, "hers") == group_entry(group, name)
    assert {"hers", name} <= set(group_names(group))
    with pytest.raises(Refusal, match="did you mean 'hers'"):
        group_entry(group, "herz")


@pytest.mark.parametrize("group", ["data", "align", "fuse", "train", "merge", "serve", "judge", "rates", "launcher"])
def test_hydra_finds_it_there_too(beside, group):
    name = next(name for name in group_names(group) if name not in ("panel", "served", "recorded"))
    write(beside / group / "hers.yaml", (CONF / group / f"{name}.yaml").read_text())
    assert compose("ablations", [f"{group}=hers"]) == compose("ablations", [f"{group}={name}"])
    assert "hers" in help_text("ablations")


def test_hers_of_the_same_name_stands_in_for_the_project_s(beside):
    write(beside / "merge/linear.yaml", "# @package merge.linear\nname: sce\nselect_topk: 0.7\n")
    assert compose("fusion", ["merge=linear"])["merge"]["linear"] == {"name": "sce", "select_topk": 0.7}


def test_an_experiment_of_hers_composes_from_her_entries_and_the_project_s(beside):
    write(beside / "model/small.yaml", "# @package model.small\nlabel: little\npath: ./small\nchat_template: turns\n")
    turns = write(beside / "template/turns.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}")
    write(
        beside / "experiment/hers.yaml",
        "# @package _global_\ndefaults:\n  - override /data: files\nname: hers\npivot: small\n"
        "sources: [smollm2_1_7b_instruct]\ndata: {files: [x.jsonl]}\n",
    )
    config = fusion_config(compose("fusion", ["experiment=hers"]))
    assert config.models["small"] == ModelConfig(label="little", path="./small", chat_template="turns")
    assert template_file(config.models["small"]) == turns
    assert config.models["smollm2_1_7b_instruct"].label == "smollm2"


def test_the_cells_of_a_sweep_are_known_before_by_entries_of_hers(beside):
    write(beside / "study/hers.yaml", (CONF / "study/merge_rule.yaml").read_text())
    hers, ours = (
        [one for one in expand("ablations", [f"study={name}"]).cells[0] if not one.startswith("study=")]
        for name in ("hers", "merge_rule")
    )
    assert hers == ours


def test_settings_of_another_program_in_a_folder_of_this_name_do_no_harm(beside):
    write(beside / "config.yaml", "defaults: [{model: resnet}]\n---\n{{ no: yaml: [")
    write(beside / "model/resnet.yaml", "_target_: nets.ResNet\n")
    assert compose("fusion", [])["name"] == "pocket"
    with pytest.raises(Refusal, match="did you mean 'merge'"):
        compose("fusion", ["merg=ties"])


def test_another_application_of_hydra_is_left_alone(beside):
    write(beside / "app.yaml", "own: false\n")
    write(beside.parent / "elsewhere/app.yaml", "own: true\n")
    program = (
        "import hydra, json\n"
        f"with hydra.initialize_config_dir({str(beside.parent / 'elsewhere')!r}, version_base='1.3'):\n"
        "    print(json.dumps(dict(hydra.compose('app'))))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert json.loads(ended.stdout) == {"own": True}


@pytest.mark.parametrize("spelling", [["--config-dir", "hers"], ["--config-dir=hers"], ["-cd", "hers"]])
def test_config_dir_reaches_what_is_looked_up_after_composing(tmp_path, spelling):
    write(tmp_path / "hers/model/small.yaml", "label: little\npath: ./nowhere\n")
    write(tmp_path / "hers/objective/hers.yaml", "name: kl\n")
    asked = ["plan=true", "experiment=pocket", "pivot=small", "train.objective=hers"]
    ended = subprocess.run(
        [sys.executable, "-m", "ablations", *spelling, *asked],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert "refused: model 'little': there is no directory ./nowhere" in ended.stderr


@pytest.mark.parametrize(
    "text",
    [
        "label: [",
        "- label: x\n",
        "3\n",
        "label: &a [*a]\n",
        "label: x\nlabel: y\n",
        "? [a, b]\n: c\n",
        'label: "\\ud800"\n',
        "label: " + "[" * 2_000,
    ],
    ids=["cut", "a list", "a number", "itself", "a key twice", "a key that is a list", "half a letter", "deep"],
)
def test_an_entry_of_hers_that_holds_no_settings_is_refused_by_its_file(beside, text):
    write(beside / "model/mine.yaml", text)
    with pytest.raises(Refusal, match=r"conf/model/mine\.yaml .*expected settings"):
        group_entry("model", "mine")
