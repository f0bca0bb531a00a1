from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fusion.artifacts import Store
from fusion.configure import Refusal
from fusion.runtime import fingerprint
from fusion.runtime.digests import file_digest
from fusion.runtime.fingerprint import code_digest
from fusion.runtime.stage import Advance, Stage

MODULES = ("fusion.distribution",)


def nothing(out: Path, advance: Advance) -> None:
    """A build that leaves no file."""


def stage(name="stage", config=None, inputs=None, modules=MODULES, **more) -> Stage:
    more = {"what": "a test", "build": nothing, **more}
    return Stage(name=name, config={} if config is None else config, inputs=inputs or {}, modules=modules, **more)


def produce(store: Store, text: str = "hello", **config: object):
    runs: list[Path] = []

    def build(out: Path, advance: Advance) -> dict[str, int]:
        runs.append(out)
        (out / "data.txt").write_text(text)
        (out / ".working").write_text("thrown away")
        return {"letters": len(text)}

    artifact = store.produce(stage("stage", config, {"a": "k1"}, build=build, seed=1))
    return artifact, len(runs)


def test_a_finished_stage_is_reused_and_its_manifest_says_how_it_came_to_be(tmp_path):
    store = Store(root=tmp_path)
    first, runs = produce(store, width=3)
    assert (runs, first.reused) == (1, False)
    again, runs = produce(store, width=3)
    assert (runs, again.reused, again.path) == (0, True, first.path)
    manifest = json.loads((first.path / "manifest.json").read_text())
    assert manifest["config"] == {"width": 3}
    assert manifest["inputs"] == {"a": "k1"}
    assert manifest["facts"] == {"letters": 5}
    assert manifest["seed"] == 1
    assert set(manifest["files"]) == {"data.txt"}
    assert manifest["files"]["data.txt"]["sha256"] == file_digest(first.path / "data.txt")
    assert {"wall_seconds", "peak_memory_mb", "versions", "git_commit"} <= set(manifest)
    assert not (first.path / ".working").exists()
    assert store.built() == [("stage", first.key)]


def test_the_key_changes_with_config_inputs_stage_and_code(tmp_path):
    store = Store(root=tmp_path)
    keys = [
        store.key(stage("a", {"x": 1}, {}, MODULES)),
        store.key(stage("b", {"x": 1}, {}, MODULES)),
        store.key(stage("a", {"x": 2}, {}, MODULES)),
        store.key(stage("a", {"x": 1}, {"in": "k"}, MODULES)),
        store.key(stage("a", {"x": 1}, {}, ("fusion.configure", "fusion.conversation"))),
    ]
    assert len(set(keys)) == len(keys)


def test_the_key_says_which_input_plays_which_role(tmp_path):
    store = Store(root=tmp_path)
    there, back, again = (
        store.key(stage("align", inputs=inputs))
        for inputs in (
            {"pivot": "one", "source": "other"},
            {"pivot": "other", "source": "one"},
            {"source": "other", "pivot": "one"},
        )
    )
    assert there != back
    assert there == again  # in whatever order they are named


