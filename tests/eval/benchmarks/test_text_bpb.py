"""Bits per byte of given answers: the definition, the same text for everybody, and what is refused."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pytest

from eval.benchmarks import BENCHMARKS, TextBPB, metric_of
from eval.benchmarks.text_bpb import Documents
from eval.config import eval_config
from eval.errors import HarnessFailure
from eval.preflight import seated
from eval.records import ItemScore
from eval.scores.intervals import Uncertainty
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal

ROWS = [
    {"instruction": "seven and nine?", "output": "sixteen"},
    {"instruction": "two?", "output": "  the sum of seven and naïve nine  "},
    {"instruction": "empty", "output": " "},
    {"instruction": "long", "output": "nine " * 30},
    {"instruction": "sum of 7 + 9", "output": "16"},
]


@pytest.fixture
def data(tmp_path) -> Path:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    lines = "\n".join(json.dumps({"q": row["instruction"], "a": row["output"]}) for row in ROWS)
    (tmp_path / "lines.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return tmp_path


def entry(*documents: Documents, **settings: object) -> TextBPB:
    return TextBPB(documents=documents, backend="hf", max_bytes=100, **settings)


def bits_of(checkpoint: Path, asked: str, said: str) -> float:
    """The answer's bits by a forward pass over the conversation as the tokenizer's own template writes it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    start = text.rindex(said)
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = torch.tensor([found["input_ids"]])
    with torch.inference_mode():
        log_probs = torch.log_softmax(model(ids).logits[0].float(), -1)
    inside = [
        place
        for place, (first, last) in enumerate(found["offset_mapping"])
        if first < start + len(said) and last > start and first < last
    ]
    return -sum(float(log_probs[place - 1, ids[0, place]]) for place in inside) / math.log(2)


def test_the_mean_over_a_kind_is_its_bits_over_its_bytes(make_checkpoint, data):
    checkpoint = make_checkpoint(5)
    scores = entry(Documents(label="sums", path="rows.json")).measure(checkpoint=checkpoint, data=data)
    counted = [(row["instruction"], row["output"].strip()) for row in (ROWS[0], ROWS[1], ROWS[4])]
    bits = sum(bits_of(checkpoint, *one) for one in counted)
    size = sum(len(said.encode()) for _, said in counted)
    assert sum(score.value for score in scores) / len(scores) == pytest.approx(bits / size, rel=1e-5)
    assert [score.question_id for score in scores] == ["sums/1", "sums/2", "sums/5"]


def test_kinds_have_a_row_each_and_one_for_all_documents(make_checkpoint, data):
    harness = entry(
        Documents(label="a", path="rows.json", first=2),
        Documents(label="b", path="lines.jsonl", question="q", answer="a", skip=4),
    )
    scores = harness.measure(checkpoint=make_checkpoint(5), data=data)
    rows = {row.slice: row for row in harness.metrics(scores, Uncertainty())}
    assert [row.n for row in rows.values()] == [3, 2, 1] and list(rows) == ["all", "a", "b"]
    assert rows["all"].value == pytest.approx((2 * rows["a"].value + rows["b"].value) / 3)
    assert rows["a"].low < rows["a"].value < rows["a"].high
    assert rows["b"].low is None  # of one document there is no interval
    assert metric_of("text_bpb", "bits_per_byte").sense == -1


def test_a_document_that_a_model_cannot_be_shown_whole_stops_the_measurement(make_checkpoint, data, monkeypatch):
    from eval.likelihood.local_model import LocalModel

    loaded = LocalModel.load(make_checkpoint(5))
    loaded.longest = 14
    monkeypatch.setattr(LocalModel, "load", classmethod(lambda cls, *_, **__: loaded))
    with pytest.raises(HarnessFailure, match=r"sums/2 cannot be measured .* limit is 14.*lower max_bytes"):
        entry(Documents(label="sums", path="rows.json")).measure(checkpoint=Path(), data=data)


@pytest.mark.parametrize(
    ("documents", "says"),
    [
        (Documents(label="x", path="nowhere.json"), "the documents 'x' is not at .*nowhere.json"),
        (Documents(label="x", path="rows.json", answer="said"), "row 1 has no 'said': found instruction, output"),
        (Documents(label="x", path="rows.json", skip=9), "no document 'x' .* among rows 10 to 5 of 5"),
        (Documents(label="x", path="rows.json", skip=2, first=2), "of at most 100 bytes among rows 3 to 4 of 5"),
        (Documents(label="x", path="odd.json"), "row 1: instruction and output must be texts"),
    ],
)
def test_documents_that_are_not_there_are_refused(data, documents, says):
    (data / "odd.json").write_text(json.dumps([{"instruction": 3, "output": "x"}]))
    with pytest.raises(Refusal, match=says):
        entry(documents).measure(checkpoint=Path(), data=data)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"documents": []}, "documents is empty"),
        ({"documents": [{"label": "a", "path": "x"}] * 2}, "documents name a twice"),
        ({"documents": [{"label": "all", "path": "x"}]}, "label is 'all'"),
        ({"documents": [{"label": "a", "path": "x", "first": 0}]}, "first 0"),
        ({"documents": [{"label": "a", "path": "x"}], "max_bytes": 0}, "max_bytes is 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, says):
    from fusion.runtime.configure import typed

    with pytest.raises(Refusal, match=says):
        typed(settings, TextBPB, at="benchmark.text_bpb")


def test_the_shipped_entry_composes_and_another_file_is_another_key(data):
    config = eval_config(compose("eval", ["benchmark=text_bpb", "checkpoint=x"]))
    assert isinstance(config.measured["text_bpb"], TextBPB) and BENCHMARKS["text_bpb"] is TextBPB
    own = entry(Documents(label="sums", path="rows.json"))
    before = own.origin(data)
    (data / "rows.json").write_text(json.dumps(ROWS[:2]))
    assert own.origin(data).keys() == before.keys() and own.origin(data) != before


@pytest.mark.parametrize("measured", ["text_bpb", "lm_eval"])
def test_what_needs_no_judge_has_none_whose_key_could_be_missing(measured, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    alone = eval_config(compose("eval", [f"benchmark={measured}", "judge=openai", "checkpoint=x"]))
    assert seated(alone) == []
    both = eval_config(compose("eval", [f"benchmark=[mt_bench,{measured}]", "judge=openai", "checkpoint=x"]))
    assert both.judges.keys() == {"mt_bench"} and len(seated(both)) == 1


def test_what_is_measured_is_one_score_a_document_in_every_table(make_checkpoint, data):
    scores = entry(Documents(label="sums", path="rows.json")).measure(checkpoint=make_checkpoint(5), data=data)
    assert all(isinstance(score, ItemScore) and score.metric == "bits_per_byte" for score in scores)
    assert {score.category for score in scores} == {"sums"}
