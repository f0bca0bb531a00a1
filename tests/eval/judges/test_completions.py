"""What is sent to a judge model, and how a JSON reply becomes the benchmark's own words."""

import json

import pytest

from eval.benchmarks.fastchat.single_rating import parse_rating
from eval.benchmarks.pairwise_preference import annotator
from eval.judges import JudgeRequest
from eval.judges.completions import body, said_in_words


def request(form="rating", **fields):
    return JudgeRequest(
        benchmark="b",
        question_id="1",
        turn=1,
        model="m",
        form=form,
        question="?",
        answers=("a",),
        reference=None,
        messages=({"role": "system", "content": "Judge."}, {"role": "user", "content": "This."}),
        **fields,
    )


def sent(asked, **settings):
    return body(asked, **{"reply": "text", "extra": {}, "seeded": False, **settings})


def test_the_judges_own_fields_replace_the_benchmarks():
    asked = request(temperature=0.0, max_tokens=9, extra={"tools": [1]}, top_logprobs=5)
    found = sent(asked, extra={"temperature": 0.7})
    assert (found["temperature"], found["max_tokens"], found["tools"]) == (0.7, 9, [1])
    assert (found["logprobs"], found["top_logprobs"]) == (True, 5)


def test_a_seed_depends_on_the_place_alone():
    seeds = [sent(request(repeat=i), seeded=True)["seed"] for i in (0, 1, 0)]
    assert seeds[0] == seeds[2] != seeds[1]
    assert "seed" not in sent(request())


def test_json_is_wished_for_in_the_last_message_with_room_to_say_it():
    found = sent(request("preference_token", max_tokens=1, top_logprobs=5, extra={"tools": [1]}), reply="json")
    assert found["response_format"] == {"type": "json_object"}
    assert found["max_tokens"] > 100
    assert not {"logprobs", "top_logprobs", "tools"} & set(found)
    assert [message["role"] for message in found["messages"]] == ["system", "user"]
    assert found["messages"][1]["content"].startswith("This.\n\nReply with one JSON object")
    assert request().messages[1]["content"] == "This."


@pytest.mark.parametrize("value", [7, 7.0, "7"])
def test_a_rating_in_json_is_read_as_one_in_words(value):
    reply = said_in_words(json.dumps({"explanation": "Fine [[3]].", "rating": value}), request())
    assert parse_rating(reply.text) == 7
    assert reply.text.startswith("Fine")


def test_a_verdict_in_json_is_read_by_the_packages_parsers():
    for form, name in (
        ("preference_token", "weighted_alpaca_eval_gpt4_turbo"),
        ("ranked_models", "alpaca_eval_gpt4_turbo_fn"),
    ):
        for said, expected in (("m", 1.0), ("M", 2.0)):
            reply = said_in_words(json.dumps({"verdict": said}), request(form))
            assert annotator(name).preference(reply, switched=False) == expected
        with pytest.raises(ValueError, match="preference|cannot read"):
            annotator(name).preference(said_in_words('{"verdict": "neither"}', request(form)), switched=False)
    assert said_in_words('{"verdict": "C"}', request("verdict_letter")).text == "[[C]]"


@pytest.mark.parametrize("text", ["", "fine", '{"rating"', "[1]", '"7"', '{"score": 7}'])
def test_what_is_no_such_object_is_left_as_it_was_said(text):
    assert said_in_words(text, request()).text == text
