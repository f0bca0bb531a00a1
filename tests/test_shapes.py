"""Shapes in annotations are checked while tests run, and are read by nothing else."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from fusion.distribution import TopK
from fusion.fuse.candidate import gold_log_prob
from fusion.merge.rules.linear import Linear
from fusion.train.losses import position_losses
from fusion.train.objectives.cross_entropy import CrossEntropy
from fusion.train.objectives.objective import Teacher

ROOT = Path(__file__).parent.parent


def teacher(positions: int, entries: int = 2) -> Teacher:
    return Teacher(
        ids=torch.zeros(positions, entries, dtype=torch.int32),
        log_probs=torch.zeros(positions, entries),
        tail=torch.zeros(positions),
    )


def test_an_array_of_another_type_or_rank_is_refused() -> None:
    ids, log_probs = np.zeros((3, 2), np.int32), np.zeros((3, 2), np.float32)
    top = TopK(ids=ids, log_probs=log_probs, tail=np.zeros(3, np.float32))
    assert len(gold_log_prob(top, np.arange(3, dtype=np.int32))) == 3
    with pytest.raises(TypeCheckError, match="gold_log_prob"):
        gold_log_prob(top, np.arange(3, dtype=np.int64))  # type: ignore[arg-type]
    with pytest.raises(TypeCheckError, match="gold_log_prob"):
        gold_log_prob(top, np.zeros((3, 1), np.int32))


def test_fields_of_one_record_agree_on_their_axes() -> None:
    with pytest.raises(TypeCheckError, match="tail"):
        TopK(ids=np.zeros((3, 2), np.int32), log_probs=np.zeros((3, 2), np.float32), tail=np.zeros(2, np.float32))
    with pytest.raises(TypeCheckError, match="log_probs"):
        Teacher(ids=torch.zeros(3, 2).int(), log_probs=torch.zeros(2, 3), tail=torch.zeros(3))


def test_arguments_and_result_agree_on_their_axes() -> None:
    logits, gold = torch.zeros(3, 5), torch.zeros(3, dtype=torch.int64)
    assert len(position_losses(logits, gold, teacher(3), objective=CrossEntropy())) == 2
    with pytest.raises(TypeCheckError, match="gold"):
        position_losses(logits, gold[:2], teacher(3), objective=CrossEntropy())
    with pytest.raises(TypeCheckError, match="logits"):
        position_losses(logits.double(), gold, teacher(3), objective=CrossEntropy())
    with pytest.raises(TypeCheckError, match="normaliser"):
        CrossEntropy()(logits, torch.zeros(3, 1), teacher(3))


def test_a_merge_gives_the_pivots_shape() -> None:
    assert Linear()(torch.zeros(2, 3), [torch.ones(2, 3)]).shape == (2, 3)
    with pytest.raises(TypeCheckError, match="pivot"):
        Linear()(torch.zeros(2, 3, dtype=torch.int64), [torch.ones(2, 3)])


def test_whoever_uses_the_project_does_not_import_the_checks() -> None:
    script = "import sys, fusion.train.losses, fusion.fuse, fusion.align, fusion.merge, eval.scores.paired;"
    script += "sys.exit(any(name in sys.modules for name in ('jaxtyping', 'beartype')))"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


def test_a_shape_that_could_not_be_checked_stops_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "fusion"
    package.mkdir()
    text = "from __future__ import annotations\n\ndef outer():\n    def inner(x: Float32[Tensor, 'N']): ...\n"
    (package / "nested.py").write_text(text)
    (hook,) = [finder for finder in sys.meta_path if type(finder).__name__ == "CheckedShapes"]
    spec = hook.find_spec("fusion.nested", [str(package)])
    assert spec is not None
    assert spec.loader is not None
    module = type(sys)("fusion.nested")
    with pytest.raises(AssertionError, match=r"no way to check the shapes of \['outer.<locals>.inner'\]"):
        spec.loader.exec_module(module)
