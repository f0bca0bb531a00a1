from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fusion.models import ModelConfig, named_models
from fusion.runtime.command import group_entry
from fusion.runtime.configure import Refusal, typed
from fusion.runtime.digests import directory_key
from fusion.runtime.given_model import checkpoint_directory, dressed, located, on_disk, template_file


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "chat_template.jinja").write_text("own")
    return folder


def model(path: Path | str, **settings: object) -> ModelConfig:
    return ModelConfig(label="m", path=str(path), **settings)


def test_a_local_checkpoint_is_taken_as_it_is(checkpoint):
    assert checkpoint_directory(model(checkpoint)) == checkpoint


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), r"has no config\.json"),
        (lambda folder: (folder / "config.json").write_text("[" * 9_000), r"config\.json cannot be read .*model 'm'"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"), r"config\.json cannot be read .*model 'm'"),
        (
            lambda folder: (folder / "config.json").write_text('"llama"'),
            "holds a JSON text, not an object",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), r"has no \.safetensors weights.*save_pretrained"),
        (
            lambda folder: (folder / "config.json").write_text('{"auto_map": {"AutoModel": "x.Y"}}'),
            "Python code of its own.*trust_remote_code",
        ),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_refused_with_the_way_out(checkpoint, damage, message):
    damage(checkpoint)
    with pytest.raises(Refusal, match=message):
        checkpoint_directory(model(checkpoint))


def test_a_missing_directory_is_refused_without_asking_the_hub(tmp_path):
    with pytest.raises(Refusal, match="there is no directory"):
        checkpoint_directory(model(tmp_path / "nowhere"))


def test_a_model_has_exactly_one_origin():
    with pytest.raises(ValueError, match="exactly one of path and pocket"):
        ModelConfig(label="m")


def test_a_replaced_chat_template_leaves_the_weights_where_they_are(checkpoint, tmp_path):
    template = template_file(model(checkpoint, chat_template="openchat_3.5"))
    assert template is not None
    view = dressed(checkpoint, template.read_text(), tmp_path / "store")
    assert (view / "model.safetensors").resolve() == checkpoint / "model.safetensors"
    assert (view / "chat_template.jinja").read_text() == template.read_text()
    assert (checkpoint / "chat_template.jinja").read_text() == "own"
    assert dressed(checkpoint, template.read_text(), tmp_path / "store") == view
    assert directory_key(view, tmp_path / "digests.json") != directory_key(checkpoint, tmp_path / "digests.json")


def test_the_settings_of_a_template_are_in_the_directory_and_in_its_key(checkpoint, tmp_path):
    def worn(**settings: object) -> tuple[str, str]:
        directory, key = located(model(checkpoint, **settings), tmp_path / "store")
        return (directory / "chat_template.jinja").read_text(), key

    own, key = worn()
    assert own == "own"
    thoughtless, other = worn(chat_template_kwargs={"enable_thinking": False})
    assert thoughtless == "{% set enable_thinking = False %}\nown"
    assert other != key
    assert worn(template_date="2025-01-31")[1] == key  # this template asks for no date
    (checkpoint / "chat_template.jinja").write_text("{{ strftime_now('%d %b') }}")
    days = [worn(template_date=day) for day in ("2024-07-26", "2024-07-26", "2025-01-31")]
    assert days[0] == days[1]
    assert days[0][1] != days[2][1]
    (checkpoint / "chat_template.jinja").unlink()
    with pytest.raises(Refusal, match="no chat template to take chat_template_kwargs"):
        worn(chat_template_kwargs={"enable_thinking": False})


def test_a_model_of_its_own_template_takes_no_other():
    with pytest.raises(Refusal, match="chat template of its own"):
        typed({**group_entry("model", "pocket_pivot"), "chat_template": "chatml"}, ModelConfig)


def test_an_unknown_chat_template_is_refused_with_the_nearest_name(checkpoint):
    with pytest.raises(Refusal, match=r"did you mean 'openchat_3.5'"):
        template_file(model(checkpoint, chat_template="openchat_3"))


