"""A digest of the code that decides a stage's bytes, which tidying leaves as it is and arithmetic does not.

    code_digest(("fusion.train.run", "fusion.runtime.processes:thread_settings"))

Code is followed definition by definition: from the modules (or `module:name`) given to the functions, classes and
constants they use, in whatever project module these are written.  Of each definition its syntax tree counts, without
docstrings, comments, import lines and the annotations of functions, together with what its names stand for: a library's
function by its dotted name, the project's own by their trees.  So a file or a definition that moves, a docstring, an
import that is spelt otherwise or is not used leave the digest as it was; an operator, a default, a constant, a field,
or another function imported under the same name change it.

What cannot be followed is taken whole: a module that is handed on as an object counts with all its definitions, and the
statements that a module runs when it is imported count as soon as anything of it does.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.machinery
import importlib.util
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT_PACKAGES = ("fusion", "eval", "ablations")
# They keep, start and show things; no number in a data file depends on them.
WITHOUT_ARITHMETIC = frozenset(
    {
        "fusion.runtime.artifacts",
        "fusion.runtime.configure",
        "fusion.runtime.command",
        "fusion.runtime.places",
        "fusion.runtime.progress",
        "fusion.runtime.fingerprint",
        "fusion.runtime.digests",
        "fusion.runtime.versions",
        "eval.judges.forms",  # a table: what it names is in a key by itself, so that one more changes none
    }
)
_EVERYTHING = "*"
_AT_IMPORT = "(at import)"
_IMPORTS = (ast.Import, ast.ImportFrom)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_DOCUMENTED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_BLOCKS = (ast.If, ast.Try, ast.With, ast.For, ast.While)
# Python 3.11 counts the parser's recursion for all threads together and gives up when two parse at once.
_PARSING = threading.RLock()


@dataclass(frozen=True)
class _Place:
    """A definition of the project: `name` in `module`; `*` is the whole module."""

    module: str
    name: str


@dataclass(frozen=True)
class _Import:
    """What an import binds a name to: `attribute` of `module`, or the module itself where there is none."""

    module: str
    attribute: str | None


@dataclass(frozen=True)
class _Statement:
    """A top-level statement: its bare `code`, what imports within it bind, and its functions' annotations."""

    code: ast.AST
    imports: Mapping[str, _Import]
    annotations: Sequence[ast.expr]


@dataclass(frozen=True)
class _Module:
    """A module's top level: by name the statements that bind it, and what its imports bind."""

    definitions: Mapping[str, Sequence[_Statement]]
    imports: Mapping[str, _Import]


@functools.cache
def code_digest(entries: tuple[str, ...]) -> str:
    """A digest of everything that `entries` (`module` or `module:name`) reach.

    Raises ModuleNotFoundError for a module that is not there, LookupError for a name it does not define.
    """
    with _PARSING:
        digest = hashlib.sha256()
        for one in sorted({_digest(place) for place in _reached(entries)}):
            digest.update(one)
    return digest.hexdigest()[:20]


@functools.cache
def module_digests(entries: tuple[str, ...]) -> Mapping[str, str]:
    """By module, a digest of those of its definitions that `entries` reach: what changed when `code_digest` did."""
    with _PARSING:
        found: dict[str, list[bytes]] = {}
        for place in _reached(entries):
            found.setdefault(place.module, []).append(_digest(place))
        return {name: hashlib.sha256(b"".join(sorted(found[name]))).hexdigest()[:12] for name in sorted(found)}


def _reached(entries: Sequence[str]) -> set[_Place]:
    seen: set[_Place] = set()
    waiting = [_entry(spelt) for spelt in entries]
    while waiting:
        place = waiting.pop()
        if place in seen or place.module in WITHOUT_ARITHMETIC:
            continue
        if place.name == _EVERYTHING:
            waiting += [_Place(place.module, name) for name in _module(place.module).definitions]
            continue
        seen.add(place)
        if _AT_IMPORT in _module(place.module).definitions:
            waiting.append(_Place(place.module, _AT_IMPORT))
        waiting += [target for target in _uses(place).values() if isinstance(target, _Place)]
        waiting += _annotated(place)
    return seen


