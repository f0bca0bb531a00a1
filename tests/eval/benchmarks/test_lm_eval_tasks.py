"""lm-eval's task folders: found, filled in, digested; documents drawn; the project's own tasks on rows written here."""

import gzip
import json
from pathlib import Path

import pytest

from eval.benchmarks import BENCHMARKS, LMEvalHarness
from eval.benchmarks.lm_eval_tasks import drawn, drawn_documents, folder_digest, folder_of_tasks, task_files
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal, choose, typed
from fusion.runtime.places import CONF

FOLDER = CONF / "lm_eval_tasks" / "verifiable"
GSM8K = [
    {"question": "Two and 1,000?", "answer": "2 + 1000 = <<2+1000=1002>>1002\n#### 1,002"},
    {"question": "Half of 5?", "answer": "5 / 2 = 2.5\n#### 2.5"},
]
SVAMP = [
    {"Body": "Ann has 3 apples and buys 4.", "Question": "How many has she?", "Answer": 7.0},
    {"Body": "A rope of 5 m is cut in two.", "Question": "How long is each?", "Answer": 2.5},
]
MMLU = [
    {"question": "Which is even?", "subject": "elementary_mathematics", "choices": ["1", "2", "3", "5"], "answer": 1},
    {"question": "Which is odd?", "subject": "elementary_mathematics", "choices": ["2", "4", "6", "7"], "answer": 3},
]


@pytest.fixture
def data(tmp_path):
    """The files that the project's tasks name, with rows of the published form; one is packed."""
    import pandas as pd

    folder = tmp_path / "data" / "verifiable"
    folder.mkdir(parents=True)
    with gzip.open(folder / "gsm8k_test.jsonl.gz", "wt") as packed:
        packed.write("".join(json.dumps(row) + "\n" for row in GSM8K))
    (folder / "svamp_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in SVAMP))
    pd.DataFrame(MMLU).to_parquet(folder / "mmlu_test.parquet")
    return folder.parent


@pytest.fixture
def tasks(data):
    """The project's tasks, as the harness loads them."""
    from lm_eval.tasks import TaskManager

    with task_files(FOLDER, data) as folder:
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        yield manager.load(["mmlu_letters", "gsm8k_number", "svamp_number"])["tasks"]


def test_a_folder_is_the_project_s_by_its_name_or_lies_below_the_data_or_anywhere(tmp_path, monkeypatch):
    assert folder_of_tasks("verifiable", tmp_path) == FOLDER
    assert folder_of_tasks(None, tmp_path) is None
    (tmp_path / "own" / "tasks").mkdir(parents=True)
    assert folder_of_tasks("own/tasks", tmp_path) == tmp_path / "own" / "tasks"
    assert folder_of_tasks(str(tmp_path / "own"), Path("elsewhere")) == tmp_path / "own"
    with pytest.raises(Refusal, match="the folder of lm-eval tasks is not at"):
        folder_of_tasks("nowhere", tmp_path)
    monkeypatch.chdir(tmp_path)  # what stands in conf/ of the working directory comes first, as everywhere
    (tmp_path / "conf" / "lm_eval_tasks" / "verifiable").mkdir(parents=True)
    assert folder_of_tasks("verifiable", tmp_path).samefile(tmp_path / "conf" / "lm_eval_tasks" / "verifiable")


def test_what_tasks_are_made_of_changes_with_every_data_file_that_they_name(data):
    before = folder_digest(FOLDER, data)
    (data / "verifiable" / "unused.jsonl").write_text("{}\n")
    assert folder_digest(FOLDER, data) == before
    (data / "verifiable" / "svamp_test.jsonl").write_text(json.dumps(SVAMP[0]) + "\n")
    assert folder_digest(FOLDER, data) != before
    (data / "verifiable" / "svamp_test.jsonl").unlink()
    with pytest.raises(Refusal, match=r"verifiable/svamp_test\.jsonl.* is not at .*fetch the benchmark data"):
        folder_digest(FOLDER, data)


def test_places_are_filled_in_and_a_packed_file_serves(data):
    with task_files(FOLDER, data) as folder:
        texts = {path.name: path.read_text() for path in folder.iterdir()}
    assert f"test: {data.resolve()}/verifiable/gsm8k_test.jsonl.gz}}" in texts["gsm8k_number.yaml"]
    assert f"test: {data.resolve()}/verifiable/mmlu_test.parquet}}" in texts["mmlu_letters.yaml"]
    assert not any("$DATA" in text or "$TASK_FOLDER" in text for text in texts.values())


def test_questions_and_right_answers_are_the_rows(tasks):
    letters = tasks["mmlu_letters"]
    document = letters.eval_docs[1]
    asked = letters.doc_to_text(document)
    assert asked.startswith("A question about elementary mathematics.\n\nWhich is odd?\n\nA. 2\nB. 4\nC. 6\nD. 7\n")
    assert letters.doc_to_choice(document)[letters.doc_to_target(document)] == "D"
    targets = {
        name: [str(tasks[name].doc_to_target(row)) for row in tasks[name].eval_docs]
        for name in ("gsm8k_number", "svamp_number")
    }
    assert targets == {"gsm8k_number": ["1002", "2.5"], "svamp_number": ["7", "2.5"]}
    assert "Ann has 3 apples and buys 4. How many has she?" in tasks["svamp_number"].doc_to_text(SVAMP[0])


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("2 + 1000 = 1002", True),
        ("The answer is **1,002**.", True),
        ("$1,002.00", True),
        ("1002.0", True),
        ("1002 at first, but no: 1003", False),
        ("-1002", False),
        ("one thousand and two", False),
        ("", False),
    ],
)
def test_the_last_number_that_is_written_is_the_answer(tasks, said, right):
    task = tasks["gsm8k_number"]
    document = task.eval_docs[0]
    (chosen,) = task._filters
    text = [said]
    for step in chosen.filters:
        (text,) = step().apply([text], [document])
    assert task.process_results(document, [text if isinstance(text, str) else text[0]])["exact_match"] == right


def test_documents_are_drawn_by_the_seed_and_the_task(data):
    from lm_eval.tasks import TaskManager

    assert drawn(1000, 50, seed="1 a") == drawn(1000, 50, seed="1 a") != drawn(1000, 50, seed="2 a")
    assert drawn(1000, 50, seed="1 a") != drawn(1000, 50, seed="1 b")
    assert drawn(7, 50, seed="1 a") == list(range(7))
    assert sorted(set(drawn(1000, 50, seed="1 a"))) == drawn(1000, 50, seed="1 a")
    with task_files(FOLDER, data) as folder:
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        assert drawn_documents(manager, "svamp_number", None, seed=0) is None
        found = drawn_documents(manager, "svamp_number", 1, seed=0)
    assert list(found) == ["svamp_number"] and len(found["svamp_number"]) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sample": 0}, "sample is 0: expected at least 1"),
        ({"sample": 5, "limit": 5}, "limit takes the first documents and sample draws some"),
        ({"system": "Be brief."}, "system needs apply_chat_template"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(Refusal, match=message):
        typed({"tasks": ["a"], **settings}, LMEvalHarness, at="benchmark.x")


def test_the_shipped_entry_names_tasks_that_are_there():
    entry = compose("eval", ["benchmark=verifiable", "out=x"])["benchmark"]["verifiable"]
    harness = choose(BENCHMARKS, entry, at="benchmark.verifiable")
    assert {one.task for one in harness.chosen} == {path.stem for path in FOLDER.glob("*.yaml")}
