"""What the fusor is asked: the question, every answer there is, in an order that the seed and the question decide."""

import pytest

from eval.ensembles import FusionOfN
from eval.records import Answer, Question
from fusion.runtime.configure import Refusal

QUESTION = Question(id="81", category="c", turns=("Name a {{ colour }}.", "Another?"), references=("red", "blue"))


def answers(*turns: tuple[str, ...]) -> list[dict[str, Answer]]:
    return [{"81": Answer(question_id="81", model=str(n), turns=said)} for n, said in enumerate(turns)]


def test_each_turn_shows_the_question_and_the_sources_answers_to_that_turn():
    (asked,) = FusionOfN().questions([QUESTION], answers(("crimson", "azure"), ("<b>rose</b>",), ("{{ x }}", "teal")))
    assert (asked.id, asked.category, len(asked.turns)) == ("81", "c", 2)
    first, second = asked.turns
    assert "Name a {{ colour }}." in first and "Another?" not in first
    assert all(said in first for said in ("crimson", "<b>rose</b>", "{{ x }}"))  # nothing is rendered or escaped
    assert "Another?" in second and "azure" in second and "teal" in second and "rose" not in second
    assert "Answer 3" in first and "Answer 3" not in second


def test_the_order_depends_on_seed_and_question_alone_and_is_one_for_both_turns():
    said = answers(*(((f"first {n}", f"second {n}")) for n in range(6)))

    def order(seed: int, turn: int) -> list[int]:
        (asked,) = FusionOfN(seed=seed).questions([QUESTION], said)
        text = asked.turns[turn]
        word = ("first", "second")[turn]
        return sorted(range(6), key=lambda n: text.index(f"{word} {n}"))

    assert order(0, 0) == order(0, 0) == order(0, 1)
    assert len({tuple(order(seed, 0)) for seed in range(5)}) > 1


def test_another_prompt_can_be_given_and_a_missing_one_is_refused(tmp_path):
    path = tmp_path / "own.jinja"
    path.write_text("{{ turn }}/{{ answers | length }}: {{ question }}")
    (asked,) = FusionOfN(prompt=str(path)).questions([QUESTION], answers(("a", "b")))
    assert asked.turns == ("1/1: Name a {{ colour }}.", "2/1: Another?")
    with pytest.raises(Refusal, match="prompt: .* cannot be read"):
        FusionOfN(prompt=str(tmp_path / "none.jinja")).questions([QUESTION], [])
