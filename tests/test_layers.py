"""The house stands as drawn: imports point one way, settings load quickly, names and sizes stay in bounds."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("fusion", "eval", "ablations")
# What `eval` may borrow of `fusion`: keeping, starting and checking things, and the one edit distance; a checkpoint
# directory is the handover.
# What `eval` may borrow of `fusion`: keeping, starting and checking things; a checkpoint directory is the handover.
GROUND = [f"fusion.runtime.{path.stem}" for path in sorted((ROOT / "fusion/runtime").glob("[a-z]*.py"))]
SHARED = (
    "fusion.runtime.artifacts",
    "fusion.runtime.configure",
    "fusion.runtime.processes",
    "fusion.runtime.command",
    "fusion.runtime.progress",
    "fusion.runtime.edit_distance",
    "fusion.runtime.precision",
    *GROUND,
)
HEAVY = (
    "vllm",
    "transformers",
    "accelerate",
    "datasets",
    "fastchat",
    "alpaca_eval",
    "lm_eval",
    "sklearn",
    "mlflow",
    "wandb",
)
# What composing and checking an experiment imports; torch is needed by the merge rules, the others by stages at work.
SETTINGS = (
    "fusion.pipeline",
    "fusion.align",
    "fusion.fuse",
    "fusion.merge",
    "fusion.train",
    "fusion.represent",
    "fusion.conversations.conversation",
    "fusion.merge.__main__",
    "fusion.align.__main__",
    "eval.pipeline",
    "eval.serve",
    "eval.benchmarks",
    "eval.judges",
    "ablations.cell",
    "ablations.report",
)
LINES = 400


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of every module a file imports, early or late; `from a import b` is a.b where that is a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            for member in members:
                yield node.lineno, member if is_module(member) else node.module


def crossings(folder: str, forbidden: tuple[str, ...], allowed: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(folder)
        for line, name in imported(path)
        if name.split(".")[0] in forbidden and name not in allowed
    ]


def test_fusion_knows_neither_eval_nor_ablations() -> None:
    assert crossings("fusion", ("eval", "ablations", "bench")) == []


def test_eval_knows_no_study_and_borrows_of_fusion_only_what_is_shared() -> None:
    assert crossings("eval", ("ablations", "bench")) == []
    assert crossings("eval", ("fusion",), SHARED) == []


def test_what_is_shared_imports_no_stage() -> None:
    allowed = (*SHARED, "fusion.models")
    shared = [ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in SHARED]
    strangers = [
        f"{path.name}:{line} imports {name}"
        for path in shared
        for line, name in imported(path)
        if name.split(".")[0] in PACKAGES and name not in allowed
    ]
    assert strangers == []


def test_nothing_binds_the_builtin_eval() -> None:
    """`import eval` and `import eval.judges` bind the name `eval`; `from eval.judges import JUDGES` does not."""
    bound = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources(*PACKAGES, "bench", "tests")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.split(".")[0] == "eval" and (alias.asname or "eval") == "eval"
    ]
    assert bound == []


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in sources(*PACKAGES, "bench", "tests")
        if (count := len(path.read_text().splitlines())) > LINES
    }
    assert long == {}


def test_a_file_is_named_for_what_it_knows() -> None:
    vague = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert [path for path in sources(*PACKAGES, "bench", "tests") if path.name in vague] == []


def test_test_folders_are_no_packages() -> None:
    """A tests/eval/__init__.py would hide the package `eval` from its own tests."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize("module", SETTINGS)
def test_settings_load_without_the_heavy_libraries(module: str) -> None:
    if not is_module(module):
        pytest.skip(f"{module} does not exist")
    script = (
        f"import sys, importlib; importlib.import_module({module!r});"
        f" print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.strip() == "[]"


def test_every_project_module_has_a_docstring() -> None:
    silent = [
        module_name(path) for path in sources(*PACKAGES) if ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert silent == []
