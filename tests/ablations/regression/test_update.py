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


PAGE = "# Mine\n\n<!-- table: {} -->\nold\n<!-- end of table -->\n\nText.\n"


def test_an_update_writes_the_table_into_its_pages_and_nothing_else(tmp_path, capsys):
    report, baseline, page = tmp_path / "report", tmp_path / "kept.json", tmp_path / "page.md"
    report.mkdir()
    (report / "scores.csv").write_text(TABLE)
    (report / "leaderboard.md").write_text("# pocket\n\n| | MT-Bench |\n|---|---|\n| m | 5.00 |\n\nBelow.\n")
    page.write_text(PAGE.format(baseline))
    settings = {"scores": str(report / "scores.csv"), "baseline": str(baseline), "pages": [str(page)]}
    for _ in range(2):  # a second time it stays as it is
        assert run({**settings, "update": True}) == 0
        assert page.read_text() == PAGE.format(baseline).replace(
            "\nold\n", "\n\n| | MT-Bench |\n|---|---|\n| m | 5.00 |\n\nBelow.\n\n"
        )
    assert str(page) in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    ["", "<!-- end of table -->", "<!-- table: kept.json -->", "<!-- table: other.json -->\n<!-- end of table -->"],
)
def test_a_page_without_a_place_for_the_table_is_refused_before_anything_is_written(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scores.csv").write_text(TABLE)
    (tmp_path / "leaderboard.md").write_text("# t\n\ntable\n")
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(Refusal, match=r"page.md has no place for the table"):
        run({"scores": "scores.csv", "baseline": "kept.json", "pages": ["page.md"], "update": True})
    assert (tmp_path / "page.md").read_text() == text and not (tmp_path / "kept.json").exists()
