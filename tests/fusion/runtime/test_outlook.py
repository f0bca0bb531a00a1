"""How many stages are left and for how long: as planned at first, then by the run's own pace."""

import io

from rich.console import Console

from fusion.runtime.outlook import Outlook
from fusion.runtime.progress import RunProgress

PLANNED = [("train", "a", 100.0), ("train", "b", 100.0), ("merge", "linear", 0.0), ("answers", "linear", 300.0)]


def outlook(*, lanes: int = 1) -> Outlook:
    found = Outlook()
    found.expect(PLANNED, lanes=lanes)
    return found


def test_without_a_plan_nothing_is_said():
    assert (Outlook().text(), Outlook().left()) == ("", "")


def test_before_the_first_stage_the_plans_seconds_count_divided_among_the_lanes():
    assert outlook().text() == f"0 of 4 stages, about {500 / 60:.0f} minutes left"
    assert outlook(lanes=2).text() == f"0 of 4 stages, about {500 / 2 / 60:.0f} minutes left"


def test_the_pace_of_what_was_computed_counts_for_the_rest():
    seen = outlook()
    seen.ended("train", "a", seconds=50.0, reused=False)
    assert seen.text() == f"1 of 4 stages, about {(100 + 300) * 50 / 100 / 60:.0f} minutes left"


def test_a_reused_stage_says_nothing_about_the_pace():
    seen = outlook()
    seen.ended("train", "a", seconds=0.1, reused=True)
    assert seen.left() == f"about {400 / 60:.0f} minutes left"


def test_two_stages_of_one_name_are_two_and_one_that_was_not_planned_is_none():
    seen = Outlook()
    seen.expect([("verdicts", "x", 10.0), ("verdicts", "x", 10.0)], lanes=1)
    for count in (1, 2, 2):
        seen.ended("verdicts", "x", seconds=10.0, reused=False)
        assert seen.done == count
    seen.ended("train", "other", seconds=1.0, reused=False)
    assert seen.text() == "2 of 2 stages"


def test_seconds_minutes_and_hours():
    for seconds, said in ((0.2, "1 s"), (90.0, "90 s"), (150.0, "2 minutes"), (9000.0, "2 hours")):
        seen = Outlook()
        seen.expect([("train", "a", seconds)], lanes=1)
        assert seen.left() == f"about {said} left"


def test_a_runs_lines_count_stages_and_are_whole_in_a_file():
    text = io.StringIO()
    with RunProgress(Console(file=text, width=40), outlook()) as progress:
        with progress.stage("train", "a"):
            pass
        progress.note("a sentence that is much longer than forty columns stays in one line of a file")
    lines = text.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].split() == ["train", "a", "0.0", "s", "0", "of", "4", "stages,", "about", "8", "minutes", "left"]
