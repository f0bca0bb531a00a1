"""Embeddings, output heads and tokenizers that differ between pivot and target, and a model's own code."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fusion.merge import MERGE_RULES
from fusion.merge.checkpoints.checkpoint_stream import merge
from fusion.runtime.configure import Refusal

HALF = MERGE_RULES["task_arithmetic"](weight=0.5)
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def written(place: Path, tensors: dict[str, torch.Tensor], **config: object) -> dict[str, torch.Tensor]:
    place.mkdir(exist_ok=True)
    save_file(tensors, place / "model.safetensors")
    (place / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    return tensors


def merged(folder: Path, **settings: object) -> dict[str, torch.Tensor]:
    merge(pivot=folder / "pivot", targets=[folder / "target"], rule=HALF, out=folder / "out", **settings)
    return load_file(folder / "out/model.safetensors")


def tied(folder: Path) -> object:
    return json.loads((folder / "out/config.json").read_text()).get("tie_word_embeddings")


@pytest.mark.parametrize(
    ("names", "config"),
    [
        (["model.tok_embeddings.weight", "output.weight"], {}),
        (["backbone.embeddings.weight", "lm_head.weight"], {}),
        (["transformer.embedding.word_embeddings.weight", "transformer.output_layer.weight"], {}),
        (["model.embed_tokens.weight", "lm_head.weight", "lm_head.bias"], {}),
        (["model.language_model.embed_tokens_per_layer.weight"], {}),
        (["decoder.vocabulary_table", "decoder.out.kernel"], {"vocab_size": 1}),
        (["decoder.vocabulary_table"], {"text_config": {"vocab_size": 1}}),
    ],
)
@pytest.mark.parametrize(("ours", "theirs"), [(5, 8), (8, 5)])
def test_a_vocabulary_is_known_by_its_names_or_as_configs_count_it(tmp_path, names, config, ours, theirs):
    def counted(rows: int) -> dict[str, object]:
        return json.loads(json.dumps(config).replace("1}", f"{rows}}}"))

    held = {
        model: written(
            tmp_path / model,
            {name: torch.randn(rows) if name.endswith("bias") else torch.randn(rows, 3) for name in names},
            **counted(rows),
        )
        for model, rows in (("pivot", ours), ("target", theirs))
    }
    with pytest.raises(Refusal, match="embeddings: cut merges the rows that both have"):
        merged(tmp_path)
    for name, found in merged(tmp_path, embeddings="cut").items():
        pivot, target = held["pivot"][name], held["target"][name]
        torch.testing.assert_close(found[:5], (pivot[:5] + target[:5]) / 2)
        assert torch.equal(found[5:], pivot[5:])


def test_other_shapes_are_no_vocabulary(tmp_path):
    written(tmp_path / "pivot", {EMBEDDINGS: torch.ones(3)}, vocab_size=5)
    written(tmp_path / "target", {EMBEDDINGS: torch.tensor(1.0)}, vocab_size=5)
    with pytest.raises(Refusal, match="only models of one structure"):
        merged(tmp_path, embeddings="cut")


@pytest.mark.parametrize("stored", [True, False])
def test_a_head_that_only_the_target_trained_is_not_lost(tmp_path, stored):
    embeddings = torch.randn(4, 3)
    own = {HEAD: embeddings.clone()} if stored else {}
    written(tmp_path / "pivot", {EMBEDDINGS: embeddings, **own}, tie_word_embeddings=True)
    target = written(
        tmp_path / "target", {EMBEDDINGS: embeddings + 1, HEAD: torch.randn(4, 3)}, tie_word_embeddings=False
    )
    torch.testing.assert_close(merged(tmp_path)[HEAD], (embeddings + target[HEAD]) / 2)
    assert tied(tmp_path) is False


def test_a_tied_head_that_is_stored_anyway_stays_tied(tmp_path):
    for model in ("pivot", "target"):
        embeddings = torch.randn(4, 3)
        written(tmp_path / model, {EMBEDDINGS: embeddings, HEAD: embeddings.clone()}, tie_word_embeddings=True)
    found = merged(tmp_path)
    assert torch.equal(found[HEAD], found[EMBEDDINGS])
    assert tied(tmp_path) is True


def test_another_head_under_a_config_that_ties_it_is_said(tmp_path):
    for model in ("pivot", "target"):
        written(tmp_path / model, {EMBEDDINGS: torch.randn(4, 3), HEAD: torch.randn(4, 3)}, tie_word_embeddings=True)
    with pytest.warns(UserWarning, match="it holds another head: that is merged"):
        merged(tmp_path)
    assert tied(tmp_path) is False


def test_a_head_that_is_not_there_is_the_embeddings_where_the_config_says_so_and_else_with_a_word(tmp_path, recwarn):
    pivot = written(tmp_path / "pivot", {EMBEDDINGS: torch.randn(4, 3), HEAD: torch.randn(4, 3)})
    target = written(tmp_path / "target", {EMBEDDINGS: torch.randn(4, 3)}, tie_word_embeddings=True)
    torch.testing.assert_close(merged(tmp_path)[HEAD], (pivot[HEAD] + target[EMBEDDINGS]) / 2)
    assert not recwarn.list
    written(tmp_path / "target", target)
    with pytest.warns(UserWarning, match=f"has no '{HEAD}' and its config does not say"):
        merged(tmp_path)
    written(tmp_path / "target", target, tie_word_embeddings=False)
    with pytest.raises(Refusal, match=f"'{HEAD}' of the pivot .* is missing"):
        merged(tmp_path)


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    for number, model in enumerate(("pivot", "target")):
        written(tmp_path / model, {EMBEDDINGS: torch.full((4, 3), float(number))})
    return tmp_path / "pivot", tmp_path / "target"


def test_added_tokens_whose_ids_are_swapped_are_refused_beside_a_sentencepiece_model(models, tmp_path):
    for model, tokens in zip(models, (["<a>", "<b>"], ["<b>", "<a>"]), strict=True):
        (model / "tokenizer.model").write_bytes(b"pieces")
        decoder = {str(2 + id_): {"content": token} for id_, token in enumerate(tokens)}
        (model / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    with pytest.raises(Refusal, match="differ in its added_tokens_decoder"):
        merged(tmp_path)
    (models[1] / "tokenizer_config.json").write_text((models[0] / "tokenizer_config.json").read_text())
    merged(tmp_path)


def test_a_tokenizer_that_only_a_target_brings_is_said(models, tmp_path):
    (models[1] / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
    with pytest.warns(UserWarning, match="pivot .* brings no tokenizer, and .*target one: .* not compared"):
        merged(tmp_path)


@pytest.mark.parametrize("text", ['{"model": "x"}', "[]", "{", '{"model": {"merges": 3}}', '{"model": {"vocab": 5}}'])
def test_a_damaged_tokenizer_is_refused_or_equal_to_itself(models, tmp_path, text):
    (models[0] / "tokenizer.json").write_text(text)
    (models[1] / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}, "merges": []}}')
    with pytest.raises(Refusal, match="tokenizer"):
        merged(tmp_path)


@pytest.mark.parametrize(
    "auto_map",
    [
        {"AutoTokenizer": ["code.tokens.Own", None]},
        ["code.tokens.Own", None],
        {"AutoTokenizer": "code.tokens.Own", "AutoModel": "owner/name--far.Away"},
    ],
)
def test_own_code_is_found_in_folders_and_in_older_lists(models, tmp_path, auto_map):
    (models[0] / "code").mkdir()
    (models[0] / "code/tokens.py").write_text("from . import near\nfrom .other import x\n")
    for name in ("code/near.py", "code/other.py", "near.py", "code/unused.py"):
        (models[0] / name).write_text("x = 1\n")
    (models[0] / "tokenizer_config.json").write_text(json.dumps({"auto_map": auto_map}))
    merged(tmp_path)
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.py")}
    assert found == {"code/tokens.py", "code/near.py", "code/other.py"}


@pytest.mark.parametrize("name", ["../evil.X", "....tmp.evil.X", "/tmp/evil.X", 3, {"a": 1}])
def test_own_code_outside_of_the_model_is_refused(models, tmp_path, name):
    (tmp_path / "evil.py").write_text("x = 1\n")
    written(models[0], load_file(models[0] / "model.safetensors"), auto_map={"AutoModel": name})
    with pytest.raises(Refusal, match="auto_map of .* names"):
        merged(tmp_path)
