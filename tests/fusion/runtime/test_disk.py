"""What a disk refuses is one sentence with a way out, whichever library was told."""

import errno
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from safetensors import SafetensorError

from fusion.runtime.artifacts import Store
from fusion.runtime.configure import Refusal
from fusion.runtime.disk import disk_fault
from fusion.runtime.stage import Stage

ROOT = Path(__file__).parents[3]


def system(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/data/x")


WRAPPED = {
    "the system": system(errno.EDQUOT),
    "Rust": SafetensorError("Error while serializing: I/O error: Disk quota exceeded (os error 122)"),
    "Arrow": OSError("[Errno 122] Error writing bytes to file. Detail: [errno 122] Disk quota exceeded"),
    "words alone": RuntimeError("PytorchStreamWriter failed: Disk quota exceeded"),
}


@pytest.mark.parametrize("error", WRAPPED.values(), ids=WRAPPED.keys())
def test_a_library_s_error_says_what_the_system_s_does(error):
    fault = disk_fault(error)
    assert fault is not None and fault.startswith("the quota of this user is used up")


def test_the_cause_counts_and_other_errors_are_none_of_the_disk():
    outer = ValueError("could not save")
    outer.__cause__ = system(errno.EROFS)
    assert str(disk_fault(outer)).startswith("the disk is read-only (/data/x)")
    others = (ValueError("x"), ConnectionRefusedError(errno.ECONNREFUSED, "refused"), KeyError("No space"))
    assert [disk_fault(error) for error in others] == [None] * 3


def made(root: Path, build) -> None:
    Store(root=root).produce(
        Stage(name="s", what="s", config={}, inputs={}, modules=("fusion.distribution",), build=build)
    )


@pytest.mark.parametrize("number", [errno.EFBIG, errno.ESTALE, errno.EXDEV, errno.ENAMETOOLONG, errno.EMFILE])
def test_a_stage_that_cannot_be_written_is_refused_and_may_continue(tmp_path, number):
    def build(out: Path, advance: object) -> None:
        (out / "half").write_text("x")
        raise system(number)

    with pytest.raises(Refusal, match="s cannot be written to the artifact store .*finished work is kept"):
        made(tmp_path, build)
    assert [path.name for path in (tmp_path / "s").glob(".partial-*/half")] == ["half"]


def test_a_store_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(Refusal, match="a file where a folder should be"):
        made(tmp_path / "file" / "store", lambda out, advance: None)


def test_what_a_stage_gets_wrong_itself_passes_through(tmp_path):
    def build(out: Path, advance: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        made(tmp_path, build)


def test_a_damaged_manifest_is_told_and_its_stage_rebuilt(tmp_path):
    def build(out: Path, advance: object) -> None:
        (out / "a").write_text("x")

    made(tmp_path, build)
    (manifest,) = tmp_path.glob("s/*/manifest.json")
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="the manifest of .* is damaged: s is rebuilt"):
        made(tmp_path, build)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(tmp_path, build)


@pytest.mark.parametrize("module", ["eval.judging.judging", "ablations.cell", "fusion.pipeline"])
def test_a_rebuild_is_said_on_the_screen_whichever_room_asked(tmp_path, module):
    """The asking code is compiled under a file of that room, as a warning's place is the file of some code."""
    script = f"""
import warnings
from pathlib import Path
from fusion.runtime.artifacts import Store
from fusion.runtime.command import _show_warning
from fusion.runtime.stage import Stage
warnings.showwarning = _show_warning
stage = Stage(name="verdicts", what="v", config={{}}, inputs={{}}, modules=("fusion.distribution",),
              build=lambda out, advance: (out / "v").write_text("1") and None)
text = "def ask(store): return store.produce(stage)"
place = {str(ROOT / (module.replace(".", "/") + ".py"))!r}
space = {{"stage": stage}}
exec(compile(text, place, "exec"), space)
store = Store(root=Path({str(tmp_path)!r}))
(space["ask"](store).path / "v").write_text("2")
space["ask"](store)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stderr.startswith("note: ") and ended.stderr.endswith("verdicts is rebuilt\n")
