"""Merging a pivot and three targets, beside a plain safetensors copy of the same bytes: `python -m bench merging`.

    python -m bench.merging [megabytes [directory]]     a table for models of that size each, 1200 by default

The models are generated, since only sizes and the grid of bf16 deltas matter for speed: four shards of Llama-shaped
parameters, the targets' deltas of three sizes as gentle fine-tunes have.  The copy reads every tensor of all models and
writes as many bytes as one has.  Copy and merges take turns; anonymous memory is sampled while they run.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.row import Row

TARGETS = 3
SHARDS = 4
RULES = ("linear", "task_arithmetic", "dare", "ties", "sce")
_MEGABYTES = 120  # of each model in `make bench`: four of them are written, read and deleted
_BARS = {"linear": 1.0}  # in wall time of the copy, for models of about 1200 MB
_BAR_FROM = 1000  # below, the copy's memory stays in the cache and starting the threads counts


def rows(megabytes: int = _MEGABYTES, directory: Path | None = None, repeats: int = 3) -> list[Row]:
    """Each rule's median seconds and its ratio to the copy's, and the most anonymous memory any of them held."""
    import torch

    from fusion.merge import MERGE_RULES
    from fusion.merge.checkpoint_stream import merge

    with tempfile.TemporaryDirectory(dir=directory) as place:
        root = Path(place)
        models = generate(root, megabytes)
        calls: dict[str, Callable[[], object]] = {"copy": lambda: copy(models, root / "copied")}
        for name in RULES:
            rule = MERGE_RULES[name]()
            calls[name] = partial(merge, pivot=models[0], targets=models[1:], rule=rule, out=root / "merged")
        before = torch.get_num_threads()
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        memory = dict.fromkeys(calls, 0)
        for turn in range(repeats + 1):  # the first is not counted: code is compiled, pages are cached
            for name, call in calls.items():
                with _Anonymous() as anonymous:
                    started = time.perf_counter()
                    call()
                    taken = time.perf_counter() - started
                memory[name] = max(memory[name], anonymous.peak)
                if turn:
                    seconds[name].append(taken)
        torch.set_num_threads(before)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    found = [
        Row(
            what=f"plain safetensors copy, {TARGETS + 1} x {megabytes} MB",
            measured=f"{medians['copy']:.2f} s",
            bar="",
            reached=None,
        )
    ]
    for name in RULES:
        ratio = medians[name] / medians["copy"]
        bar = _BARS.get(name)
        found.append(
            Row(
                what=f"merging by {name}",
                measured=f"{medians[name]:.2f} s, {ratio:.2f} x the copy, {memory[name]} MB anonymous",
                bar=f"at most {bar} x, of 1200 MB" if bar else "",
                reached=None if bar is None or megabytes < _BAR_FROM else ratio <= bar,
            )
        )
    most = max(memory[name] for name in RULES)
    found.append(
        Row(what="anonymous memory of merging", measured=f"{most} MB", bar="at most 1024 MB", reached=most <= 1024)
    )
    return found


def generate(root: Path, megabytes: int) -> list[Path]:
    """A pivot and its targets in bf16, about `megabytes` each."""
    import torch
    from safetensors.torch import save_file

    block = torch.randn(2**20, generator=torch.Generator().manual_seed(0))
    width = 1024 if megabytes < 600 else 2048
    layer: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (width, width),
        "mlp.up_proj": (11 * width // 4, width),
        "input_layernorm": (width,),
    }
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (width * 4, width)}
    while sum(_elements(shape) for shape in shapes.values()) * 2 < megabytes * 10**6:
        number = (len(shapes) - 1) // len(layer)
        shapes |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
    placed = {name: f"model-{i % SHARDS + 1:05d}-of-{SHARDS:05d}.safetensors" for i, name in enumerate(shapes)}
    models = []
    for model in range(TARGETS + 1):
        directory = root / f"model-{model}"
        directory.mkdir()
        for file in sorted(set(placed.values())):
            tensors = {}
            for i, (name, shape) in enumerate(shapes.items()):
                if placed[name] == file:
                    values = _repeated(block, _elements(shape), i) * 0.02
                    if model:
                        values += _repeated(block, _elements(shape), 7919 * model + i) * (1e-4 * (1 + 2 * model))
                    tensors[name] = values.bfloat16().view(shape)
            save_file(tensors, directory / file, metadata={"format": "pt"})
        (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))
        (directory / "config.json").write_text(json.dumps({"model_type": "llama"}))
        models.append(directory)
    return models


def copy(models: list[Path], out: Path) -> None:
    """Read every tensor of every model and write the first model, with the safetensors library and nothing else."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    out.mkdir(exist_ok=True)
    for number, model in enumerate(models):
        for file in sorted(model.glob("*.safetensors")):
            with safe_open(file, "pt") as stored:
                held = {name: stored.get_tensor(name).clone() for name in stored.keys()}  # noqa: SIM118
            if number == 0:
                save_file(held, out / file.name)


def main() -> None:
    """Print the table for the size on the command line."""
    given = sys.argv[1:]
    megabytes = int(given[0]) if given else 1200
    for row in rows(megabytes, Path(given[1]) if len(given) > 1 else None, repeats=5):
        print(f"{row.what:44} {row.measured:44} {row.bar}")


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count


def _repeated(block, count: int, seed: int):  # type: ignore[no-untyped-def]
    """Normal numbers without the time to draw them: the block, rotated by the seed and repeated."""
    shift = seed * 104_729 % len(block)
    return block.roll(shift).repeat(-(-count // len(block)))[:count]


class _Anonymous:
    """Samples this process's anonymous memory; `peak` is in MB."""

    def __enter__(self) -> _Anonymous:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        status = Path(f"/proc/{os.getpid()}/status")
        while not self._stop.wait(0.02):
            if status.exists():  # Linux
                line = next(line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
                self.peak = max(self.peak, int(line.split()[1]) // 1024)


if __name__ == "__main__":
    main()
