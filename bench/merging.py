"""Merging a pivot and three targets, beside a plain safetensors copy of the same bytes: `python -m bench merging`.

    python -m bench.merging [megabytes [directory]]     a table for models of that size each, 1200 by default

The models are generated, since only sizes and the grid of bf16 deltas matter for speed: four shards of a Llama's
parameters, the targets' deltas of three sizes as gentle fine-tunes have.  The copy reads every tensor of all models and
writes as many bytes as one has.  Copy and merges take turns.  Where `mergekit-yaml` is on the PATH, or is named by the
environment variable MERGEKIT_YAML, it merges the same files by the same rules, once each; the time it needs to start is
taken off.  Anonymous memory is sampled while merging.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from bench.row import BenchRow, once

TARGETS = 3
SHARDS = 4
# Each rule's method in mergekit, its parameters for the whole merge and for each target; ours have the same defaults.
_IN_MERGEKIT: Mapping[str, tuple[str, Mapping[str, object], Mapping[str, float]]] = {
    "linear": ("linear", {"normalize": True}, {"weight": 0.2}),
    "task_arithmetic": ("task_arithmetic", {"normalize": False}, {"weight": 0.3}),
    "dare": ("dare_linear", {"normalize": True}, {"weight": 0.2, "density": 0.6}),
    "ties": ("ties", {"normalize": True}, {"weight": 0.2, "density": 0.6}),
    "sce": ("sce", {"select_topk": 0.1}, {}),
}
RULES = tuple(_IN_MERGEKIT)
_MEGABYTES = 120  # of each model in `make bench`: four of them are written, read and deleted
_OF_COPY = {"linear": 1.0}  # bars in wall time of the copy, for models of about 1200 MB
_OF_MERGEKIT = {"linear": 0.4, "task_arithmetic": 0.4, "dare": 0.25, "ties": 0.15, "sce": 0.15}
_BAR_FROM = 1000  # MB; below, the copy's memory stays in the cache and starting the threads counts


def rows(megabytes: int = _MEGABYTES, directory: Path | None = None, repeats: int = 3) -> list[BenchRow]:
    """Each rule's median seconds, its ratios to the copy's and to mergekit's, and the most anonymous memory held."""
    import torch

    from fusion.merge import MERGE_RULES
    from fusion.merge.checkpoints.checkpoint_stream import merge

    with tempfile.TemporaryDirectory(dir=directory) as place:
        root = Path(place)
        models = generate(root, megabytes)
        calls: dict[str, Callable[[], object]] = {}
        for name in RULES:
            rule = MERGE_RULES[name]()
            calls[name] = partial(merge, pivot=models[0], targets=models[1:], rule=rule, out=root / "merged")
        calls["copy"] = lambda: copy(models, root / "copied")
        before = torch.get_num_threads()
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        with _Anonymous() as anonymous:  # before the copy, whose memory this process would keep
            for name in RULES:
                calls[name]()  # not counted: code is compiled, pages are cached
        calls["copy"]()
        for _ in range(repeats):
            for name, call in calls.items():
                seconds[name].append(once(call))
        torch.set_num_threads(before)
        theirs = _mergekit_seconds(models, root)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    found = [
        BenchRow(
            what=f"plain safetensors copy, {TARGETS + 1} x {megabytes} MB",
            measured=f"{medians['copy']:.2f} s",
            bar="",
            reached=None,
        )
    ]
    for name in RULES:
        ratio = medians[name] / medians["copy"]
        bar = _OF_COPY.get(name)
        found.append(
            BenchRow(
                what=f"merging by {name}",
                measured=f"{medians[name]:.2f} s, {ratio:.2f} x the copy",
                bar=f"at most {bar} x, of 1200 MB" if bar else "",
                reached=None if bar is None or megabytes < _BAR_FROM else ratio <= bar,
            )
        )
    for name, taken in theirs.items():
        ratio, bar = medians[name] / taken, _OF_MERGEKIT[name]
        found.append(
            BenchRow(
                what=f"merging by {name}, beside mergekit",
                measured=f"{medians[name]:.2f} s, {ratio:.3f} x mergekit's {taken:.1f} s",
                bar=f"at most {bar} x, of 1200 MB",
                reached=None if megabytes < _BAR_FROM else ratio <= bar,
            )
        )
    if not theirs:
        what = "merging beside mergekit"
        found.append(BenchRow(what=what, measured="mergekit not installed here", bar="", reached=None))
    found.append(
        BenchRow(
            what="anonymous memory while merging",
            measured=f"{anonymous.peak} MB",
            bar="at most 1024 MB",
            reached=anonymous.peak <= 1024,
        )
    )
    return found


def _mergekit_seconds(models: list[Path], root: Path) -> dict[str, float]:
    """Wall seconds of mergekit's merges, without those its command needs to start; empty where it is not installed."""
    command = os.environ.get("MERGEKIT_YAML") or shutil.which("mergekit-yaml")
    if command is None:
        return {}
    cores = str(len(os.sched_getaffinity(0)))
    environment = {**os.environ, "OMP_NUM_THREADS": cores, "MKL_NUM_THREADS": cores, "HF_HUB_OFFLINE": "1"}
    for setting in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "PYTHONPATH"):  # ours
        environment.pop(setting, None)
    run = partial(subprocess.run, check=True, env=environment, capture_output=True)
    found, starts = {}, []
    for name, (method, parameters, of_target) in _IN_MERGEKIT.items():
        recipe = {
            "merge_method": method,
            "models": [{"model": str(model), "parameters": of_target} for model in models[1:]],
            "parameters": parameters,
            "dtype": "bfloat16",
            **({} if method == "linear" else {"base_model": str(models[0])}),
        }
        (root / "recipe.yaml").write_text(json.dumps(recipe))
        starts.append(once(partial(run, [command, "--help"])))
        found[name] = once(partial(run, [command, str(root / "recipe.yaml"), str(root / "theirs")]))
        shutil.rmtree(root / "theirs")
    return {name: taken - min(starts) for name, taken in found.items()}


def generate(root: Path, megabytes: int) -> list[Path]:
    """A pivot and its targets in bf16, about `megabytes` each."""
    import torch
    from safetensors.torch import save_file

    block = torch.randn(2**20, generator=torch.Generator().manual_seed(0))
    width = 1024 if megabytes < 600 else 2048
    inner, vocabulary = 11 * width // 4, 4 * width
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (width,),
        **{f"self_attn.{part}_proj": (width, width) for part in "qkvo"},
        "post_attention_layernorm": (width,),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, width),
        "model.norm.weight": (width,),
    }
    layers = 0
    while layers == 0 or sum(_elements(shape) for shape in shapes.values()) * 2 < megabytes * 10**6:
        shapes |= {f"model.layers.{layers}.{name}.weight": shape for name, shape in layer.items()}
        layers += 1
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 128,
        "num_key_value_heads": width // 128,
        "vocab_size": vocabulary,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    }
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
        (directory / "config.json").write_text(json.dumps(config))
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
