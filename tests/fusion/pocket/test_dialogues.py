"""Pocket dialogues: right answers, splits that share no question, slips that are always wrong, reproducible streams."""

from __future__ import annotations

import itertools
import random

import pytest

from fusion.pocket.dialogues import (
    DOMAINS,
    SPLITS,
    PocketData,
    dialogues,
    distinct,
    in_digits,
    in_figures,
    in_order,
    in_roman,
    in_words,
    mistaken,
    next_letters,
    opening_of,
    previous_letters,
    reverse,
    split_of,
)
from fusion.runtime.configure import Refusal, typed


def some(domain: str, split: str, count: int, seed: int = 0):
    return list(itertools.islice(dialogues(domain=domain, split=split, seed=seed), count))


@pytest.mark.parametrize(
    ("value", "words", "roman", "digits"),
    [
        (7, "seven", "V I I", "seven"),
        (40, "forty", "X L", "four zero"),
        (215, "two hundred fifteen", "C C X V", "two one five"),
        (900, "nine hundred", "C M", "nine zero zero"),
        (949, "nine hundred forty nine", "C M X L I X", "nine four nine"),
    ],
)
def test_a_number_is_written_in_every_form(value, words, roman, digits):
    assert (in_words(value), in_roman(value), in_digits(value), in_figures(value)) == (words, roman, digits, str(value))


def test_letters_are_reworked_and_the_alphabet_is_a_ring():
    assert (reverse("kta"), in_order("kta"), next_letters("ktz"), previous_letters("lua")) == (
        "atk",
        "akt",
        "lua",
        "ktz",
    )


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_stream_is_the_same_for_the_same_seed_and_another_for_another(domain):
    assert some(domain, "train", 20) == some(domain, "train", 20)
    assert some(domain, "train", 20) != some(domain, "train", 20, seed=1)


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_question_is_in_two_splits_whatever_the_seeds(domain):
    keys = {split: {row.key for row in some(domain, split, 400, seed=number)} for number, split in enumerate(SPLITS)}
    for one, other in itertools.combinations(keys, 2):
        assert not keys[one] & keys[other]


def test_every_domain_has_four_skills_in_both_turns():
    for domain in DOMAINS:
        rows = some(domain, "train", 300)
        assert {len({row.turns[turn].skill for row in rows}) for turn in (0, 1)} == {4}
        assert all(row.turns[0].skill != row.turns[1].skill for row in rows)


def test_the_split_does_not_depend_on_the_follow_up_nor_on_the_wording():
    row = some("letters", "test", 1)[0]
    assert split_of(row) == "test"
    assert row.key == opening_of(row)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_mistaken_dialogue_is_wrong_in_every_turn(domain):
    draw = random.Random(0)
    for row in some(domain, "fusion", 200):
        wrong = mistaken(row, draw)
        assert [turn.prompt for turn in wrong.turns] == [turn.prompt for turn in row.turns]
        assert all(ours.answer != theirs.answer for ours, theirs in zip(wrong.turns, row.turns, strict=True))


def test_more_questions_than_a_split_has_are_refused():
    with pytest.raises(Refusal, match="different dialogues: expected at most that, not 5000"):
        distinct(dialogues(domain="arithmetic", split="test", seed=0), 5000, opening_of)


def test_a_share_outside_zero_to_one_is_refused_with_its_place():
    with pytest.raises(Refusal, match=r"data\.pocket: wrong_share is 1\.5: expected 0 to 1"):
        typed({"wrong_share": 1.5}, PocketData, at="data.pocket")
