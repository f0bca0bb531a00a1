"""Conversations in both file forms, and every row that is refused with its place and reason."""

from __future__ import annotations

import gzip
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from fusion.conversations.conversation import (
    Conversation,
    DataConfig,
    Message,
    content_id,
    load_conversations,
    read_conversations,
    subsample,
    write_conversations,
)
from fusion.runtime.configure import Refusal, typed

GOOD = {"id": "a", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def _row(name: str | None = None, *, domain: str | None = None, answer: str = "Hello") -> dict[str, Any]:
    row: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}]}
    if name is not None:
        row["id"] = name
    if domain is not None:
        row["domain"] = domain
    return row


def _jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _turns(*roles: str) -> list[dict[str, str]]:
    return [{"role": role, "content": "text"} for role in roles]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(), st.text().filter(str.strip), st.text(max_size=5), st.booleans()), min_size=1, max_size=4
    )
)
def test_what_is_written_is_read_back_and_written_again_to_the_byte(rows: list[tuple[str, str, str, bool]]) -> None:
    import tempfile

    conversations = []
    for number, (question, answer, domain, system) in enumerate(rows):
        turns = (Message(role="user", content=question), Message(role="assistant", content=answer))
        start = (Message(role="system", content="Be kind."),) if system else ()
        conversations.append(Conversation(id=f"{number}", messages=(*start, *turns), domain=domain))
    with tempfile.TemporaryDirectory() as directory:
        first, second = Path(directory, "a.jsonl"), Path(directory, "b.jsonl")
        write_conversations(first, conversations)
        assert read_conversations(first) == conversations
        write_conversations(second, read_conversations(first))
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("form", ["list", "jsonl"])
def test_sharegpt_rows_lose_a_leading_gpt_turn(tmp_path: Path, form: str, packed: bool) -> None:
    row = {
        "conversations": [
            {"from": "gpt", "value": "Welcome"},
            {"from": "human", "value": "Hi"},
            {"from": "gpt", "value": "Hello"},
            {"from": "human", "value": "Bye"},
        ]
    }
    text = json.dumps([row], indent=1) if form == "list" else json.dumps(row) + "\n"
    path = tmp_path / ("mixture.json" + (".gz" if packed else ""))
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    (conversation,) = read_conversations(path)
    assert [(message.role, message.content) for message in conversation.messages] == [
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Bye"),
    ]


def test_missing_ids_hash_the_content_and_repeated_dialogues_stay_apart(tmp_path: Path) -> None:
    rows = read_conversations(_jsonl(tmp_path / "x.jsonl", [_row(), _row(answer="Other"), _row()]))
    # The id is a promise to finished artifacts: it may not change from one version to the next.
    spelled = '[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]'
    expected = hashlib.sha256(spelled.encode()).hexdigest()[:16]
    assert [row.id for row in rows] == [expected, content_id(rows[1].messages), f"{expected}-2"]


def test_whole_numbers_serve_as_ids_and_blank_lines_and_a_byte_order_mark_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf\n" + json.dumps({**_row(), "id": 7}).encode() + b"\r\n\n")
    assert [row.id for row in read_conversations(path)] == ["7"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": "b", "messages": _turns("user")}, "no assistant turn"),
        ({"id": "b", "messages": []}, "no assistant turn"),
        ({"id": "b", "messages": _turns("assistant", "user")}, "turn 1 is the assistant's where the user's"),
        ({"id": "b", "messages": _turns("user", "user", "assistant")}, "turn 2 is the user's where the assistant's"),
        ({"id": "b", "messages": _turns("user", "system", "assistant")}, "turn 2 is the system's"),
        ({"id": "b", "messages": _turns("user", "narrator")}, "role is 'narrator'"),
        ({"id": "b", "messages": _turns("user", "tool")}, "turn 2 is the tool's where the assistant's"),
        ({"id": "b", "messages": [{"role": "user"}]}, "turn 1 of 'messages'"),
        ({"id": "b", "messages": [{"role": "user", "content": None}]}, "NoneType: expected text"),
        ({"id": "b", "messages": "Hi"}, "'messages' is str"),
        (
            {"id": "b", "messages": [*_turns("user"), {"role": "assistant", "content": " \n"}]},
            "assistant turn is empty",
        ),
        (
            {"id": "b", "messages": [*_turns("user"), {"role": "assistant", "content": "\ud83d"}]},
            "half a surrogate pair",
        ),
        ({"id": "b", "conversations": [{"from": "bing", "value": "x"}]}, "turn 1 is from 'bing'"),
        ({"id": "b", "message": []}, r"neither 'messages' nor 'conversations' is among its keys \(id, message\)"),
        ({**_row(), "id": ["x"]}, "id is"),
        ({**_row("b"), "domain": 3}, "domain is 3"),
        (_row("half a letter \udfff"), "half a surrogate pair"),
        ({**_row("b"), "domain": "\ud83d"}, "half a surrogate pair"),
        ({**_row("b"), "a column of hers": [{"\ud83d": 1}]}, "half a surrogate pair"),
        (["not", "an", "object"], "the row is a list"),
        (_row("a"), "'a' was already given at line 1"),
    ],
)
def test_a_bad_row_is_refused_with_file_line_reason_and_way_out(tmp_path: Path, row: Any, reason: str) -> None:
    path = _jsonl(tmp_path / "bad.jsonl", [GOOD, row])
    with pytest.raises(Refusal, match=rf"bad\.jsonl, line 2: .*{reason}.*on_bad_row=skip"):
        read_conversations(path)


