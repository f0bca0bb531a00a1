"""What changes a code digest and what does not, on a small project of its own in a child process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fusion.runtime.fingerprint import code_digest, module_digests

ROOT = Path(__file__).parents[3]
DIGEST = "import sys; from fusion.runtime.fingerprint import code_digest; print(code_digest(tuple(sys.argv[1:])))"

# A stage that calls two functions of another module, through a constant, a class and a module object.
STAGE = '''
"""A stage."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusion import shapes
from fusion.numbers import SCALE, half as smaller


@dataclass(frozen=True)
class Settings:
    """How."""

    width: int = 3


def build(values: list[float], settings: Settings) -> float:
    """Work."""
    from fusion.late import later

    total: float = float(np.mean(values))  # why
    return later(smaller(total) * SCALE + shapes.area(settings.width))
'''
NUMBERS = '''
"""Numbers."""
SCALE = 2
UNUSED = 5


def half(x: float) -> float:
    """Half of it."""
    return x / 2


def third(x: float) -> float:
    return x / 3
'''
SHAPES = (
    "def area(x):\n    return _square(x)\n\n\ndef _square(x):\n    return x * x\n\n\ndef unused(x):\n    return x\n"
)
LATE = "def later(x):\n    return x + 1\n"


class Project:
    """A copy of the ground floor with a few modules beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "fusion").mkdir()
        shutil.copytree(ROOT / "fusion/runtime", root / "fusion/runtime")
        self.write(__init__="", stage=STAGE, numbers=NUMBERS, shapes=SHAPES, late=LATE)

    def write(self, **modules: str) -> None:
        for name, text in modules.items():
            (self.root / "fusion" / f"{name}.py").write_text(text)

    def digest(self, *entries: str) -> str:
        command = [sys.executable, "-c", DIGEST, *(entries or ("fusion.stage",))]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("stage", '"""Work."""', '"""Other words."""'),
        ("stage", '    """How."""\n\n', ""),
        ("stage", "  # why", ""),
        (
            "stage",
            "from fusion.numbers import SCALE, half as smaller",
            "from fusion.numbers import half as smaller, SCALE",
        ),
        ("stage", "import numpy as np", "import json\n\nimport numpy as np"),
        ("stage", "values: list[float], settings", "values: tuple[float, ...], settings"),
        ("stage", "total: float = ", "total: object = "),
        ("numbers", "UNUSED = 5", "UNUSED = 6"),
        ("numbers", "return x / 3", "return x / 4"),
        ("shapes", "def unused(x):\n    return x\n", ""),
    ],
)
def test_words_imports_annotations_and_what_is_not_used_leave_a_digest_as_it_was(project, module, old, new):
    before = project.digest()
    text = {"stage": STAGE, "numbers": NUMBERS, "shapes": SHAPES}[module]
    assert old in text
    project.write(**{module: text.replace(old, new)})
    assert project.digest() == before


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("stage", "* SCALE +", "* SCALE -"),
        ("stage", "width: int = 3", "width: int = 4"),
        ("stage", "width: int = 3", "width: float = 3"),
        ("stage", "half as smaller", "third as smaller"),
        ("stage", "import numpy as np", "import statistics as np"),
        ("stage", "shapes.area(", "shapes.unused("),
        ("numbers", "SCALE = 2", "SCALE = 3"),
        ("numbers", "return x / 2", "return x // 2"),
        ("shapes", "x * x", "x + x"),
        ("late", "x + 1", "x + 2"),
    ],
)
def test_an_operator_a_default_or_another_function_under_the_same_name_changes_it(project, module, old, new):
    before = project.digest()
    text = {"stage": STAGE, "numbers": NUMBERS, "shapes": SHAPES, "late": LATE}[module]
    assert old in text
    project.write(**{module: text.replace(old, new)})
    assert project.digest() != before


def test_a_module_or_a_definition_that_moves_leaves_every_digest_as_it_was(project):
    before = project.digest()
    # numbers.py becomes rooms/figures.py, and `half` goes to a file of its own.
    rooms = project.root / "fusion/rooms"
    rooms.mkdir()
    half = NUMBERS[NUMBERS.index("def half") : NUMBERS.index("def third")]
    (rooms / "__init__.py").write_text('"""What it holds."""\n')
    (rooms / "figures.py").write_text(NUMBERS.replace(half, "") + "\n\nfrom fusion.rooms.halves import half\n")
    (rooms / "halves.py").write_text(half)
    (project.root / "fusion/numbers.py").unlink()
    (project.root / "fusion/shapes.py").rename(rooms / "shapes.py")
    moved = STAGE.replace("from fusion import shapes", "from fusion.rooms import shapes")
    project.write(stage=moved.replace("fusion.numbers", "fusion.rooms.figures"))
    assert project.digest() == before
    (project.root / "fusion/stage.py").rename(rooms / "stage.py")
    assert project.digest("fusion.rooms.stage") == before


def test_two_functions_that_change_names_are_another_digest(project):
    """The bodies and the set of functions used stay: only what the names stand for is another."""
    both = "from fusion.numbers import half as a, third as b\n\n\ndef build(x):\n    return a(x) - b(x)\n"
    project.write(stage=both)
    before = project.digest()
    project.write(stage=both.replace("half as a, third as b", "third as a, half as b"))
    assert project.digest() != before


def test_a_module_handed_on_as_an_object_counts_whole(project):
    project.write(stage="from fusion import shapes\n\n\ndef build(use):\n    return use(shapes)\n")
    before = project.digest()
    project.write(shapes=SHAPES.replace("def unused(x):\n    return x", "def unused(x):\n    return -x"))
    assert project.digest() != before


def test_what_runs_at_import_counts_as_soon_as_anything_of_the_module_does(project):
    before = project.digest()
    project.write(numbers=NUMBERS + "\n\nfor name in ():\n    print(name)\n")
    assert project.digest() != before


def test_an_argument_s_class_counts_though_its_annotation_does_not(project):
    project.write(stage="from fusion.kinds import Kind\n\n\ndef build(kind: Kind) -> float:\n    return kind.size()\n")
    kind = "class Kind:\n    def size(self):\n        return 1\n"
    project.write(kinds=kind)
    before = project.digest()
    project.write(kinds=kind.replace("return 1", "return 2"))
    assert project.digest() != before


def test_one_definition_can_be_named(project):
    before = project.digest("fusion.numbers:half")
    project.write(numbers=NUMBERS.replace("x / 3", "x / 4"))
    assert project.digest("fusion.numbers:half") == before
    project.write(numbers=NUMBERS.replace("x / 2", "x / 4"))
    assert project.digest("fusion.numbers:half") != before
    with pytest.raises(LookupError, match="defines no 'nothing'"):
        code_digest(("fusion.runtime.configure:nothing",))
    with pytest.raises(ModuleNotFoundError):
        code_digest(("fusion.not_there",))


def test_the_name_of_one_of_our_modules_may_change_with_the_module(project):
    """Engines and judges name where their code begins; that code is in a key by itself."""
    named = 'MODULES = ("fusion.numbers",)\n\n\ndef build():\n    return MODULES\n'
    project.write(stage=named)
    before = project.digest()
    project.write(stage=named.replace("fusion.numbers", "fusion.shapes"))
    assert project.digest() == before
    project.write(stage=named.replace("fusion.numbers", "fusion.not_there"))
    assert project.digest() != before


def test_a_stage_s_code_is_what_decides_its_bytes_and_nothing_that_keeps_or_shows_it():
    train = module_digests(("fusion.train.run",))
    assert {
        "fusion.train.trainer",
        "fusion.train.batching",
        "fusion.train.config",
        "fusion.conversations.template",
    } <= train.keys()
    assert (
        not {
            "fusion.runtime.artifacts",
            "fusion.runtime.progress",
            "fusion.runtime.command",
            "fusion.runtime.configure",
        }
        & train.keys()
    )
    # The rule's own file is named by the stage; what all rules share is found, the table of all rules is not read.
    merged = module_digests(("fusion.merge.checkpoints.checkpoint_stream", "fusion.merge.rules.sce"))
    assert "fusion.merge.task_vector" in merged
    assert "fusion.merge.rules.dare" not in merged
