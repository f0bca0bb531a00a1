"""The answers browser as a file, and as headless Chromium shows it (skipped where there is none)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.chromium import Page, browser, find
from bench.report_page import judged, opening
from eval.records import Answer, ItemScore, Question, Unscored, Verdict
from eval.report.answers_page import answers_page
from eval.report.write import write_report
from eval.scored import ScoredModel, ShownAnswers
from eval.scores.intervals import Uncertainty
from eval.scores.metric_row import MetricRow

HOSTILE = "</script><img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>\u2028<!--"
CARDS = "document.querySelectorAll('article')"

QUESTIONS = (
    Question(id="1", category="writing", turns=("Write of Rome.", "Shorter."), references=None),
    Question(id="2", category="math", turns=("What is 2 + 2?", "And doubled?"), references=("4", "8")),
    Question(id="3", category="writing", turns=("Write of Wien.", "Longer.")),
)
RATINGS: dict[
    str, list[tuple[int | None, ...]]
] = {  # model -> the ratings of its questions' two turns; None is unscored
    "pivot": [(5, 5), (2, 2), (7, None)],
    "merged": [(6, 6), (9, 9), (7, 7)],
    "source": [(1, 1), (5, 5), (6, 6)],
}


def mt_bench(model: str, *, said: str = "{model} on {question}.{turn}") -> ScoredModel:
    items, answers, verdicts = [], [], []
    for question, ratings in zip(QUESTIONS, RATINGS[model], strict=True):
        turns = tuple(said.format(model=model, question=question.id, turn=turn) for turn in (1, 2))
        answers.append(Answer(question_id=question.id, model=model, turns=turns))
        for turn, rating in enumerate(ratings, start=1):
            reason = None if rating is not None else "no rating in the reply"
            items.append(
                ItemScore(
                    benchmark="mt_bench",
                    metric="rating",
                    question_id=question.id,
                    turn=turn,
                    category=question.category,
                    value=rating,
                    reason=reason,
                )
            )
            place: dict[str, Any] = {"question_id": question.id, "turn": turn, "judge": "gpt-4"}
            if reason:
                verdicts.append(Unscored(**place, reason=reason, text="I would rather not."))
            else:
                verdicts.append(Verdict(**place, value=rating, text=f"Fine. Rating: [[{rating}]]"))
    value = sum(sum(filter(None, pair)) for pair in RATINGS[model]) / 6
    row = MetricRow(benchmark="mt_bench", metric="rating", slice="all", value=value, n=6, unscored=0)
    group = {"pivot": "Pivot", "merged": "Merged", "source": "Sources"}[model]
    shown = ShownAnswers(questions=QUESTIONS, answers=tuple(answers), opponents=(), verdicts=tuple(verdicts))
    return ScoredModel(model=model, group=group, benchmark="mt_bench", metrics=(row,), items=tuple(items), shown=shown)


def alpaca_eval(model: str) -> ScoredModel:
    questions = (Question(id="0", category="helpful", turns=("Name a river.",)),)
    item = ItemScore(
        benchmark="alpaca_eval", metric="win_rate", question_id="0", turn=1, category="helpful", value=0.975
    )
    length = replace(item, metric="average_length", value=3.0)
    row = MetricRow(benchmark="alpaca_eval", metric="win_rate", slice="all", value=97.5, n=1, unscored=0)
    shown = ShownAnswers(
        questions=questions,
        answers=(Answer(question_id="0", model=model, turns=("Po.",)),),
        opponents=(Answer(question_id="0", model="gpt4_1106_preview", turns=("The Danube.",)),),
        verdicts=(
            Verdict(
                question_id="0",
                turn=1,
                value=1.975,
                judge="gpt-4",
                text="M",
                top_logprobs=(("M", -0.0253178), ("m", -3.6888795)),  # ln 0.975 and ln 0.025
                order=1,
            ),
            Verdict(question_id="0", turn=1, value=1.5, judge="gpt-4", text="m", order=2),
        ),
    )
    return ScoredModel(
        model=model, group="Merged", benchmark="alpaca_eval", metrics=(row,), items=(length, item), shown=shown
    )


def everyone() -> list[ScoredModel]:
    return [*map(mt_bench, ("source", "pivot", "merged")), alpaca_eval("merged")]


def data_of(page: str) -> dict[str, Any]:
    island = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert island is not None
    found: dict[str, Any] = json.loads(island.group(1))
    return found


def test_the_page_holds_what_the_models_said_and_what_the_judges_said():
    page = answers_page("Trial", everyone(), {"leaderboard": "leaderboard.html"})
    assert page is not None
    ratings, wins = data_of(page)["benchmarks"]
    assert [model["name"] for model in ratings["models"]] == ["pivot", "source", "merged"]  # in the groups' order
    assert ratings["models"][0]["rows"][2]["scores"] == [7, None]
    assert ratings["models"][0]["rows"][2]["verdicts"][1] == {
        "turn": 2,
        "value": None,
        "judge": "gpt-4",
        "words": "I would rather not.",
        "reason": "no rating in the reply",
    }
    assert ratings["questions"][1]["references"] == ["4", "8"]
    assert wins["metric"] == "win_rate"  # the length comes first and is no score
    assert wins["scale"] == 100
    assert wins["opponents"] == [{"name": "gpt4_1106_preview", "rows": [["The Danube."]]}]
    assert wins["models"][0]["rows"][0]["verdicts"][0]["tokens"] == "M 97.5%, m 2.5%"
    assert '<a href="leaderboard.html">leaderboard</a>' in page


def test_the_page_fetches_nothing_and_runs_only_its_own_script():
    page = answers_page("Trial", everyone(), {})
    assert page is not None
    assert not re.search(r'src="|href="[^"]*//|url\(|@import|fetch\(', page)
    assert page.count("<script") == 2  # the island and the page's own
    assert "default-src 'none'" in page


def test_hostile_text_stays_inside_the_island():
    page = answers_page(HOSTILE, [mt_bench("pivot", said=HOSTILE)], {HOSTILE: '" onclick="x'})
    assert page is not None
    assert page.count("</script>") == 2
    assert "<img" not in page
    assert '"" onclick' not in page
    assert data_of(page)["benchmarks"][0]["models"][0]["rows"][0]["said"] == [HOSTILE, HOSTILE]


def test_an_opponent_that_is_one_of_the_models_is_shown_once():
    entry = mt_bench("pivot")
    assert entry.shown is not None
    merged = replace(entry, shown=replace(entry.shown, opponents=mt_bench("merged").shown.answers))  # type: ignore[union-attr]
    page = answers_page("Trial", [merged, mt_bench("merged")], {})
    assert page is not None
    assert data_of(page)["benchmarks"][0]["opponents"] == []


def test_models_without_answers_leave_no_page_and_no_link(tmp_path):
    write_report(everyone(), tmp_path, title="Trial", uncertainty=Uncertainty())
    assert (tmp_path / "answers.html").exists()
    bare = [replace(entry, shown=None) for entry in everyone()]
    write_report(bare, tmp_path, title="Trial", uncertainty=Uncertainty())
    assert not (tmp_path / "answers.html").exists()
    assert "answers.html" not in (tmp_path / "leaderboard.html").read_text()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    if find() is None:
        pytest.skip("no Chromium or Chrome on this machine")
    with browser() as found:
        yield found


@pytest.fixture
def report(page: Page, tmp_path: Path) -> Iterator[Path]:
    """A written report; afterwards the browser must have had nothing to complain about."""
    page.complaints.clear()
    write_report(everyone(), tmp_path, title="Trial", uncertainty=Uncertainty())
    yield tmp_path
    assert page.complaints == []


def test_a_browser_s_complaints_are_heard(page, tmp_path):
    path = tmp_path / "broken.html"
    path.write_text('<p>x</p><script src="gone.js"></script><script>console.error("one"); throw Error("two")</script>')
    page.complaints.clear()
    page.open(path.as_uri(), "document.querySelector('p')")
    page.wait_for("document.readyState == 'complete'")
    heard = " ".join(page.complaints)
    assert all(word in heard for word in ("one", "two", "request failed"))


def opened(page: Page, path: Path, address: str = "") -> None:
    page.open("about:blank", "true")
    page.open(path.as_uri() + address, f"{CARDS}.length || document.querySelector('tbody tr')")


def order(page: Page) -> list[str]:
    found: list[str] = page.evaluate(f"[...{CARDS}].map(card => card.dataset.question)")
    return found


def choose(page: Page, box: str, value: str) -> None:
    page.evaluate(
        f"(() => {{ const box = document.getElementById({json.dumps(box)}); box.value = {json.dumps(value)};"
        " box.dispatchEvent(new Event('input', {bubbles: true}));"
        " box.dispatchEvent(new Event('change', {bubbles: true})) })()"
    )


def test_answers_stand_side_by_side_with_their_verdicts(page, report):
    opened(page, report / "answers.html")
    assert order(page) == ["1", "2", "3"]
    text = page.evaluate(f"{CARDS}[2].innerText")
    assert "Turn 1 Write of Wien." in re.sub(r"\s+", " ", text)
    assert "pivot on 3.1" in text
    assert "merged on 3.2" in text
    assert "unscored: no rating in the reply · gpt-4" in text
    words = page.evaluate(f"[...{CARDS}[0].querySelectorAll('.words')].map(one => one.textContent)")
    assert "Fine. Rating: [[5]]" in words
    assert page.evaluate("document.querySelectorAll('details.none, details[open]').length") == 0
    page.evaluate("document.getElementById('words').click()")
    assert page.evaluate("document.querySelectorAll('details[open]').length") == 3 * 3 * 2


def test_filters_and_search_leave_what_was_asked_for(page, report):
    opened(page, report / "answers.html")
    choose(page, "category", "writing")
    assert order(page) == ["1", "3"]
    choose(page, "only", "unscored")
    assert order(page) == ["3"]
    choose(page, "category", "")
    choose(page, "only", "all")
    choose(page, "text", "MERGED ON 2")
    page.wait_for(f"{CARDS}.length == 1")
    assert order(page) == ["2"]
    assert page.evaluate("document.getElementById('count').textContent") == "1 of 3 questions"
    choose(page, "text", "rather not")  # the judge's words
    page.wait_for(f"{CARDS}.length == 1 && {CARDS}[0].dataset.question == '3'")


def test_disagreement_comes_first_when_asked_for(page, report):
    opened(page, report / "answers.html")
    choose(page, "order", "models")
    # Means of the turns: question 1: 5 6 1, spread 5; 2: 2 9 5, spread 7; 3: 7 7 6, spread 1.
    assert order(page) == ["2", "1", "3"]
    choose(page, "order", "worst")
    assert order(page) == ["1", "2", "3"]  # 1, 2, 6
    page.evaluate("document.querySelector('#models input[value=source]').click()")
    # Without the source: 5 6, spread 1; 2 9, spread 7; 7 7, spread 0; the lowest: 5, 2, 7.
    assert order(page) == ["2", "1", "3"]
    choose(page, "only", "differ")
    assert order(page) == ["2", "1"]


def test_the_baseline_and_both_orders_of_showing_are_there(page, report):
    opened(page, report / "answers.html", "#benchmark=alpaca_eval")
    text = re.sub(r"\s+", " ", page.evaluate("document.getElementById('list').innerText"))
    assert "gpt4_1106_preview compared with The Danube." in text
    assert "merged 97.5 Po." in text
    assert "preference 1.975 · gpt-4 · shown first" in text
    assert re.search(r"judges by 0\.4[78]", text)  # 1.975 - 1.5


def test_the_chosen_models_stay_when_the_benchmark_changes(page, report):
    opened(page, report / "answers.html", "#model=pivot&model=merged")
    choose(page, "category", "math")
    choose(page, "benchmark", "alpaca_eval")
    ticked = "[...document.querySelectorAll('#models input:checked')].map(box => box.value)"
    assert page.evaluate(ticked) == ["gpt4_1106_preview", "merged"]  # the pivot has no answers there
    assert order(page) == ["0"]  # nor is there such a category


def test_the_address_keeps_what_was_chosen(page, report):
    opened(page, report / "answers.html")
    choose(page, "order", "models")
    page.evaluate("document.querySelector('#models input[value=source]').click()")
    address = page.evaluate("location.hash")
    opened(page, report / "answers.html", address)
    assert page.evaluate("document.getElementById('order').value") == "models"
    assert page.evaluate("[...document.querySelectorAll('#models input:checked')].map(box => box.value)") == [
        "pivot",
        "merged",
    ]


def test_hostile_text_is_read_as_text(page, report):
    write_report([mt_bench("pivot", said=HOSTILE)], report, title="Trial", uncertainty=Uncertainty())
    opened(page, report / "answers.html")
    assert page.evaluate("document.querySelector('.answer').textContent") == HOSTILE
    assert page.evaluate("document.images.length") == 0
    assert page.evaluate("document.title") == "Trial: answers"


@pytest.mark.slow
def test_twenty_models_on_eighty_questions_open_within_two_seconds(page, tmp_path):
    scored = judged("mt_bench", questions=80, turns=2)
    write_report(scored, tmp_path, title="Large", uncertainty=Uncertainty())
    assert opening(page, tmp_path / "answers.html", f"{CARDS}.length", repeats=3) < 2
    assert opening(page, tmp_path / "leaderboard.html", "document.querySelector('tbody tr')", repeats=3) < 2


def test_the_leaderboard_sorts_both_ways_and_its_links_lead_to_files(page, report):
    opened(page, report / "leaderboard.html")
    names = "[...document.querySelectorAll('tbody tr')].map(row => row.cells[0].firstChild.textContent)"
    assert page.evaluate(names) == ["pivot", "source", "merged"]
    press = "document.querySelectorAll('thead button')[{}].click()"
    page.evaluate(press.format(1))
    assert page.evaluate(names) == ["merged", "source", "pivot"]  # 44/6, 24/6, 21/6
    page.evaluate(press.format(1))
    assert page.evaluate(names) == ["pivot", "source", "merged"]
    page.evaluate(press.format(0))
    assert page.evaluate(names) == ["merged", "pivot", "source"]
    page.evaluate(press.format(4))  # only the merged model has a win rate; what is missing stays last both ways
    assert page.evaluate(names)[0] == "merged"
    page.evaluate(press.format(4))
    assert page.evaluate(names)[0] == "merged"
    for address in page.evaluate("[...document.links].map(link => link.getAttribute('href'))"):
        assert (report / address.split("#")[0]).exists()
    page.evaluate("[...document.links].find(link => link.innerText == 'merged').click()")
    page.wait_for(f"{CARDS}.length")
    assert page.evaluate("[...document.querySelectorAll('#models input:checked')].map(box => box.value)") == [
        "pivot",
        "merged",
    ]
