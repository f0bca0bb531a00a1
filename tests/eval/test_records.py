"""Records survive the disk, kills, and hostile text; what cannot be read is refused with its place."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.files import read_rows
from eval.records import (
    Answer,
    ItemScore,
    Journal,
    Question,
    Unscored,
    Verdict,
    from_mapping,
    read_records,
    read_verdicts,
    to_line,
    write_records,
)
from fusion.runtime.configure import Refusal

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
TURNS = st.lists(TEXT, min_size=1, max_size=3).map(tuple)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
RECORDS = st.one_of(
    st.builds(Question, id=TEXT, category=TEXT, turns=TURNS, references=st.none() | TEXT.map(lambda text: (text,))),
    st.builds(Answer, question_id=TEXT, model=TEXT, turns=TURNS, reason=st.none() | TEXT),
    st.builds(
        Verdict,
        question_id=TEXT,
        turn=st.integers(1, 2),
        value=FINITE,
        judge=TEXT,
        text=TEXT,
        top_logprobs=st.lists(st.tuples(TEXT, FINITE), max_size=3).map(tuple),
    ),
    st.builds(Unscored, question_id=TEXT, turn=st.integers(1, 2), reason=TEXT, judge=TEXT, text=TEXT),
    st.builds(
        ItemScore, benchmark=TEXT, metric=TEXT, question_id=TEXT, turn=st.integers(1, 2), category=TEXT, value=FINITE
    ),
)


def verdict(number: int) -> Verdict:
    return Verdict(question_id=str(number), turn=1, value=7.0, judge="reference", text="Rating: [[7]]")


@given(RECORDS)
def test_a_record_is_one_line_and_comes_back_equal(record):
    line = to_line(record)
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert from_mapping(json.loads(line), type(record)) == record


def test_a_file_of_records_keeps_order_and_kind_plain_and_packed(tmp_path):
    records = [verdict(1), Unscored(question_id="2", turn=1, reason="no rating", judge="reference"), verdict(3)]
    for name in ("verdicts.jsonl", "verdicts.jsonl.gz"):
        write_records(tmp_path / name, records)
        assert read_verdicts(tmp_path / name) == records
    write_records(tmp_path / "again.jsonl.gz", records)
    assert (tmp_path / "again.jsonl.gz").read_bytes() == (tmp_path / "verdicts.jsonl.gz").read_bytes()


def test_a_line_torn_by_a_kill_is_left_out_and_cut_before_the_next_append(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    torn = to_line(verdict(2))[:-9]
    path.write_text(to_line(verdict(1)) + torn)
    assert read_verdicts(path) == [verdict(1)]
    with Journal(path) as journal:
        journal.append(verdict(3))
    assert read_verdicts(path) == [verdict(1), verdict(3)]


def test_a_file_that_is_one_torn_line_holds_nothing(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    path.write_text(to_line(verdict(1))[:20])
    assert read_verdicts(path) == []
    with Journal(path) as journal:
        journal.append(verdict(2))
    assert read_verdicts(path) == [verdict(2)]


def test_a_process_killed_while_appending_loses_no_finished_record(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    script = (
        "import itertools, sys\n"
        "from pathlib import Path\n"
        "from eval.records import Journal, Verdict\n"
        "with Journal(Path(sys.argv[1])) as journal:\n"
        "    for n in itertools.count():\n"
        "        journal.append(Verdict(question_id=str(n), turn=1, value=1.0, judge='x', text='y' * 2000))\n"
        "        print(n, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(50)][-1]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    found = [int(record.question_id) for record in read_verdicts(path)]
    assert found == list(range(len(found)))
    assert len(found) > said


def test_a_missing_file_means_nothing_is_done_yet(tmp_path):
    assert read_records(tmp_path / "none.jsonl", Answer) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{}", "expected a record of type Verdict or Unscored"),
        ("{not json", "Expecting property name"),
        ('{"type": "Verdict", "question_id": "1"}', "missing"),
        ('{"type": "Verdict", "question_id": "1", "mood": 3}', "no field 'mood'"),
        ('{"type": "Verdict", "top_logprobs": "m"}', "expected a list"),
    ],
)
def test_an_unreadable_line_is_refused_with_file_and_line(tmp_path, line, said):
    path = tmp_path / "verdicts.jsonl"
    path.write_text(to_line(verdict(1)) + line + "\n" + to_line(verdict(2)))
    with pytest.raises(Refusal, match=said) as refusal:
        read_verdicts(path)
    assert f"{path}, line 2" in str(refusal.value)


def test_a_value_that_is_no_number_cannot_be_a_verdict_nor_a_score_without_reason():
    with pytest.raises(ValueError, match="use Unscored"):
        Verdict(question_id="1", turn=1, value=float("nan"), judge="x", text="")
    with pytest.raises(ValueError, match="either a value or a reason"):
        ItemScore(benchmark="mt_bench", metric="rating", question_id="1", turn=1, category="", value=None)


def test_package_rows_are_read_as_list_or_lines_and_refused_with_their_place(tmp_path):
    listed, lines = tmp_path / "rows.json", tmp_path / "rows.jsonl"
    listed.write_text('[{"a": 1}, {"a": 2}]')
    lines.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert read_rows(listed) == read_rows(lines) == [{"a": 1}, {"a": 2}]
    lines.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(Refusal, match="line 2: not JSON"):
        read_rows(lines)
    listed.write_text("[1]")
    with pytest.raises(Refusal, match="row 1 is int: expected an object"):
        read_rows(listed)
    listed.write_text("[]")
    with pytest.raises(Refusal, match="holds no rows"):
        read_rows(listed)
    with pytest.raises(Refusal, match="there is no file"):
        read_rows(Path("nowhere.json"))
    (tmp_path / "rows.json.gz").write_text("[]")
    with pytest.raises(Refusal, match="cannot be read"):
        read_rows(tmp_path / "rows.json.gz")


def test_ten_thousand_verdicts_are_journalled_and_read_in_a_few_seconds(tmp_path):
    started = time.monotonic()
    with Journal(tmp_path / "verdicts.jsonl") as journal:
        for number in range(10_000):
            journal.append(verdict(number))
    assert len(read_verdicts(tmp_path / "verdicts.jsonl")) == 10_000
    assert time.monotonic() - started < 20
