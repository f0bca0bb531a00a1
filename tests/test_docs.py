"""Names in the pages are names in the tree: a page that falls behind fails here."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
METHOD = (ROOT / "docs/method.md").read_text()


@cache
def names_in(path: Path) -> frozenset[str]:
    """What a module defines or imports at its top, and `Class.member` for its classes."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name, body=body):
                found.add(name)
                for member in body:
                    if isinstance(member, ast.FunctionDef):
                        found.add(f"{name}.{member.name}")
                    elif isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
                        found.add(f"{name}.{member.target.id}")
            case ast.Assign(targets=targets):
                found.update(target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found.update(alias.asname or alias.name for alias in names)
    return frozenset(found)


def resolves(dotted: str) -> bool:
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        place, rest = ROOT.joinpath(*parts[:length]), ".".join(parts[length:])
        for module in (place.with_suffix(".py"), place / "__init__.py"):
            if module.exists():
                return not rest or rest in names_in(module)
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_dotted_name_is_one_of_ours(page: Path) -> None:
    named = re.findall(r"`((?:fusion|eval|ablations|bench)(?:\.\w+)+)`", page.read_text())
    assert [name for name in named if not resolves(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_and_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
        assert (ROOT / path).exists(), path
        assert name in names_in(ROOT / path), f"{path}::{name}"
    to_write = re.findall(r"^<!-- file: (\S+) -->$", text, re.MULTILINE)  # by the reader
    for path in re.findall(r"`((?:fusion|eval|ablations|bench|conf|requirements|tests)/[\w/.]+)`", text):
        assert path in to_write or (ROOT / path).exists(), path


def test_every_step_of_the_method_names_a_function_and_a_test() -> None:
    rows = [line.split(" | ") for line in METHOD.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) > 20
    for row in rows:
        assert "`fusion." in row[1] or "`eval." in row[1], row[0]
        assert "`tests/" in row[2], row[0]


@cache
def used_by_the_product() -> frozenset[str]:
    """Every name that the packages' code reads, calls or is given in a string, other than where it is defined."""
    found: set[str] = set()
    for folder in ("fusion", "eval", "ablations", "hydra_plugins"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Name(id=name, ctx=ast.Load()) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                        found.add(name)
                    case ast.Constant(value=str(text)) if re.fullmatch(r"[\w.]+", text):
                        found.add(text.split(".")[-1])
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_cites_is_run_by_the_product(page: Path) -> None:
    """A function that only its tests call vouches for nothing; a module is reached by what it holds."""
    named = re.findall(r"`((?:fusion|eval|ablations)(?:\.\w+)+)`", page.read_text())
    functions = {name for name in named if not is_module(name)}
    assert {name for name in functions if name.split(".")[-1] not in used_by_the_product()} == set()


def is_module(dotted: str) -> bool:
    place = ROOT.joinpath(*dotted.split("."))
    return place.with_suffix(".py").exists() or place.is_dir()
