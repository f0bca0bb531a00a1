"""The audit's counts are of the pivot's tokens of the text, whichever form the text comes in."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fusion.align import AlignConfig
from fusion.align.__main__ import run
from fusion.align.audit import audit, every_config, little_kept, read_texts, text_row
from fusion.conversations.vocabulary import token_bytes
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal

TEXTS = [
    ["the cat sat on the mat: 12 + 34 = 46"],
    ["naïve 你好,世界 😀👩‍👩‍👧", "```python\ndef f(x): return 7\n```\nend", ""],
]
FIELDS = ["scheme", "reading", "aligner", "vocabulary_map", "kind"]
COUNTS = ["positions", "transferred", "one_hot", "empty", "wrong_position", "kept", "kept_text"]
OF_THE_PAIR = ["vocabulary", "vocabulary_kept", "vocabulary_kept_text", "bytes", "pivot_left_out", "source_left_out"]


@pytest.fixture
def folders(tokenizers, tmp_path):
    for name in ("coarse", "unigram"):
        tokenizers[name].save_pretrained(tmp_path / name)
    return {"pivot": str(tmp_path / "unigram"), "source": str(tmp_path / "coarse"), "out": str(tmp_path / "out")}


def rows_of(folders):
    return json.loads((Path(folders["out"]) / "audit.json").read_text())["rows"]


def write_outputs(path: Path) -> str:
    path.write_text(json.dumps([{"instruction": "say", "output": turn} for turns in TEXTS for turn in turns]))
    return str(path)


@pytest.mark.parametrize(("pivot", "source"), [("unigram", "coarse"), ("coarse", "fine")])
def test_counts_add_up_for_every_scheme_reading_and_kind(tokenizers, pivot, source):
    rows = audit(
        pivot_tokenizer=tokenizers[pivot],
        source_tokenizer=tokenizers[source],
        texts=TEXTS,
        configs=every_config(),
    )
    spelled_out = sum(
        len(tokenizers[pivot](turn, add_special_tokens=False)["input_ids"]) for turns in TEXTS for turn in turns
    )
    unknown = sum(
        tokenizers[pivot](turn, add_special_tokens=False)["input_ids"].count(tokenizers[pivot].unk_token_id)
        for turns in TEXTS
        for turn in turns
    )
    assert len({(row["scheme"], row["reading"]) for row in rows}) == 15
    for config in every_config():
        mine = [row for row in rows if (row["scheme"], row["reading"]) == (config.scheme, config.reading)]
        assert mine[0]["kind"] == "all" and mine[0]["positions"] == spelled_out - unknown
        for row in mine:
            assert list(row) == FIELDS + COUNTS + OF_THE_PAIR
            assert [row[name] for name in OF_THE_PAIR] == [mine[0][name] for name in OF_THE_PAIR]
            assert row["kept_text"] <= row["kept"] <= row["transferred"]
            assert row["vocabulary_kept_text"] <= row["vocabulary_kept"] <= row["vocabulary"]
            assert row["transferred"] + row["one_hot"] + row["empty"] == row["positions"]
            assert row["wrong_position"] <= row["transferred"]
            assert row["wrong_position"] == 0 or (
                row["reading"] != "fixed" and row["scheme"] not in ("byte_span", "equal_span")
            )
        for count in COUNTS:
            assert sum(row[count] for row in mine[1:]) == mine[0][count]


def test_a_tokenizer_audited_with_itself_transfers_everything(tokenizers):
    rows = audit(
        pivot_tokenizer=tokenizers["coarse"],
        source_tokenizer=tokenizers["coarse"],
        texts=TEXTS,
        configs=every_config(),
    )
    assert all(row["transferred"] == row["positions"] and row["wrong_position"] == 0 for row in rows)
    assert all(row["kept_text"] == row["transferred"] for row in rows)
    assert all(row["vocabulary_kept_text"] == row["vocabulary"] for row in rows)
    assert little_kept(rows) == []


def spelled_by_start(tokenizer, turns):
    """(turn, first byte) of every token of a byte-level tokenizer, with its bytes."""
    found = {}
    for number, turn in enumerate(turns):
        at = 0
        for token in tokenizer(turn)["input_ids"]:
            text = token_bytes(tokenizer)[token]
            found[number, at] = text
            at += len(text)
    return found


SCRIPTS = [
    "the cat sat on the mat",
    "naïve café — théâtre",
    "你好,世界 this is 你好",
    "שלום the дом, ελ",
    "12 + 34 = 46\n\n\tdef f(x): 😀",
]


@pytest.mark.parametrize(("ours", "theirs"), [("coarse", "fine"), ("fine", "coarse")])
def test_what_the_exact_map_keeps_is_the_source_s_tokens_that_the_pivot_has(tokenizers, ours, theirs):
    texts = [SCRIPTS, ["", "x", "the mat"]]
    rows = audit(
        pivot_tokenizer=tokenizers[ours],
        source_tokenizer=tokenizers[theirs],
        texts=texts,
        configs=[AlignConfig(scheme="byte_span")],
    )
    has = {text for text in token_bytes(tokenizers[ours]) if text is not None}
    source = {text for text in token_bytes(tokenizers[theirs]) if text is not None}
    transferred = kept = 0
    for turns in texts:
        said = spelled_by_start(tokenizers[theirs], turns)
        taught = [said[place] for place in spelled_by_start(tokenizers[ours], turns) if place in said]
        transferred += len(taught)
        kept += sum(text in has for text in taught)
    assert (rows[0]["transferred"], rows[0]["kept"], rows[0]["kept_text"]) == (transferred, kept, kept)
    assert rows[0]["vocabulary_kept"] == rows[0]["vocabulary_kept_text"] == len(source & has)
    assert rows[0]["vocabulary"] == len(source)
    assert rows[0]["bytes"] == sum(len(turn.encode()) for turns in texts for turn in turns)
    assert kept < transferred or ours == "coarse"  # what has more merges has all tokens of what has fewer


def whole_words(words, *, merged):
    """A byte-level tokenizer whose tokens are bytes or, where they are `merged`, these words with their space too."""
    pieces = {piece: number for number, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = []
    for word in words if merged else ():
        left = "Ġ"
        for letter in word:
            merges.append((left, letter))
            left += letter
            pieces.setdefault(left, len(pieces))
    backend = Tokenizer(models.BPE(pieces, [*dict.fromkeys(merges)]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_a_pair_that_shares_no_word_of_the_text_is_told_though_its_borders_agree():
    words = ["pine", "oak", "birch"]
    text = [[" " + " ".join(words), " oak"]]
    bytewise, wordwise = (whole_words(words, merged=merged) for merged in (False, True))
    rows = audit(
        pivot_tokenizer=bytewise,
        source_tokenizer=wordwise,
        texts=text,
        configs=[AlignConfig(scheme="byte_span"), AlignConfig(scheme="mined", aligner="byte_span")],
    )
    exact, nearest = (row for row in rows if row["kind"] == "all")
    assert (exact["transferred"], exact["kept"], exact["kept_text"]) == (4, 0, 0)  # where a word begins
    # 256 bytes of each are the same; the source has a token more for every beginning of a word
    assert exact["vocabulary_kept"] == 256 and exact["vocabulary"] == 256 + len("pine" + "oak" + "birch")
    assert (nearest["transferred"], nearest["kept"], nearest["kept_text"]) == (4, 4, 0)  # every token has a nearest
    assert nearest["vocabulary_kept"] == nearest["vocabulary"] and nearest["vocabulary_kept_text"] == 256
    said = little_kept(rows)
    assert len(said) == 2
    assert said[0].startswith("little is kept by byte_span, paper, byte_span, string: ") and "0% of all" in said[0]
    other_way = audit(
        pivot_tokenizer=wordwise,
        source_tokenizer=bytewise,
        texts=text,
        configs=[AlignConfig(scheme="byte_span")],
    )
    assert other_way[0]["kept_text"] == other_way[0]["transferred"] == 4 and little_kept(other_way) == []


def test_text_that_a_tokenizer_has_no_tokens_for_is_told_on_either_side(unigram, fine):
    said, foreign = "the cat sat on the mat ", "дом"  # no Cyrillic in what the unigram was trained on
    texts, lost = [[said + foreign, said]], len(foreign.encode())
    configs = [AlignConfig(scheme="byte_span")]
    for pivot, source, role in ((unigram, fine, "pivot"), (fine, unigram, "source")):
        rows = audit(pivot_tokenizer=pivot, source_tokenizer=source, texts=texts, configs=configs)
        other = {"pivot": "source", "source": "pivot"}[role]
        assert lost <= rows[0][f"{role}_left_out"] <= lost + 1 and rows[0][f"{other}_left_out"] == 0
        share = f"{rows[0][f'{role}_left_out'] / len(''.join(texts[0]).encode()):.1%}"
        assert little_kept(rows)[0].startswith(f"the {role} has no tokens for {share} of the text")


def test_a_kind_of_text_that_a_reading_loses_is_told_and_named(unigram, fine):
    # FuseLLM's code compares a byte-level piece with the character written out, and finds no Chinese in common
    texts = [["你好,世界 " * 4 + "the cat sat on the mat " * 4]]
    configs = [AlignConfig(scheme="em", reading=reading, aligner="byte_span") for reading in ("paper", "released")]
    paper, released = (
        audit(pivot_tokenizer=unigram, source_tokenizer=fine, texts=texts, configs=[one]) for one in configs
    )
    kept = [
        {row["kind"]: row["kept_text"] / row["transferred"] for row in rows if row["transferred"]}
        for rows in (paper, released)
    ]
    assert kept[1]["cjk"] == 0 < kept[1]["prose"]
    (told,) = little_kept(released)
    assert "0% of cjk" in told and "released" in told and "prose" not in told
    assert ("cjk" in "".join(little_kept(paper))) == (kept[0]["cjk"] < 0.5)


def test_kinds_of_text_are_told_token_by_token(fine):
    # byte-level pieces: every digit is a token of its own, and so may be the bytes of a character
    def positions(text: str) -> dict[str, int]:
        rows = audit(pivot_tokenizer=fine, source_tokenizer=fine, texts=[[text]], configs=[AlignConfig(scheme="em")])
        return {row["kind"]: row["positions"] for row in rows}

    def length(text: str) -> int:
        return len(fine(text)["input_ids"])

    assert positions("98") == {"all": 2, "digits": 2}
    assert positions("界") == {"all": length("界"), "cjk": length("界")}
    assert positions("😀") == {"all": length("😀"), "emoji": length("😀")}
    assert positions("```\nx = y\n```").keys() == {"all", "code"}
    assert positions("plain").keys() == {"all", "prose"}


def test_characters_that_tokens_share_are_parted_by_their_bytes(fine):
    row = text_row(fine, ["é界"])
    assert row.start.tolist() == sorted(set(row.start.tolist())) and row.start[0] == 0
    assert row.end[-2] == len("é界".encode())
    np.testing.assert_array_equal(row.start[1:-1], row.end[:-2])


def test_texts_are_read_from_every_form(tmp_path):
    expected = [[turn] for turns in TEXTS for turn in turns]
    plain = tmp_path / "outputs.json"
    write_outputs(plain)
    assert read_texts(plain) == expected
    packed = tmp_path / "outputs.json.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_texts(packed) == expected
    lines = tmp_path / "outputs.jsonl"
    lines.write_text("\n".join(json.dumps(row) for row in json.loads(plain.read_text())))
    assert read_texts(lines) == expected
    chat = tmp_path / "chat.jsonl"
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    chat.write_text(json.dumps({"messages": messages * 2}) + "\n")
    assert read_texts(chat) == [["Hello", "Hello"]]


def test_the_command_writes_every_scheme_or_the_one_chosen(folders, tmp_path, capsys):
    text = write_outputs(tmp_path / "outputs.json")
    given = [f"{key}={value}" for key, value in folders.items()] + [f"text={text}"]
    run(compose("audit", given))
    assert {row["scheme"] for row in rows_of(folders)} == {"em", "mined", "ms", "byte_span", "equal_span"}
    out = capsys.readouterr().out
    assert "wrong" in out and "same text" in out and "Of the source's vocabulary" in out
    run(compose("audit", [*given, "align=em", "align.aligner=byte_span", "align.reading=fixed"]))
    assert {(row["scheme"], row["reading"], row["aligner"]) for row in rows_of(folders)} == {
        ("em", "fixed", "byte_span")
    }


def test_the_command_warns_of_what_is_lost_on_the_terminal_and_in_its_file(tmp_path, capsys):
    words = ["pine", "oak"]
    for name, merged in (("pivot", False), ("source", True)):
        whole_words(words, merged=merged).save_pretrained(tmp_path / name)
    (tmp_path / "text.json").write_text(json.dumps([{"output": " oak pine oak"}]))
    given = [f"{name}={tmp_path / name}" for name in ("pivot", "source", "out")]
    run(compose("audit", [*given, f"text={tmp_path / 'text.json'}", "align=byte_span"]))
    (said,) = json.loads((tmp_path / "out" / "audit.json").read_text())["warnings"]
    assert "only 0% of all" in said and said in capsys.readouterr().out


def test_a_tokenizer_of_the_hub_is_taken_from_the_copy_that_is_here(folders, tmp_path, monkeypatch):
    from huggingface_hub import constants

    text, commit = write_outputs(tmp_path / "outputs.json"), "0" * 40
    owner = tmp_path / "hub" / "models--owner--words"
    (owner / "snapshots").mkdir(parents=True)
    (owner / "refs").mkdir()
    (owner / "snapshots" / commit).symlink_to(folders["source"])
    (owner / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    run({**folders, "source": "owner/words", "text": str(text), "align": {"scheme": "em"}})
    of_the_hub = rows_of(folders)
    run({**folders, "text": str(text), "align": {"scheme": "em"}})
    assert of_the_hub == rows_of(folders)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pivot": "/nowhere"}, "there is no directory /nowhere"),
        ({"pivot": "/usr"}, "pivot=/usr has no tokenizer.json"),
        ({"source": "nowhere"}, "model 'nowhere' is not in conf/model"),
        ({"source": "pocket_pivot"}, "experiments train it"),
        ({"text": "/nowhere.json"}, "text=/nowhere.json cannot be read"),
        ({"align": {"scheme": "em", "reading": "printed"}}, "align.reading is 'printed'"),
        ({"sauce": "x"}, "unknown key 'sauce': did you mean 'source'"),
    ],
)
def test_bad_settings_are_refused_in_one_message(folders, tmp_path, change, message):
    text = write_outputs(tmp_path / "outputs.json")
    with pytest.raises(Refusal, match=message):
        run({**folders, "text": text, "align": None, **change})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"output": "a"}, {"input": "b"}]', "row 2: no `output` text"),
        (b'[{"output": "a"}', "not JSON"),
        (b'[{"output": ""}]', "holds no assistant text"),
        (b'[{"output": "\xff"}]', "is not UTF-8"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused(tmp_path, content, message):
    path = tmp_path / "text.json"
    path.write_bytes(content)
    with pytest.raises(Refusal, match=message):
        read_texts(path)


def test_published_tokenizers_on_published_answers():
    root = Path(os.environ.get("FUSECHAT_LAB_DATA", ""))
    answers = root / "alpaca_eval" / "outputs" / "Qwen1.5-72B-Chat.json.gz"
    if not answers.is_file() or not (root / "tokenizers" / "phi3").is_dir():
        pytest.skip(
            "set FUSECHAT_LAB_DATA to a folder with tokenizers and AlpacaEval outputs (the fetch command writes it)"
        )
    from transformers import AutoTokenizer

    mistral, phi = (AutoTokenizer.from_pretrained(root / "tokenizers" / name) for name in ("mistral-v1", "phi3"))
    configs = [
        AlignConfig(scheme=scheme, reading=r)
        for scheme, r in (("em", "paper"), ("ms", "released"), ("byte_span", "paper"))
    ]
    rows = audit(pivot_tokenizer=mistral, source_tokenizer=phi, texts=read_texts(answers)[:20], configs=configs)
    share = {row["scheme"]: row["transferred"] / row["positions"] for row in rows if row["kind"] == "all"}
    wrong = {row["scheme"]: row["wrong_position"] for row in rows if row["kind"] == "all"}
    # two SentencePiece vocabularies of one size, trained on other text: most borders are shared, and EM finds fewer
    assert share["em"] < share["byte_span"] and share["byte_span"] > 0.8
    assert wrong["byte_span"] == 0
