"""What it costs to add a part: one file, one line of a table, one YAML; then it works from end to end."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

ROOT = Path(__file__).parent.parent
NEW = ROOT / "tests" / "new_parts"  # a folder for each part, laid out as the project is
WINGS = ("fusion", "eval", "conf", "hydra_plugins")


class House:
    """A copy of the project in which parts are added and commands are run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for wing in WINGS:  # with what numba compiled of it, where it did: compiling takes longer than all the rest
            shutil.copytree(ROOT / wing, root / wing)

    def add(self, part: str, *, table: str, builder: str) -> None:
        """Bring in what lies in new_parts/<part>, one module and one YAML, and name it in the table.

        The table stands at the door of the module's folder, so that the import also says there what the folder holds.
        """
        brought = NEW / part
        module, config = sorted(path.relative_to(brought) for path in brought.rglob("*.*"))[::-1]
        assert (module.suffix, config.suffix, config.parts[0]) == (".py", ".yaml", "conf")
        for path in (module, config):
            assert not (self.root / path).exists()
            shutil.copy(brought / path, self.root / path)
        door = self.root / module.parent / "__init__.py"
        entry = rf'\1\n    "{part}": {builder},'
        text, tables = re.subn(rf"^({table}\b.* = {{)$", entry, door.read_text(), flags=re.M)
        line = f"from {'.'.join(module.with_suffix('').parts)} import {builder}\n"
        text, imports = re.subn(r"^(?=from (?:fusion|eval)\.)", line, text, count=1, flags=re.M)
        assert (tables, imports) == (1, 1)
        door.write_text(text)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.root)}
        ended = subprocess.run(
            [sys.executable, *arguments], cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return ended

    def evaluate(self, *overrides: str) -> list[dict[str, str]]:
        """The rows of scores.csv."""
        self.run("-m", "eval", f"out={self.root}/out", f"paths.artifacts={self.root}/artifacts", *overrides)
        with (self.root / "out" / "scores.csv").open() as stream:
            return list(csv.DictReader(stream))


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "house")


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ------------------------------------------------------------------------------------------------ judged benchmark


def test_a_judged_benchmark(house: House) -> None:
    house.add("quiz", table="BENCHMARKS", builder="Quiz")
    known = {"capital": "Paris", "sum": "4", "opposite": "cold", "colour": "blue"}
    write_lines(
        house.root / "data" / "quiz.jsonl",
        [{"id": key, "question": f"{key}?", "answer": answer} for key, answer in known.items()],
    )
    said = {"capital": "Paris", "sum": "5", "opposite": "cold"}  # two of three passed, the fourth was not answered
    answers = write_lines(house.root / "pupil.jsonl", [{"id": key, "said": text} for key, text in said.items()])
    twins = "{name: panel, members: {a: {name: reference, credit: exact}, b: {name: reference, credit: exact}}}"
    (row,) = house.evaluate(
        "benchmark=quiz", f"paths.data={house.root}/data", f"+benchmark.quiz.judge={twins}", f"answers={answers}"
    )
    assert (row["model"], row["benchmark"], row["metric"]) == ("pupil", "quiz", "passed")
    assert float(row["value"]) == pytest.approx(100 * 2 / 3)
    assert (row["n"], row["unscored"]) == ("3", "1")
    shown = (house.root / "out" / "leaderboard.md").read_text().splitlines()
    assert "|  | Quiz passed | unscored |" in shown
    (pupil,) = (line.split(" | ") for line in shown if line.startswith("| pupil"))
    assert pupil[1].split()[0].strip("*") == "66.7"
    with (house.root / "out" / "agreement.csv").open() as stream:  # of ratings, though the benchmark reports a share
        assert {row["kind"] for row in csv.DictReader(stream)} == {"rating"}


# ------------------------------------------------------------------------------------------------------------ judge