def test_bytes_that_are_no_utf8_or_no_json_are_refused_by_line(tmp_path: Path) -> None:
    good = json.dumps(GOOD).encode() + b"\n"
    for bad, reason in [
        (b'{"id": "\xff"}\n', "not UTF-8 \\(byte 0xff\\)"),
        (b'{"id": \n', "not JSON"),
        (b"[" * 10**5, "not"),
    ]:
        (tmp_path / "x.jsonl").write_bytes(good + bad)
        with pytest.raises(Refusal, match=f"line 2: {reason}"):
            read_conversations(tmp_path / "x.jsonl")
    (tmp_path / "x.json").write_bytes(b'[\n{"a": "\xff"}]')
    with pytest.raises(Refusal, match="line 2: not UTF-8"):
        read_conversations(tmp_path / "x.json")
    (tmp_path / "x.json").write_bytes(b"[\n{,}]")
    with pytest.raises(Refusal, match="line 2: not JSON"):
        read_conversations(tmp_path / "x.json")


def test_a_row_of_a_json_list_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([GOOD, {"conversations": []}]))
    with pytest.raises(Refusal, match="row 2: there is no assistant turn"):
        read_conversations(path)


def test_several_bad_rows_are_counted_in_one_message(tmp_path: Path) -> None:
    path = _jsonl(tmp_path / "x.jsonl", [GOOD, {}, [], {}])
    with pytest.raises(Refusal, match=r"line 2: .*2 more rows are bad, among them line 3: .*; line 4"):
        read_conversations(path)


def test_bad_rows_can_be_left_out_and_are_counted(tmp_path: Path) -> None:
    path = _jsonl(tmp_path / "x.jsonl", [GOOD, {}, []])
    with pytest.warns(UserWarning, match="2 rows left out, the first at line 2"):
        assert [row.id for row in read_conversations(path, on_bad_row="skip")] == ["a"]
    path = _jsonl(tmp_path / "x.jsonl", [{}])
    with pytest.warns(UserWarning, match="1 rows"), pytest.raises(Refusal, match="no conversations left"):
        read_conversations(path, on_bad_row="skip")


def test_missing_empty_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="absent.jsonl cannot be read"):
        read_conversations(tmp_path / "absent.jsonl")
    for content in (b"", b"\n\n", b"[]"):
        (tmp_path / "empty").write_bytes(content)
        with pytest.raises(Refusal, match="has no conversations"):
            read_conversations(tmp_path / "empty")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(json.dumps(GOOD).encode())[:-9])
    with pytest.raises(Refusal, match="damaged gzip"):
        read_conversations(tmp_path / "cut.gz")


def test_loading_filters_by_domain_draws_by_seed_and_keeps_the_order(tmp_path: Path) -> None:
    rows = [_row(f"{number}", domain="odd" if number % 2 else "even") for number in range(40)]
    files = (str(_jsonl(tmp_path / "a.jsonl", rows[:20])), str(_jsonl(tmp_path / "b.jsonl", rows[20:])))
    everything = load_conversations(DataConfig(files=files), seed=0)
    assert [row.id for row in everything] == [str(number) for number in range(40)]
    config = DataConfig(files=files, domains=("odd",), max_conversations=5)
    drawn = [int(row.id) for row in load_conversations(config, seed=3)]
    assert drawn == [int(row.id) for row in load_conversations(config, seed=3)]
    assert drawn == sorted(drawn)
    assert len(drawn) == 5
    assert all(number % 2 for number in drawn)
    assert drawn != [int(row.id) for row in load_conversations(config, seed=4)]


