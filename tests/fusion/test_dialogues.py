"""The dialogues of an experiment: a share of a file's, and whose key changes by it."""

import json
import shutil
from pathlib import Path

import pytest

from fusion.conversations.conversation import read_conversations
from fusion.conversations.files import FUSION, content_of
from fusion.dialogues import dialogues_stage
from fusion.pipeline import fusion_config
from fusion.runtime.artifacts import Store
from fusion.runtime.command import compose


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "dialogues.jsonl"
    rows = [
        {"id": f"c{number}", "messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}
        for number in range(20)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def stage(*overrides: str):
    return dialogues_stage(fusion_config(compose("fusion", ["experiment=small_gpu", *overrides])))


def made(file: Path, store: Store, *overrides: str):
    return store.produce(stage("data=files", f"data.files=[{file}]", *overrides))


def test_a_share_is_drawn_in_the_files_order_under_a_key_of_its_own(file, tmp_path):
    store = Store(root=tmp_path / "artifacts")
    whole, quarter = made(file, store), made(file, store, "data_share=0.25")
    names = [conversation.id for conversation in read_conversations(quarter.path / FUSION)]
    assert len(names) == 5
    assert names == sorted(names, key=lambda name: int(name[1:]))
    assert len(read_conversations(whole.path / FUSION)) == 20
    assert content_of(whole, "fusion") != content_of(quarter, "fusion")


def test_a_share_holds_of_what_is_left_after_the_most_was_drawn(file, tmp_path):
    drawn = made(file, Store(root=tmp_path / "artifacts"), "data.max_conversations=10", "data_share=0.5")
    assert len(read_conversations(drawn.path / FUSION)) == 5


def test_a_file_a_list_and_a_pattern_lead_to_the_same_dialogues(file, tmp_path):
    store = Store(root=tmp_path / "artifacts")
    alone, listed = (store.key(stage("data=files", f"data.files={files}")) for files in (file, f"[{file}]"))
    assert alone == listed
    found = store.produce(stage("data=files", f"data.files={file.parent}/*.jsonl"))
    assert content_of(found, "fusion") == content_of(made(file, store), "fusion")


def test_a_data_set_s_key_follows_what_it_holds(file, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    shutil.copy(file, folder / "train.jsonl")
    store = Store(root=tmp_path / "artifacts")
    first = stage("data=hub", f"data.dataset={folder}", "data.max_conversations=10")
    assert len(read_conversations(store.produce(first).path / FUSION)) == 10
    (folder / "train.jsonl").write_text("".join(file.read_text().splitlines(keepends=True)[:15]))
    again = stage("data=hub", f"data.dataset={folder}", "data.max_conversations=10")
    assert store.key(again) != store.key(first)


def test_what_an_answer_thinks_is_removed_where_that_is_set(file, tmp_path):
    row = {"prompt": "2 + 2?", "completion": "<think>\nEasy.\n</think>\n\n4"}
    file.write_text(json.dumps(row) + "\n")
    store = Store(root=tmp_path / "artifacts")
    answers = [
        read_conversations(made(file, store, "data.max_conversations=null", *setting).path / FUSION)[0].messages[-1]
        for setting in ([], ["data.thinking=remove"])
    ]
    assert [answer.content for answer in answers] == [row["completion"], "4"]
