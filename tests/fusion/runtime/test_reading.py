"""JSON of others: what is whole is read, everything else is one ValueError or one Refusal with its place."""

import json
import sys
from itertools import pairwise

import pytest

from fusion.runtime.artifacts import Store, read_manifest
from fusion.runtime.configure import Refusal
from fusion.runtime.digests import directory_key
from fusion.runtime.reading import decoded, decoded_yaml, read_json, read_object, read_text, read_yaml

DAMAGED = {
    "empty": b"",
    "cut short": b'{"a": [1, 2',
    "nested": b'{"a":' * 50_000,
    "a number without end": b'{"a": ' + b"7" * 6_000 + b"}",
    "another encoding": '{"a": "é"}'.encode("latin-1"),
    "two bytes a letter": '{"a": 1}'.encode("utf-16"),
    "the first half of a letter": b'{"a": "\\uD83D"}',
    "the second half, as a key": b'{"\\ude00": 1}',
    "null bytes": bytes(64),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_text_is_one_refusal_that_names_the_file(tmp_path, text):
    with pytest.raises(ValueError):
        decoded(text)
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(Refusal, match=r"a\.json cannot be read as JSON .*: expected a menu"):
        read_json(tmp_path / "a.json", expected="a menu")


def test_whole_text_is_read_as_python_reads_it(tmp_path):
    said = {"é": ["\U0001f600", 1.5, -3, None, True], "b": {"c": "\\ud800"}}  # a backslash and five letters
    for text in (json.dumps(said), json.dumps(said, ensure_ascii=False)):
        assert decoded(text) == decoded(text.encode()) == said
    (tmp_path / "marked.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(said).encode())
    assert read_object(tmp_path / "marked.json", expected="an object") == said


@pytest.mark.parametrize("text", ["[]", '"text"', "3", "null", "true"])
def test_something_else_than_an_object_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(Refusal, match="not an object: expected a menu"):
        read_object(tmp_path / "a.json", expected="a menu")


@pytest.mark.parametrize("levels", [100, 101, 900])
def test_a_hundred_levels_are_read_and_more_are_refused_whatever_python_would_take(levels):
    for text in ("[" * levels + "]" * levels, '{"a":' * levels + "0" + "}" * levels):
        if levels <= 100:
            assert json.loads(text) == decoded(text) == decoded_yaml(text)
        else:
            for read in (decoded, decoded_yaml):
                with pytest.raises(ValueError, match="nested too deeply"):
                    read(text)


def test_many_small_lists_are_not_nested_deeply():
    rows = [[str(number), {"a": []}] for number in range(5_000)]
    assert decoded(json.dumps(rows)) == rows


UNREADABLE_YAML = {
    "no YAML": "a: [1, 2",
    "deep": "a: " + "[" * 3_000,
    "digits": "seed: " + "9" * 5_000,
    "no date": "day: 2021-02-30",
    "half a letter": 'name: "\\ud800"',
    "a tag that makes objects": "a: !!python/object/apply:os.getcwd []",
    "itself": "a: &a [*a]",
    "names of names": "\n".join(
        ["a: &a [x, x]", *(f"{b}: &{b} [*{a}, *{a}]" for a, b in pairwise("abcdefghijklmnopqrst"))]
    ),
}


@pytest.mark.parametrize("text", UNREADABLE_YAML.values(), ids=UNREADABLE_YAML.keys())
def test_yaml_that_cannot_be_taken_is_one_refusal_that_names_the_file(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(Refusal, match=r"a\.yaml is not YAML .*: expected a menu"):
        read_yaml(tmp_path / "a.yaml", expected="a menu")


@pytest.mark.parametrize("read", [read_json, read_yaml, read_text])
def test_a_file_that_is_not_there_or_no_file_is_refused(tmp_path, read):
    for path, why in ((tmp_path / "absent", "there is no file"), (tmp_path, "cannot be read .Is a directory")):
        with pytest.raises(Refusal, match=rf"{why}.*: expected a menu"):
            read(path, expected="a menu")
    (tmp_path / "latin").write_bytes("é".encode("latin-1"))
    with pytest.raises(Refusal, match="latin .*expected a menu"):
        read(tmp_path / "latin", expected="a menu")


def test_a_key_given_twice_is_found_where_it_matters():
    text = '{"a": {"b": 1, "c": 2, "b": 3}}'
    assert decoded(text) == {"a": {"b": 3, "c": 2}}
    with pytest.raises(ValueError, match="gives 'b' twice"):
        decoded(text, once=True)


MANIFESTS = {
    "no object": "[]",
    "no files": '{"stage": "s"}',
    "files are a list": '{"files": []}',
    "a size that is text": '{"files": {"a": {"bytes": "1", "sha256": "0"}}}',
    "no digest": '{"files": {"a": {"bytes": 1}}}',
    "logs are a number": '{"files": {}, "logs": 3}',
    "versions are text": '{"files": {}, "made_with": "torch"}',
    "a file beside the directory": '{"files": {"../a": {"bytes": 1, "sha256": "0"}}}',
    "a file anywhere": '{"files": {"/etc/passwd": {"bytes": 1, "sha256": "0"}}}',
}


@pytest.mark.parametrize("text", MANIFESTS.values(), ids=MANIFESTS.keys())
def test_a_manifest_of_another_form_is_refused_and_is_none_in_a_store(tmp_path, text):
    folder = tmp_path / "s" / "k"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(text)
    with pytest.raises(Refusal, match="manifest"):
        read_manifest(folder)
    assert Store(root=tmp_path).manifest("s", "k") is None


@pytest.mark.parametrize("text", ["[", "[]", '{"x": 5}', "[" * 100_000])
def test_damaged_notes_of_digests_are_found_again(tmp_path, text):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    key = directory_key(tmp_path / "model", tmp_path / "digests.json")
    (tmp_path / "digests.json").write_text(text)
    assert directory_key(tmp_path / "model", tmp_path / "digests.json") == key


def test_digests_that_cannot_be_noted_are_found_all_the_same(tmp_path, reading_only):
    store = tmp_path / "store"
    for folder in (store, tmp_path / "model"):
        folder.mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    code = (
        "import pathlib, sys; from fusion.runtime.digests import directory_key as key\n"
        "print(key(*map(pathlib.Path, sys.argv[1:])))"
    )
    ended = reading_only([sys.executable, "-c", code, str(tmp_path / "model"), str(store / "digests.json")], store)
    assert ended.stdout.strip() == directory_key(tmp_path / "model", tmp_path / "digests.json"), ended.stderr
    assert not [*store.iterdir()]
