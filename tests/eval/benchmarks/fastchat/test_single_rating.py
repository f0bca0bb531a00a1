"""Ratings in a judge's words, read as fastchat reads them."""

import pytest

from eval.benchmarks.fastchat.single_rating import parse_rating
from eval.files import read_rows


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Good. Rating: [[7]]", 7.0),
        ("Rating: [[8.5]]", 8.5),
        ("[[3]] and later [[9]]", 3.0),  # the first counts
        ("Rating: [6]", 6.0),  # the looser pattern
        ("[2] but finally [[10]]", 10.0),  # the strict pattern goes first
        ("[[08]]", 8.0),
    ],
)
def test_the_first_rating_is_found(text, rating):
    assert parse_rating(text) == rating


@pytest.mark.parametrize("text", ["", "seven", "$ERROR$", "[[seven]]", "Rating: 7", "[[-3]]"])
def test_no_rating_is_no_number(text):
    with pytest.raises(ValueError, match="no rating"):
        parse_rating(text)


@pytest.mark.parametrize("text", ["[[72]]", "[[0]]", "[[10.5]]", "see [0]"])
def test_a_rating_off_the_scale_is_refused(text):
    with pytest.raises(ValueError, match="outside 1 to 10"):
        parse_rating(text)


@pytest.mark.parametrize("name", ["mistral-orpo", "medusa", "llama3-griffin"])
def test_every_published_judgment_is_read_as_it_was_scored(data_root, name):
    path = data_root / "mt_bench" / "model_judgment" / f"{name}__gpt-4_single.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there: it comes with the published judgments, which are optional")
    for row in read_rows(path):
        if row["score"] == -1:
            with pytest.raises(ValueError):
                parse_rating(row["judgment"])
        else:
            assert parse_rating(row["judgment"]) == row["score"]
