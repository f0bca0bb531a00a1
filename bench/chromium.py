"""A page in headless Chromium, over its DevTools protocol: what it says, how long it took to open, how it looks.

    with browser() as page:
        seconds = page.open(path.as_uri(), "document.querySelectorAll('article').length")
        assert page.complaints == []

Chromium is the machine's own (`find()`), never installed by the project.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusion.runtime.processes import child, last_lines

_LEFT = -32000  # the protocol's code for a page that went away, among others
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """The browser's path; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class LeftPage(RuntimeError):
    """The page was left, by a link, while it was asked."""


class Page:
    """One open tab.  `complaints` are errors, failed requests and uncaught exceptions, as the console shows them."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._number = 0
        self.complaints: list[str] = []

    def open(self, address: str, ready: str) -> float:
        """Go to `address`; the seconds until the script `ready` first gives true and the page has been painted."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        started = time.perf_counter()
        self.call("Page.navigate", url=address)
        self.wait_for(ready)
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        return time.perf_counter() - started

    def evaluate(self, script: str) -> Any:
        """What a JavaScript expression gives (a promise is awaited).  Raises RuntimeError for an exception in it."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait_for(self, script: str, *, seconds: float = 30.0) -> None:
        """Until the expression is true.  Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(LeftPage):
                if self.evaluate(f"Boolean({script})"):
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(f"not true after {seconds:g} s: {script}")
            time.sleep(0.01)

    def screenshot(self, path: Path, *, width: int, height: int) -> None:
        """What is on screen at that size, as PNG."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """One request of the protocol and its result; what the page reports meanwhile is kept.  Raises RuntimeError."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == self._number:
                if "error" in message:
                    raise (LeftPage if message["error"].get("code") == _LEFT else RuntimeError)(
                        f"{method}: {message['error']}"
                    )
                result: dict[str, Any] = message["result"]
                return result
            self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        told = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(str(told["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(told["args"]))
            case "Log.entryAdded" if told["entry"]["level"] in ("error", "warning"):
                self.complaints.append(str(told["entry"]))
            case "Network.loadingFailed":
                self.complaints.append(f"request failed: {told.get('errorText')}")


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """An empty tab of a fresh browser that keeps nothing and ends with the block.  Raises RuntimeError without one."""
    from websockets.sync.client import connect

    program = find()
    if program is None:
        raise RuntimeError(f"there is no browser: none of {', '.join(NAMES)} is on the path")
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as folder:
        log, profile = Path(folder) / "log", Path(folder) / "profile"
        command = [
            program,
            "--headless=new",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            "--no-first-run",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--window-size=1400,900",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # as root its sandbox refuses to start
            "about:blank",
        ]
        with child(command, log=log, environment={"HOME": folder}):
            tab = _tab(profile / "DevToolsActivePort", log)
            with connect(tab, max_size=None, open_timeout=30) as socket:
                yield Page(socket)


def _tab(port_file: Path, log: Path) -> str:
    """The address of the first tab's socket, once the browser has written its port."""
    import httpx

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, httpx.HTTPError):
            port = int(port_file.read_text().splitlines()[0])
            listed = httpx.get(f"http://127.0.0.1:{port}/json/list", timeout=5, trust_env=False).json()
            tabs = [entry for entry in listed if entry["type"] == "page"]
            if tabs:
                return str(tabs[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise RuntimeError(f"the browser did not start:\n{last_lines(log)}")
