"""Runs one command and ends it, with all it started, when asked to or when our own parent dies.

    python guardian.py PARENT_PID COMMAND...

vLLM loses a SIGTERM that arrives while it starts, so the signal that Linux sends when a parent dies is not enough.
This process leads the group, watches the parent, repeats the polite request, and then ends the group by force.  It
imports the standard library only and is started by its path.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence


def main(parent: int, command: Sequence[str]) -> int:
    """The command's own exit status when it ends by itself; otherwise the whole group is killed, this process too."""
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
    server = subprocess.Popen(list(command))
    while server.poll() is None and os.getppid() == parent and not asked.wait(0.25):
        pass
    if server.returncode is not None:
        return server.returncode
    for _ in range(3):
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=2.0)
            break
    os.killpg(0, signal.SIGKILL)
    return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
