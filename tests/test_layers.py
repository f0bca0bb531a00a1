"""The house stands as drawn: imports run downwards, settings load quickly, names and sizes stay in bounds."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# The rooms of each wing (the files and folders at its top) from the ground up.  A room imports rooms of lower lines
# only, whenever it does and even if for types alone; rooms on one line do not know each other.
ROOMS = {
    "fusion": (
        ("runtime",),
        (
            "conversations",
            "distribution",
            "checkpoint",
            "rounding",
        ),
        (
            "pocket",
            "represent",
        ),
        ("align",),
        ("fuse",),
        (
            "train",
            "merge",
        ),
        (
            "models",
            "tasks",
        ),
        ("experiment",),
        (
            "dialogues",
            "expected",
            "made",
        ),
        ("pipeline",),
        ("planned",),
        ("preflight",),
        ("__main__",),
    ),
    "eval": (
        (
            "errors",
            "files",
            "markdown",
            "spreadsheet",
        ),
        (
            "records",
            "scores",
            "serve",
        ),
        (
            "exchange",
            "scored",
            "agreement",
        ),
        ("likelihood",),
        ("benchmarks",),
        (
            "judges",
            "ensembles",
        ),
        (
            "config",
            "selfcheck",
        ),
        ("answer",),
        ("judging",),
        ("ensemble_rows",),
        (
            "pipeline",
            "report",
            "benchmark_data",
        ),
        ("preflight",),
        ("__main__",),
    ),
    "ablations": (
        ("cell_note",),
        (
            "tracking",
            "made_by",
            "looks",
            "precisions",
        ),
        ("cell",),
        (
            "sweep",
            "studies",
        ),
        (
            "report",
            "plan",
        ),
        (
            "rates",
            "watch",
            "model_card",
            "regression",
        ),
        (
            "new",
            "commands",
        ),
        ("__main__",),
    ),
}
WINGS = tuple(ROOMS)
GROUND = "fusion.runtime"  # what `eval` may use of `fusion`; a checkpoint directory is the handover
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
    "ablations.report.__main__",
)
LINES = 400


def sources(*folders: str, root: Path = ROOT) -> list[Path]:
    return [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]


def module_name(path: Path, root: Path = ROOT) -> str:
    parts = list(path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name: str, root: Path = ROOT) -> bool:
    place = root.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def imported(path: Path, root: Path = ROOT) -> Iterator[tuple[int, str]]:
    """Line and name of every module a file imports, early, late or for types alone; `from a import b` is a.b where that
    is a module.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            for member in members:
                yield node.lineno, member if is_module(member, root) else node.module


def crossings(folder: str, forbidden: tuple[str, ...], allowed: str = "") -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(folder)
        for line, name in imported(path)
        if name.split(".")[0] in forbidden and not (allowed and f"{name}.".startswith(f"{allowed}."))
    ]


def packages(wing: str, root: Path = ROOT) -> list[Path]:
    """The folders of a wing that hold modules, itself first."""
    return sorted({path.parent for path in sources(wing, root=root)})


def part_of(package: str, module: str) -> str | None:
    """The file or folder of a package in which a module lies, `__init__` for the package itself."""
    if module == package:
        return "__init__"
    return module[len(package) + 1 :].split(".")[0] if module.startswith(f"{package}.") else None


def circle(folder: Path, root: Path = ROOT) -> list[str]:
    """Files and folders of a package that import each other in a circle; none where there is no circle.

    A circle of modules is one of the parts of the innermost package that holds them all, so no package with a circle of
    parts means no circle of modules either.
    """
    package = module_name(folder / "__init__.py", root)
    uses: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        part = part_of(package, module_name(path, root))
        found = {part_of(package, name) for _, name in imported(path, root)}
        assert part is not None
        uses.setdefault(part, set()).update(other for other in found if other not in (part, None))
    try:
        graphlib.TopologicalSorter(uses).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("wing", WINGS)
def test_every_room_has_its_place(wing: str) -> None:
    there = {path.stem for path in (ROOT / wing).glob("*.py")} - {"__init__"}
    there |= {path.parent.name for path in (ROOT / wing).glob("*/*.py")}
    assert there == {room for line in ROOMS[wing] for room in line}, f"a room of {wing} is new or gone: mend ROOMS"


@pytest.mark.parametrize("wing", WINGS)
def test_no_import_runs_up_or_sideways(wing: str) -> None:
    height = {room: number for number, line in enumerate(ROOMS[wing]) for room in line}
    wrong = []
    for path in sources(wing):
        room = part_of(wing, module_name(path))
        for line, name in imported(path):
            other = part_of(wing, name)
            if other is not None and other != room and not (height.get(other, -1) < height.get(str(room), -1)):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert wrong == []


@pytest.mark.parametrize("wing", WINGS)
def test_nothing_imports_in_a_circle(wing: str) -> None:
    assert {str(folder.relative_to(ROOT)): found for folder in packages(wing) if (found := circle(folder))} == {}


