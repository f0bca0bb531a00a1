"""A name means one thing: no public class or type alias is defined in two modules."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("fusion", "eval", "ablations", "bench", "hydra_plugins")


def types_of(source: str) -> Iterator[str]:
    """Names of the classes and type aliases at the top of a module, private ones left out.

    An alias is a CapWords name; a constant has no lower-case letter.
    """
    for node in ast.parse(source).body:
        names = []
        if isinstance(node, ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        yield from (name for name in names if name[0].isupper() and any(map(str.islower, name)))


def test_classes_and_aliases_are_seen_and_constants_are_not() -> None:
    source = (
        "class Pair: ...\nclass _Own: ...\nRow = dict[str, int]\nLIMIT = 3\nplain = 4\nif True:\n    class Deep: ..."
    )
    assert list(types_of(source)) == ["Pair", "Row"]


def test_no_public_type_is_defined_twice() -> None:
    places = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for name in types_of(path.read_text()):
                places[name].append(str(path.relative_to(ROOT)))
    assert len(places) > 100  # the tree was read
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
