"""What tests of every room share: where published files lie, which tests this machine can run, checked shapes."""

import ast
import ctypes
import dataclasses
import importlib.machinery
import inspect
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from fusion.runtime.processes import processor_settings, thread_settings

ROOT = Path(__file__).parent.parent

# Set before any test imports torch: spinning thread pools slow a small machine down tenfold.  Nothing may download.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
for _name, _value in {**thread_settings(1), **processor_settings(), **_OFFLINE}.items():
    os.environ.setdefault(_name, _value)


_SHAPE = re.compile(r"\b(?:Shaped|Bool|Num|U?Int|Float|BFloat)\d*\[")


class CheckedShapes(MetaPathFinder):
    """Modules of the project with shapes in their annotations (jaxtyping) are imported with their functions checked.

    Only annotations that name a shape are checked, of functions, methods, properties and dataclasses' fields; compiled
    functions have none and stay as they are.  The modules name jaxtyping for type checkers alone, so nothing but the
    tests imports it.
    """

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if name.split(".")[0] not in ("fusion", "eval"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            return None
        tree = ast.parse(spec.loader.get_data(spec.loader.path))
        shaped = {name for name, annotations in _annotated(tree) if any(map(_SHAPE.search, annotations))}
        if not shaped:
            return None
        load = spec.loader.exec_module

        def load_and_check(module: ModuleType) -> None:
            load(module)
            known = {**vars(module), **_for_type_checkers(tree)}
            checked = {name for holder in _holders(module) for name in _check(holder, module.__name__, known)}
            assert shaped <= checked, f"{module.__name__}: no way to check the shapes of {sorted(shaped - checked)}"

        spec.loader.exec_module = load_and_check  # type: ignore[method-assign]
        return spec


def _annotated(tree: ast.AST, within: str = "") -> Iterator[tuple[str, list[str]]]:
    """Every function and class of a module by qualified name, with the annotations of its own."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield within + node.name, [ast.unparse(i.annotation) for i in node.body if isinstance(i, ast.AnnAssign)]
            yield from _annotated(node, f"{within}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            texts = [argument.annotation for argument in every] + [node.returns]
            yield within + node.name, [ast.unparse(text) for text in texts if text is not None]
            yield from _annotated(node, f"{within}{node.name}.<locals>.")


def _for_type_checkers(tree: ast.Module) -> dict[str, Any]:
    """What a module imports under `if TYPE_CHECKING`."""
    names: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            exec(compile(ast.Module(node.body, []), "<TYPE_CHECKING>", "exec"), names)
    return names


def _holders(module: ModuleType) -> list[Any]:
    return [module, *(i for i in vars(module).values() if inspect.isclass(i) and i.__module__ == module.__name__)]


def _check(holder: Any, module: str, known: dict[str, Any]) -> Iterator[str]:
    """Put checked functions in the place of those of a module or class whose annotations name shapes; their names."""
    for name, item in list(vars(holder).items()):
        field = "fget" if isinstance(item, property) else "func"  # a cached_property's
        function = item if inspect.isfunction(item) else getattr(item, field, None)
        if not inspect.isfunction(function) or function.__module__ != module:
            continue
        if not any(map(_SHAPE.search, map(str, function.__annotations__.values()))):
            continue
        checked = _checked(function, known)
        if item is function:
            setattr(holder, name, checked)
        elif isinstance(item, property):
            setattr(holder, name, property(checked, doc=item.__doc__))
        else:
            item.func = checked
        of_fields = name == "__init__" and dataclasses.is_dataclass(holder)
        yield str(holder.__name__) if of_fields else function.__qualname__


def _checked(function: Callable[..., Any], known: dict[str, Any]) -> Callable[..., Any]:
    from beartype import beartype
    from jaxtyping import jaxtyped

    function.__annotations__ = {
        name: eval(text, known) if _SHAPE.search(str(text)) else Any for name, text in function.__annotations__.items()
    }
    checked: Callable[..., Any] = jaxtyped(typechecker=beartype)(function)
    return checked


sys.meta_path.insert(0, CheckedShapes())


class AtTerminal:
    """A command that runs with a terminal of its own, for what people see and what their keys do."""

    def __init__(self, command: Sequence[str], cwd: Path) -> None:
        self.said = ""
        process, self._terminal = pty.fork()
        if process == 0:
            os.chdir(cwd)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # pytest may have been started with interrupts ignored
            os.execvp(command[0], list(command))
        self._process = psutil.Process(process)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_until(self, condition: Callable[[], bool], seconds: float = 400) -> None:
        """Wait for `condition`, which must come before the command ends."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._process.status() != psutil.STATUS_ZOMBIE, f"ended too soon:\n{self.said[-4000:]}"
            assert time.monotonic() < deadline, self.said[-4000:]
            time.sleep(0.01)

    def interrupt(self) -> tuple[int, float]:
        """Press Ctrl-C once: the exit status, and the seconds after which neither the command nor any process that it
        started is there."""
        began = time.monotonic()
        whole = [self._process, *self._process.children(recursive=True)]
        os.write(self._terminal, b"\x03")
        _, how = os.waitpid(self._process.pid, 0)
        _, alive = psutil.wait_procs(whole[1:], timeout=30)
        assert alive == []
        seconds = time.monotonic() - began
        self._reader.join(10)
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(how), seconds

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._process.kill()
        os.waitpid(self._process.pid, 0)
        os.close(self._terminal)

    def _read(self) -> None:
        while True:
            try:
                new = os.read(self._terminal, 65536)
            except OSError:  # all who wrote to it are gone
                return
            if not new:
                return
            self.said += new.decode(errors="replace")


@pytest.fixture
def at_terminal() -> type[AtTerminal]:
    """Starts a command with a terminal of its own."""
    return AtTerminal


_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE = 24, 1  # linux/prctl.h, linux/capability.h


def _bound_by_permissions() -> None:
    """In a child: even root may write only what its permissions let it; who is not root is bound already."""
    ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0)


