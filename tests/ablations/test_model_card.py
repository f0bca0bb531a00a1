"""A merged checkpoint with its card: it parses, agrees with scores.csv, and the weights load and can be made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from ablations.model_card.__main__ import run
from ablations.model_card.chain import read_chain
from ablations.regression.chain import read_chain as chain_of_table
from eval.report.write import write_report
from eval.scores.intervals import Uncertainty
from fusion.merge.__main__ import merge_recipe
from fusion.merge.checkpoints.checkpoint_stream import merge
from fusion.merge.recipes.recipe import read_recipe
from fusion.merge.rules.sce import Sce
from fusion.pocket.dialogues import PocketData
from fusion.pocket.models import PocketModel, build_checkpoint
from fusion.pocket.questions import write_dialogues
from fusion.pocket.tokenizers import PocketTokenizer
from fusion.runtime.artifacts import Artifact, Store
from fusion.runtime.configure import Refusal
from fusion.runtime.digests import file_digest
from fusion.runtime.precision import MergedConfig
from fusion.runtime.stage import Advance, Stage

UNCERTAINTY = Uncertainty(seed=0)
MODEL = PocketModel(
    architecture="llama", hidden_size=32, intermediate_size=32, layers=1, heads=1,
    tokenizer=PocketTokenizer(kind="byte_bpe", vocab_size=320),
    template="named", mixture={"numbers": 1.0}, conversations=10,
)  # fmt: skip
RULE = Sce(select_topk=0.3)
MERGED = MergedConfig(dtype="bfloat16")


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory, rated) -> Path:
    """A finished cell with a real pivot, three targets that moved from it, and their merge."""
    where = tmp_path_factory.mktemp("run")
    store = Store(root=where / "artifacts")
    data = PocketData(seed=0, train=10, fusion=3, questions=2, instructions=2)

    def moved(seed: int):
        def build(out: Path, advance: Advance) -> None:
            shutil.copytree(pivot.path, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
            random = torch.Generator().manual_seed(seed)
            held = load_file(out / "model.safetensors")
            held = {name: value + 0.01 * torch.randn(value.shape, generator=random) for name, value in held.items()}
            save_file(held, out / "model.safetensors", metadata={"format": "pt"})

        return build

    def produce(stage: str, config, inputs: dict[str, str], build) -> Artifact:
        modules = ("fusion.merge.checkpoints.checkpoint_stream",)
        recipe = {"name": stage, "config": config, "inputs": inputs, "modules": modules}
        return store.produce(Stage(**recipe, what="a test", build=build, seed=0))

    dialogues = produce("data", data, {}, lambda out, _: write_dialogues(data, out))
    other = produce("data", 1, {}, lambda out, _: None)
    pivot = produce(
        "initialise", MODEL, {"dialogues": "x"}, lambda out, _: build_checkpoint(MODEL, dialogues.path, out)
    )
    targets = [produce("train", seed, {"initial": pivot.content}, moved(seed)) for seed in (1, 2, 3)]
    merged = produce(
        "merge",
        [RULE, 5, *MERGED.decides],
        {"pivot": pivot.content, **{f"target-{i}": target.content for i, target in enumerate(targets)}},
        lambda out, _: merge(
            pivot=pivot.path, targets=[target.path for target in targets], rule=RULE, seed=5, out=out,
            dtype=MERGED.dtype, names=["target-a", "target-b", "target-c"],
        ),
    )  # fmt: skip
    judged = {"judge": {"type": "Reference"}, "benchmark": ["mt_bench", ""]}
    verdicts = produce("verdicts", judged, {}, lambda out, _: None)
    stages = [
        ("data", "dialogues", dialogues), ("initialise", "pivot", pivot),
        *(("train", f"target-{name}", target) for name, target in zip("abc", targets, strict=True)),
        ("merge", "sce", merged), ("verdicts", "sce · mt", verdicts), ("verdicts", "pivot · mt", other),
    ]  # fmt: skip
    models = {"pivot": pivot, **{f"target-{name}": target for name, target in zip("abc", targets, strict=True)}}
    models["sce"] = merged
    content = {
        "name": "base", "experiment": "trial", "study": None, "seed": 5, "axes": {},
        "weights": {row: made.content for row, made in models.items()} | {"source-a": "s"},
        "checkpoints": {row: str(made.path) for row, made in models.items()},
        "models": {"pivot": "owner/pivot", "source-a": None},
        "stages": [{"stage": s, "what": w, "key": a.key, "path": str(a.path)} for s, w, a in stages],
    }  # fmt: skip
    out = where / "cell"
    pair = [
        rated("pivot", "Pivot", [5.0, 6.0, 7.0], unscored=1),
        rated("sce", "Merged", [6.0, 7.0, 9.0], unscored=1),
    ]
    write_report(pair, out, title="t", uncertainty=UNCERTAINTY)
    (out / "cell.json").write_text(json.dumps(content))
    return out


@pytest.fixture(scope="module")
def folder(cell: Path) -> Path:
    run({"cell": str(cell), "merged": "sce", "out": str(cell.parent / "pocket-sce")})
    return cell.parent / "pocket-sce"


def test_the_cards_results_are_those_of_the_score_table(cell: Path, folder: Path) -> None:
    data = ModelCard.load(folder / "README.md").data
    assert data.model_name == "pocket-sce"
    assert data.base_model == ["owner/pivot"]
    assert data.to_dict()["library_name"] == "transformers"
    assert data.tags == ["merge", "fusechat", "sce"]
    assert "license" not in data.to_dict()
    table = pd.read_csv(cell / "scores.csv")
    rows = table[(table["model"] == "sce") & table["value"].notna()]
    found = [(r.dataset_type, r.metric_type, r.dataset_config, r.metric_value) for r in data.eval_results]
    assert found == list(rows[["benchmark", "metric", "slice", "value"]].itertuples(index=False, name=None))
    low, high = rows[["low", "high"]].iloc[0]
    assert data.eval_results[0].metric_name == f"rating, all, 95% interval [{low:.2f}, {high:.2f}], n 3, unscored 1"


def test_the_card_says_what_was_scored_and_what_was_not(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    # 22/3 against 6: one, one and two points more, so 4/3 -+ 4.303 (t of two degrees of freedom) * 1/3.
    assert "| mt_bench | rating | all | 7.33 | [" in text
    assert "| +1.33 [−0.10, +2.77] | 3 | 1 |" in text
    assert "| mt_bench | rating | turn2 | not scored: the judge was silent |  |  | 0 | 4 |" in text
    assert "- mt_bench: Reference()" in text
    assert "select_topk: 0.3" in text
    for target in ("target-a", "target-b", "target-c"):
        assert f"| {target} | 0.3" in text  # three equal moves: each has about a third of the energy


def test_the_manifests_are_those_of_the_models_own_chain(cell: Path, folder: Path) -> None:
    stages = json.loads((cell / "cell.json").read_text())["stages"]
    own = [stage for stage in stages if stage["what"] != "pivot · mt"]
    kept = {path.name: json.loads(path.read_text()) for path in (folder / "manifests").iterdir()}
    assert set(kept) == {f"{stage['stage']}-{stage['key']}.json" for stage in own}
    for name in kept:
        assert f"(manifests/{name})" in (folder / "README.md").read_text()


def test_the_checkpoint_loads_and_its_recipe_makes_its_bytes_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    asked = tokenizer.apply_chat_template([{"role": "user", "content": "one"}], return_tensors="pt", return_dict=True)
    assert torch.isfinite(model(**asked).logits).all()

    monkeypatch.chdir(folder.parent / "artifacts")
    plan = read_recipe(folder / "recipe.yaml")
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["seed"] == plan.recipe.seed == 5
    merge_recipe(plan, out=tmp_path / "again", seed=plan.recipe.seed)
    assert file_digest(tmp_path / "again/model.safetensors") == file_digest(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"merged": "sc"}, "'sc' is no merged model of the cell in .*: did you mean 'sce'?"),
        ({"cell": "nowhere"}, "no finished cell in nowhere"),
        ({"out": "{cell}"}, "exists: give another out"),
    ],
)
def test_what_cannot_have_a_card_is_refused(cell: Path, tmp_path: Path, change: dict, message: str) -> None:
    given = {"cell": str(cell), "merged": "sce", "out": str(tmp_path / "card")}
    with pytest.raises(Refusal, match=message):
        run(given | {key: value.format(cell=cell) for key, value in change.items()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": []}', b'{"files": ' * 9_000, b"\xff"])
@pytest.mark.parametrize("read", [read_chain, lambda cell, _: chain_of_table(cell)], ids=["of a card", "of a table"])
def test_a_chain_with_a_damaged_manifest_is_refused_by_its_file(cell: Path, tmp_path: Path, content, read) -> None:
    shutil.copytree(cell, tmp_path / "cell")
    note = json.loads((cell / "cell.json").read_text())
    (broken,) = (stage for stage in note["stages"] if stage["stage"] == "merge")
    shutil.copytree(broken["path"], tmp_path / "merge")
    broken["path"] = str(tmp_path / "merge")
    (tmp_path / "cell/cell.json").write_text(json.dumps(note))
    (tmp_path / "merge/manifest.json").write_bytes(content)
    with pytest.raises(Refusal, match=r"merge/manifest\.json .*run the cell again"):
        read(tmp_path / "cell", "sce")
