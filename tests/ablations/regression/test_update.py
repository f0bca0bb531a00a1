"""A baseline whose chain is of an older form is refused, and replaced when that is asked for."""

import json

import pytest

from ablations.regression.__main__ import chain_file, run
from fusion.runtime.configure import Refusal

TABLE = "model,group,benchmark,metric,slice,value,low,high,n,unscored\nm,Merged,b,rating,all,5.0,4.0,6.0,3,0\n"


def test_an_unreadable_chain_is_replaced_by_an_update_alone(tmp_path, capsys):
    report, baseline = tmp_path / "report", tmp_path / "kept.json"
    report.mkdir()
    (report / "scores.csv").write_text(TABLE)
    (report / "items.csv").write_text("value\n5.0\n")
    settings = {"scores": str(report / "scores.csv"), "baseline": str(baseline)}
    assert run({**settings, "update": True}) == 0
    chain_file(baseline).write_text(json.dumps({"links": [{"stage": "merge"}], "code": {}, "versions": {}}))
    with pytest.raises(Refusal, match="make eval UPDATE=1"):
        run({**settings, "update": False})
    assert run({**settings, "update": True}) == 0
    capsys.readouterr()
    assert run({**settings, "update": False}) == 0
