"""What would stop a run, looked for before anything is computed: all of it in one numbered list.

Every wing adds what it knows (`fusion.preflight`, `eval.preflight`, `ablations.plan.preflight`); here are the list, and
what is asked of the machine alone: its disks and its memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fusion.runtime.configure import Refusal

# When judges and the hub are asked, over the network: before every run, before a plan too, or not before either.
WhenAsked = Literal["runs", "always", "never"]


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """How a run is looked over before it starts: the setting `preflight`."""

    ask: WhenAsked = "runs"

    def online(self, *, planning: bool) -> bool:
        """Whether the network is used, before a run or for a plan of it."""
        return self.ask == "always" or (self.ask == "runs" and not planning)


def refuse(problems: Iterable[str]) -> None:
    """Raises Refusal with all problems in a numbered list, each once, one alone as it is; nothing where there is none.

    A problem is what a Refusal would say: what was given, what was expected, the way out.
    """
    found = list(dict.fromkeys(problems))
    if len(found) == 1:
        raise Refusal(found[0])
    if found:
        lines = [f"  {number}. {text}" for number, text in enumerate(found, start=1)]
        raise Refusal("\n".join([f"{len(found)} problems would stop this run, and nothing was computed:", *lines]))


def refusals(check: Callable[[], object]) -> list[str]:
    """The problem that `check` refuses with; none where it does not."""
    try:
        check()
    except Refusal as refusal:
        return [str(refusal)]
    return []


def disk_problems(
    wanted: Mapping[Path, float], free: Callable[[Path], float] = lambda path: shutil.disk_usage(path).free
) -> list[str]:
    """Where fewer bytes are `free` than are `wanted` below a directory; those on one file system are added up.

    A directory that is not there yet is on the file system of the nearest one above it that is.
    """
    by_device: dict[int, tuple[Path, float]] = {}
    for directory, needed in wanted.items():
        there = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
        first, sum_so_far = by_device.setdefault(there.stat().st_dev, (there, 0.0))
        by_device[there.stat().st_dev] = (first, sum_so_far + needed)
    return [
        f"about {_size(needed)} would be written to the disk of {there}, where {_size(free(there))} are free: free"
        " some, or set paths.artifacts to a larger disk"
        for there, needed in by_device.values()
        if needed > free(there)
    ]


def memory_problems(needed: Mapping[str, float], held: float) -> list[str]:
    """By what it is for, work that needs more bytes of memory than this machine `held`s, the largest alone."""
    if not needed:
        return []
    what = max(needed, key=lambda name: needed[name])
    if needed[what] <= held:
        return []
    return [
        f"{what} needs at least {_size(needed[what])} of memory and this machine has {_size(held)}, its GPUs included:"
        " choose a smaller model, or a larger machine"
    ]


def _size(amount: float) -> str:
    return f"{amount / 1e9:.3g} GB" if amount >= 1e8 else f"{amount / 1e6:.3g} MB"


def machine_memory() -> float:
    """Bytes of this machine's memory and of its GPUs'; a container's limit where one is set."""
    memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        memory = min(memory, float(text))
    return memory + _gpu_memory()


def _gpu_memory() -> float:
    """Of all NVIDIA GPUs here."""
    asked = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0.0
    return sum(float(line) for line in said.split() if line.replace(".", "").isdigit()) * 2**20