def _entry(spelt: str) -> _Place:
    module, _, name = spelt.partition(":")
    if name and name not in _module(module).definitions:
        raise LookupError(f"{module} defines no {name!r}")
    _module(module)
    return _Place(module, name or _EVERYTHING)


@functools.cache
def _digest(place: _Place) -> bytes:
    digest = hashlib.sha256(_tree(place))
    for name, target in sorted(_uses(place).items()):
        meaning = _own(target) if isinstance(target, _Place) else target.encode()
        digest.update(f"{name}=".encode() + meaning)
    return digest.digest()


def _own(place: _Place) -> bytes:
    """What a definition is, whatever it uses; names that stand for it may be bound anew without a change."""
    if place.module in WITHOUT_ARITHMETIC:
        return place.name.encode()
    if place.name == _EVERYTHING:
        return b"".join(sorted(_tree(_Place(place.module, name)) for name in _module(place.module).definitions))
    return _tree(place)


@functools.cache
def _tree(place: _Place) -> bytes:
    written = [ast.dump(part.code) for part in _module(place.module).definitions[place.name]]
    return hashlib.sha256("\n".join(written).encode()).digest()


@functools.cache
def _uses(place: _Place) -> Mapping[str, _Place | str]:
    """What the names in a definition stand for: places of the project, or the dotted names of libraries.

    A local variable of a global's name counts as the global: too much is followed, never too little.
    """
    found: dict[str, _Place | str] = {}
    for part in _module(place.module).definitions[place.name]:
        found |= _meanings(part.code, part, place)
    return found


@functools.cache
def _annotated(place: _Place) -> frozenset[_Place]:
    """The project's classes in the annotations of a definition's functions: what such an argument can be asked."""
    found: set[_Place] = set()
    for part in _module(place.module).definitions[place.name]:
        for annotation in part.annotations:
            found |= {one for one in _meanings(annotation, part, place).values() if isinstance(one, _Place)}
    return frozenset(found)


def _meanings(code: ast.AST, part: _Statement, place: _Place) -> dict[str, _Place | str]:
    module = _module(place.module)
    chains = {id(node.value): node for node in ast.walk(code) if isinstance(node, ast.Attribute)}
    found: dict[str, _Place | str] = {}
    for node in ast.walk(code):
        if not isinstance(node, ast.Name):
            continue
        bound = part.imports.get(node.id) or module.imports.get(node.id)
        if bound is None:
            if node.id in module.definitions and node.id != place.name:
                found[node.id] = _Place(place.module, node.id)
            continue
        spelt, target = node.id, _resolved(bound)
        outer = chains.get(id(node))
        while isinstance(target, _Place) and target.name == _EVERYTHING and outer is not None:
            spelt, target = f"{spelt}.{outer.attr}", _member(target.module, outer.attr)
            outer = chains.get(id(outer))
        found[spelt] = target
    return found


def _resolved(bound: _Import) -> _Place | str:
    if not in_project(bound.module):
        return ".".join(filter(None, (bound.module, bound.attribute)))
    if bound.attribute is None:
        return _Place(bound.module, _EVERYTHING)
    return _member(bound.module, bound.attribute)


def _member(module: str, name: str) -> _Place | str:
    """What `name` is in a module of the project: its own, handed on from another, a module within, or made somehow."""
    known = _module(module)
    if name in known.definitions:
        return _Place(module, name)
    if name in known.imports:
        return _resolved(known.imports[name])
    if _path_of(f"{module}.{name}"):
        return _Place(f"{module}.{name}", _EVERYTHING)
    return _Place(module, _EVERYTHING)


