"""Loss and gradients of 4,096 labelled positions at real vocabularies: in chunks, beside all logits at once.

    python -m bench.loss dense|chunks VOCABULARY WIDTH FILE      one of the two, in a process of its own

Peak memory is the process's largest resident size less what it was before: inputs, weights and their gradient, which
both have, are not counted.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from bench.row import BenchRow, spelled
from fusion.train.head import summed_losses
from fusion.train.losses import position_losses
from fusion.train.objectives.cross_entropy import CrossEntropy
from fusion.train.objectives.objective import Teacher

POSITIONS, KEPT = 4096, 10
# Vocabulary and width of Qwen2.5-0.5B and of Gemma 3 270M.
SHAPES = ((151_936, 896), (262_144, 640))


def rows() -> Iterator[BenchRow]:
    """Memory, time and gradients for each of the shapes."""
    for vocabulary, width in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            files = {way: Path(folder) / f"{way}.pt" for way in ("dense", "chunks")}
            said = {way: _measured(way, vocabulary, width, file) for way, file in files.items()}
            apart = _apart(files["chunks"], files["dense"])
        what = f"loss of {POSITIONS:,} positions in chunks, V={vocabulary:,}, width {width}"
        share = said["chunks"]["bytes"] / said["dense"]["bytes"]
        ratio = said["chunks"]["seconds"] / said["dense"]["seconds"]
        yield BenchRow(
            what=f"{what}: peak memory",
            measured=f"{said['chunks']['bytes'] / 1e9:.2f} GB, {share:.0%} of all at once",
            bar="at most 10%",
            reached=share <= 0.10,
        )
        yield BenchRow(
            what=f"{what}: time",
            measured=f"{spelled(said['chunks']['seconds'])}, {ratio:.2f} of all at once",
            bar="at most 1.00",
            reached=ratio <= 1.0,
        )
        yield BenchRow(
            what=f"{what}: gradients",
            measured=f"{apart:.1e} from all at once, relative",
            bar="within 1e-5",
            reached=apart <= 1e-5,
        )


def _measured(way: str, vocabulary: int, width: int, file: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.loss", way, str(vocabulary), str(width), str(file)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    said: dict[str, float] = json.loads(found.stdout)
    return said


def _apart(one: Path, other: Path) -> float:
    """The largest distance of a gradient from its counterpart, relative to the latter's norm."""
    pairs = zip(torch.load(one, mmap=True), torch.load(other, mmap=True), strict=True)
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def main(way: str, vocabulary: int, width: int, file: Path, *, positions: int = POSITIONS) -> dict[str, float]:
    """Compute one of the two ways, write the gradients into `file`, and say what it took."""
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(width, vocabulary, bias=False)
    torch.nn.init.normal_(head.weight, std=width**-0.5, generator=generator)
    hidden = torch.randn(positions, width, generator=generator).requires_grad_()
    gold = torch.randint(vocabulary, (positions,), generator=generator)
    ids = torch.randint(vocabulary, (positions, KEPT), generator=generator).sort(-1).values + torch.arange(KEPT)
    log_probs = torch.log_softmax(torch.randn(positions, KEPT + 1, generator=generator), -1)
    teacher = Teacher(
        ids=ids.clamp(max=vocabulary - 1).int(), log_probs=log_probs[:, :KEPT].clone(), tail=log_probs[:, KEPT].clone()
    )

    def losses(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        sft, fusion = position_losses(logits, gold[rows], teacher[rows], objective=CrossEntropy())
        return 0.1 * sft.sum() + 0.9 * fusion.sum(), torch.stack([sft.sum(), fusion.sum()])

    before = _resident()
    started = time.perf_counter()
    if way == "chunks":
        total, _ = summed_losses(hidden, head, losses)
    else:
        total, _ = losses(head(hidden), slice(None))
    (total / positions).backward()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    gradients = [hidden.grad, head.weight.grad]
    torch.save(gradients, file)
    both = sum(one.numel() * one.element_size() for one in gradients if one is not None)
    return {"seconds": seconds, "bytes": peak - before - both}


def _resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (said,) = (line for line in lines if line.startswith("VmRSS:"))
    return int(said.split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))))