def test_the_key_of_a_directory_follows_its_bytes(checkpoint, tmp_path):
    cache = tmp_path / "digests.json"
    before = directory_key(checkpoint, cache)
    assert directory_key(checkpoint, cache) == before
    (checkpoint / "model.safetensors").write_bytes(b"weightz!")
    assert directory_key(checkpoint, cache) != before


def test_other_weights_of_the_same_names_and_sizes_have_another_key(checkpoint, tmp_path):
    other, copy = tmp_path / "other", tmp_path / "copy"
    for folder in (other, copy):
        shutil.copytree(checkpoint, folder)
    (other / "model.safetensors").write_bytes(b"WEIGHTS")
    sizes = [(path.name, path.stat().st_size) for path in sorted(checkpoint.iterdir())]
    assert sizes == [(path.name, path.stat().st_size) for path in sorted(other.iterdir())]
    keys = {folder.name: directory_key(folder, tmp_path / "digests.json") for folder in (checkpoint, other, copy)}
    assert keys["copy"] == keys["model"] != keys["other"]


@pytest.mark.parametrize(("name", "separator"), [("openchat_3.5", "<eos>"), ("openchat_3.5_im_end", "<|im_end|>")])
def test_the_papers_template_renders_turns_as_openchat_was_trained(name, separator):
    from jinja2 import Environment

    text = (template_file(model("x", chat_template=name)) or Path()).read_text()
    render = Environment(trim_blocks=True, lstrip_blocks=True).from_string(text).render
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    full = render(messages=messages, bos_token="<s>", eos_token="<eos>", add_generation_prompt=False)
    assert full == f"<s>GPT4 Correct User: Hi{separator}GPT4 Correct Assistant: Hello{separator}"
    prompt = render(messages=messages[:1], bos_token="<s>", eos_token="<eos>", add_generation_prompt=True)
    assert prompt == f"<s>GPT4 Correct User: Hi{separator}GPT4 Correct Assistant:"


def given(*names: str, mounted: dict | None = None) -> dict[str, tuple[str, str | None]]:
    return {name: (found.label, found.path) for name, found in named_models(names, mounted or {}).items()}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("./a", "a"),
        ("a/", "a"),
        ("runs/7/final model", "final-model"),
        ("/no/such place/qwen", "qwen"),
        ("Qwen/Qwen3-0.6B", "Qwen3-0.6B"),
        ("~/models/mine", "mine"),
    ],
)
def test_a_model_is_given_by_its_path_or_its_name_on_the_hub(tmp_path, monkeypatch, name, label):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    assert given(name) == {name: (label, name)}


def test_a_folder_without_a_slash_is_one_and_an_entry_of_that_name_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "openchat_3_5"):
        (tmp_path / name).mkdir()
    assert given("mine") == {"mine": ("mine", "mine")}
    assert given("openchat_3_5")["openchat_3_5"][1] == "openchat/openchat_3.5"
    assert given("mine", mounted={"mine": {"label": "m", "path": "x/y"}}) == {"mine": ("m", "x/y")}


def test_labels_are_as_long_as_it_takes_to_tell_models_apart():
    found = given("runs/1/final", "runs/2/final", "owner/final", "./starling")
    assert [label for label, _ in found.values()] == ["1-final", "2-final", "owner-final", "starling"]
    entry = {"mine": {"label": "b", "path": "x/y"}}
    assert given("mine", "./a/b", mounted=entry)["./a/b"] == ("a-b", "./a/b")


@pytest.mark.parametrize("second", ["a/", "{here}/a", "link", "mine"])
def test_one_model_in_two_spellings_is_refused(tmp_path, monkeypatch, second):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(Refusal, match="are one model"):
        given("./a", second.format(here=tmp_path), mounted={"mine": {"label": "m", "path": "a"}})


def test_a_name_that_is_nothing_is_refused_with_the_three_ways_to_give_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refusal, match=r"did you mean 'openchat_3_5'\?; a directory is given as ./DIR.*OWNER/NAME"):
        given("openchat_3")


@pytest.mark.parametrize("path", ["a/b/c", "./a", "/a", "~/a", "../a/b"])
def test_what_cannot_be_a_name_of_the_hub_is_a_directory(path):
    assert on_disk(path)
    with pytest.raises(Refusal, match="there is no directory"):
        checkpoint_directory(model(path))
