"""Negative log-likelihoods of the user's and the model's own words, in one conversation."""

import pytest

from eval.likelihood.surprise import (
    Share,
    Surprise,
    measure,
    measure_here,
    measure_served,
    read_surprises,
    write_surprises,
)
from eval.records import Answer, Question
from eval.serve import VLLM, serving
from eval.serve.machine import unavailable
from eval.serve.server import InProcess

QUESTIONS = [
    Question(id="1", category="c", turns=("What is seven?", "And naïve nine?")),
    Question(id="2", category="c", turns=("sum of 7 + 9",)),
    Question(id="3", category="c", turns=("never answered",)),
]
ANSWERS = [
    Answer(question_id="1", model="m", turns=("sixteen", "seven and nine")),
    Answer(question_id="2", model="m", turns=("16.",)),
    Answer(question_id="3", model="m", turns=(), reason="no answer"),
]
HERE = InProcess(device="cpu", dtype="float32", longest=None)


def test_every_token_of_a_message_counts_once_and_the_template_s_do_not(tokenizers):
    """With one nat a token, nats are token counts; templates put tokens of their own around each message."""
    tokenizer = tokenizers["bytes"]
    found = measure(QUESTIONS, ANSWERS, tokenizer, lambda ids: [-1.0] * (len(ids) - 1), longest=256, at_once=1)

    def tokens(*texts: str) -> int:
        return sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)

    for question, answer in zip(QUESTIONS[:2], ANSWERS[:2]):
        one = found[question.id]
        for share, texts in ((one.prompt, question.turns), (one.answer, answer.turns)):
            size = sum(len(text.encode()) for text in texts)
            assert share == Share(nats=tokens(*texts), tokens=tokens(*texts), bytes=size)
            assert share.mean("token") == 1 and share.mean("byte") == tokens(*texts) / size
    assert "3" not in found


def test_a_conversation_that_does_not_fit_has_a_reason(tokenizers):
    found = measure(QUESTIONS[:1], ANSWERS, tokenizers["bytes"], lambda ids: [], longest=5)
    assert "the model's limit is 5" in found["1"]


def test_the_forward_pass_gives_each_token_its_probability_given_all_before(make_checkpoint):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = make_checkpoint(5)
    found = measure_here(path, QUESTIONS, ANSWERS, HERE)["2"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    parts = ["<|user|>", "sum of 7 + 9", "<|end|><|assistant|>", "16.", "<|end|>"]
    ids = [tokenizer(part, add_special_tokens=False)["input_ids"] for part in parts]
    flat = [token for part in ids for token in part]
    nats, at = [], 0
    for part in ids:
        total = 0.0
        for token in part:
            if at:
                with torch.inference_mode():
                    logits = model(torch.tensor([flat[:at]])).logits[0, -1].double()
                total -= float(torch.log_softmax(logits, -1)[token])
            at += 1
        nats.append(total)
    assert found.prompt.nats == pytest.approx(nats[1], rel=1e-5)
    assert found.answer.nats == pytest.approx(nats[3], rel=1e-5)


def test_surprises_survive_the_disk(tmp_path):
    share = Share(nats=1.25, tokens=3, bytes=7)
    write_surprises(tmp_path / "s.jsonl", {"1": Surprise(prompt=share, answer=share), "2": "too long"})
    assert read_surprises(tmp_path / "s.jsonl") == {"1": Surprise(prompt=share, answer=share)}


@pytest.mark.slow
@pytest.mark.skipif(unavailable() is not None, reason=f"vLLM cannot run here: {unavailable()}")
def test_vllm_says_the_same_as_transformers(make_checkpoint, tmp_path):
    path = make_checkpoint(5)
    here = measure_here(path, QUESTIONS, ANSWERS, HERE)
    settings = VLLM(dtype="float32", max_model_len=128, max_num_seqs=8, kv_cache_gb=1)
    with serving(settings, logs=tmp_path) as server:
        server.load(path)
        served = measure_served(path, server.endpoint, QUESTIONS, ANSWERS)
        long = Question(id="4", category="c", turns=("seven 7 + 9 " * 60,))
        answer = Answer(question_id="4", model="m", turns=("16",))
        assert "the model's limit is 128" in measure_served(path, server.endpoint, [long], [answer])["4"]
    assert served.keys() == here.keys() == {"1", "2"}
    for question_id, one in served.items():
        assert one.prompt.nats == pytest.approx(here[question_id].prompt.nats, rel=1e-3)
        assert one.answer.nats == pytest.approx(here[question_id].answer.nats, rel=1e-3)