def test_an_unknown_domain_and_an_id_in_two_files_are_refused(tmp_path: Path) -> None:
    first = str(_jsonl(tmp_path / "a.jsonl", [_row("x", domain="letters")]))
    second = str(_jsonl(tmp_path / "b.jsonl", [_row("x")]))
    with pytest.raises(Refusal, match="did you mean 'letters'"):
        load_conversations(DataConfig(files=(first,), domains=("leters",)), seed=0)
    with pytest.raises(Refusal, match="both have a conversation 'x'"):
        load_conversations(DataConfig(files=(first, second)), seed=0)


def test_the_same_dialogue_in_two_files_is_two_rows_where_it_has_no_id(tmp_path: Path) -> None:
    files = tuple(str(_jsonl(tmp_path / f"{name}.jsonl", [_row(), _row(answer=name)])) for name in "ab")
    ids = [row.id for row in load_conversations(DataConfig(files=files), seed=0)]
    (base, *_) = (row.id for row in read_conversations(Path(files[0])))
    assert ids[::2] == [base, f"{base}-2"]
    assert len(set(ids)) == 4


def test_an_id_that_is_no_number_is_none_and_a_long_one_is_shortened_when_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": NaN, ' + json.dumps(_row())[1:] + "\n")
    assert [row.id for row in read_conversations(path)] == [content_id(read_conversations(path)[0].messages)]
    _jsonl(path, [_row("x" * 10**5)] * 2)
    with pytest.raises(Refusal, match=r"x\.\.\.' was already given") as told:
        read_conversations(path)
    assert len(str(told.value)) < 1000


def test_subsampling_more_than_there_are_keeps_all() -> None:
    conversation = Conversation(
        id="x", messages=(Message(role="user", content=""), Message(role="assistant", content="a"))
    )
    assert subsample([conversation], 2, seed=0) == [conversation]


@pytest.mark.parametrize(
    "fields", [{"files": []}, {"files": ["x"], "max_conversations": 0}, {"files": ["x"], "on_bad_row": "drop"}]
)
def test_settings_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Refusal):
        typed(fields, DataConfig, at="data")


def rows_file(path: Path, *, count: int, domain: str | None = None) -> Path:
    """JSONL with rows q0, q1, ..."""
    rows = [{"id": f"{path.stem}-q{i}", "instruction": f"Say {i}.", "output": f"{i}."} for i in range(count)]
    path.write_text("".join(json.dumps(row | ({"domain": domain} if domain else {})) + "\n" for row in rows))
    return path


@settings(deadline=None)
@given(skip=st.integers(0, 12), first=st.one_of(st.none(), st.integers(1, 12)))
def test_a_part_of_a_file_is_so_many_rows_behind_so_many(skip: int, first: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = rows_file(Path(folder) / "f.jsonl", count=10)
        wanted = [f"f-q{i}" for i in range(skip, min(10, skip + (10 if first is None else first)))]
        config = typed({"files": [{"path": str(path), "skip": skip, "first": first}]}, DataConfig)
        if not wanted:
            with pytest.raises(Refusal, match="has no conversations"):
                load_conversations(config, seed=0)
        else:
            assert [one.id for one in load_conversations(config, seed=0)] == wanted


def test_a_part_labels_what_has_no_label_and_stands_beside_whole_files_and_patterns(tmp_path: Path) -> None:
    for name, domain in (("a", None), ("b", "own"), ("c", None)):
        rows_file(tmp_path / f"{name}.jsonl", count=3, domain=domain)
    parts = [{"path": str(tmp_path / "[ab].jsonl"), "domain": "given", "first": 1}, str(tmp_path / "c.jsonl")]
    config = typed({"files": parts}, DataConfig)
    assert config.paths() == [tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "c.jsonl"]
    found = {one.id: one.domain for one in load_conversations(config, seed=0)}
    assert found == {"a-q0": "given", "b-q0": "own", "c-q0": "", "c-q1": "", "c-q2": ""}


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"path": "a.jsonl", "frist": 3}, r"unknown key 'data\.files\[0\]\.frist': did you mean 'first'"),
        ({"path": "a.jsonl", "skip": -1}, "skip is -1 and first None: expected 0 or more"),
        ({"path": "a.jsonl", "first": 0}, "first 0: expected 0 or more, and 1 or more"),
        ({"path": "https://a/b.jsonl"}, "is an address"),
        ({"domain": "x"}, r"'data\.files\[0\]\.path' is missing"),
    ],
)
def test_a_part_that_can_be_none_is_refused(part: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        typed({"files": [part]}, DataConfig, at="data")
