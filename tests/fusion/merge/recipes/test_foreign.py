"""mergekit's words in recipes: taken where they mean what is done here, else refused with the way out."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from fusion.merge.__main__ import merge_recipe
from fusion.merge.parameter import Context
from fusion.merge.recipes.foreign import KEYS, METHODS, SLICE_KEYS, number
from fusion.merge.recipes.recipe import Recipe, read_recipe
from fusion.runtime.configure import Refusal

DOCS = Path(__file__).parents[4] / "docs" / "mergekit.md"
NAMES = ["model.embed_tokens.weight", *(f"model.layers.{i}.self_attn.q_proj.weight" for i in range(2))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number_of, name in enumerate(("p", "a", "b")):
        (tmp_path / name).mkdir()
        random = torch.Generator().manual_seed(number_of)
        save_file({n: torch.randn(4, 6, generator=random) for n in NAMES}, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "link").symlink_to(tmp_path / "p")
    return tmp_path


def plan(folder: Path, **keys: object):
    (folder / "recipe.yaml").write_text(yaml.safe_dump(keys))
    return read_recipe(folder / "recipe.yaml")


def merged(folder: Path, **keys: object) -> dict[str, torch.Tensor]:
    out = folder / f"out{len(list(folder.glob('out*')))}"
    merge_recipe(plan(folder, **keys), out=out, seed=0)
    return load_file(out / "model.safetensors")


def of(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(folder / name / "model.safetensors")


def two(weight: object = 0.5, **keys: object) -> dict[str, object]:
    models = [{"model": name, "parameters": {"weight": weight}} for name in ("a", "b")]
    return {"merge_method": "task_arithmetic", "base_model": "p", "models": models, **keys}


def alone(folder: Path, model: str, **keys: object) -> dict[str, torch.Tensor]:
    """One model as it is taken, whatever it is given as."""
    return merged(folder, merge_method="linear", models=[{"model": model, "parameters": {"weight": 1}}], **keys)


@pytest.mark.parametrize("spelt", ["p", "p/", "./p", "link", "a/../p"])
def test_the_base_is_one_model_however_it_is_spelled(folder, spelt):
    found = plan(folder, merge_method="sce", base_model="p", models=[{"model": "a"}, {"model": spelt}])
    assert found.targets == (folder / "a",)


@pytest.mark.parametrize(
    "extra",
    [
        {"name": "my-merge"},
        {"tokenizer": {"source": "base"}},
        {"tokenizer": {}},
        {"tokenizer_source": "base"},
        {"tokenizer_source": "p/"},
        {"base_model": {"model": {"path": "p"}}},
        {"base_model": {"model": {"path": "p", "revision": None}, "lora": None}},
        dict.fromkeys(("tokenizer", "chat_template", "modules", "slices", "parameters", "out_dtype")),
        {"tokenizer": {"source": "base", "tokens": None, "pad_to_multiple_of": None}},
        {"dtype": "torch.float32"},
    ],
)
def test_words_that_mean_what_is_done_anyway_are_taken(folder, extra):
    expected, found = merged(folder, **two()), merged(folder, **two(**extra))
    for name in NAMES:
        assert torch.equal(found[name], expected[name])


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_is_not_offered_is_refused_with_the_way_out(folder, key):
    with pytest.raises(Refusal) as refused:
        plan(folder, **two(**{key: "x"}))
    assert str(refused.value) == f"recipe.{key} is mergekit's and not offered here: {KEYS[key]}"


@pytest.mark.parametrize(
    "extra", [{"tokenizer_source": "union"}, {"tokenizer": {"source": "a"}}, {"tokenizer": {"tokens": {"x": "p"}}}]
)
def test_other_tokenizers_are_refused(folder, extra):
    with pytest.raises(Refusal, match="share its tokenizer"):
        plan(folder, **two(**extra))


@pytest.mark.parametrize("key", SLICE_KEYS)
def test_a_slices_key_that_is_not_offered_is_refused_with_the_way_out(folder, key):
    sources = [{"model": "a", "layer_range": [0, 2]}]
    slices = [{"sources": sources, key: "p"}]
    with pytest.raises(Refusal) as refused:
        plan(folder, merge_method="task_arithmetic", base_model="p", slices=slices)
    assert str(refused.value) == f"recipe.slices[].{key} is mergekit's and not offered here: {SLICE_KEYS[key]}"


@pytest.mark.parametrize("spelt", ["base", "p", {"source": "base"}])
def test_ids_are_compared_whoevers_tokenizer_the_recipe_asks_for(folder, spelt):
    for name, tokens in (("p", ["x", "y"]), ("a", ["y", "x"]), ("b", ["x", "y"])):
        vocabulary = {token: number_of for number_of, token in enumerate(tokens)}
        (folder / name / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": vocabulary}}))
    key = "tokenizer" if isinstance(spelt, dict) else "tokenizer_source"
    with pytest.raises(Refusal, match="the tokenizers of .*a and the pivot .* differ in its vocabulary"):
        merged(folder, **two(**{key: spelt}))


@pytest.mark.parametrize("spelt", [{"path": "p", "revision": "v2"}, {"path": "p", "subfolder": "x"}, {"path": 3}])
@pytest.mark.parametrize("where", ["base_model", "models", "slices"])
def test_a_model_in_its_long_form_is_a_directory_and_no_more(folder, spelt, where):
    keys = two()
    if where == "base_model":
        keys["base_model"] = {"model": spelt}
    elif where == "models":
        keys["models"][0]["model"] = {"model": spelt}
    else:
        del keys["models"]
        keys["slices"] = [{"sources": [{"model": {"model": spelt}, "layer_range": [0, 2]}]}]
    with pytest.raises(Refusal, match=rf"recipe\.{where}.*(names a revision|expected a directory)"):
        plan(folder, **keys)


def test_slices_take_models_in_their_long_form(folder):
    sources = [{"model": {"model": {"path": "a"}}, "layer_range": [0, 2], "parameters": {"weight": 0.5}}]
    found = merged(folder, merge_method="task_arithmetic", base_model="p", slices=[{"sources": sources}])
    for name in NAMES:
        torch.testing.assert_close(found[name], (of(folder, "p")[name] + of(folder, "a")[name]) / 2)


@pytest.mark.parametrize(("word", "taken"), [(1, True), (1.0, True), (0, False), (0.0, False), (True, True)])
def test_numbers_say_yes_and_no(folder, word, taken):
    ties = plan(folder, **two(merge_method="ties", parameters={"normalize": word})).rules
    assert ties.rule_for(Context(name=NAMES[0])).aggregate == ("mean" if taken else "sum")
    added = plan(folder, **two(parameters={"normalize": word})).rules
    assert added.rule_for(Context(name=NAMES[0])).normalize is taken
    dare = plan(folder, **two(merge_method="dare_linear", parameters={"rescale": word})).rules
    assert dare.rule_for(Context(name=NAMES[0])).rescale == ("match_l1" if taken else "none")


@pytest.mark.parametrize("word", [2, 0.5, "yes", [1]])
def test_other_numbers_say_neither(folder, word):
    with pytest.raises(Refusal, match="normalize"):
        plan(folder, **two(parameters={"normalize": word})).rules.rule_for(Context(name=NAMES[0]))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_is_not_offered_is_named_as_mergekits(folder, name):
    with pytest.raises(Refusal, match=f"merge_method {name} is mergekit's and not offered") as refused:
        plan(folder, **two(merge_method=name))
    assert "did you mean" not in str(refused.value)


@pytest.mark.parametrize(("name", "meant"), [("dare_tie", "dare_ties"), ("tie", "ties"), ("slrp", "slerp")])
def test_a_mistyped_method_is_still_answered_with_the_nearest(folder, name, meant):
    with pytest.raises(Refusal, match=f"did you mean '{meant}'"):
        plan(folder, **two(merge_method=name))


@pytest.mark.parametrize("text", ["5e-1", "0.5", ".5", "{value: 0.5}", "{filter: q_proj, value: 5e-1}"])
def test_numbers_as_yaml_11_reads_them_and_one_filter_alone(folder, text):
    given = yaml.safe_load(text)
    found = plan(folder, **two(weight=given)).rules.rule_for(Context(name=NAMES[1], layer=0, layers=2))
    assert found.weight == (0.5, 0.5)


def test_what_is_no_number_stays_what_it_is():
    assert [number(value) for value in ("1e3", "x", True, None, 2)] == [1000.0, "x", True, None, 2]


@pytest.mark.parametrize("end", [3, 32])
def test_a_layer_range_beyond_the_models_layers_is_refused_with_their_count(folder, end):
    sources = [{"model": name, "layer_range": [0, end]} for name in ("p", "a")]
    keys = {"merge_method": "slerp", "base_model": "p", "slices": [{"sources": sources}], "parameters": {"t": 0.5}}
    with pytest.raises(Refusal, match=rf"layer_range \[0, {end}\] .* of which there are 2: end it at 2"):
        merged(folder, **keys)


def test_slices_count_the_language_models_layers_and_gradients_each_stacks_own(folder):
    sources = [{"model": name, "layer_range": [0, 2]} for name in ("p", "a")]
    found = plan(
        folder, merge_method="slerp", base_model="p", slices=[{"sources": sources}], parameters={"t": [0, 1]}
    ).rules
    tower = [found.rule_for(Context(name="v", layer=layer, layers=5, in_language=False)).t for layer in range(5)]
    assert tower == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert [found.rule_for(Context(name="m", layer=layer, layers=2)).t for layer in range(2)] == [0, 1]


def adapter(folder: Path, tensors: dict[str, torch.Tensor], **config: object) -> Path:
    place = folder / "lora"
    place.mkdir()
    noted = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": str(folder / "p"), **config}
    (place / "adapter_config.json").write_text(json.dumps(noted))
    save_file(
        {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}, place / "adapter_model.safetensors"
    )
    return place


MODULE = NAMES[1].removesuffix(".weight")
B_A = {f"{MODULE}.lora_A.weight": torch.randn(2, 6), f"{MODULE}.lora_B.weight": torch.randn(4, 2)}


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 4 / 2),
        ({"use_rslora": True}, 4 / 2**0.5),
        ({"lora_alpha": 6}, 6 / 2),
        ({"alpha_pattern": {"layers.0.self_attn.q_proj": 10}}, 10 / 2),
        ({"alpha_pattern": {"layers.1.self_attn.q_proj": 10}}, 4 / 2),
    ],
)
@pytest.mark.parametrize("spelt", ["with its base", "alone"])
def test_a_lora_directory_is_its_base_plus_scale_b_a(folder, config, scale, spelt):
    place = adapter(folder, B_A, **config)
    model = f"{folder}/p+{place}" if spelt == "with its base" else str(place)
    found = merged(folder, merge_method="linear", models=[{"model": "a", "parameters": {"weight": 1}},
                                                         {"model": model, "parameters": {"weight": 1}}])  # fmt: skip
    update = scale * B_A[f"{MODULE}.lora_B.weight"] @ B_A[f"{MODULE}.lora_A.weight"]
    for name in NAMES:
        adapted = of(folder, "p")[name] + (update if name == NAMES[1] else 0)
        torch.testing.assert_close(found[name], (of(folder, "a")[name] + adapted) / 2)
    assert not list(folder.glob(".out*"))


def test_modules_that_were_trained_whole_replace_the_bases(folder):
    whole = torch.randn(4, 6)
    place = adapter(folder, {**B_A, NAMES[2].replace(".weight", ".modules_to_save.weight"): whole})
    assert torch.equal(alone(folder, f"p+{place}")[NAMES[2]], whole)


@pytest.mark.parametrize(
    ("config", "tensors", "said"),
    [
        ({"peft_type": "IA3"}, B_A, "is a IA3 adapter.*merge_and_unload"),
        ({"use_dora": True}, B_A, "has use_dora.*merge_and_unload"),
        ({}, {**B_A, f"{MODULE}.lora_magnitude_vector.weight": torch.ones(4)}, "more than W"),
        ({}, {f"{MODULE}.lora_A.weight": torch.ones(2, 6)}, "has only A"),
        (
            {},
            {f"{MODULE}.lora_A.weight": torch.ones(2, 5), f"{MODULE}.lora_B.weight": torch.ones(4, 2)},
            "its base has",
        ),
        ({}, {"x.lora_A.weight": torch.ones(2, 6), "x.lora_B.weight": torch.ones(4, 2)}, "does not have"),
    ],
)
def test_an_adapter_that_is_more_or_less_is_refused_and_leaves_nothing(folder, config, tensors, said):
    place = adapter(folder, tensors, **config)
    before = set(folder.iterdir())
    with pytest.raises(Refusal, match=said):
        merged(folder, merge_method="linear", models=[{"model": f"p+{place}", "parameters": {"weight": 1}}])
    assert set(folder.iterdir()) - before == {folder / "recipe.yaml"}


def test_a_plus_in_a_directorys_name_is_no_adapter(folder):
    (folder / "a").rename(folder / "a+b")
    assert torch.equal(alone(folder, "a+b")[NAMES[1]], of(folder, "a+b")[NAMES[1]])
    place = adapter(folder, B_A)
    assert torch.equal(alone(folder, f"a+b+{place}")[NAMES[2]], of(folder, "a+b")[NAMES[2]])


def test_a_base_with_an_adapter_is_one_model_however_both_are_spelled(folder):
    adapter(folder, B_A)
    models = [{"model": "a"}, {"model": f"link+{folder}/./lora"}]
    found = plan(folder, merge_method="sce", base_model="p/+lora", models=models)
    assert found.targets == (folder / "a",)
    assert list(found.adapted.values()) == [(folder / "p", folder / "lora")]


def test_an_adapter_on_another_model_than_its_own_is_said(folder):
    adapter(folder, B_A, base_model_name_or_path="b")
    keys = {"merge_method": "task_arithmetic", "base_model": "p", "models": [{"model": "lora"}]}
    assert any("says that it was trained on b, and is put on" in note for note in plan(folder, **keys).notes)
    for own in ("p", str(folder / "link"), "owner/p", ""):
        noted = json.loads((folder / "lora/adapter_config.json").read_text()) | {"base_model_name_or_path": own}
        (folder / "lora/adapter_config.json").write_text(json.dumps(noted))
        assert not any("was trained on" in note for note in plan(folder, **keys).notes)


def test_a_refusal_calls_an_adapted_model_as_the_recipe_does(folder):
    adapter(folder, B_A)
    (folder / "b/config.json").write_text('{"model_type": "gemma"}')
    keys = {"merge_method": "task_arithmetic", "base_model": "p+lora", "models": [{"model": "b"}]}
    with pytest.raises(Refusal, match=f"the pivot {folder}/p\\+{folder}/lora a llama") as refused:
        merged(folder, **keys)
    assert ".adapted" not in str(refused.value)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("p+nowhere", "no adapter directory"),
        ("nowhere+lora", "no model directory nowhere"),
        ("p+a", "no adapter directory"),
        ("nowhere", "no model directory nowhere"),
    ],
)
def test_a_base_or_an_adapter_that_is_not_there_is_refused(folder, model, said):
    adapter(folder, B_A)
    with pytest.raises(Refusal, match=said):
        plan(folder, merge_method="linear", models=[{"model": model, "parameters": {"weight": 1}}])


def test_an_adapter_whose_base_is_on_the_hub_needs_one(folder):
    adapter(folder, B_A, base_model_name_or_path="owner/model")
    lone = [{"model": "lora", "parameters": {"weight": 1}}]
    with pytest.raises(Refusal, match="its base owner/model is no directory here: give base_model"):
        plan(folder, merge_method="linear", models=lone)
    assert list(plan(folder, merge_method="task_arithmetic", base_model="p", models=lone).adapted.values()) == [
        (folder / "p", folder / "lora")
    ]


def test_the_page_has_every_key_and_every_method(folder):
    rows = re.findall(r"^\| (.+?) \| (taken|taken with a note|refused) \|", DOCS.read_text(), re.MULTILINE)
    spelled = {word: state for text, state in rows for word in re.findall(r"`(\w+)", text)}
    assert {name for name in METHODS if spelled.get(name) != "refused"} == set()
    assert {key for key in (*KEYS, "residual_weight") if spelled.get(key) != "refused"} == set()
    ours = {"seed", "rounding", "lost_update", "embeddings"}  # not mergekit's
    keys = {field.name for field in dataclasses.fields(Recipe)} - ours
    assert {key for key in keys if key not in spelled} == set()
    for method in ("linear", "slerp", "task_arithmetic", "ties", "dare_linear", "dare_ties", "sce"):
        assert spelled[method] == "taken"
