"""The dialogues of an experiment: a share of a file's, and whose key changes by it."""

import json
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


def made(file: Path, store: Store, *overrides: str):
    settings = compose("fusion", ["experiment=small_gpu", "data=files", f"data.files=[{file}]", *overrides])

    return store.produce(dialogues_stage(fusion_config(settings)))


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
