"""MT-Bench: what is asked, what the judge is shown, what counts."""

import json

import pytest

from eval.answer.candidate import Candidate
from eval.benchmarks import BENCHMARKS, MTBench
from eval.benchmarks.protocol import BenchmarkFiles, next_messages
from eval.files import read_rows
from eval.judges import Recorded, Reference, Reply
from eval.judging.collect import collect_verdicts
from eval.judging.judgement import JudgingJob
from eval.judging.judging import Judged
from eval.judging.recorded_rows import recorded_rows
from eval.records import Answer, Unscored, Verdict
from eval.scores.intervals import Uncertainty
from fusion.runtime.configure import Refusal, choose

QUESTIONS = [
    {"question_id": 1, "category": "numbers", "turns": ["3+4?", "doubled?"], "reference": ["7", "14"]},
    {"question_id": 2, "category": "letters", "turns": ["upper a", "and b"], "reference": ["A", "B"]},
    {"question_id": 3, "category": "numbers", "turns": ["1+1?", "plus 1?"], "reference": ["2", "3"]},
]


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def pocket(tmp_path):
    path = lines(tmp_path / "question.jsonl", QUESTIONS)
    return MTBench(temperature=0.0).load(BenchmarkFiles(questions=path))


@pytest.fixture(scope="module")
def official(data_root):
    settings = MTBench(
        questions="mt_bench/question.jsonl",
        judge_prompts="mt_bench/judge_prompts.jsonl",
        references="mt_bench/reference_answer/gpt-4.jsonl",
    )
    return settings.load(settings.files(data_root))


def answers(*turns):
    return [Answer(question_id=str(i), model="m", turns=said) for i, said in enumerate(turns, start=1)]


def test_the_second_turn_is_asked_with_the_models_own_first_answer(pocket):
    question = pocket.questions[0]
    assert next_messages(question, []) == [{"role": "user", "content": "3+4?"}]
    assert next_messages(question, ["8"]) == [
        {"role": "user", "content": "3+4?"},
        {"role": "assistant", "content": "8"},
        {"role": "user", "content": "doubled?"},
    ]


def test_ratings_by_the_known_answer_average_over_turns_and_categories(pocket, tmp_path):
    # Right 10; "8" for "7": nothing shared, 1 + 0; blank 1; "B" right.
    said = answers(("7", "8"), ("", "B"), ("2", "3"))
    plan = pocket.plan(said)
    verdicts = collect_verdicts(benchmark=pocket, plan=plan, judge=Reference(), journal=tmp_path / "v.jsonl")
    rows = {row.slice: row for row in pocket.metrics(verdicts, said, Uncertainty())}
    assert list(rows) == ["all", "turn1", "turn2", "numbers", "letters"]
    assert rows["all"].value == pytest.approx((10 + 1 + 1 + 10 + 10 + 10) / 6)
    assert rows["turn1"].value == pytest.approx((10 + 1 + 10) / 3)
    assert rows["turn2"].value == pytest.approx((1 + 10 + 10) / 3)
    assert rows["letters"].value == pytest.approx(5.5)
    assert [row.unscored for row in rows.values()] == [0] * 5
    assert rows["all"].n == 6
    assert rows["letters"].low is None  # one question has no interval


def test_what_was_not_answered_is_unscored_with_its_reason_and_not_averaged(pocket, tmp_path):
    said = [
        Answer(question_id="1", model="m", turns=("7",), reason="the server timed out"),
        Answer(question_id="3", model="m", turns=("2", "3")),
    ]
    plan = pocket.plan(said)
    verdicts = collect_verdicts(benchmark=pocket, plan=plan, judge=Reference(), journal=tmp_path / "v.jsonl")
    assert [(v.question_id, v.turn, getattr(v, "reason", None)) for v in verdicts] == [
        ("1", 1, None),
        ("1", 2, "the server timed out"),
        ("2", 1, "no answer"),
        ("2", 2, "no answer"),
        ("3", 1, None),
        ("3", 2, None),
    ]
    rows = {row.slice: row for row in pocket.metrics(verdicts, said, Uncertainty())}
    assert (rows["all"].value, rows["all"].n, rows["all"].unscored) == (10.0, 3, 3)
    assert (rows["letters"].value, rows["letters"].reason) == (None, "nothing was scored")


def test_an_unreadable_reply_is_unscored_and_keeps_the_judges_words(pocket):
    request = pocket.plan(answers(("7", "14"))).requests[0]
    found = pocket.read(request, Reply(text="I would say nine."), judge="j")
    assert isinstance(found, Unscored)
    assert (found.kind, found.text) == ("unreadable", "I would say nine.")
    assert "no rating" in found.reason
    found = pocket.read(request, Reply(failure="timed out"), judge="j")
    assert (found.kind, found.reason) == ("no_reply", "timed out")


