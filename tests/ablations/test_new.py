"""`fusechat-lab new` writes an experiment that composes, or refuses and leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablations.new import MACHINES, Asked, page, read, write
from eval.config import eval_config
from eval.judges import OpenAI
from fusion.pipeline import fusion_config
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal
from fusion.runtime.places import OWN

ADDRESS = "http://127.0.0.1:9/v1"
GIVEN = ["--pivot", "./a b", "--sources", "c/d", "owner/e", "--data", "one.jsonl", "two.jsonl", "--judge", ADDRESS]
WHOLE = [*GIVEN, "--judge-model", "m"]


@pytest.fixture(autouse=True)
def hers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """She stands in a folder with two checkpoints and two files of dialogues."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(OWN, raising=False)
    for name in ("a b", "c/d"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text(json.dumps({"model_type": "llama"}))
        (tmp_path / name / "model.safetensors").touch()
    for name in ("one.jsonl", "two.jsonl"):
        (tmp_path / name).touch()
    return tmp_path


def composed(name: str = "mine") -> dict[str, object]:
    return compose("ablations", [f"experiment={name}"])


def test_the_page_is_what_was_asked_for():
    assert write(read(WHOLE), Path("conf")) == Path("conf/experiment/mine.yaml")
    fusing, evaluating = fusion_config(composed()), eval_config(composed())
    assert (fusing.name, fusing.pivot, fusing.sources) == ("mine", "./a b", ("c/d", "owner/e"))
    assert fusing.data.files == ("one.jsonl", "two.jsonl")
    judge = evaluating.judges["mt_bench"]
    assert isinstance(judge, OpenAI)
    assert (judge.base_url, judge.model, judge.key_variable) == (ADDRESS, "m", None)


@pytest.mark.parametrize("device", MACHINES)
def test_it_is_one_page_that_composes_for_every_machine(device):
    text = page(read(WHOLE), MACHINES[device])
    assert len(text.splitlines()) < 50
    assert all(len(line) < 110 for line in text.splitlines())
    path = Path("conf/experiment/mine.yaml")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert fusion_config(composed()).train.precision == MACHINES[device].precision
    assert eval_config(composed()).judged


def test_lists_may_be_spelt_with_commas_and_a_key_and_questions_given():
    given = ["--pivot", "./a b", "--sources", "c/d,owner/e", "--data", "one.jsonl,two.jsonl", "--judge", "openai"]
    asked = read([*given, "--judge-model", "m", "--questions", "one.jsonl", "--name", "two"])
    assert (asked.sources, asked.data) == (("c/d", "owner/e"), ("one.jsonl", "two.jsonl"))
    write(asked, Path("conf"))
    evaluating = eval_config(composed("two"))
    assert evaluating.benchmarks["mt_bench"].questions == str(Path("one.jsonl").absolute())
    assert (evaluating.judges["mt_bench"].model, evaluating.judges["mt_bench"].key_variable) == ("m", "OPENAI_API_KEY")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pivot": "./nowhere"}, "there is no directory ./nowhere"),
        ({"pivot": "openchat"}, "did you mean 'openchat_3_5'"),
        ({"sources": ("./a b/",)}, "are one model"),
        ({"data": ("oen.jsonl",)}, "there is no file oen.jsonl"),
        ({"data": ("c/typo.jsonl",)}, "there is no file c/typo.jsonl"),
        ({"data": ("*.parquet",)}, r"there is no file \*.parquet"),
        ({"questions": "q.jsonl"}, "there is no file q.jsonl"),
        ({"judge": "opnai"}, "not in conf/judge: did you mean 'openai'"),
        ({"judge": "recorded", "judge_model": None}, "judge.file is missing"),
        ({"judge_model": None}, "say with --judge-model"),
        ({"name": "../x"}, "expected letters"),
        ({"name": "pocket"}, "there is an experiment 'pocket'"),
    ],
)
def test_what_cannot_be_run_is_refused_and_nothing_is_left(hers, change, message):
    before = sorted(hers.rglob("*"))
    with pytest.raises(Refusal, match=message):
        write(Asked(**{**vars(read(WHOLE)), **change}), Path("conf"))
    assert sorted(hers.rglob("*")) == before


def test_a_page_of_hers_is_never_written_over():
    write(read(WHOLE), Path("conf"))
    text = Path("conf/experiment/mine.yaml").read_text()
    with pytest.raises(Refusal, match="there is an experiment 'mine'"):
        write(read([*WHOLE, "--questions", "one.jsonl"]), Path("conf"))
    assert Path("conf/experiment/mine.yaml").read_text() == text
