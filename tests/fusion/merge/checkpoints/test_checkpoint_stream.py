"""Whole checkpoints: streaming gives what tensors in memory give, and what cannot be merged is refused by name."""

import json
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import torch
from safetensors.torch import load_file, save_file

from fusion.merge import MERGE_RULES
from fusion.merge import parameter as parameter_module
from fusion.merge.checkpoints.checkpoint_stream import merge, parameter_seed
from fusion.merge.parameter import Context
from fusion.runtime.configure import Refusal

SHAPES = {
    "model.embed_tokens.weight": (11, 6),
    "model.layers.0.self_attn.q_proj.weight": (6, 6),
    "model.layers.0.mlp.up_proj.weight": (9, 6),
    "model.layers.1.self_attn.q_proj.weight": (6, 6),
    "model.layers.1.mlp.up_proj.weight": (9, 6),
    "model.norm.weight": (6,),
    "lm_head.weight": (11, 6),
}
CONFIG = {"model_type": "llama", "num_attention_heads": 2, "tie_word_embeddings": False, "dtype": "bfloat16"}


def write(directory: Path, tensors: dict[str, torch.Tensor], *, shards: int = 1, config: dict | None = None) -> Path:
    directory.mkdir(parents=True)
    names = list(tensors)
    if shards == 1:
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    else:
        placed = {name: f"model-{i % shards + 1:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(names)}
        for file in sorted(set(placed.values())):
            save_file({n: tensors[n] for n in names if placed[n] == file}, directory / file, metadata={"format": "pt"})
        index = {"metadata": {"total_size": 0}, "weight_map": placed}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "config.json").write_text(json.dumps(config or CONFIG))
    return directory


def tensors(seed: int, dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    base = torch.Generator().manual_seed(0)
    move = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in SHAPES.items():
        values = torch.randn(shape, generator=base)
        found[name] = (values + (0.05 * torch.randn(shape, generator=move) if seed else 0.0)).to(dtype)
    return found


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, list[Path]]:
    pivot = write(tmp_path / "pivot", tensors(0), shards=3)
    return pivot, [write(tmp_path / f"target-{k}", tensors(k), shards=k) for k in (1, 2)]


