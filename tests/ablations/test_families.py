"""A judge's kin among the models of an experiment is known from conf/model, or from their files."""

import json

from ablations.cell import families
from fusion.pipeline import fusion_config
from fusion.runtime.command import compose


def test_pivot_and_sources_carry_their_families_to_their_rows():
    found = families(fusion_config(compose("ablations", ["experiment=fusechat_7b_v2"])))
    assert found["pivot"] == "mistral"
    assert found["source-qwen1.5"] == "qwen"
    assert families(fusion_config(compose("ablations", ["experiment=pocket"]))) == {}


def test_models_given_by_path_are_of_the_family_that_their_files_name(tmp_path):
    kinds = {"one": "qwen2", "two": "mixtral", "three": None}
    for name, kind in kinds.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"model_type": kind} if kind else {}))
    one, two, three = (tmp_path / name for name in kinds)
    given = [f"pivot={one}", f"sources=[{two},{three}]"]
    found = families(fusion_config(compose("ablations", ["experiment=small_gpu", *given])))
    assert found == {"pivot": "qwen", "source-two": "mistral"}
