"""The cells of a sweep are known before it starts, exactly as Hydra will launch them."""

import sys
import warnings

import pytest
from hydra.core.hydra_config import HydraConfig

from ablations.sweep.cells import expand
from fusion.runtime.command import command
from fusion.runtime.configure import Refusal


@pytest.mark.parametrize(
    "arguments",
    [
        ["experiment=pocket_smoke", "study=merge_rule", "seed=0", "train.max_steps=range(2,4)"],
        ["-m", "study=sce_steps", "row=sce_steps/full,sce_steps/unmasked", "seed=choice(3)", "hydra/launcher=basic"],
        ["experiment=pocket", "seed=4"],
    ],
)
def test_cells_are_those_that_hydra_launches_in_its_order_with_its_settings(arguments, tmp_path, monkeypatch):
    launched = []

    def run(settings):
        hydra = HydraConfig.get()
        launched.append((tuple(hydra.overrides.task), hydra.job.override_dirname, settings))

    own = ["hydra/sweeper=basic", f"hydra.sweep.dir={tmp_path}", f"hydra.run.dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["ablations", *arguments, *own])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which the command replaces
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(SystemExit, match="0"):
        command("ablations", run)

    given = [argument for argument in arguments if argument != "-m"]
    sweep = expand("ablations", [*given, *own], multirun="-m" in arguments)
    composed = [sweep.compose(cell) for cell in sweep.cells]
    found = [(cell, one.name, one.settings) for cell, one in zip(sweep.cells, composed, strict=True)]
    assert found == launched
    assert sweep.multirun == (len(launched) > 1 or any(argument.startswith("study=") for argument in arguments))


def test_the_command_line_comes_before_what_a_study_sweeps():
    swept = expand("ablations", ["experiment=pocket", "study=alignment_scheme"])
    narrowed = expand("ablations", ["experiment=pocket", "study=alignment_scheme", "seed=7", "align=em,ms"])
    assert len(swept.cells) == 4 * 5
    assert [cell[:2] for cell in narrowed.cells] == [("align=em", "seed=7"), ("align=ms", "seed=7")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["experiment=pocke"], "did you mean 'pocket'"),
        (["experiment=pocket", "train.lm_weight=interval(0,1)"], "INTERVAL_SWEEP"),
        (["experiment=pocket", "seed=0,1", "train.lm_weigt=1"], "did you mean 'train.lm_weight'"),
    ],
)
def test_what_hydra_would_not_launch_is_refused(arguments, said):
    def first() -> None:
        sweep = expand("ablations", arguments, multirun=True)
        sweep.compose(sweep.cells[0])

    with pytest.raises(Refusal, match=said):
        first()
