"""The door of every command."""

import pytest
from omegaconf import OmegaConf

from fusion.runtime.command import cell_folder


@pytest.mark.parametrize("overrides", ["seed=0", "merge=[linear,ties],seed=1", "merge={a:1}", "paths.artifacts=/a b/c"])
def test_a_cell_s_folder_is_named_after_its_overrides(overrides):
    OmegaConf.register_new_resolver("cell_folder", cell_folder, replace=True)
    composed = OmegaConf.create({"overrides": overrides, "folder": "${cell_folder:${overrides}}"})
    assert composed.folder == overrides


def test_many_overrides_give_a_short_name_that_tells_cells_apart():
    long = [",".join(f"a.rather.long.key{i}=1.0e-{i}" for i in range(20)) + f",seed={seed}" for seed in range(3)]
    names = {cell_folder(overrides) for overrides in long}
    assert len(names) == 3
    assert all(len(name.encode()) < 200 and name.startswith("a.rather.long.key0=") for name in names)


def test_a_name_is_cut_between_characters():
    assert cell_folder("é" * 200).startswith("é" * 40 + "...")
