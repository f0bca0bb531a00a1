"""PackLLM's weights by hand, and its decoding against what a single model says."""

import math

import numpy as np
import pytest

from eval.ensembles import PackLLMOpt, PackLLMSim
from eval.ensembles.packllm import Evidence, greedy_weights, mean_nll
from eval.records import Question


def nothing() -> Evidence:
    raise AssertionError("sim needs no evidence")


def test_sim_is_the_softmax_of_minus_nll_over_tau():
    nll = [1.0, 2.0, 4.0]
    for tau in (1.0, 0.5):
        powers = [math.exp(-value / tau) for value in nll]
        expected = [power / sum(powers) for power in powers]
        assert PackLLMSim(tau=tau).weights(nll, nothing) == pytest.approx(expected)


def evidence(*logits, targets, known=None) -> Evidence:
    tables = [np.array(table, float) for table in logits]
    shape = (len(tables), len(targets))
    return Evidence(
        logits=tables, known=np.ones(shape, bool) if known is None else np.array(known), targets=np.array(targets)
    )


SURE = [[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]  # right at both places
FLAT = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
WRONG = [[0.0, 0.0, 9.0], [9.0, 0.0, 0.0]]


@pytest.mark.parametrize("second", [FLAT, WRONG])
def test_opt_gives_nothing_to_a_model_that_knows_nothing_of_the_prompt(second):
    assert greedy_weights([0.1, 1.1], evidence(SURE, second, targets=[0, 1]), 0.05).tolist() == [1, 0]


def test_opt_finds_the_share_that_trying_all_finds():
    ours, theirs, targets = [[2.0, 0.0], [0.0, 0.5]], [[0.0, 0.0], [0.0, 2.0]], np.array([0, 1])
    shares = [number / 20 for number in range(21)]
    losses = [mean_nll(a * np.array(ours) + (1 - a) * np.array(theirs), targets) for a in shares]
    best = shares[int(np.argmin(losses))]
    assert 0 < best < 1
    found = greedy_weights([0.5, 0.6], evidence(ours, theirs, targets=targets), 0.05)
    assert found == pytest.approx([best, 1 - best])


def test_opt_goes_by_rising_nll_and_multiplies_shares_through():
    # By NLL: model 2, model 0, model 1.  Model 2 knows place 0 only, model 0 place 1 only: both get a half, as the
    # problem is symmetric; model 1 is wrong everywhere and gets nothing.
    left, right = [[4.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 4.0]]
    wrong = [[0.0, 4.0], [4.0, 0.0]]
    found = greedy_weights([0.7, 3.0, 0.6], evidence(right, wrong, left, targets=[0, 1]), 0.05)
    assert found == pytest.approx([0.5, 0.0, 0.5])


def test_opt_judges_only_where_both_models_have_a_token():
    # At place 0, which the second model does not know, its row would have been right.
    known = [[True, True], [False, True]]
    found = greedy_weights([0.5, 0.6], evidence(FLAT, [[9.0, 0, 0], [9.0, 0, 0]], targets=[0, 1], known=known), 0.05)
    assert found.tolist() == [1, 0]
    known = [[True, True], [False, False]]
    assert greedy_weights([0.5, 0.6], evidence(FLAT, SURE, targets=[0, 1], known=known), 0.05).tolist() == [1, 0]


@pytest.mark.parametrize(("settings", "message"), [({"tau": 0.0}, "tau is 0.0"), ({"tau": -1.0}, "more than 0")])
def test_a_temperature_of_nothing_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PackLLMSim(**settings)


QUESTIONS = [
    Question(id=str(number), category="c", turns=turns)
    for number, turns in enumerate([("What is seven?", "And nine?"), ("The sum of 7 + 9",), ("naïve answer",)])
]


@pytest.fixture(scope="module")
def local(make_checkpoint):
    from eval.likelihood.local_model import LocalModel

    paths = {"bytes": make_checkpoint(1), "other": make_checkpoint(2, wider=3), "pieces": make_checkpoint(3, "pieces")}
    return {name: LocalModel.load(path, dtype="float32") for name, path in paths.items()}, paths


def alone(path, question, max_tokens) -> tuple[str, ...]:
    """What the fallback server's generator says to the question, turn by turn."""
    from eval.benchmarks.protocol import next_messages
    from eval.serve.generation import Generator
    from eval.serve.transformers_server import Completion

    generator = Generator.load(path, dtype="float32", device="cpu", longest=None)
    said: list[str] = []
    for _ in question.turns:
        job = Completion(
            messages=generator.template.one_message(next_messages(question, said)),
            max_tokens=max_tokens,
            temperature=0.0,
            top_p=1.0,
            seed=0,
            top_logprobs=None,
        )
        generator.complete([job])
        said.append(job.result["choices"][0]["message"]["content"])
    return tuple(said)


@pytest.mark.parametrize("name", ["bytes", "pieces"])
@pytest.mark.parametrize("rule", [PackLLMSim(), PackLLMOpt()])
def test_two_copies_of_one_model_say_what_it_says_alone(local, name, rule):
    from eval.ensembles.mixture import Mixture

    models, paths = local
    for question in QUESTIONS:
        together = Mixture([models[name], models[name]]).answer(question, rule, 12)
        assert together == alone(paths[name], question, 12)


def test_models_of_one_tokenizer_decode_by_the_weighted_sum_of_their_logits(local):
    from eval.ensembles.mixture import Mixture

    models, _ = local
    one, other = models["bytes"], models["other"]
    prompt = one.ids(one.template.prompt([{"role": "user", "content": "The sum of 7 + 9"}]))
    mixture = Mixture([one, other])
    prompts = [mixture._prompt(model, [{"role": "user", "content": "The sum of 7 + 9"}]) for model in (one, other)]
    _, weights = mixture.weights(prompts, PackLLMSim())
    said: list[int] = []
    while len(said) < 8:
        rows = [model.logits([*prompt, *said], [-1])[0][: len(one.tokenizer)] for model in (one, other)]
        token = int(np.argmax(weights[0] * rows[0] + weights[1] * rows[1]))
        if token in one.ends:
            break
        said.append(token)
    assert mixture.answer(QUESTIONS[1], PackLLMSim(), 8) == (one.tokenizer.decode(said, skip_special_tokens=True),)


def test_models_of_different_tokenizers_answer_together_and_opt_beats_its_parts_on_the_prompt(local):
    from eval.ensembles.mixture import Mixture

    models, _ = local
    mixture = Mixture([models["bytes"], models["pieces"]])
    messages = [{"role": "user", "content": "What was the sum of sevens over nine hats?"}]
    prompts = [mixture._prompt(model, messages) for model in mixture.models]
    found = mixture.evidence(0, prompts)
    both = found.known.all(axis=0)
    assert found.known[0].all() and 3 <= both.sum() < len(both)
    one, other = (table[both] for table in found.logits)
    weights = greedy_weights([1.0, 2.0], found, 0.05)
    mixed = one if weights[1] == 0 else weights[0] * one + weights[1] * other
    assert mean_nll(mixed, found.targets[both]) <= mean_nll(one, found.targets[both])
    turns = mixture.answer(QUESTIONS[0], PackLLMSim(), 6)
    assert len(turns) == 2
    assert mixture.answer(QUESTIONS[0], PackLLMSim(), 6) == turns


def test_places_are_compared_where_the_same_text_stands_before_them(local):
    """Before a place that both models know, the user has said the same characters in either's tokens."""
    from eval.ensembles.mixture import Mixture, token_starts

    models, _ = local
    mixture = Mixture([models["bytes"], models["pieces"]])
    messages = [{"role": "user", "content": "What is the naïve sum?"}]
    starts = []
    for model in mixture.models:
        prompt = mixture._prompt(model, messages)
        starts.append(token_starts(prompt))
        start = prompt.text.spans[0][0]
        for (_, characters), place in starts[-1].items():
            assert prompt.tokens.offsets[place - 1][1] == start + characters
    assert (0, len("What")) in starts[0].keys() & starts[1].keys()


def test_a_prompt_beyond_a_model_s_length_is_a_recorded_failure(local):
    from eval.ensembles.mixture import Mixture, Unanswerable

    models, _ = local
    long = Question(id="q", category="c", turns=("seven", "7 + 9 " * 200))
    with pytest.raises(Unanswerable, match="turn 2: the prompt has .* a model's limit is 256") as caught:
        Mixture([models["bytes"], models["pieces"]]).answer(long, PackLLMSim(), 4)
    assert len(caught.value.turns) == 1
