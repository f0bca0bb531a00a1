"""Both annotators against a scripted endpoint: what is sent is what the alpaca-eval package sends, and so is what is
read from the replies.
"""

import json
import math

import pytest
import yaml

from eval.benchmarks import AlpacaEval
from eval.benchmarks.pairwise_preference import shown_switched
from eval.benchmarks.protocol import BenchmarkFiles
from eval.judges import OpenAI
from eval.judging.collect import collect_verdicts
from eval.records import Answer, Unscored
from eval.scores.alpaca_package import alpaca_folder

WEIGHTED, RANKING = "weighted_alpaca_eval_gpt4_turbo", "alpaca_eval_gpt4_turbo_fn"
# Instruction -> (the baseline's output, the model's); the endpoint likes long outputs.
PAIRS = {f"say {i}": (f"baseline {i} {'x' * (i % 3)}", f"own {i} {'x' * (7 * i % 5)}") for i in range(12)}


def first_is_longer(body):
    """Whether the output that the prompt shows first is the longer one."""
    prompt = body["messages"][-1]["content"]
    instruction, (baseline, own) = next(
        (key, pair) for key, pair in PAIRS.items() if pair[0] in prompt and f"own {key[4:]} " in prompt
    )
    shown = (own, baseline) if shown_switched(instruction) else (baseline, own)
    assert prompt.index(shown[0]) < prompt.index(shown[1]), "not shown in the package's order"
    return len(shown[0]) > len(shown[1])


def reply(body):
    """A choice in the form that the request asks for."""
    better = first_is_longer(body)
    if "tools" in body:
        order = ["m", "M"] if better else ["M", "m"]
        ranking = {"ordered_models": [{"model": name, "rank": i} for i, name in enumerate(order, start=1)]}
        call = {"name": "make_partial_leaderboard", "arguments": json.dumps(ranking)}
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": call}],
        }
        return {"message": message, "logprobs": None}
    chances = {"m": 0.75, "M": 0.15, "The": 0.1} if better else {"m": 0.2, "M": 0.6, "The": 0.2}
    top = [{"token": token, "logprob": math.log(chance), "bytes": None} for token, chance in chances.items()]
    text = max(chances, key=chances.get)
    first = {"token": text, "logprob": math.log(chances[text]), "bytes": None, "top_logprobs": top}
    return {"message": {"role": "assistant", "content": text}, "logprobs": {"content": [first]}}


@pytest.fixture
def endpoint(loopback):
    """A chat endpoint that keeps what it is asked: (url, bodies)."""
    bodies = []

    def react(path, key, body):
        bodies.append(body)
        found = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", **reply(body)}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
        }
        return 200, {}, found

    return f"{loopback(react)}/v1", bodies


def ours(url, annotator, tmp_path):
    """Our preferences by instruction."""
    path = tmp_path / "instructions.json"
    rows = [{"instruction": key, "output": pair[0], "generator": "base"} for key, pair in PAIRS.items()]
    path.write_text(json.dumps(rows))
    benchmark = AlpacaEval(annotator=annotator).load(BenchmarkFiles(questions=path))
    said = [Answer(question_id=str(i), model="m", turns=(own,)) for i, (_, own) in enumerate(PAIRS.values())]
    judge = OpenAI(model="judge", base_url=url, key_variable=None, timeout_seconds=5.0)
    verdicts = collect_verdicts(
        benchmark=benchmark, plan=benchmark.plan(said), judge=judge, journal=tmp_path / "verdicts.jsonl"
    )
    assert not any(isinstance(verdict, Unscored) for verdict in verdicts)
    return {benchmark.questions[int(v.question_id)].turns[0]: v.value for v in verdicts}


def theirs(url, annotator, tmp_path, monkeypatch):
    """The package's preferences by instruction, its judge pointed at the endpoint."""
    from alpaca_eval.annotators import PairwiseAnnotator

    monkeypatch.setenv("OPENAI_API_KEY", "none")
    configs = alpaca_folder() / "evaluators_configs"
    settings = yaml.safe_load((configs / annotator / "configs.yaml").read_text())[annotator]
    client = tmp_path / "client.yaml"
    client.write_text(yaml.safe_dump({"default": [{"api_key": "none", "base_url": url}]}))
    settings["prompt_template"] = str(configs / settings["prompt_template"])
    settings["completions_kwargs"] |= {"model_name": "judge", "client_config_path": str(client), "num_procs": 1}
    settings["completions_kwargs"] |= {"requires_chatml": True, "price_per_token": 0}
    config = tmp_path / "annotators" / annotator / "configs.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(yaml.safe_dump({annotator: settings}))
    asked = PairwiseAnnotator(annotators_config=str(config), caching_path=None)
    both = [
        [
            {"instruction": key, "output": pair[side], "generator": "base own".split()[side]}
            for key, pair in PAIRS.items()
        ]
        for side in (0, 1)
    ]
    rows = asked.annotate_head2head(outputs_1=both[0], outputs_2=both[1])
    return {row["instruction"]: row["preference"] for row in rows}


@pytest.mark.parametrize("annotator", [WEIGHTED, RANKING])
def test_requests_and_preferences_are_the_packages(endpoint, annotator, tmp_path, monkeypatch):
    url, bodies = endpoint
    found = ours(url, annotator, tmp_path)
    sent = list(bodies)
    bodies.clear()
    expected = theirs(url, annotator, tmp_path, monkeypatch)
    assert len(sent) == len(bodies)

    def in_order(requests):
        return sorted(requests, key=lambda body: json.dumps(body["messages"]))

    for mine, packages in zip(in_order(sent), in_order(bodies), strict=True):
        assert mine == {name: value for name, value in packages.items() if name in mine}
        # What we leave unsaid is the interface's default.
        assert {name: value for name, value in packages.items() if name not in mine} == {"top_p": 1.0}
    assert found == pytest.approx(expected)


def test_the_weighted_annotator_asks_for_probabilities_of_one_token(endpoint, tmp_path):
    url, bodies = endpoint
    found = ours(url, WEIGHTED, tmp_path)
    fields = {"model": "judge", "temperature": 1.0, "max_tokens": 1, "logprobs": True, "top_logprobs": 5}
    for body in bodies:
        assert {name: body[name] for name in fields} == fields
        assert "tools" not in body
    # m is shown first.  m .75 against M .15 is 2 - .75/.9 for the first; m .2 against M .6 is 2 - .2/.8.
    wins, losses = 2 - 0.75 / 0.9, 2 - 0.2 / 0.8
    for instruction, (baseline, own) in PAIRS.items():
        if own != baseline:
            switched = shown_switched(instruction)
            first, second = (own, baseline) if switched else (baseline, own)
            shown = wins if len(first) > len(second) else losses
            assert found[instruction] == pytest.approx(3 - shown if switched else shown)


def test_the_ranking_annotator_asks_for_its_function(endpoint, tmp_path):
    url, bodies = endpoint
    found = ours(url, RANKING, tmp_path)
    for body in bodies:
        assert (body["temperature"], body["max_tokens"]) == (0.0, 100)
        assert body["tool_choice"] == {"type": "function", "function": {"name": "make_partial_leaderboard"}}
        assert body["tools"][0]["function"]["parameters"]["required"] == ["ordered_models"]
        assert "logprobs" not in body
    for instruction, (baseline, own) in PAIRS.items():
        shown = (own, baseline) if shown_switched(instruction) else (baseline, own)
        longer = shown[0] if len(shown[0]) > len(shown[1]) else shown[1]
        assert found[instruction] == (2.0 if longer == own else 1.0)
