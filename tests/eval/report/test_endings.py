"""How answers ended is counted in turns, by model and benchmark."""

from eval.records import Answer, Question
from eval.report.endings import ending_notes
from eval.scored import ScoredModel, ShownAnswers


def scored(model: str, *answers: Answer) -> ScoredModel:
    questions = tuple(Question(id=answer.question_id, category="c", turns=("?", "?")) for answer in answers)
    shown = ShownAnswers(questions=questions, answers=answers, opponents=(), verdicts=())
    return ScoredModel(model=model, group="g", benchmark="mt_bench", metrics=(), items=(), shown=shown)


def said(question: str, *turns: str, **more: object) -> Answer:
    return Answer(question_id=question, model="m", turns=turns, **more)


def test_each_kind_is_counted_over_the_turns():
    one = scored("a", said("1", "x", "y", cut=(2,)), said("2", "", " ", thought=1), said("3", reason="timeout"))
    two = scored("b", said("1", "x", "y", cut=(1, 2)))
    assert ending_notes([one, two]) == [
        "Cut at max_tokens: 1 of 5 of a on mt_bench; 2 of 2 of b on mt_bench.",
        "Empty: 2 of 5 of a on mt_bench.",
        "Judged without the thinking that they began with: 1 of 5 of a on mt_bench.",
        "Without an answer: 1 of 5 of a on mt_bench.",
    ]


def test_where_all_ended_well_or_answers_are_not_known_nothing_is_said():
    assert ending_notes([scored("a", said("1", "x", "y"))]) == []
    table = ScoredModel(model="a", group="g", benchmark="mt_bench", metrics=(), items=())
    assert ending_notes([table]) == []