def test_a_circle_is_found_between_folders_and_behind_late_imports(tmp_path: Path) -> None:
    files = {
        "wing/__init__.py": "",
        "wing/one/__init__.py": "",
        "wing/one/a.py": "def f():\n    from wing.two import b\n",
        "wing/two/__init__.py": "",
        "wing/two/b.py": "from wing.two.c import g\n",
        "wing/two/c.py": "from wing.two.d import h\n",
        "wing/two/d.py": "from wing.one import d\n",
        "wing/one/d.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert set(circle(tmp_path / "wing", tmp_path)) == {"one", "two"}
    assert circle(tmp_path / "wing/two", tmp_path) == []
    (tmp_path / "wing/two/d.py").write_text("def h():\n    from wing.two.b import f\n")
    assert circle(tmp_path / "wing", tmp_path) == []
    assert set(circle(tmp_path / "wing/two", tmp_path)) == {"b", "c", "d"}


def test_the_drawing_shows_every_room_on_its_line() -> None:
    """In docs/architecture.md, where two spaces part rooms and more begin a remark."""
    drawing = (ROOT / "docs/architecture.md").read_text().split("```")[1]
    upper, lower, _ground = re.split("^─.*$", drawing, flags=re.MULTILINE)
    columns = {
        "ablations": upper.splitlines(),
        "eval": [line.partition("│")[0] for line in lower.splitlines()],
        "fusion": [line.partition("│")[2] for line in lower.splitlines()],
    }
    for wing, lines in columns.items():
        rooms = [re.split(" {3,}", line.strip().removeprefix(wing).strip())[0].split() for line in lines]
        drawn = [set(line) for line in reversed(rooms) if line]
        assert drawn == [set(line) for line in ROOMS[wing] if not {*line} <= {"runtime", "__main__"}]


def test_fusion_knows_neither_eval_nor_ablations() -> None:
    assert crossings("fusion", ("eval", "ablations", "bench")) == []


def test_eval_knows_no_study_and_of_fusion_only_the_ground_floor() -> None:
    assert crossings("eval", ("ablations", "bench")) == []
    assert crossings("eval", ("fusion",), GROUND) == []


def test_the_ground_floor_stands_on_nothing_of_ours() -> None:
    assert crossings(GROUND.replace(".", "/"), (*WINGS, "bench"), GROUND) == []


def test_nothing_binds_the_builtin_eval() -> None:
    """`import eval` and `import eval.judges` bind the name `eval`; `from eval.judges import JUDGES` does not."""
    bound = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources(*WINGS, "bench", "tests")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.split(".")[0] == "eval" and (alias.asname or "eval") == "eval"
    ]
    assert bound == []


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in sources(*WINGS, "bench", "tests")
        if (count := len(path.read_text().splitlines())) > LINES
    }
    assert long == {}


def test_a_file_is_named_for_what_it_knows() -> None:
    vague = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert [path for path in sources(*WINGS, "bench", "tests") if path.name in vague] == []


def test_test_folders_are_no_packages() -> None:
    """A tests/eval/__init__.py would hide the package `eval` from its own tests."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_settings_load_without_the_heavy_libraries() -> None:
    """One process imports them in turn: what all of them together do not bring, none brings alone."""
    script = f"""
import importlib, sys
for module in {SETTINGS!r}:
    importlib.import_module(module)
    brought = [name for name in {HEAVY!r} if name in sys.modules]
    assert not brought, f"{{module}} imports {{brought}}"
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_every_project_module_has_a_docstring() -> None:
    silent = [module_name(path) for path in sources(*WINGS) if ast.get_docstring(ast.parse(path.read_text())) is None]
    assert silent == []


@pytest.mark.parametrize("folder", [f for wing in WINGS for f in packages(wing)], ids=module_name)
def test_a_package_says_at_its_door_what_it_holds(folder: Path) -> None:
    """Its `__init__` names every file and folder, in the docstring or by an import, and none that is not there."""
    door = (folder / "__init__.py").read_text()
    there = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/*.py")}
    unnamed = [name for name in there if not name.startswith("__") and not re.search(rf"\b{name}\b", door)]
    assert unnamed == []
    listed = [line for line in (ast.get_docstring(ast.parse(door)) or "").splitlines() if line.startswith("    ")]
    named = [name for line in listed for name in re.findall(r"(?<![\w/<.])(\w+(?:\.py|/))(?=[\s,])", line)]
    assert [name for name in named if not (folder / name).exists()] == []


@pytest.mark.parametrize("wing", WINGS)
def test_the_door_of_a_wing_tells_its_rooms_from_the_ground_up(wing: str) -> None:
    text = ast.get_docstring(ast.parse((ROOT / wing / "__init__.py").read_text())) or ""
    told = re.findall(r"^    (\w+)(?:\.py|/) ", text, re.MULTILINE)
    height = {room: number for number, line in enumerate(ROOMS[wing]) for room in line}
    assert set(told) == set(height) - {"__main__"}
    assert told == sorted(told, key=lambda room: height[room])
