"""A model by name, path or hub name, for every command that takes one; and whose it is by its own files."""

import json

import pytest

from fusion.runtime.configure import Refusal
from fusion.runtime.given_model import GivenModel, family_in, family_of, given_model


def test_a_name_a_path_and_a_hub_name_are_models(tmp_path):
    (tmp_path / "mine").mkdir()
    assert given_model("Qwen/Qwen3-0.6B", {}).path == "Qwen/Qwen3-0.6B"
    assert given_model(str(tmp_path / "mine"), {}).label == "mine"
    assert given_model("qwen2_5_3b_instruct", {}).path == "Qwen/Qwen2.5-3B-Instruct"
    entry = {"label": "own", "path": str(tmp_path / "mine"), "chat_template": "chatml"}
    assert given_model("own", {"own": entry}).chat_template == "chatml"


@pytest.mark.parametrize(
    ("name", "message"),
    [("pocket_pivot", "experiments train it"), ("qwen2_5_3b_instuct", "did you mean 'qwen2_5_3b_instruct'")],
)
def test_what_is_no_model_to_be_had_is_refused_with_the_way_out(name, message):
    with pytest.raises(Refusal, match=message):
        given_model(name, {})


@pytest.mark.parametrize("spelt", ["Qwen/Qwen2.5-3B-Instruct", "Qwen2.5-3B-Instruct", "qwen2.5-3b-instruct"])
@pytest.mark.parametrize("name", ["qwen2_5_3b_instruct", "Qwen/Qwen2.5-3B-Instruct"])
def test_a_model_of_the_hub_that_lies_in_the_folder_of_models_is_taken_from_there(tmp_path, monkeypatch, spelt, name):
    (tmp_path / "models" / spelt).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    found = given_model(name, {}, folder="models")  # relative to where the command is given
    assert found.path == str(tmp_path / "models" / spelt)
    assert found.label == given_model(name, {}).label
    # Others, and what is a directory already, stay what they are.
    assert given_model("Qwen/Qwen3-0.6B", {}, folder="models").path == "Qwen/Qwen3-0.6B"
    assert given_model("./models", {}, folder="models").path == "./models"


def test_a_folder_of_models_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(Refusal, match=r"paths\.models \(FUSECHAT_LAB_MODELS\) is .*nowhere: there is no such folder"):
        given_model("Qwen/Qwen3-0.6B", {}, folder=str(tmp_path / "nowhere"))


def test_a_revision_is_the_hub_s_and_does_not_count_for_what_lies_on_this_disk(tmp_path):
    (tmp_path / "Mine").mkdir()
    entry = {"label": "own", "path": "somebody/Mine", "revision": "abc"}
    assert given_model("own", {"own": entry}).revision == "abc"
    assert given_model("own", {"own": entry}, folder=str(tmp_path)).revision is None


@pytest.mark.parametrize(
    ("model_type", "family"),
    [
        ("qwen2", "qwen"),
        ("qwen3_moe", "qwen"),
        ("llama", "llama"),
        ("llama4_text", "llama"),
        ("mixtral", "mistral"),
        ("deepseek_v3", "deepseek"),
        ("gpt_neox", "gpt_neox"),
        ("gemma3_text", "gemma"),
        (7, None),
        (None, None),
    ],
)
def test_a_family_is_what_the_architecture_is_named_after_without_its_version(tmp_path, model_type, family):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert family_in(tmp_path) == family
    assert family_of(GivenModel(label="m", path=str(tmp_path))) == family
    assert family_of(GivenModel(label="m", path=str(tmp_path), family="other")) == "other"


def test_no_family_is_known_of_files_that_are_not_there_or_not_settings(tmp_path):
    assert family_in(tmp_path) is None
    (tmp_path / "config.json").write_text("[")
    assert family_in(tmp_path) is None
