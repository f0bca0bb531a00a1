"""Published MT-Bench judgments, read, rebuilt and averaged here."""

import pytest

from eval.selfcheck.mt_bench import rows


@pytest.fixture(scope="module")
def checked(data_root):
    if not list((data_root / "mt_bench" / "model_judgment").glob("*.jsonl*")):
        pytest.skip("the published judgments are optional data and are not there")
    return rows(data_root)


def total(checked, quantity):
    found = [row for row in checked if row.quantity == quantity]
    return sum(row.ours for row in found), sum(row.published for row in found)


def test_every_row_is_as_published(checked):
    assert [row for row in checked if not row.ok] == []
    assert {row.benchmark for row in checked} == {"mt_bench"}


def test_every_rating_is_read_and_every_prompt_rebuilt_where_the_answer_is_there(checked):
    assert total(checked, "ratings read as recorded") == (1610, 1610)
    assert total(checked, "prompts rebuilt") == (1251, 1251)
    assert [(row.model.split()[0], row.note) for row in checked if row.quantity == "prompts rebuilt" and row.note] == [
        ("vicuna-7b-v1.3", "39 of 160 rows are on other answers than those in model_answer"),
        ("vicuna-7b-v1.3-greedy", "160 of 160 rows have no file in model_answer"),
        ("mistral-orpo", "160 of 320 rows are on other answers than those in model_answer"),
    ]


def test_means_counted_both_ways_stand_side_by_side(checked):
    notes = {row.model.split()[0]: (row.ours, row.note) for row in checked if row.quantity == "rating_fastchat, all"}
    assert len(notes) == 9
    both, note = notes["Meta-Llama-3-8B-Instruct-Normal"]
    assert f"{both:.3f}" == "7.843"
    assert note == "one verdict each: 7.769 (n 160, unscored 0)"
    both, note = notes["mistral-orpo"]  # the file holds the judgments of an older run too
    assert f"{both:.3f}" == "5.859"
    assert note == "one verdict each: 6.328 (n 160, unscored 0)"


def test_nothing_published_is_no_row(tmp_path):
    assert rows(tmp_path) == []