def changed(directory: Path, change: dict[str, torch.Tensor | None]) -> None:
    held = load_file(directory / "model.safetensors")
    held.update({name: value for name, value in change.items() if value is not None})
    save_file({n: t for n, t in held.items() if change.get(n, t) is not None}, directory / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        *((name, {}) for name in MERGE_RULES),
        ("ties", {"count": "exactly"}),
        ("dare", {"rescale": "match_l1", "merge": "ties"}),
        ("sce", {"reading": "fuseai"}),
        ("varm", {"granularity": "element"}),
    ],
)
def test_streaming_gives_the_bits_of_tensors_in_memory(
    name: str, fields: dict, models: tuple[Path, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parameter_module, "PIECE", 16)
    monkeypatch.setattr("fusion.merge.checkpoints.checkpoint_stream.PIECE", 16)
    pivot, targets = models
    rule = MERGE_RULES[name](**fields)
    merge(pivot=pivot, targets=targets, rule=rule, seed=5, out=tmp_path / "out", threads=2)
    merged = {n: t for file in (tmp_path / "out").glob("*.safetensors") for n, t in load_file(file).items()}
    held = [tensors(k) for k in range(3)]
    for parameter in SHAPES:
        layer = int(parameter.split(".")[2]) if ".layers." in parameter else None
        expected = rule(
            held[0][parameter].float(),
            [held[1][parameter].float(), held[2][parameter].float()],
            generator=torch.Generator().manual_seed(parameter_seed(5, parameter)),
            context=Context(name=parameter, layer=layer, layers=2),
        )
        assert torch.equal(merged[parameter], expected.bfloat16()), parameter


@pytest.mark.parametrize("name", ["dare", "ties", "varm"])
def test_threads_and_shards_do_not_show(name: str, models: tuple[Path, list[Path]], tmp_path: Path) -> None:
    pivot, targets = models
    fields = {"ties": {"scope": "model"}, "varm": {"granularity": "model"}}.get(name, {})
    results = []
    for number, (threads, source) in enumerate([(1, pivot), (2, pivot), (2, write(tmp_path / "whole", tensors(0)))]):
        out = tmp_path / str(number)
        merge(pivot=source, targets=targets, rule=MERGE_RULES[name](**fields), seed=1, out=out, threads=threads)
        results.append({n: t for file in out.glob("*.safetensors") for n, t in load_file(file).items()})
    for other in results[1:]:
        assert all(torch.equal(results[0][n], other[n]) for n in SHAPES)
    files = [sorted((tmp_path / n).glob("*.safetensors")) for n in "01"]
    assert [a.read_bytes() for a in files[0]] == [b.read_bytes() for b in files[1]]
    assert (tmp_path / "0/coefficients.parquet").read_bytes() == (tmp_path / "1/coefficients.parquet").read_bytes()


def test_a_rule_with_no_more_than_its_call_merges_whole_tensors(
    models: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    def second(pivot, targets, *, generator=None, context=None):  # type: ignore[no-untyped-def]
        return targets[1]

    pivot, targets = models
    merge(pivot=pivot, targets=targets, rule=second, out=tmp_path / "out")
    merged = {n: t for file in (tmp_path / "out").glob("*.safetensors") for n, t in load_file(file).items()}
    assert all(torch.equal(merged[n], t) for n, t in tensors(2).items())


def test_the_layout_is_the_pivots_and_the_files_can_be_read_by_everyone(
    models: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    pivot, targets = models
    (pivot / "chat_template.jinja").write_text("{{ messages }}")
    facts = merge(pivot=pivot, targets=targets, rule=MERGE_RULES["linear"](), out=tmp_path / "out", dtype="float32")
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == sorted([*(p.name for p in pivot.iterdir()), "coefficients.parquet"])
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in out.glob("*.safetensors"))
    ours, theirs = (json.loads((d / "model.safetensors.index.json").read_text()) for d in (pivot, out))
    assert theirs["weight_map"] == ours["weight_map"]
    assert theirs["metadata"]["total_size"] == facts["bytes"] == 4 * facts["elements"]
    assert json.loads((out / "config.json").read_text())["dtype"] == "float32"


def test_the_coefficient_table_says_what_each_target_did(models: tuple[Path, list[Path]], tmp_path: Path) -> None:
    pivot, targets = models
    merge(
        pivot=pivot, targets=targets, rule=MERGE_RULES["ties"](density=0.5, weight=(0.25, 0.75)), out=tmp_path / "out"
    )
    rows = parquet.read_table(tmp_path / "out/coefficients.parquet").to_pylist()
    assert {row["parameter"] for row in rows} == set(SHAPES)
    assert len(rows) == 3 * len(SHAPES)
    own = [row for row in rows if row["parameter"] == "model.layers.1.mlp.up_proj.weight"]
    assert [row["target"] for row in own] == ["target-1", "target-2", "(merged)"]
    assert [row["weight"] for row in own] == [0.25, 0.75, None]
    name = own[0]["parameter"]
    deltas = [tensors(k)[name].float() - tensors(0)[name].float() for k in (1, 2)]
    assert own[0]["delta_norm"] == pytest.approx(float(deltas[0].norm()), rel=1e-5)
    trimmed = [torch.where(d.abs() >= d.abs().flatten().kthvalue(28).values, d, 0.0) for d in deltas]  # 27 of 54 kept
    assert own[1]["kept_fraction"] == pytest.approx(float((trimmed[1] != 0).float().mean()))
    elected = torch.where(0.25 * trimmed[0] + 0.75 * trimmed[1] >= 0, 1.0, -1.0)
    lost = (trimmed[0] * elected < 0).sum() / (trimmed[0] != 0).sum()
    assert own[0]["sign_conflict_rate"] == pytest.approx(float(lost))
    assert own[0]["layer"] == 1


def test_a_tied_target_lends_its_embeddings_to_the_pivots_head(models: tuple[Path, list[Path]], tmp_path: Path) -> None:
    pivot, _ = models
    tied = tensors(4)
    del tied["lm_head.weight"]
    target = write(tmp_path / "tied", tied, config={**CONFIG, "tie_word_embeddings": True})
    merge(pivot=pivot, targets=[target], rule=MERGE_RULES["linear"](), out=tmp_path / "out")
    merged = {n: t for file in (tmp_path / "out").glob("*.safetensors") for n, t in load_file(file).items()}
    assert torch.equal(merged["lm_head.weight"], tied["model.embed_tokens.weight"])


def test_a_target_with_a_head_of_its_own_unties_that_of_the_merge(
    models: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    _, (target, _) = models
    tied = tensors(0)
    del tied["lm_head.weight"]
    pivot = write(tmp_path / "tied-pivot", tied, config={**CONFIG, "tie_word_embeddings": True})
    merge(pivot=pivot, targets=[target], rule=MERGE_RULES["linear"](), out=tmp_path / "own")
    found = load_file(tmp_path / "own/model.safetensors")
    assert torch.equal(found["lm_head.weight"], tensors(1)["lm_head.weight"])  # the mean of one target is that target
    assert json.loads((tmp_path / "own/config.json").read_text())["tie_word_embeddings"] is False

    changed(target, {"lm_head.weight": load_file(target / "model.safetensors")["model.embed_tokens.weight"].clone()})
    merge(pivot=pivot, targets=[target], rule=MERGE_RULES["linear"](), out=tmp_path / "shared")
    assert "lm_head.weight" not in load_file(tmp_path / "shared/model.safetensors")
    assert json.loads((tmp_path / "shared/config.json").read_text())["tie_word_embeddings"] is True


def test_a_missing_tensor_is_refused_by_name(models: tuple[Path, list[Path]], tmp_path: Path) -> None:
    pivot, targets = models
    changed(targets[0], {"model.norm.weight": None})
    with pytest.raises(Refusal, match=r"'model\.norm\.weight' of the pivot .*pivot is missing in .*target-1"):
        merge(pivot=pivot, targets=targets, rule=MERGE_RULES["linear"](), out=tmp_path / "out")


def test_another_shape_is_refused_with_parameter_shapes_and_models(
    models: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    pivot, targets = models
    changed(targets[0], {"model.norm.weight": torch.zeros(7)})
    with pytest.raises(
        Refusal, match=r"'model\.norm\.weight' has shape \[7\] in .*target-1 and \[6\] in the pivot .*pivot"
    ):
        merge(pivot=pivot, targets=targets, rule=MERGE_RULES["linear"](), out=tmp_path / "out")


def test_enlarged_embeddings_are_refused_or_cut(models: tuple[Path, list[Path]], tmp_path: Path) -> None:
    pivot, targets = models
    larger = {
        n: torch.cat([tensors(1)[n], torch.ones(2, 6).bfloat16()])
        for n in ("model.embed_tokens.weight", "lm_head.weight")
    }
    changed(targets[0], larger)
    with pytest.raises(
        Refusal, match=r"has shape \[13, 6\] .* was enlarged. embeddings: cut merges the rows that both"
    ):
        merge(pivot=pivot, targets=targets[:1], rule=MERGE_RULES["linear"](), out=tmp_path / "out")
    merge(pivot=pivot, targets=targets[:1], rule=MERGE_RULES["linear"](), out=tmp_path / "out", embeddings="cut")
    merged = {n: t for file in (tmp_path / "out").glob("*.safetensors") for n, t in load_file(file).items()}
    assert torch.equal(merged["lm_head.weight"], tensors(1)["lm_head.weight"])


@pytest.mark.parametrize("name", MERGE_RULES)
def test_nan_is_refused_with_parameter_and_model(name: str, models: tuple[Path, list[Path]], tmp_path: Path) -> None:
    pivot, targets = models
    broken = tensors(1)["model.layers.0.mlp.up_proj.weight"].clone()
    broken[2, 3] = float("nan")
    changed(targets[0], {"model.layers.0.mlp.up_proj.weight": broken})
    with pytest.raises(
        Refusal, match=r"'model\.layers\.0\.mlp\.up_proj\.weight' of .*target-1 has entries that are NaN .*first at 15"
    ):
        merge(pivot=pivot, targets=targets, rule=MERGE_RULES[name](), out=tmp_path / "out")


def test_a_shard_cut_short_is_refused_by_name(models: tuple[Path, list[Path]], tmp_path: Path) -> None:
    pivot, targets = models
    shard = targets[0] / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(Refusal, match=r"model\.safetensors is not readable as safetensors: .*cut short"):
        merge(pivot=pivot, targets=targets, rule=MERGE_RULES["linear"](), out=tmp_path / "out")
    shard.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(Refusal, match="not readable as safetensors"):
        merge(pivot=pivot, targets=targets, rule=MERGE_RULES["linear"](), out=tmp_path / "out")


def test_a_shard_named_and_absent_is_refused(models: tuple[Path, list[Path]], tmp_path: Path) -> None:
    pivot, targets = models
    (pivot / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(Refusal, match=r"model-00002-of-00003\.safetensors is missing"):
        merge(pivot=pivot, targets=targets, rule=MERGE_RULES["linear"](), out=tmp_path / "out")


def test_pickles_and_adapters_are_refused_with_the_way_out(models: tuple[Path, list[Path]], tmp_path: Path) -> None:
    pivot, _ = models
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(Refusal, match="pickled weights only .* save_pretrained"):
        merge(pivot=pivot, targets=[pickled], rule=MERGE_RULES["linear"](), out=tmp_path / "out")
    (pickled / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(Refusal, match="merge_and_unload"):
        merge(pivot=pivot, targets=[pickled], rule=MERGE_RULES["linear"](), out=tmp_path / "out")


def test_another_family_and_another_tokenizer_are_refused(models: tuple[Path, list[Path]], tmp_path: Path) -> None:
    pivot, targets = models
    tokenizer = {"model": {"vocab": {"a": 0, "b": 1}, "merges": ["a b"]}, "added_tokens": [], "truncation": None}
    (pivot / "tokenizer.json").write_text(json.dumps(tokenizer))
    same = {**tokenizer, "truncation": {"max_length": 5}, "model": {**tokenizer["model"], "merges": [["a", "b"]]}}
    for target in targets:
        (target / "tokenizer.json").write_text(json.dumps(same))
    merge(pivot=pivot, targets=targets, rule=MERGE_RULES["linear"](), out=tmp_path / "out")
    swapped = {**tokenizer, "model": {**tokenizer["model"], "vocab": {"a": 1, "b": 0}}}
    (targets[0] / "tokenizer.json").write_text(json.dumps(swapped))
    with pytest.raises(Refusal, match="differ in its vocabulary"):
        merge(pivot=pivot, targets=targets, rule=MERGE_RULES["linear"](), out=tmp_path / "out")
    merge(pivot=pivot, targets=targets, rule=MERGE_RULES["linear"](), out=tmp_path / "out", tokenizer="pivot")
    (targets[1] / "config.json").write_text(json.dumps({**CONFIG, "model_type": "qwen2"}))
    with pytest.raises(Refusal, match="is a qwen2 model and the pivot .* a llama"):
        merge(pivot=pivot, targets=targets, rule=MERGE_RULES["linear"](), out=tmp_path / "out")


def test_whole_numbers_go_over_when_equal_and_are_refused_when_not(
    models: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    pivot = write(tmp_path / "p", {**tensors(0), "counter": torch.tensor([3])})
    target = write(tmp_path / "t", {**tensors(1), "counter": torch.tensor([3])})
    merge(pivot=pivot, targets=[target], rule=MERGE_RULES["linear"](), out=tmp_path / "out")
    assert load_file(tmp_path / "out/model.safetensors")["counter"].tolist() == [3]
    changed(target, {"counter": torch.tensor([4])})
    with pytest.raises(Refusal, match="'counter' is I64, which has no mean"):
        merge(pivot=pivot, targets=[target], rule=MERGE_RULES["linear"](), out=tmp_path / "out")


def test_float16_overflow_is_refused(models: tuple[Path, list[Path]], tmp_path: Path) -> None:
    pivot, targets = models
    changed(targets[0], {"model.norm.weight": torch.full((6,), 1e6).bfloat16()})
    with pytest.raises(Refusal, match="overflows float16: set dtype: bfloat16"):
        merge(pivot=pivot, targets=targets, rule=MERGE_RULES["linear"](), out=tmp_path / "out", dtype="float16")


@pytest.mark.parametrize("tied", [False, True])
def test_the_merged_directory_loads_in_transformers_and_answers(tied: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {character: i for i, character in enumerate("<abcdefgh")}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    config = transformers.LlamaConfig(
        vocab_size=9,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=tied,
    )
    for number, name in enumerate(["pivot", "a", "b"]):
        torch.manual_seed(number)
        transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / name, max_shard_size="3KB")
        fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<")
        fast.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
        fast.save_pretrained(tmp_path / name)
    rule = MERGE_RULES["task_arithmetic"]()
    merge(pivot=tmp_path / "pivot", targets=[tmp_path / "a", tmp_path / "b"], rule=rule, out=tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    load = transformers.AutoModelForCausalLM.from_pretrained
    merged, pivot, a, b = (load(tmp_path / name, dtype=torch.float32) for name in ("out", "pivot", "a", "b"))
    assert merged.config.tie_word_embeddings is tied
    for name, value in merged.named_parameters():
        start, first, second = (model.get_parameter(name) for model in (pivot, a, b))
        expected = start + 0.3 * (first - start) + 0.3 * (second - start)
        torch.testing.assert_close(value, expected.bfloat16().float(), rtol=1e-2, atol=1e-3)
    read = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = read.apply_chat_template([{"role": "user", "content": "abc"}], tokenize=True, return_dict=True)["input_ids"]
    assert list(ids) == [1, 2, 3]
    assert torch.isfinite(merged(torch.tensor([list(ids)])).logits).all()
