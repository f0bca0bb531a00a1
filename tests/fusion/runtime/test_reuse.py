"""When finished work may be used again: what an artifact holds, what it was made from, and what it was made with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fusion.merge.rules.linear import Linear
from fusion.merge.rules.sce import Sce
from fusion.models import ModelConfig
from fusion.runtime import artifacts, digests, versions
from fusion.runtime.artifacts import Artifact, Store, noted_digest
from fusion.runtime.digests import directory_key
from fusion.runtime.given_model import located
from fusion.runtime.stage import PINS, Advance, Stage, StageRecipe

ROOT = Path(__file__).parents[3]


def stage(name: str, inputs: dict[str, str], text: str, **more) -> Stage:
    """A stage that writes `text`, whatever it is made from."""

    def build(out: Path, advance: Advance) -> None:
        (out / "data.txt").write_text(text)

    recipe = {"config": {}, "inputs": inputs, "modules": ("fusion.distribution",)}
    return Stage(name=name, what="a test", build=build, **recipe, **more)


def made(store: Store, **more) -> Artifact:
    return store.produce(stage("made", {}, "bytes", **more))


# ------------------------------------------------------------ what it was made from
def test_what_was_made_from_other_bytes_is_not_used_again(tmp_path):
    """The upstream recipe is the same both times, its bytes are not: as after damage, or on another machine."""
    store = Store(root=tmp_path)
    first = store.produce(stage("upstream", {}, "one"))
    below = store.produce(stage("downstream", {"from": first.content}, "x"))
    (first.path / "data.txt").write_text("damaged")
    with pytest.warns(UserWarning, match="is rebuilt"):
        second = store.produce(stage("upstream", {}, "two"))
    assert second.key == first.key
    again = store.produce(stage("downstream", {"from": second.content}, "x"))
    assert not again.reused
    assert again.key != below.key


def test_what_was_made_from_equal_bytes_is_used_again_whatever_recipe_gave_them(tmp_path):
    store = Store(root=tmp_path)
    first, second = (store.produce(stage(name, {}, "equal")) for name in ("upstream", "another"))
    assert first.key != second.key
    store.produce(stage("downstream", {"from": first.content}, "x"))
    assert store.produce(stage("downstream", {"from": second.content}, "x")).reused


def test_a_log_is_no_part_of_what_later_stages_are_keyed_by(tmp_path):
    contents = []
    for number, said in enumerate(("slow", "fast")):

        def build(out: Path, advance: Advance, said: str = said) -> None:
            (out / "weights").write_text("equal")
            (out / "log.jsonl").write_text(said)

        recipe = Stage(name="s", what="", config=number, inputs={}, modules=(), build=build, logs=("log.jsonl",))
        contents.append(Store(root=tmp_path).produce(recipe).content)
    assert contents[0] == contents[1]


def test_the_roles_of_the_inputs_are_in_the_key(tmp_path):
    """Aligning a to b is not aligning b to a."""
    store = Store(root=tmp_path)
    assert store.key(stage("align", {"pivot": "a", "source": "b"}, "")) != store.key(
        stage("align", {"pivot": "b", "source": "a"}, "")
    )


# ------------------------------------------------------------ what it holds
def test_a_file_added_to_a_finished_artifact_is_reported_and_the_stage_rebuilt(tmp_path):
    store = Store(root=tmp_path)
    first = made(store)
    (first.path / "inner").mkdir()
    (first.path / "inner/added_tokens.json").write_text("{}")
    with pytest.warns(UserWarning, match=r"added_tokens\.json was not written with the rest: made is rebuilt"):
        again = made(store)
    assert not again.reused
    assert {path.name for path in again.path.glob("[a-z]*")} == {
        "data.txt",
        "manifest.json",
    }


def test_a_large_file_is_hashed_once_and_again_when_the_file_system_says_it_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "_ALWAYS_HASH_BELOW", 0)  # every file is a large one
    store = Store(root=tmp_path)
    first = made(store)
    path = first.path / "data.txt"
    assert noted_digest(path) == digests.file_digest(path)
    read: list[Path] = []

    def counted(file: Path) -> str:
        read.append(file)
        return digests.file_digest(file)

    monkeypatch.setattr(artifacts, "file_digest", counted)
    assert made(store).reused
    assert read == []
    # Other bytes of the same size, and the old modification time put back: size and time alone would not tell.
    stat = path.stat()
    path.write_text("BYTES")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert noted_digest(path) is None
    with pytest.warns(UserWarning, match="is not the file that was written there"):
        assert not made(store).reused


def test_a_store_that_was_copied_elsewhere_reads_its_large_files_once_more(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "_ALWAYS_HASH_BELOW", 0)
    made(Store(root=tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    read: list[Path] = []

    def counted(file: Path) -> str:
        read.append(file)
        return digests.file_digest(file)

    monkeypatch.setattr(artifacts, "file_digest", counted)
    copied = Store(root=tmp_path / "b")
    assert [made(copied).reused, made(copied).reused] == [True, True]
    assert len(read) == 1


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"12345678")
    (folder / "inner/adapter.safetensors").write_bytes(b"1234")
    return folder


def test_the_key_of_a_given_model_follows_every_byte_of_it(checkpoint, tmp_path):
    cache = tmp_path / "digests.json"
    before = directory_key(checkpoint, cache)
    assert directory_key(checkpoint, cache) == before
    inner = checkpoint / "inner/adapter.safetensors"
    inner.write_bytes(b"5678")
    assert directory_key(checkpoint, cache) != before
    inner.write_bytes(b"1234")
    assert directory_key(checkpoint, cache) == before
    # Other weights of the same size, under the old modification time.
    weights = checkpoint / "model.safetensors"
    stat = weights.stat()
    weights.write_bytes(b"87654321")
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert directory_key(checkpoint, cache) != before


def test_files_that_did_not_change_are_not_read_again(checkpoint, tmp_path):
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return digests.file_digest(path)

    for _ in range(2):
        directory_key(checkpoint, tmp_path / "digests.json", digest=counted)
    assert sorted(read) == ["adapter.safetensors", "config.json", "model.safetensors"]


def test_a_model_with_a_template_put_on_follows_its_base_when_that_is_written_in_other_shards(checkpoint, tmp_path):
    template = tmp_path / "chat.jinja"
    template.write_text("{{ messages }}")
    model = ModelConfig(label="m", path=str(checkpoint), chat_template=str(template))
    _, key = located(model, tmp_path / "store")
    (checkpoint / "model.safetensors").unlink()
    for number in (1, 2):
        (checkpoint / f"model-{number}-of-2.safetensors").write_bytes(b"1234")
    after, other = located(model, tmp_path / "store")
    assert other != key
    assert {path.name for path in after.glob("*.safetensors")} == {
        "model-1-of-2.safetensors",
        "model-2-of-2.safetensors",
    }
    assert all(path.exists() for path in after.rglob("*"))
    assert (after / "inner/adapter.safetensors").read_bytes() == b"1234"


# ------------------------------------------------------------ what it was made with
@pytest.fixture
def library(monkeypatch):
    """Sets the version of torch that is installed here."""

    def install(version: str) -> None:
        monkeypatch.setattr(versions, "_installed", lambda name: version if name == "torch" else None)

    return install


def test_other_library_versions_are_used_and_said_or_not_said_or_refused_as_the_setting_wants(tmp_path, library):
    library("2.12")
    first = made(Store(root=tmp_path), libraries=("torch",))
    assert first.manifest["made_with"] == {"torch": "2.12"}
    library("2.13")
    warned = made(Store(root=tmp_path, reuse="warn"), libraries=("torch",))
    assert (warned.reused, warned.differs) == (True, ("torch 2.12, here 2.13",))
    quiet = made(Store(root=tmp_path, reuse="any"), libraries=("torch",))
    assert (quiet.reused, quiet.differs) == (True, ())
    # A stage whose bytes that library does not decide asks nothing of it.
    assert made(Store(root=tmp_path, reuse="same_versions"), libraries=()).reused
    with pytest.warns(UserWarning, match=r"was made with torch 2\.12, here 2\.13: made is computed again"):
        again = made(Store(root=tmp_path, reuse="same_versions"), libraries=("torch",))
    assert (again.reused, again.manifest["made_with"]) == (False, {"torch": "2.13"})
    assert made(Store(root=tmp_path, reuse="same_versions"), libraries=("torch",)).reused


def test_what_another_environment_made_stays_until_its_replacement_is_whole(tmp_path, library):
    library("2.12")
    first = made(Store(root=tmp_path), libraries=("torch",))
    library("2.13")

    def breaks(out: Path, advance: Advance) -> None:
        raise RuntimeError("stop")

    recipe = vars(stage("made", {}, "bytes", libraries=("torch",)))
    killed = Stage(**{**recipe, "build": breaks})
    store = Store(root=tmp_path, reuse="same_versions")
    with pytest.warns(UserWarning, match="computed again"), pytest.raises(RuntimeError, match="stop"):
        store.produce(killed)
    assert (first.path / "data.txt").read_text() == "bytes"


def test_the_device_that_auto_comes_down_to_is_compared_too(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "accelerator", lambda: "cuda")
    first = made(Store(root=tmp_path), device="auto")
    assert first.manifest["made_with"] == {"device": "cuda"}
    monkeypatch.setattr(versions, "accelerator", lambda: "cpu")
    assert made(Store(root=tmp_path), device="auto").differs == ("device cuda, here cpu",)


# ------------------------------------------------------------ code that no import reaches
KEYS = """
from pathlib import Path
from eval.serve import VLLM, Transformers
from fusion.runtime.artifacts import Store
from fusion.runtime.stage import StageRecipe
for serve in (VLLM(), Transformers()):
    recipe = StageRecipe(name="answers", config=serve.identity(), inputs={}, modules=serve.modules)
    print(Store(root=Path("x")).key(recipe))
