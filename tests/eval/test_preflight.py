"""An evaluation that would be refused is refused before it serves or asks: files, servers, judges, memory."""

import csv
import json
import socket

import pytest

from eval.__main__ import run
from eval.answer.candidate import Candidate
from eval.config import eval_config
from eval.judges.price import Price
from eval.preflight import Wanted, judge_problems, problems, server_problems
from eval.serve import VLLM, ExistingEndpoint
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal
from fusion.runtime.preflight import machine_memory

RATED = "Rating: [[7]]"
WRONG_KEY = (401, {}, {"error": {"message": "no such key"}})


@pytest.fixture
def questions(tmp_path):
    """Two questions of one turn for the protocol of MT-Bench, the prompts that a judge is shown, a model's answers."""

    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    asked = {1: "Describe the sea.", 2: "Greet a neighbour."}
    write("questions.jsonl", [{"question_id": n, "category": "writing", "turns": [said]} for n, said in asked.items()])
    turns = {"": "{question}\n{answer}", "-multi-turn": "{question_1}\n{answer_1}\n{question_2}\n{answer_2}"}
    shown = {"type": "single", "system_prompt": "", "description": "", "category": "", "output_format": "[[rating]]"}
    kinds = {"single-v1": "", "single-math-v1": "\n{ref_answer_1}"}
    prompts = [
        {**shown, "name": kind + turn, "prompt_template": template + known}
        for kind, known in kinds.items()
        for turn, template in turns.items()
    ]
    write("prompts.jsonl", prompts)
    answers = [{"question_id": n, "choices": [{"index": 0, "turns": [f"answer {n}"]}]} for n in asked]
    return write("model.jsonl", answers)


@pytest.fixture
def settings(questions, monkeypatch):
    monkeypatch.setenv("THE_KEY", "secret")
    folder = questions.parent

    def composed(*overrides):
        here = [
            f"benchmark.mt_bench.questions={folder}/questions.jsonl",
            f"benchmark.mt_bench.judge_prompts={folder}/prompts.jsonl",
            f"paths.artifacts={folder}/artifacts",
            f"out={folder}/out",
            "judge.model=judge",
            "judge.key_variable=THE_KEY",
        ]
        return compose("eval", [*here, *overrides])

    return composed