def test_temperature_follows_fastchats_table_unless_one_is_set(pocket, official):
    by_category = {question.category: official.sampling(question).temperature for question in official.questions}
    assert (by_category["writing"], by_category["math"], by_category["stem"]) == (0.7, 0.0, 0.1)
    assert official.sampling(official.questions[0]).max_tokens == 1024
    assert pocket.sampling(pocket.questions[0]).temperature == 0.0


def test_braces_in_an_answer_are_text(official):
    question = official.questions[0]
    said = ["{question_1} {0} {{x}}", "{answer_2.__class__}"]
    first, second = official.plan([Answer(question_id=question.id, model="m", turns=tuple(said))]).requests
    assert said[0] in first.messages[1]["content"]
    assert said[1] in second.messages[1]["content"]


def test_categories_with_a_reference_show_it_to_the_judge_and_others_do_not(official):
    said = [Answer(question_id=question.id, model="m", turns=("a", "b")) for question in official.questions]
    requests = official.plan(said).requests
    assert len(requests) == 160
    shown = [request.question_id for request in requests if request.reference is not None and request.turn == 1]
    assert len(shown) == 30
    for request in requests:
        if request.reference is not None:
            assert request.reference in request.messages[1]["content"]


@pytest.mark.parametrize("model", ["mistral-orpo", "Meta-Llama-3-8B-Instruct-Normal"])
def test_published_judgments_replay_prompt_and_mean(data_root, official, tmp_path, model):
    file = "llama3-griffin" if "Llama" in model else "mistral-orpo"
    recorded = data_root / "mt_bench" / "model_judgment" / f"{file}__gpt-4_single.jsonl.gz"
    answered = data_root / "mt_bench" / "model_answer" / f"{model}.jsonl"
    if not recorded.exists() or not answered.exists():
        pytest.skip(f"{recorded} is not there: it comes with the published judgments, which are optional")
    said = official.read_answers(answered)
    judged = [row for row in read_rows(recorded) if row["model"] == model]
    prompts = {(str(row["question_id"]), row["turn"]): row["user_prompt"] for row in judged}  # of repeats the last
    for request in official.plan(said).requests:
        assert request.messages[1]["content"] == prompts[request.question_id, request.turn]
    verdicts = collect_verdicts(
        benchmark=official, plan=official.plan(said), judge=Recorded(file=str(recorded)), journal=tmp_path / "v.jsonl"
    )
    row = official.metrics(verdicts, said, Uncertainty())[0]
    # Both were judged more than once; one verdict per question and turn, the last that has a score.
    last = {(r["question_id"], r["turn"]): r["score"] for r in judged if r["score"] != -1}
    assert len(judged) > len(last) == row.n == 160
    assert row.value == pytest.approx(sum(last.values()) / 160)


def test_a_replayed_file_with_repeats_is_counted_both_ways(data_root, official, tmp_path):
    recorded = data_root / "mt_bench" / "model_judgment" / "llama3-griffin__gpt-4_single.jsonl.gz"
    answered = data_root / "mt_bench" / "model_answer"
    if not recorded.exists():
        pytest.skip(f"{recorded} is not there: it comes with the published judgments, which are optional")
    candidate = Candidate(model="x", group="Models", path=tmp_path, weights="")
    found = {}
    for model in ("Normal", "Griffin"):
        said = official.read_answers(answered / f"Meta-Llama-3-8B-Instruct-{model}.jsonl")
        job = JudgingJob(candidate=candidate, entry="e", benchmark=official, answers=said)
        judge = Recorded(file=str(recorded))
        verdicts = collect_verdicts(
            benchmark=official, plan=official.plan(said), judge=judge, journal=tmp_path / f"{model}.jsonl"
        )
        judged = Judged(job=job, verdicts=verdicts, said=verdicts, members={}, costs=())
        found[model] = recorded_rows(judged, judge, Uncertainty())
        assert recorded_rows(judged, Reference(), Uncertainty()) == ()
    # Griffin's rows are one per question and turn: there is nothing to tell apart.
    assert found["Griffin"] == ()
    assert [row.slice for row in found["Normal"]][:3] == ["all", "turn1", "turn2"]
    judged = [row["score"] for row in read_rows(recorded) if row["model"].endswith("Normal") and row["score"] != -1]
    assert (len(judged), found["Normal"][0].unscored) == (166, 4)
    assert found["Normal"][0].value == pytest.approx(sum(judged) / 166)


def test_a_row_scored_minus_one_is_unscored_whatever_its_words_say(pocket):
    request = pocket.plan(answers(("7", "14"))).requests[0]
    found = pocket.read(request, Reply(text="[[7]]", value=-1.0), judge="recorded")
    assert isinstance(found, Unscored)
    assert "scores it -1" in found.reason