@pytest.fixture
def reading_only() -> Callable[[Sequence[str], Path], subprocess.CompletedProcess[str]]:
    """`reading_only(command, folder)` runs a command that cannot write below the folder."""

    def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*")) if not path.is_symlink()}
        try:
            for path, mode in modes.items():
                path.chmod(mode & ~0o222)
            tried = subprocess.run(["touch", folder / "written"], preexec_fn=_bound_by_permissions, capture_output=True)
            assert tried.returncode != 0, "the folder can be written"
            return subprocess.run(
                command, cwd=ROOT, preexec_fn=_bound_by_permissions, capture_output=True, text=True, check=False
            )
        finally:
            for path, mode in modes.items():
                path.chmod(mode)

    return run


# What a scripted address does with a request: status, headers and body, or None to hang up.
Reaction = tuple[int, dict[str, str], bytes | dict[str, Any]] | None


@pytest.fixture
def loopback() -> Iterator[Callable[..., str]]:
    """`loopback(react)` opens an address and returns its root; `react(path, key, body)` answers each POST, and
    with `gets` each GET too, whose body is {}; else a GET is answered 501."""
    opened: list[ThreadingHTTPServer] = []

    def start(react: Callable[[str, str | None, dict[str, Any]], Reaction], *, gets: bool = False) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._react({}) if gets else self.send_error(501)

            def do_POST(self) -> None:
                self._react(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _react(self, body: dict[str, Any]) -> None:
                found = react(self.path, self.headers["Authorization"], body)
                if found is None:
                    self.connection.close()
                    return
                status, headers, payload = found
                data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        opened.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in opened:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of official benchmark files and tokenizers; the test is skipped where there is none."""
    named = os.environ.get("FUSECHAT_LAB_DATA")
    root = Path(named) if named else ROOT / "data"
    if not root.is_dir():
        pytest.skip(
            f"no published benchmark files in {root}: python -m eval.benchmark_data fetches them, or name their"
            " folder in FUSECHAT_LAB_DATA"
        )
    return root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where no NVIDIA GPU answers."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not _has_gpu():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU: nvidia-smi lists none here"))


def _has_gpu() -> bool:
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    return listed.startswith("GPU")
