"""A judge's kin among the models of an experiment is known from conf/model."""

from ablations.cell import families
from fusion.pipeline import fusion_config
from fusion.runtime.command import compose


def test_pivot_and_sources_carry_their_families_to_their_rows():
    found = families(fusion_config(compose("ablations", ["experiment=fusechat_7b_v2"])))
    assert found["pivot"] == "mistral"
    assert found["source-qwen1.5"] == "qwen"
    assert families(fusion_config(compose("ablations", ["experiment=pocket"]))) == {}