"""


@pytest.mark.parametrize(
    ("file", "old", "new", "engines"),
    [
        # The chat template applied twice.
        (
            "eval/serve/generation.py",
            '(rendered["content"], add_special_tokens=False)',
            '(rendered["content"], add_special_tokens=True)',
            {"transformers"},
        ),
        # The day that a template is told, and the bounds that it is rendered in.
        ("fusion/runtime/templates/pinned.py", 'DATE = "2024-07-26"', 'DATE = "2024-07-27"', {"vllm", "transformers"}),
        ("fusion/runtime/templates/render_child.py", "SECONDS = 2 ", "SECONDS = 3 ", {"vllm", "transformers"}),
        # A flag of the server's process.
        ("eval/serve/vllm_server.py", '"--generation-config": "vllm"', '"--generation-config": "auto"', {"vllm"}),
        # The pins of threads and instruction sets decide last bits everywhere.
        ("fusion/runtime/processes.py", '"MKL_CBWR": "AVX2"', '"MKL_CBWR": "AUTO"', {"vllm", "transformers"}),
        # A word of explanation decides nothing.
        ("eval/serve/generation.py", "One token per step", "A token a step", set()),
    ],
)
def test_the_engine_that_answers_and_the_pins_it_runs_under_are_in_the_key(tmp_path, file, old, new, engines):
    for package in ("fusion", "eval"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))

    def keys() -> list[str]:
        command = [sys.executable, "-c", KEYS]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()

    before = dict(zip(("vllm", "transformers"), keys(), strict=True))
    text = (tmp_path / file).read_text()
    assert text.count(old) == 1
    (tmp_path / file).write_text(text.replace(old, new))
    after = dict(zip(("vllm", "transformers"), keys(), strict=True))
    assert {name for name in before if before[name] != after[name]} == engines


def test_a_manifest_says_what_a_stage_was_made_with_and_from_where_its_code_began(tmp_path):
    manifest = json.loads((made(Store(root=tmp_path), libraries=("torch",)).path / "manifest.json").read_text())
    assert manifest["made_with"]["torch"] == versions.versions()["torch"]
    assert manifest["modules"] == [
        "fusion.distribution",
        "fusion.runtime.processes:thread_settings",
        "fusion.runtime.processes:processor_settings",
    ]


def test_the_class_of_a_setting_counts_though_its_stage_names_no_module_of_it():
    """A rule is reached through an interface, which an import does not follow to the one that was chosen."""
    rules = [StageRecipe(name="merge", config=[rule, 0], inputs={}, modules=()) for rule in (Linear(), {"a": (Sce(),)})]
    code = [recipe.code for recipe in rules]
    assert code[0][0] == "fusion.merge.rules.linear:Linear"
    assert code[1][0] == "fusion.merge.rules.sce:Sce"
    assert StageRecipe(name="merge", config={"density": 0.5}, inputs={}, modules=("m",)).code == ("m", *PINS)