@functools.cache
def _module(name: str) -> _Module:
    path = _path_of(name)
    if path is None:
        raise ModuleNotFoundError(f"no module named {name!r} in this project")
    tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
    imports = _imports_in(_top_level(tree.body))
    definitions: dict[str, list[_Statement]] = {}
    for place, statement in enumerate(tree.body):
        names = _bound(statement, first=place == 0)
        if names:
            own = _imports_in(ast.walk(statement))
            bare = _Bare()
            part = _Statement(bare.visit(statement) or ast.Pass(), own, bare.annotations)
            for bound in names:
                definitions.setdefault(bound, []).append(part)
    return _Module(definitions, imports)


class _Bare(ast.NodeTransformer):
    """Takes off what leaves arithmetic alone: docstrings, import lines, the annotations of and within functions, and
    the names of our own modules, whose code is in a key by itself where a stage names them."""

    def __init__(self) -> None:
        self.annotations: list[ast.expr] = []
        self._inside_function = 0

    def visit(self, node: ast.AST) -> ast.AST | None:
        if isinstance(node, _IMPORTS):
            return None
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _names_a_module(node.value):
            return ast.Constant("(a module)")
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self._take(node.returns)
            node.returns = None
        if isinstance(node, ast.arg):
            self._take(node.annotation)
            node.annotation = None
        if isinstance(node, ast.AnnAssign) and self._inside_function:
            self._take(node.annotation)
            node.annotation = ast.Constant(None)
        function = isinstance(node, _FUNCTIONS)
        self._inside_function += function
        self.generic_visit(node)
        self._inside_function -= function
        return node

    def _take(self, annotation: ast.expr | None) -> None:
        if annotation is not None:
            self.annotations.append(annotation)


def _bound(statement: ast.stmt, *, first: bool) -> list[str]:
    """The names under which a top-level statement counts."""
    if isinstance(statement, _IMPORTS) or _never_runs(statement):
        return []
    if isinstance(statement, _DOCUMENTED):
        return [statement.name]
    if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
        return names or [_AT_IMPORT]
    if first and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return []
    stored = [n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    inner = [node.name for node in ast.walk(statement) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    return [*dict.fromkeys([*stored, *inner]), _AT_IMPORT]


def _never_runs(statement: ast.stmt) -> bool:
    """Whether it is for type checkers only, or for the module as a program."""
    if not isinstance(statement, ast.If):
        return False
    test = ast.unparse(statement.test)
    return test.endswith("TYPE_CHECKING") or test.startswith("__name__ ==")


def _top_level(body: Sequence[ast.stmt]) -> Iterator[ast.AST]:
    """Statements that may bind names of the module, those in branches included."""
    for statement in body:
        yield statement
        if isinstance(statement, _BLOCKS):
            yield from (node for node in ast.walk(statement) if isinstance(node, _IMPORTS))


def _imports_in(nodes: Iterator[ast.AST]) -> dict[str, _Import]:
    found = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.split(".")[0]
                found[alias.asname or whole] = _Import(whole, None)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                found[alias.asname or alias.name] = _Import(str(node.module), alias.name)
    return found


def _names_a_module(text: str) -> bool:
    """Whether a string is a module of ours (or `module:name`), which stages name to have its code in their key."""
    module = text.partition(":")[0]
    return (
        in_project(module)
        and "." in module
        and all(map(str.isidentifier, module.split(".")))
        and bool(_path_of(module))
    )


def in_project(name: str) -> bool:
    """Whether a module is one of ours."""
    return name.split(".")[0] in PROJECT_PACKAGES


@functools.cache
def _path_of(name: str) -> Path | None:
    """Where a module's source lies, or its folder; found without importing the packages around it."""
    parts = name.split(".")
    folders: Sequence[str] | None = None
    path = None
    for count in range(1, len(parts) + 1):
        # The first by all finders, since an editable installation has one of its own; that imports nothing either.
        name_so_far = ".".join(parts[:count])
        find = importlib.util.find_spec if count == 1 else importlib.machinery.PathFinder.find_spec
        spec = find(name_so_far, folders)  # type: ignore[arg-type]
        if spec is None:
            return None
        folders = list(spec.submodule_search_locations or ())
        path = Path(spec.origin or folders[0])  # a folder without __init__.py has no source of its own
    return path
