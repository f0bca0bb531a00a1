"""The pocket experiment's files: schemas of both benchmarks, held-out questions, the share of wrong answers."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest

from fusion.conversations.conversation import read_conversations
from fusion.pocket.dialogues import DOMAINS, SKILLS, PocketData, dialogues, wording_of
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


def test_another_seed_is_learned_from_and_the_same_is_asked_unless_the_questions_have_another_too(written, tmp_path):
    def differing(**changed: int) -> set[str]:
        write_dialogues(replace(CONFIG, **changed), tmp_path)
        files = [path.relative_to(written[0]) for path in written[0].rglob("*.json*")]
        return {str(file) for file in files if (written[0] / file).read_bytes() != (tmp_path / file).read_bytes()}

    learned = {"fusion.jsonl", *(f"train_{domain}.jsonl" for domain in DOMAINS)}
    assert differing(seed=1) == learned
    assert differing(questions_seed=1) == {
        "questions/pocket_mt_bench.jsonl",
        "questions/pocket_alpaca_eval.json",
    }


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


def test_nothing_that_is_asked_was_computed_in_what_is_trained_or_fused_on():
    """Of the experiment as it ships, in either turn, for either split; nor do the two splits share a computation."""
    config = typed(compose("ablations", ["experiment=pocket"])["data"]["pocket"], PocketData)
    fused, _ = fusion_set(replace(config, wrong_share=0.0))
    for domain in DOMAINS:
        trained = itertools.islice(dialogues(domain=domain, split="train", seed=config.seed), config.train)
        learned = (*trained, *(row for row in fused if row.domain == domain))
        sets = [{turn.computation for row in learned for turn in row.turns}]
        for asked in ("validation", "test"):
            questions, instructions = asked_dialogues(replace(config, asked=asked), domain)
            assert (len(questions), len(instructions)) == (config.questions, config.instructions)
            computed = {turn.computation for row in questions for turn in row.turns}
            sets.append(computed | {row.turns[0].computation for row in instructions})
        for one, other in itertools.combinations(sets, 2):
            assert not one & other


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
