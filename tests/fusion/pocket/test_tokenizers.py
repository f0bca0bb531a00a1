"""The pocket tokenizers: what their settings say, and pairs of them as unlike as real ones."""

from __future__ import annotations

import pytest

from fusion.align import AlignConfig
from fusion.align.audit import audit
from fusion.conversations.conversation import read_conversations
from fusion.experiment import fusion_config
from fusion.pocket.models import chat_tokenizer, mixed
from fusion.pocket.questions import write_dialogues
from fusion.pocket.tokenizers import PocketTokenizer, train_tokenizer
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal, typed

TEXTS = ["write 347 in roman", "C C C X L V I I", "now in words", "three hundred forty seven", "347", "34", "7"] * 20


def trained(**settings):
    return train_tokenizer(
        PocketTokenizer(**{"kind": "byte_bpe", "vocab_size": 400} | settings), TEXTS, special=["<e>"]
    )


def pieces(tokenizer, text):
    encoded = tokenizer.encode(text)
    return [text[start:end] for start, end in encoded.offsets]


@pytest.mark.parametrize(
    ("figures", "expected"), [("single", ["3", "4", "7"]), ("triples", ["347"]), ("runs", ["347"])]
)
@pytest.mark.parametrize("kind", ["byte_bpe", "space_bpe"])
def test_a_number_is_cut_as_set(kind, figures, expected):
    assert pieces(trained(kind=kind, figures=figures), "347") == expected


def test_figures_by_three_are_cut_from_the_left_and_runs_are_not_cut():
    texts = ["34712"] * 50
    by_three = train_tokenizer(
        PocketTokenizer(kind="byte_bpe", vocab_size=400, figures="triples"), texts, special=["<e>"]
    )
    whole = train_tokenizer(PocketTokenizer(kind="byte_bpe", vocab_size=400, figures="runs"), texts, special=["<e>"])
    assert pieces(by_three, "34712") == ["347", "12"]
    assert pieces(whole, "34712") == ["34712"]


@pytest.mark.parametrize("kind", ["byte_bpe", "space_bpe"])
def test_a_token_crosses_the_spaces_between_single_letters_only_where_set(kind):
    within, across = (trained(kind=kind, letters_across_space=how) for how in (False, True))
    text = "C C C X L V I I"
    assert all(piece.count("C") + piece.count("X") <= 1 for piece in pieces(within, text))
    assert len(pieces(across, text)) < len(pieces(within, text))
    assert "".join(pieces(across, text)) == text
    assert pieces(across, "in words") == pieces(within, "in words")


@pytest.mark.parametrize("kind", ["byte_bpe", "space_bpe"])
def test_no_piece_is_longer_than_set(kind):
    assert max(map(len, pieces(trained(kind=kind, longest=4), "three hundred forty seven"))) <= 4
    assert "hundred" in "".join(pieces(trained(kind=kind), "three hundred")).split()


def test_the_order_of_the_texts_changes_nothing():
    config = PocketTokenizer(kind="space_bpe", vocab_size=400)
    one, other = (train_tokenizer(config, order, special=["<e>"]).to_str() for order in (TEXTS, TEXTS[::-1]))
    assert one == other


def test_space_bpe_spells_the_unseen_in_bytes_and_reads_what_looks_alike_as_one():
    tokenizer = trained(kind="space_bpe")
    assert tokenizer.encode("é").tokens == ["<0xC3>", "<0xA9>"]
    assert tokenizer.decode(tokenizer.encode("in é 34").ids) == "in é 34"
    assert tokenizer.encode("\uff13\uff14").ids == tokenizer.encode("34").ids  # full-width figures


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 100}, "expected at least 320"),
        ({"vocab_size": 400, "longest": 0}, "expected at least 1 character, or null"),
        ({"vocab_size": 400, "figures": "tripels"}, "did you mean 'triples'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(Refusal, match=message):
        typed({"kind": "byte_bpe"} | settings, PocketTokenizer)


@pytest.fixture(scope="module")
def pocket(tmp_path_factory):
    """The experiment's own tokenizers, by the models' names, and the assistant texts of its fusion set."""
    config = fusion_config(compose("ablations", ["experiment=pocket"]))
    text = tmp_path_factory.mktemp("text")
    write_dialogues(config.data, text)
    tokenizers = {
        name: chat_tokenizer(model.pocket.model, mixed(model.pocket.model, text))
        for name, model in config.models.items()
    }
    turns = [
        [turn.content for turn in row.messages if turn.role == "assistant"]
        for row in read_conversations(text / "fusion.jsonl")
    ]
    return config, tokenizers, turns


def test_every_source_is_as_unlike_the_pivot_as_real_tokenizers_are(pocket):
    config, tokenizers, turns = pocket
    for name in config.sources:
        rows = audit(
            pivot_tokenizer=tokenizers[config.pivot],
            source_tokenizer=tokenizers[name],
            texts=turns,
            configs=[AlignConfig(scheme="byte_span", reading="paper")],
        )
        (whole,) = (row for row in rows if row["kind"] == "all")
        assert 0.75 <= whole["transferred"] / whole["positions"] <= 0.95, name
        assert 0.80 <= whole["kept"] / whole["transferred"] <= 0.95, name


def test_a_source_cuts_figures_by_three_one_joins_letters_across_spaces_and_one_falls_back_to_bytes(pocket):
    _, tokenizers, _ = pocket
    entries = {name: tokenizer.get_vocab() for name, tokenizer in tokenizers.items()}
    assert any(len(entry) > 1 and entry.isdigit() for entry in entries["pocket_numbers"])
    assert any("Ġ" in entry[1:] for entry in entries["pocket_numbers"])
    assert "<0xC3>" in entries["pocket_letters"]
    assert not any(len(entry) > 1 and entry.isdigit() for entry in entries["pocket_pivot"])
