"""Endpoints that want a request in another form: learnt from the first refusal, then met at once."""

import pytest

from eval.serve.wishes import Wishes

BODY = {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}], "max_tokens": 7}


@pytest.mark.parametrize(
    "said",
    [
        "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
        "max_completion_tokens is required",
        "Unsupported parameter: 'max_tokens' is not supported with this model.",
        "[{'loc': ['body', 'max_tokens'], 'msg': 'Extra inputs are not permitted'}]",
        "Unrecognized request argument supplied: max_tokens",
    ],
)
def test_another_name_for_the_number_of_tokens(said):
    wishes = Wishes()
    assert wishes.met(BODY) == BODY
    assert wishes.learn(BODY, said)
    assert wishes.met(BODY) == {"messages": BODY["messages"], "max_completion_tokens": 7}
    assert not wishes.learn(wishes.met(BODY), said)  # asked as it wants, it refuses for another reason


@pytest.mark.parametrize(
    "said",
    [
        "System role not supported",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Unexpected role 'system' in messages",
        "this model takes no system message",
        "Only user, assistant and tool roles are supported, got system.",
        "Developer instruction is not enabled for models/gemma-3-4b-it",
        "messages.0.role: Input should be 'user' or 'assistant', not 'system'",
        "The first message must be from the user",
        "invalid role in messages[0]",
    ],
)
def test_instructions_said_by_the_user(said):
    wishes = Wishes()
    assert wishes.learn(BODY, said)
    assert wishes.met(BODY) == {"messages": [{"role": "user", "content": "S\n\nU"}], "max_tokens": 7}


@pytest.mark.parametrize(
    "said", ["the prompt has 9000 tokens, the limit is 4096", "content filtered", "", "max_tokens is too large: 9000"]
)
def test_other_refusals_teach_nothing(said):
    wishes = Wishes()
    assert not wishes.learn(BODY, said)
    assert wishes.met(BODY) == BODY


def test_a_request_without_a_system_turn_stays_as_it_is():
    wishes = Wishes()
    assert wishes.learn(BODY, "no system role")
    plain = {"messages": [{"role": "user", "content": "U"}]}
    assert wishes.met(plain) == plain