def mt_bench(house: House, said: dict[str, tuple[str, ...]]) -> list[str]:
    """Three questions with known answers, and what each model said to them; the settings that ask for them."""
    questions = [
        {"question_id": i, "category": "c", "turns": [f"{i}?"], "reference": ["yes"]} for i in range(len(said["a"]))
    ]
    write_lines(house.root / "questions.jsonl", questions)
    for model, texts in said.items():
        rows = [{"question_id": i, "choices": [{"turns": [text]}]} for i, text in enumerate(texts)]
        write_lines(house.root / "said" / f"{model}.jsonl", rows)
    return [
        "benchmark=pocket_mt_bench",
        f"benchmark.pocket_mt_bench.questions={house.root}/questions.jsonl",
        f"answers={house.root}/said",
    ]


def ratings(rows: Sequence[dict[str, str]]) -> dict[str, float]:
    return {row["model"]: float(row["value"]) for row in rows if (row["metric"], row["slice"]) == ("rating", "all")}


@pytest.mark.parametrize(
    ("choice", "mean"),
    [
        (["judge=brevity"], (10 + 9 + 8) / 3),
        # As a member of a panel: the known answer is the first of the three, the others are rated 1.
        (
            ["judge=panel", "judge.members={x: {name: brevity, free: 1}, y: {name: reference, credit: exact}}"],
            (10 + 5 + 4.5) / 3,
        ),
    ],
    ids=["alone", "in_a_panel"],
)
def test_a_judge(house: House, choice: list[str], mean: float) -> None:
    house.add("brevity", table="JUDGES", builder="Brevity")
    asked = mt_bench(house, {"a": ("yes", "yes, so", "it is so")})
    assert ratings(house.evaluate(*asked, *choice)) == {"a": pytest.approx(mean)}


# --------------------------------------------------------------------------------------------------------- ensemble


def test_an_ensemble(house: House) -> None:
    house.add("shortest", table="ENSEMBLES", builder="Shortest")
    asked = mt_bench(house, {"a": ("yes", "no, never", "yes"), "b": ("maybe", "yes", "n")})  # chosen: a, b, a
    found = ratings(house.evaluate(*asked, "judge=reference_exact", "ensembles=shortest"))
    assert found == {"a": pytest.approx(21 / 3), "b": pytest.approx(12 / 3), "ensemble-shortest": 10}


# -------------------------------------------------------------------------------------------- aligner, vocabulary map
# Each source position is sure of its own label; what arrives at each pivot position, as text (None: nothing).
CARRY = """
import json, sys
import numpy as np
from transformers import PreTrainedTokenizerFast
from fusion.align import method
from fusion.align.audit import text_row
from fusion.align.method import PreparedMethod
from fusion.conversations.vocabulary import vocabulary
from fusion.distribution import NO_TOKEN, TopK
from fusion.experiment import fusion_config
from fusion.runtime.command import compose

name, text, *folders = sys.argv[1:]
config = fusion_config(compose("fusion", [f"align={name}"])).align
pivot, source = (PreTrainedTokenizerFast.from_pretrained(folder) for folder in folders)
ours, theirs = text_row(pivot, [text]), text_row(source, [text])
sure = np.zeros((len(theirs.label_ids), 1), np.float32)
top = TopK(ids=np.maximum(theirs.label_ids, 0)[:, None], log_probs=sure, tail=np.full(len(sure), -np.inf, np.float32))
ready = PreparedMethod(method(config), vocabulary(pivot), vocabulary(source), lambda: [(ours, theirs)])
carried, decision = ready.transfer(ours, theirs, top)
ids = carried.ids[:-1, 0]
said = [None if i == NO_TOKEN else pivot.convert_ids_to_tokens(int(i)) for i in ids]
print(json.dumps({"said": said, "kind": decision.kind[:-1].tolist()}))
"""
EMPTY, TRANSFERRED, ONE_HOT = 0, 1, 2


