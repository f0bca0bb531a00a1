"""The self-check: published figures beside ours, what is off, and what cannot be compared."""

import csv
import json

import pytest

from eval.__main__ import run
from eval.selfcheck import CheckRow, check, table
from eval.selfcheck.alpaca_eval import rows
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal


def row(**fields):
    given = {"benchmark": "b", "model": "m", "quantity": "q", "ours": 1.0, "published": 1.0, "tolerance": 0.1}
    return CheckRow(**{**given, **fields})


def test_a_row_is_ok_within_its_tolerance_and_off_where_a_figure_is_missing():
    assert row(ours=1.05).ok
    assert row(ours=1.05).difference == pytest.approx(0.05)
    assert not row(ours=1.2).ok
    assert not row(ours=None).ok
    assert not row(published=None).ok
    assert row(ours=None).difference is None
    with pytest.raises(ValueError, match="tolerance"):
        row(tolerance=-1)


def test_the_tables_say_what_is_off(tmp_path):
    found = [row(), row(model="n|", ours=2.0, note="why"), row(model="n|", ours=None)]
    assert table.summary(found) == "1 of 3 published figures of 2 models agree, 2 are off"
    lines = table.text(found).splitlines()
    assert len({line.index(word) for line, word in zip(lines, ("verdict", "ok", "off", "off"), strict=True)}) == 1
    assert "…" in table.text([row(model="m" * 99)])
    table.write(found, tmp_path)
    page = (tmp_path / "selfcheck.md").read_text()
    assert r"| b | n\| | q | 2 | 1 | +1.0e+00 | off | why |" in page
    with (tmp_path / "selfcheck.csv").open() as stream:
        assert [line["verdict"] for line in csv.DictReader(stream)] == ["ok", "off", "off"]


@pytest.fixture
def made_up(tmp_path):
    """A data folder with two made-up instructions, one annotated model and a leaderboard that states its win rate."""
    folder = tmp_path / "alpaca_eval"
    (folder / "annotations").mkdir(parents=True)
    questions = [{"instruction": f"say {i}", "output": "xx" * (i + 1), "generator": "base"} for i in range(3)]
    (folder / "alpaca_eval_gpt4_baseline.json").write_text(json.dumps(questions))
    annotated = [
        {
            "instruction": question["instruction"],
            "output_1": question["output"],
            "output_2": "own",
            "generator_2": "m",
            "preference": preference,
        }
        for question, preference in zip(questions, (1.2, 1.6, 2.0), strict=True)
    ]
    (folder / "annotations" / "m.json").write_text(json.dumps(annotated))
    (folder / "annotations" / "not-published.json").write_text(json.dumps(annotated))
    names = ["", "win_rate", "standard_error", "discrete_win_rate", "n_total", "length_controlled_winrate"]
    # Shares .2, .6, 1: mean .6, deviation .4, over sqrt(3) items; rounded: lost, won, won.
    values = ["m", 60.0, 40 / 3**0.5, 200 / 3, 3, 12.0]
    with (folder / "weighted_alpaca_eval_gpt4_turbo_leaderboard.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([[*names, "lc_standard_error"], [*values, ""]])
    return tmp_path


def test_every_published_figure_is_a_row_and_models_without_one_are_left_out(made_up):
    found = rows(made_up)
    assert {line.model for line in found} == {"m"}
    assert {line.quantity: line.ok for line in found} == {
        "win_rate": True,
        "standard_error": True,
        "discrete_win_rate": True,
        "n_total": True,
        # Three instructions of one's own have no published length-controlled rate: ours is another figure.
        "length_controlled_win_rate": False,
        "length_controlled_win_rate, named folds": False,
    }


def test_the_command_says_by_its_status_whether_something_is_off(made_up, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(compose("eval", ["selfcheck=true", f"paths.data={made_up}", f"out={out}"])) == 1
    assert "4 of 6 published figures of 1 models agree, 2 are off" in capsys.readouterr().out
    assert (out / "selfcheck.md").exists()
    assert (out / "selfcheck.csv").exists()


def test_no_published_figures_are_refused_with_where_to_get_them(tmp_path):
    with pytest.raises(Refusal, match=r"no published .* eval.benchmark_data"):
        check(tmp_path)


# Which named order gives the published length-controlled rate; where both do, the order does not matter.
MATCHING = {"NullModel": "stable"} | dict.fromkeys(
    ("OpenHermes-2.5-Mistral-7B", "alpaca-7b_verbose", "chatglm2-6b", "gpt4_gamed"), "numpy1"
)


def test_every_published_annotation_gives_the_published_leaderboard(data_root):
    found = rows(data_root)
    if not found:
        pytest.skip("the published annotations are not there: they are optional")
    assert [line for line in found if not line.ok] == []
    for line in found:
        if line.quantity.endswith("named folds"):
            assert line.tolerance == 1e-6
            assert line.note == f"folds {MATCHING.get(line.model, 'stable and numpy1')}"
        elif line.quantity == "length_controlled_win_rate":
            assert abs(line.difference) < 0.16
        else:
            assert abs(line.difference) <= 1e-6
    # Every annotation that keeps the judge's token probabilities, 8 of the 12 files in the full collection.
    assert all(line.published >= 800 for line in found if line.quantity == "preferences read")
    annotated = {path.name.split(".json")[0] for path in (data_root / "alpaca_eval" / "annotations").iterdir()}
    assert {line.model for line in found} == annotated