def test_a_docstring_or_comment_changes_no_key_and_a_number_does(tmp_path):
    program = textwrap.dedent(
        """
        import sys; sys.path.insert(0, sys.argv[1])
        from fusion.runtime.fingerprint import code_digest
        print(code_digest(("fusion.arithmetic",)))
        """
    )
    package = tmp_path / "fusion"
    package.mkdir()
    source = Path(__file__).parents[2] / "fusion"
    (package / "runtime").mkdir()
    for name in ("__init__.py", "runtime/__init__.py", "runtime/fingerprint.py"):
        (package / name).write_text((source / name).read_text())
    (package / "deep.py").write_text("SCALE = 2\n")

    def digest(text: str) -> str:
        (package / "arithmetic.py").write_text(text)
        command = [sys.executable, "-c", program, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout

    base = digest('"""One."""\nfrom fusion.deep import SCALE\n\ndef f():\n    """Says."""\n    return SCALE\n')
    assert (
        digest('"""Two."""\nfrom fusion.deep import SCALE\n# why\ndef f():\n    """Other."""\n    return SCALE\n')
        == base
    )
    assert digest('"""One."""\nfrom fusion.deep import SCALE\n\ndef f():\n    return SCALE + 1\n') != base
    (package / "deep.py").write_text("SCALE = 3\n")
    assert digest('"""One."""\nfrom fusion.deep import SCALE\n\ndef f():\n    """Says."""\n    return SCALE\n') != base


def test_a_changed_file_is_reported_and_rebuilt_and_never_used(tmp_path):
    store = Store(root=tmp_path)
    first, _ = produce(store)
    (first.path / "data.txt").write_text("hellO")
    with pytest.warns(UserWarning, match="is not the file that was written there"):
        again, runs = produce(store)
    assert runs == 1
    assert (again.path / "data.txt").read_text() == "hello"


def test_a_missing_file_is_rebuilt(tmp_path):
    store = Store(root=tmp_path)
    first, _ = produce(store)
    (first.path / "data.txt").unlink()
    with pytest.warns(UserWarning):
        assert produce(store)[1] == 1


def test_a_failed_build_leaves_no_artifact_and_the_next_attempt_continues(tmp_path):
    store = Store(root=tmp_path)

    def breaks(out: Path, advance: Advance) -> None:
        (out / "half.txt").write_text("half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        store.produce(stage("stage", build=breaks))
    seen = []

    def continues(out: Path, advance: Advance) -> None:
        seen.append((out / "half.txt").read_text())

    artifact = store.produce(stage("stage", build=continues))
    assert seen == ["half"]
    assert set(artifact.manifest["files"]) == {"half.txt"}


def test_a_store_that_cannot_be_written_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match=r"paths\.artifacts"):
        produce(Store(root=tmp_path / "file"))


def test_a_full_disk_is_refused_and_finished_work_kept(tmp_path):
    store = Store(root=tmp_path)
    first, _ = produce(store)

    def fills(out: Path, advance: Advance) -> None:
        with Path("/dev/full").open("w") as stream:
            stream.write("x")

    with pytest.raises(Refusal, match="no space left"):
        store.produce(stage("other", build=fills))
    assert (first.path / "data.txt").read_text() == "hello"


def _slow(root: str) -> None:
    def build(out: Path, advance: Advance) -> None:
        time.sleep(0.5)
        (out / "pid").write_text(str(os.getpid()))

    Store(root=Path(root)).produce(stage("stage", build=build))


def test_of_many_processes_one_computes_and_the_others_wait_and_reuse(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_slow, args=(str(tmp_path),)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(Store(root=tmp_path).built()) == 1


def test_a_killed_stage_is_computed_again_by_the_next_process(tmp_path):
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_slow, args=(str(tmp_path),))
    process.start()
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("stage/.partial-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert Store(root=tmp_path).built() == []
    _slow(str(tmp_path))
    assert len(Store(root=tmp_path).built()) == 1


def test_the_digest_of_code_is_the_same_whatever_the_order_of_modules():
    assert code_digest(("fusion.distribution", "fusion.conversation")) == code_digest(
        ("fusion.conversation", "fusion.distribution")
    )


def test_many_threads_may_ask_for_digests_at_once():
    modules = [
        "fusion.align.carry",
        "fusion.fuse.fuse",
        "fusion.represent.teacher_forcing",
        "fusion.merge.checkpoint_stream",
    ]
    expected = [code_digest((name,)) for name in modules]
    for _ in range(5):
        for cached in (code_digest, fingerprint._module, fingerprint._tree, fingerprint._digest, fingerprint._uses):
            cached.cache_clear()
        with ThreadPoolExecutor(max_workers=8) as pool:
            assert list(pool.map(lambda name: code_digest((name,)), modules * 4)) == expected * 4


def test_the_code_of_a_module_is_found_without_importing_the_packages_around_it():
    code = """
    import sys
    from fusion.runtime.fingerprint import module_digests
    print(*module_digests(("fusion.pocket.questions",)))
    print("torch" in sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    names, torch = ended.stdout.splitlines()
    assert {"fusion.pocket.questions", "fusion.pocket.dialogues"} <= {*names.split()}
    assert torch == "False"
