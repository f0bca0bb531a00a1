"""What a completion says: parts and null, and the answer behind whatever was thought before it."""

import pytest

from eval.serve.said import said_in, without_thinking


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("four", "four"),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "fo"}, {"type": "text", "text": "ur"}], "four"),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "no"}]}, {"type": "text", "text": "four"}],
            "four",
        ),
        ([{"type": "reasoning", "text": "no"}, {"type": "output_text", "text": "four"}], "four"),
        (["fo", {"text": "ur"}], "four"),
        ([{"type": "text", "text": None}, {"type": "image_url", "image_url": {}}], ""),
        ({"type": "text", "text": "four"}, "four"),
        ([{"type": "text", "text": {"value": "four", "annotations": []}}], "four"),
        ([{"type": "refusal", "refusal": "No."}], "No."),
    ],
)
def test_the_text_of_a_message_whatever_its_shape(content, said):
    assert said_in({"role": "assistant", "content": content}) == said


@pytest.mark.parametrize("content", [None, "", []])
def test_a_refusal_is_said_where_nothing_else_is_and_thinking_in_fields_of_its_own_never_is(content):
    thought = {"reasoning_content": "[[3]]", "reasoning": "[[3]]"}
    assert said_in({"content": content, "refusal": "I cannot.", **thought}) == "I cannot."
    assert said_in({"content": content, "refusal": None, **thought}) == ""
    assert said_in({"content": "four", "refusal": "I cannot.", **thought}) == "four"


@pytest.mark.parametrize("content", [3, True, {"text": "x"}, [3], [["x"]]])
def test_content_of_no_known_shape_is_an_unreadable_reply(content):
    with pytest.raises(ValueError, match="content"):
        said_in({"content": content})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>a [[2]]</think>\n\n[[9]]", "[[9]]"),
        ("  <think>\n</think>x", "x"),
        ("<thinking>a</thinking> b </thinking>", "b </thinking>"),
        ("[THINK]a[/THINK]b", "b"),
        ("<reasoning>a</reasoning>b", "b"),
        ("opened in the prompt [[1]]\n</think>\n[[9]]", "[[9]]"),
        ("<think>never ends [[3]]", ""),
        ("[[7]]. (Harsher: [[4]])", "[[7]]. (Harsher: [[4]])"),
        ("Write <think>x</think> around it.", "Write <think>x</think> around it."),
        ("<b>bold</b>", "<b>bold</b>"),
        ("<think>a</think>\n<think>b [[1]]</think>[[9]]", "[[9]]"),
        ("<Think>a</THINK>b", "b"),
        ("<thought>a [[2]]</thought>[[9]]", "[[9]]"),
        ("<thinking>I would close </think> here</thinking>b", "b"),
        ("◁think▷a◁/think▷b", "b"),
        ("<seed:think>a</seed:think>b", "b"),
        ("<|begin_of_thought|>a<|end_of_thought|>b", "b"),
        ("[THINK]never ends [[3]]", ""),
        ("", ""),
    ],
)
def test_thinking_at_the_beginning_is_taken_out_and_nothing_else(text, said):
    assert without_thinking(text) == said
