"""Pocket dialogues: right answers, splits that share no computation, slips that are always wrong, same streams."""

from __future__ import annotations

import itertools
import random

import pytest

from fusion.pocket.dialogues import (
    DOMAINS,
    PARTS,
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
    openings,
    part_of,
    previous_letters,
    reverse,
    split_of,
    wording_of,
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
def test_nothing_that_is_asked_is_computed_in_any_turn_of_another_split_whatever_the_seeds(domain):
    computed = {
        split: {turn.computation for row in some(domain, split, 400, seed=number) for turn in row.turns}
        for number, split in enumerate(SPLITS)
    }
    for one, other in itertools.combinations(computed, 2):
        if {one, other} != {"train", "fusion"}:  # both are learned
            assert not computed[one] & computed[other]


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_dialogue_is_both_trained_and_fused_on(domain):
    train, fusion = ({wording_of(row) for row in some(domain, split, 800)} for split in ("train", "fusion"))
    assert not train & fusion


@pytest.mark.parametrize("domain", DOMAINS)
def test_what_undoes_a_computation_is_the_same_computation(domain):
    """Asked backwards, from its answer to what was given, a turn must not be learned where it is asked forwards."""
    names: dict[frozenset[str], set[str]] = {}
    for row in (row for split in SPLITS for row in some(domain, split, 2000)):
        first, second = row.turns
        shown = first.prompt.removeprefix("write ")
        given = shown.rsplit(" in ", 1)[0] if domain == "numbers" else shown.removeprefix(f"{first.skill} ")
        kind = {"add 5 to": 5, "take 5 from": 5, "double": 2, "halve": 2, "advance": 1, "lower": 1}
        for skill, before, turn in ((first.skill, given, first), (second.skill, first.answer, second)):
            if skill == "sort":
                continue  # no row is the only one that sorts to what it gives
            ends = frozenset({before, turn.answer, str(kind.get(skill, ""))})
            names.setdefault(ends, set()).add(turn.computation)
    assert len(names) > 500
    assert all(len(found) == 1 for found in names.values())


@pytest.mark.parametrize("domain", DOMAINS)
def test_parts_have_their_shares_of_the_computations(domain):
    parts = [part_of(domain, f"double {operand}") for operand in range(10_000)]
    for part, percent in PARTS.items():
        # Four standard errors of a share of 10,000.
        assert abs(parts.count(part) / 10_000 - percent / 100) < 4 * (0.25 / 10_000) ** 0.5


def test_every_domain_has_four_skills_in_both_turns():
    for domain in DOMAINS:
        rows = some(domain, "train", 300)
        assert {len({row.turns[turn].skill for row in rows}) for turn in (0, 1)} == {4}
        assert all(row.turns[0].skill != row.turns[1].skill for row in rows)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_dialogue_belongs_to_a_split_only_with_both_its_turns(domain):
    for row in itertools.islice(openings(domain=domain, part="test", seed=3), 200):
        parts = [part_of(domain, turn.computation) for turn in row.turns]
        assert split_of(row) == ("test" if parts == ["test", "test"] else None)


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
