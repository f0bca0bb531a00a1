"""What it costs to add an objective: one file, one line of the table, one YAML."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RULE = '''"""Reverse Kullback-Leibler divergence: the teacher from the student, over the teacher's outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusion.train.objectives.objective import Teacher

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ReverseKL:
    """sum_v q_v (log q_v - log p_v) over kept entries and tail."""

    strength: float = 1.0

    def __call__(self, logits: Tensor, normaliser: Tensor, teacher: Teacher) -> Tensor:
        from fusion.train.objectives.outcomes import outcomes

        both = outcomes(logits, normaliser, teacher, temperature=1.0, tail="bucket")
        return self.strength * (both.student_log_probs.exp() * (both.student_log_probs - both.log_probs)).sum(-1)
'''
YAML = "# @package train.objective\nname: reverse_kl\nstrength: 1.0\n"
# Chosen by either spelling, carried to the training child and back, and a part of what decides the key.
USE = """
import json, math, torch
from pathlib import Path
from fusion.runtime.artifacts import Store
from fusion.runtime.command import compose
from fusion.runtime.configure import plain, restored
from fusion.runtime.stage import StageRecipe
from fusion.experiment import fusion_config
from fusion.train.config import TrainConfig
from fusion.train.launch import MODULES
from fusion.train.losses import position_losses
from fusion.train.objectives import OBJECTIVES
from fusion.train.objectives.objective import Teacher

spellings = (["train.objective=reverse_kl"], ["objective=reverse_kl", "train.objective.strength=2"], [])
configs = [fusion_config(compose("fusion", spelling)).train for spelling in spellings]
assert all(restored(plain(config), (TrainConfig, *OBJECTIVES.values())) == config for config in configs)
keys = {
    Store(root=Path("none")).key(
        StageRecipe(name="train", config=config, inputs={}, modules=(*MODULES, type(config.objective).__module__))
    )
    for config in configs
}
half = Teacher(ids=torch.tensor([[0]]), log_probs=torch.tensor([[0.5]]).log(), tail=torch.tensor([0.5]).log())
logits = torch.tensor([[math.log(3.0), 0.0]])  # the student: three quarters and one quarter
losses = [position_losses(logits, torch.tensor([0]), half, objective=config.objective)[1].item() for config in configs]
print(json.dumps({"keys": len(keys), "losses": losses}))
"""


def test_a_new_objective_costs_one_file_one_line_and_one_yaml(tmp_path: Path) -> None:
    for folder in ("fusion", "conf"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "fusion/train/objectives/reverse_kl.py").write_text(RULE)
    (tmp_path / "conf/objective/reverse_kl.yaml").write_text(YAML)
    table = tmp_path / "fusion/train/objectives/__init__.py"
    line = '    "kl": KLDivergence,\n'
    text = table.read_text()
    assert text.count(line) == 1
    imported = "from fusion.train.objectives.reverse_kl import ReverseKL\n\nOBJECTIVES"
    text = text.replace(line, f'{line}    "reverse_kl": ReverseKL,\n').replace("\nOBJECTIVES", imported)
    table.write_text(text)

    ended = subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["keys"] == 3
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    cross_entropy = -math.log(0.75)  # renormalised, the teacher has the kept token alone
    assert found["losses"] == pytest.approx([divergence, 2 * divergence, cross_entropy], abs=1e-5)
