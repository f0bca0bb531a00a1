"""python -m eval checkpoint=MODEL: by path, by an entry of conf/model, by hub name; its day and its family with it."""

import json
from pathlib import Path

import pytest

from eval.__main__ import run
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal
from fusion.runtime.reading import read_object

DATED = (
    "{{ strftime_now('%Y') }} {% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"
)


def evaluated(folder: Path, model: str, *overrides: str, out: str = "out") -> Path:
    (folder / "questions.jsonl").write_text(
        '{"question_id": 1, "category": "c", "turns": ["What is seven?"], "reference": ["seven"]}\n'
    )
    settings = compose(
        "eval",
        [
            f"checkpoint={model}",
            "benchmark=mt_bench",
            "benchmark.mt_bench.questions=questions.jsonl",
            "benchmark.mt_bench.judge_prompts=null",
            "benchmark.mt_bench.references=null",
            "benchmark.mt_bench.max_tokens=4",
            "judge=reference",
            "serve=transformers",
            f"paths.data={folder}",
            f"paths.artifacts={folder}/artifacts",
            f"out={folder}/{out}",
            *overrides,
        ],
    )
    assert not run(settings)
    return folder / out


def answers(folder: Path) -> list[dict]:
    there = sorted(folder.glob("artifacts/answers/*/manifest.json"))
    return [read_object(path, expected="a manifest") for path in there]


@pytest.fixture
def checkpoint(make_checkpoint) -> Path:
    made = make_checkpoint(21)
    (made / "chat_template.jinja").write_text(DATED)
    return made


def test_a_path_is_answered_on_the_pinned_day_and_another_day_is_another_model(checkpoint, tmp_path):
    evaluated(tmp_path, str(checkpoint))
    evaluated(tmp_path, str(checkpoint))
    (first,) = answers(tmp_path)
    entry = f"+model.mine={{label: mine, path: '{checkpoint}', template_date: 2025-01-31}}"
    table = evaluated(tmp_path, "mine", entry, out="other") / "scores.csv"
    assert table.read_text().splitlines()[1].startswith("mine,")
    weights = [found["inputs"]["weights"] for found in answers(tmp_path)]
    assert len({*weights}) == 2
    assert first["inputs"]["weights"] in weights


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothere", "a directory is given as ./DIR"), ("./nothere", "there is no directory ./nothere")],
)
def test_a_name_that_is_no_model_is_refused_before_anything_is_asked(tmp_path, name, message):
    with pytest.raises(Refusal, match=message):
        evaluated(tmp_path, name)
    assert not (tmp_path / "artifacts").exists()


def test_a_model_of_the_hub_is_taken_from_the_copy_that_is_here(checkpoint, tmp_path, monkeypatch):
    from huggingface_hub import constants

    cache, commit = tmp_path / "hub", "0" * 40
    snapshot = cache / "models--owner--tiny" / "snapshots" / commit
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(checkpoint)
    (cache / "models--owner--tiny" / "refs").mkdir()
    (cache / "models--owner--tiny" / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    scores = evaluated(tmp_path, "owner/tiny") / "scores.csv"
    assert scores.read_text().splitlines()[1].startswith("tiny,")


def test_a_served_judge_of_the_models_own_design_is_told(checkpoint, tmp_path):
    settings = json.loads((checkpoint / "config.json").read_text())
    assert settings["model_type"] == "llama"
    judged = ["judge=served", f"judge.checkpoint={checkpoint}", "judge.serve={name: transformers}"]
    with pytest.raises(Refusal, match="of the family llama, as is"):
        evaluated(tmp_path, str(checkpoint), *judged, "self_preference=refuse")
