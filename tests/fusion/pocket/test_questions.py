"""The pocket experiment's files: schemas of both benchmarks, held-out questions, the share of wrong answers."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from fusion.conversations.conversation import read_conversations
from fusion.pocket.dialogues import DOMAINS, SKILLS, Dialogue, PocketData, dialogues, split_of, wording_of
from fusion.pocket.questions import asked_dialogues, fusion_set, write_dialogues
from fusion.runtime.command import compose
from fusion.runtime.configure import typed

CONFIG = PocketData(train=200, fusion=60, wrong_share=0.1, questions=12, instructions=10)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("dialogues")
    return out, write_dialogues(CONFIG, out)


def rows_of(out):
    questions = [json.loads(line) for line in (out / "questions" / "pocket_mt_bench.jsonl").read_text().splitlines()]
    return questions, json.loads((out / "questions" / "pocket_alpaca_eval.json").read_text())


def test_the_same_settings_write_the_same_bytes(written, tmp_path):
    out, facts = written
    assert write_dialogues(CONFIG, tmp_path) == facts
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        assert path.read_bytes() == (tmp_path / path.relative_to(out)).read_bytes()


def test_questions_are_in_mt_benchs_schema_with_the_domain_as_category(written):
    questions, _ = rows_of(written[0])
    assert [row["question_id"] for row in questions] == list(range(1, 37))
    assert [row["category"] for row in questions] == [domain for domain in DOMAINS for _ in range(12)]
    assert all(len(row["turns"]) == len(row["reference"]) == 2 for row in questions)


def test_instructions_are_in_alpacaevals_schema_with_a_flawed_baseline_of_varied_length(written):
    _, rows = rows_of(written[0])
    assert len(rows) == 30
    assert {tuple(row) for row in rows} == {("dataset", "instruction", "output", "generator", "reference")}
    wrong = [row for row in rows if row["output"] != row["reference"]]
    assert 0 < len(wrong) < 30
    assert len({len(row["output"]) - len(row["reference"]) for row in wrong}) > 1


@pytest.mark.parametrize("asked", ["validation", "test"])
def test_no_opening_is_asked_twice_nor_opens_what_is_trained_or_fused_on(asked, tmp_path):
    write_dialogues(replace(CONFIG, asked=asked), tmp_path)
    questions, instructions = rows_of(tmp_path)
    openings = [row["turns"][0] for row in questions] + [row["instruction"] for row in instructions]
    assert len(set(openings)) == len(openings)
    files = [tmp_path / "fusion.jsonl", *(tmp_path / f"train_{domain}.jsonl" for domain in DOMAINS)]
    learned = {row.messages[0].content for path in files for row in read_conversations(path)}
    assert not learned & set(openings)


def test_questions_for_choosing_settings_are_none_of_the_tables(tmp_path):
    # An opening names its split by itself: every one of these is of the split that was asked for.
    split_by_opening = {
        row.turns[0].prompt: split_of(row)
        for domain, split in itertools.product(DOMAINS, ("validation", "test"))
        for row in itertools.islice(dialogues(domain=domain, split=split, seed=CONFIG.seed), 1000)
    }
    for asked in ("validation", "test"):
        write_dialogues(replace(CONFIG, asked=asked), tmp_path / asked)
        questions, instructions = rows_of(tmp_path / asked)
        openings = [row["turns"][0] for row in questions] + [row["instruction"] for row in instructions]
        assert {split_by_opening[opening] for opening in openings} == {asked}


def computed(row: Dialogue) -> tuple[str, str]:
    """What each turn computes: a skill and what it is applied to, which for the second is the first's answer."""
    first, second = row.turns
    given = row.key.removeprefix(f"{first.skill} ")
    joined = first.answer.replace(" ", "") if row.domain == "letters" else first.answer
    return f"{first.skill} {given}", f"{second.skill} {joined}"


def test_how_many_openings_were_computed_in_a_trained_follow_up_is_what_the_docs_say():
    config = typed(compose("ablations", ["experiment=pocket"])["data"]["pocket"], PocketData)
    fused, _ = fusion_set(replace(config, wrong_share=0.0))
    shares = []
    for domain in DOMAINS:
        trained = itertools.islice(dialogues(domain=domain, split="train", seed=config.seed), config.train)
        met = {computed(row)[1] for row in (*trained, *(row for row in fused if row.domain == domain))}
        asked = asked_dialogues(config, domain)
        assert not {computed(row)[0] for row in asked} & {computed(row)[0] for row in fused}
        shares.append(sum(computed(row)[0] in met for row in asked) / len(asked))
    told = ", ".join(f"{share:.0%} of the {domain}" for share, domain in zip(shares, DOMAINS, strict=True))
    page = (Path(__file__).parents[3] / "docs" / "pocket.md").read_text()
    assert told in " ".join(page.split())


@pytest.mark.parametrize(("share", "left"), [(0.3, 2), (0.5, 2), (0.6, 3), (0.75, 3), (1.0, 4)])
def test_the_labels_cover_the_share_of_each_domain_s_skills_that_is_set_in_as_many_dialogues(share, left):
    rows, wrong = fusion_set(replace(CONFIG, covered_skills=share))
    assert len(rows) == 3 * CONFIG.fusion and wrong == 18  # a tenth
    shown = {domain: {turn.skill for row in rows if row.domain == domain for turn in row.turns} for domain in DOMAINS}
    assert shown == {domain: {*skills[:left]} for domain, skills in SKILLS.items()}


@pytest.mark.parametrize("share", [0, 0.25, 1.01, float("nan")])
def test_a_share_of_skills_that_makes_no_dialogue_is_refused(share):
    with pytest.raises(ValueError, match="expected above 0.25, up to 1"):
        replace(CONFIG, covered_skills=share)


def test_the_labels_that_are_left_out_change_nothing_of_what_is_asked_and_pretrained_on(written, tmp_path):
    out, _ = written
    write_dialogues(replace(CONFIG, covered_skills=0.5, wrong_share=1.0), tmp_path)
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        assert (path.read_bytes() == (tmp_path / path.relative_to(out)).read_bytes()) == (path.name != "fusion.jsonl")


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_label_is_wrong_or_every_one_is(share):
    rows, wrong = fusion_set(replace(CONFIG, wrong_share=share))
    right = {wording_of(row): row for row in fusion_set(replace(CONFIG, wrong_share=0.0))[0]}
    assert wrong == share * len(rows)
    for row in rows:
        told = zip(row.turns, right[wording_of(row)].turns, strict=True)
        assert all((one.answer == other.answer) == (share == 0) for one, other in told)


def test_the_share_of_wrong_dialogues_is_as_set(written, tmp_path):
    out, facts = written
    write_dialogues(replace(CONFIG, wrong_share=0.0), tmp_path)
    ours, theirs = (read_conversations(where / "fusion.jsonl") for where in (out, tmp_path))
    assert [row.messages[0] for row in ours] == [row.messages[0] for row in theirs]
    changed = sum(one.messages != other.messages for one, other in zip(ours, theirs, strict=True))
    assert changed == facts["wrong"] == 18  # a tenth of 3 x 60
