"""How a model is asked a benchmark's questions: through the real client, at an address that notes what comes."""

from dataclasses import dataclass

import pytest

from eval.answer.collect import collect_answers
from eval.benchmarks.protocol import Sampling
from eval.records import Question
from eval.serve.server import Endpoint


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A benchmark that samples all its questions at one temperature."""

    questions: tuple[Question, ...]
    temperature: float
    name: str = "asked"

    def sampling(self, question: Question) -> Sampling:
        return Sampling(temperature=self.temperature, max_tokens=8)


@pytest.fixture
def bodies(loopback):
    """`bodies(ids, temperature, journal)` asks these questions anew: what the endpoint was sent, by the question."""

    def ask(ids, temperature, journal):
        came = {}

        def react(path, key, body):
            came[body["messages"][-1]["content"]] = body
            message = {"role": "assistant", "content": "yes"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return 200, {}, {"choices": [choice], "usage": usage}

        questions = tuple(Question(id=name, category="c", turns=(f"ask {name}",)) for name in ids)
        answers, failed = collect_answers(
            benchmark=Asked(questions=questions, temperature=temperature),
            endpoint=Endpoint(base_url=f"{loopback(react)}/v1", model="model", key="k"),
            model="m",
            weights="w",
            journal=journal,
            advance=lambda done, total: None,
        )
        assert [answer.turns for answer in answers] == [("yes",)] * len(ids) and failed == 0
        return {text.removeprefix("ask "): body for text, body in came.items()}

    return ask


def test_a_sampled_answer_has_a_seed_of_its_question_alone(bodies, tmp_path):
    first = bodies(["a", "b", "c"], 0.7, tmp_path / "1.jsonl")
    seeds = {name: body["seed"] for name, body in first.items()}
    assert all(isinstance(seed, int) and 0 <= seed < 2**31 for seed in seeds.values())
    assert len(set(seeds.values())) == 3
    again = bodies(["c", "a"], 0.7, tmp_path / "2.jsonl")  # in other company
    assert {name: body["seed"] for name, body in again.items()} == {"a": seeds["a"], "c": seeds["c"]}


def test_a_greedy_answer_needs_no_seed(bodies, tmp_path):
    (body,) = bodies(["a"], 0.0, tmp_path / "1.jsonl").values()
    assert body["temperature"] == 0.0 and "seed" not in body
