"""What each message says is found in the rendered conversation, whatever the template does around it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.likelihood.chat_text import chat_text, chat_tokens
from eval.serve.chat_template import ChatTemplate

TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
PLAIN = TURNS + "{% if add_generation_prompt %}<assistant>{% endif %}"
TRIMMING = PLAIN.replace("m.content", "m.content | trim")
SWITCHING = "{% if 'x' in messages[0].content %}with x: {% endif %}" + PLAIN


def rendering(template: str) -> ChatTemplate:
    return ChatTemplate(text=template, given={})


def said(*contents: str) -> list[dict[str, str]]:
    return [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(contents)]


def test_spans_hold_the_contents_and_a_user_s_message_opens_the_model_s_turn():
    found = chat_text(rendering(PLAIN), said("user", "<user>", "user"))
    assert found.text == "<user>user</><assistant><user></><user>user</><assistant>"
    assert [found.text[start:end] for start, end in found.spans] == ["user", "<user>", "user"]
    assert chat_text(rendering(PLAIN), said("a", "b")).text == "<user>a</><assistant>b</>"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Co"]), max_size=8), min_size=1, max_size=4))
def test_a_template_may_cut_white_space_and_nothing_else(contents):
    whole, cut = (chat_text(rendering(template), said(*contents)) for template in (PLAIN, TRIMMING))
    assert [whole.text[start:end] for start, end in whole.spans] == contents
    assert [cut.text[start:end] for start, end in cut.spans] == [text.strip() for text in contents]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (PLAIN.replace("m.content", "m.content | upper"), "leaves out or changes a turn of the user's"),
        (PLAIN.replace("{{ m.content }}", ""), "leaves out or changes a turn of the user's"),
        (SWITCHING, "changes message 1|leaves out or changes|depends on what the messages say"),
    ],
)
def test_what_changes_more_has_no_spans(template, message):
    with pytest.raises(ValueError, match=message):
        chat_text(rendering(template), said("an x"))


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_tokens_of_a_message_are_those_that_hold_its_characters(tokenizers, kind):
    tokenizer = tokenizers[kind]
    found = chat_text(ChatTemplate.of(tokenizer), said("What is the naïve sum?", "sixteen"))
    tokens = chat_tokens(tokenizer, found.text)
    for start, end in found.spans:
        places = tokens.within(start, end)
        assert places == list(range(places[0], places[-1] + 1))
        assert tokens.offsets[places[0]][0] <= start and tokens.offsets[places[-1]][1] >= end
        assert tokens.offsets[places[0] - 1][1] <= start
