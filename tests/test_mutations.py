"""The list of small faults stays true to the code, and the command that tries them tells caught from survived."""

import ast
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bench.mutations import ROOT, Mutation, listed, survivors
from fusion.runtime.configure import Refusal

MUTATIONS = listed()


def test_no_two_mutations_share_an_id():
    ids = [mutation.id for mutation in MUTATIONS]
    assert len(set(ids)) == len(ids) > 0


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.id)
def test_a_mutation_changes_one_place_and_names_tests_that_are_there_and_fast(mutation):
    text = (ROOT / mutation.file).read_text()
    mutated = mutation.mutated(text)
    assert mutated != text
    compile(mutated, mutation.file, "exec")
    assert mutation.tests
    for test in mutation.tests:
        file, _, name = test.partition("::")
        module = ast.parse((ROOT / file).read_text())
        (function,) = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == name]
        marks = [node for node in module.body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)]
        assert not any("mark.slow" in ast.unparse(node) for node in (*function.decorator_list, *marks))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one function, and a test that looks at its sign and not at its size."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # importing them would take most of the time
    (tmp_path / "sign.py").write_text("def opposite(x):\n    return -x\n")
    (tmp_path / "test_sign.py").write_text(
        "from sign import opposite\n\n\ndef test_sign():\n    assert opposite(3) < 0\n"
    )
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


PLUS = Mutation(id="plus", file="sign.py", old="-x", new="+x", tests=("test_sign.py::test_sign",))


def test_what_a_test_notices_is_caught_and_what_none_notices_survives(project, capsys):
    double = replace(PLUS, id="double", new="-2 * x")
    before = {path: path.read_bytes() for path in project.glob("*.py")}
    assert survivors([PLUS, double], project) == ["double"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["caught", "plus"], ["SURVIVED", "double"]]
    assert {path: path.read_bytes() for path in project.glob("*.py")} == before


def test_a_mutation_that_cannot_be_tried_is_refused(project):
    with pytest.raises(Refusal, match=r"mutation 'plus': its old text stands in sign\.py 0 times"):
        survivors([replace(PLUS, old="-y")], project)
    with pytest.raises(Refusal, match="pytest cannot run test_sign.py::test_size"):
        survivors([replace(PLUS, tests=("test_sign.py::test_size",))], project)
    (project / "sign.py").write_text("def opposite(x):\n    return x + -x\n")
    with pytest.raises(Refusal, match=r"the tests fail in a copy of .* without a mutation"):
        survivors([PLUS], project)