@pytest.fixture
def taken():
    """A port that somebody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def rating(folder):
    with (folder / "out" / "scores.csv").open() as stream:
        return {row["metric"]: row["value"] for row in csv.DictReader(stream) if row["slice"] == "all"}


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        (WRONG_KEY, "refuses.*no such key"),
        ((402, {}, {"error": {"message": "no money left"}}), "refuses.*no money left"),
        ((404, {}, {"error": {"message": "no such model"}}), "refuses.*no such model"),
        (RATED, None),
        ((500, {}, {"error": {"message": "busy"}}), None),  # it may answer another time
        ((400, {}, {"error": {"message": "too short"}}), None),  # the question's fault
    ],
)
def test_a_judge_who_is_paid_is_asked_one_short_question(endpoint, monkeypatch, said, refused):
    monkeypatch.setenv("THE_KEY", "secret")
    asked = endpoint(lambda question, before: said)
    found = asked.judge(key_variable="THE_KEY").asked_once()
    assert len(asked.asked) == 1
    assert asked.asked[0]["max_tokens"] <= 16
    if refused is None:
        assert found is None
    else:
        with pytest.raises(Refusal, match=refused):
            raise Refusal(found)


def test_a_judge_who_has_a_price_is_asked_and_one_who_costs_nothing_is_not(endpoint):
    asked = endpoint(lambda question, before: WRONG_KEY)
    free, priced = asked.judge(), asked.judge(price=Price(prompt=1, completion=1))
    assert free.asked_once() is None
    assert not asked.asked
    assert priced.asked_once() is not None
    assert len(asked.asked) == 1


def test_a_judge_is_not_asked_without_leave_nor_where_a_key_is_missing(endpoint, settings, monkeypatch):
    asked = endpoint(lambda question, before: WRONG_KEY)
    config = eval_config(settings())
    judge = asked.judge(key_variable="THE_KEY")
    assert judge_problems([judge], config, ask=False) == []
    monkeypatch.delenv("THE_KEY")
    (found,) = judge_problems([judge], config, ask=True)
    assert "THE_KEY" in found
    assert not asked.asked


def test_a_port_that_is_taken_is_found_and_a_free_one_is_not(taken):
    assert sum(f"port {taken} is taken" in problem for problem in VLLM(port=taken).obstacles()) == 1
    with socket.socket() as ours:
        ours.bind(("127.0.0.1", 0))
        free = ours.getsockname()[1]
    assert VLLM(port=free).obstacles() == VLLM().obstacles()


def test_an_endpoint_of_somebody_else_is_asked_for_its_models_before_it_is_counted_on(loopback, taken, monkeypatch):
    url = loopback(lambda *_: (200, {}, {"data": [{"id": "mine"}, {"id": "other"}]}), gets=True) + "/v1"

    def found(ask=True, **given):
        return server_problems([ExistingEndpoint(**{"base_url": url, "model": "mine", **given})], ask=ask)

    assert found() == []
    assert "has no model 'theirs'" in found(model="theirs")[0]
    assert found(ask=False, model="theirs") == []
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    assert "NO_SUCH_KEY" in found(ask=False, key_variable="NO_SUCH_KEY")[0]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers
        assert "nobody answers" in found(base_url=f"http://127.0.0.1:{closed.getsockname()[1]}/v1")[0]


def test_a_model_larger_than_memory_is_refused_unless_another_machine_serves_it(tmp_path, settings, data_root):
    (tmp_path / "config.json").write_text(json.dumps({"torch_dtype": "bfloat16"}))
    with (tmp_path / "model.safetensors").open("wb") as weights:
        weights.truncate(int(2 * machine_memory()))  # of which nothing is written
    candidate = Candidate(model="huge", group="Models", path=tmp_path, weights="x")
    wanted = Wanted(judges=[], served=True)

    def found(*overrides, wanted=wanted):
        return problems([candidate], eval_config(settings(*overrides)), wanted, ask=False)

    (problem,) = found("serve=transformers")
    assert problem.startswith("serving huge needs at least")
    assert found("serve=endpoint") == []
    assert found("serve=transformers", wanted=Wanted(judges=[], served=False)) == []


def test_the_command_refuses_before_it_serves_with_all_problems_at_once(
    settings, questions, endpoint, make_checkpoint, taken
):
    asked = endpoint(lambda question, before: WRONG_KEY)
    checkpoint, folder = make_checkpoint(0), questions.parent
    given = (
        f"checkpoint={checkpoint}", f"judge.base_url={asked.url}", "serve=vllm", f"serve.port={taken}",
        "benchmark.mt_bench.questions=nowhere.jsonl",
    )  # fmt: skip
    with pytest.raises(Refusal) as refused:
        run(settings(*given))
    said = str(refused.value)
    assert all(part in said for part in ("nowhere.jsonl", f"port {taken} is taken", "no such key")), said
    assert len(asked.asked) == 1
    left = [path.name for path in (folder / "artifacts").rglob("*")]
    assert left == ["digests.json"]
    assert not (folder / "out").exists()


def test_answers_are_not_judged_by_a_judge_who_refuses_a_short_question(settings, questions, endpoint, data_root):
    asked = endpoint(lambda question, before: WRONG_KEY)
    with pytest.raises(Refusal, match="no such key"):
        run(settings(f"answers={questions}", f"judge.base_url={asked.url}"))
    assert len(asked.asked) == 1
    assert not (questions.parent / "out").exists()


def test_a_finished_evaluation_is_repeated_without_key_and_without_a_call(
    settings, questions, endpoint, monkeypatch, data_root
):
    asked = endpoint(lambda question, before: RATED)
    given = f"answers={questions}", f"judge.base_url={asked.url}"
    assert not run(settings(*given))
    first, calls = rating(questions.parent), len(asked.asked)
    assert calls == 3  # the short question and two answers
    assert float(first["rating"]) == 7
    monkeypatch.delenv("THE_KEY")
    (questions.parent / "out" / "scores.csv").unlink()
    assert not run(settings(*given))
    assert rating(questions.parent) == first
    assert len(asked.asked) == calls