def tokenizer(folder: Path, merges: Sequence[tuple[str, str]]) -> Path:
    """Every byte a token, and those that the merges make."""
    pieces = ["<end>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    backend = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>").save_pretrained(folder)
    return folder


def carried(house: House, name: str, text: str, merges: Sequence[tuple[str, str]]) -> tuple[list[Any], list[int]]:
    folders = [tokenizer(house.root / "bytes", []), tokenizer(house.root / "merged", merges)]
    found = json.loads(house.run("-c", CARRY, name, text, *map(str, folders)).stdout)
    return found["said"], found["kind"]


def test_a_sequence_aligner(house: House) -> None:
    house.add("by_count", table="SEQUENCE_ALIGNERS", builder="ByCount")
    # The pivot says a b c d, the source a bc d.  In front of the labels stand START a b c and START a bc: the scheme em
    # trusts equal tokens, which the first two are.  `bc` is no token of the pivot's, so the second says nothing.
    said, kind = carried(house, "by_count", "abcd", [("b", "c")])
    assert said[0] == "a" and said[2:] == ["c", "d"]
    assert kind == [TRANSFERRED, EMPTY, ONE_HOT, ONE_HOT]
    texts = write_lines(house.root / "texts.jsonl", [{"output": "abcd"}])
    folders = (f"pivot={house.root}/bytes", f"source={house.root}/merged")
    house.run("-m", "fusion.align", *folders, f"text={texts}", f"out={house.root}/audit", "align=by_count")
    rows = json.loads((house.root / "audit" / "audit.json").read_text())["rows"]
    row = next(row for row in rows if row["kind"] == "all")
    assert (row["aligner"], row["positions"], row["transferred"], row["one_hot"]) == ("by_count", 4, 2, 2)


def test_a_vocabulary_map(house: House) -> None:
    house.add("any_case", table="VOCABULARY_MAPS", builder="any_case_map")
    said, kind = carried(house, "any_case", "aBc", [])
    assert said == ["a", "b", "c"]
    assert kind == [TRANSFERRED] * 3


# ------------------------------------------------------------------------------------------------------- merge rule
IN_AN_EXPERIMENT = """
from fusion.experiment import fusion_config
from fusion.merge.recipes.written_recipe import written_recipe
from fusion.runtime.command import compose

(rule,) = fusion_config(compose("fusion", ["merge=[furthest]", "merge.furthest.scale=0.5"])).merge.values()
print(written_recipe(rule, pivot="pivot", targets=["a", "b"], seed=0))
"""


def test_a_merge_rule(house: House) -> None:
    house.add("furthest", table="MERGE_RULES", builder="Furthest")
    values = {"pivot": [1.0, 1.0, 1.0], "a": [2.0, 1.5, 1.0], "b": [0.5, -1.0, 1.0]}
    for name, row in values.items():
        (house.root / name).mkdir()
        (house.root / name / "config.json").write_text('{"model_type": "llama"}')
        save_file({"model.norm.weight": torch.tensor(row)}, house.root / name / "model.safetensors")
    recipe = yaml.safe_load(house.run("-c", IN_AN_EXPERIMENT).stdout)
    assert recipe["merge_method"] == "furthest" and recipe["parameters"] == {"scale": 0.5, "handicap": 1.0}
    # a moves by 1, .5 and 0, b by -.5, -2 and 0; with its handicap b's -2 is less than a's .5
    recipe = {
        "merge_method": "half_of_furthest",
        "base_model": "pivot",
        "models": [{"model": name, "parameters": {"handicap": share}} for name, share in (("a", 1), ("b", 0.1))],
    }
    (house.root / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    house.run("-m", "fusion.merge", "recipe=recipe.yaml", "out=merged")
    merged = load_file(house.root / "merged" / "model.safetensors")["model.norm.weight"]
    assert merged.tolist() == [1 + 0.5 * 1, 1 + 0.5 * 0.5, 1]