def test_references_are_chosen_by_name_or_file(data_root, official):
    def known(references):
        settings = MTBench(questions="mt_bench/question.jsonl", references=references)
        questions = settings.load(settings.files(data_root)).questions
        return {question.id: question.references for question in questions if question.references}

    original, corrected = known("gpt-4"), known("gpt-4-0125-preview")
    assert original == known("mt_bench/reference_answer/gpt-4.jsonl")
    assert len(original) == len(corrected) == 30
    assert original.keys() == corrected.keys()
    assert original != corrected
    with pytest.raises(Refusal, match="reference answers is not at"):
        known("gpt-5")


def test_a_folder_of_answers_is_every_model_in_it(pocket, tmp_path):
    folder = tmp_path / "model_answer"
    folder.mkdir()
    with pytest.raises(Refusal, match="holds no .jsonl file"):
        pocket.read_answers(folder)
    for model in ("vicuna", "alpaca"):
        lines(folder / f"{model}.jsonl", [{"question_id": 1, "choices": [{"turns": ["7", "14"]}]}])
    assert [answer.model for answer in pocket.read_answers(folder)] == ["alpaca", "vicuna"]


def test_a_recorded_rating_that_its_own_words_contradict_is_refused(pocket):
    request = pocket.plan(answers(("7", "14"))).requests[0]
    assert pocket.read(request, Reply(text="[[7]]", value=7.0), judge="recorded") == Verdict(
        question_id="1", turn=1, value=7.0, judge="recorded", text="[[7]]"
    )
    with pytest.raises(Refusal, match="was edited"):
        pocket.read(request, Reply(text="[[7]]", value=9.0), judge="recorded")


def test_bad_files_are_refused_with_their_place(tmp_path):
    path = tmp_path / "question.jsonl"
    settings = MTBench()
    with pytest.raises(Refusal, match="names no question file"):
        settings.files(tmp_path)
    with pytest.raises(Refusal, match=r"not at .*fetch the benchmark data"):
        MTBench(questions="mt_bench/question.jsonl").files(tmp_path)
    lines(path, [{"question_id": 1, "turns": ["a"]}])
    with pytest.raises(Refusal, match="row 1 has no 'category'"):
        settings.load(BenchmarkFiles(questions=path))
    lines(path, [QUESTIONS[0], QUESTIONS[0]])
    with pytest.raises(Refusal, match="question_id 1 occurs twice"):
        settings.load(BenchmarkFiles(questions=path))
    lines(path, [{**QUESTIONS[0], "turns": "3+4?"}])
    with pytest.raises(Refusal, match="row 1: expected a list of texts, got '3\\+4"):
        settings.load(BenchmarkFiles(questions=path))
    lines(path, [{**QUESTIONS[0], "turns": []}])
    with pytest.raises(Refusal, match="has no turn"):
        settings.load(BenchmarkFiles(questions=path))


def test_answers_to_other_questions_or_of_two_models_are_refused(pocket):
    with pytest.raises(Refusal, match="none of the 1 answers"):
        pocket.plan([Answer(question_id="81", model="m", turns=("x",))])
    with pytest.raises(Refusal, match="answers of 2 models"):
        pocket.plan(
            [Answer(question_id="1", model="m", turns=("x",)), Answer(question_id="2", model="n", turns=("x",))]
        )
    with pytest.raises(Refusal, match="two answers"):
        pocket.plan([Answer(question_id="1", model="m", turns=("x",))] * 2)


def test_fastchats_answer_files_are_read_and_bad_rows_refused(pocket, tmp_path):
    row = {"question_id": 1, "model_id": "vicuna", "choices": [{"index": 0, "turns": ["7", "14"]}]}
    path = lines(tmp_path / "vicuna.jsonl", [row])
    assert pocket.read_answers(path) == [Answer(question_id="1", model="vicuna", turns=("7", "14"))]
    lines(path, [{**row, "choices": []}])
    with pytest.raises(Refusal, match=r"row 1: expected choices\[0\].turns"):
        pocket.read_answers(path)


def test_settings_are_checked_and_chosen_by_name():
    chosen = choose(BENCHMARKS, {"name": "mt_bench", "max_tokens": 8}, at="benchmark.x")
    assert chosen == MTBench(max_tokens=8)
    with pytest.raises(Refusal, match="did you mean 'max_tokens'"):
        choose(BENCHMARKS, {"name": "mt_bench", "max_token": 8}, at="benchmark.x")
    with pytest.raises(Refusal, match="max_tokens is 0"):
        choose(BENCHMARKS, {"name": "mt_bench", "max_tokens": 0}, at="benchmark.x")
