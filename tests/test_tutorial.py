"""The tutorial followed word for word in a copy of the tree.

Its files and lines are written as they stand there, and its commands run, on a stand-in for what `make demo` leaves:
tiny models, and a finished study with made-up ratings.  What would train and serve is only composed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from eval.records import ItemScore
from eval.report.write import write_report
from eval.scored import ScoredModel
from eval.scores.intervals import Uncertainty, mean_interval
from eval.scores.metric_row import MetricRow
from fusion.pocket.dialogues import PocketData
from fusion.pocket.models import PocketModel, build_checkpoint
from fusion.pocket.questions import write_dialogues
from fusion.pocket.tokenizers import PocketTokenizer

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a dozen commands, one after the other
PAGE = (ROOT / "docs/tutorial.md").read_text()
LEFT = (".git", ".venv", "artifacts", "data", "reports", "shared", ".*_cache", ".hypothesis", "*.egg-info")
BLOCK = re.compile(r"^<!-- (?P<what>.+?) -->\n```\w*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
# What a command that trains and serves would be given, composed and typed.
COMPOSE = """
import sys
from ablations.sweep.cells import expand
from eval.config import eval_config
from fusion.pipeline import fusion_config
for arguments in sys.stdin.read().splitlines():
    sweep = expand("ablations", arguments.split())
    for cell in sweep.cells:
        settings = sweep.compose(cell).settings
        fused = fusion_config(settings)
        assert eval_config(settings).benchmarks
        print(fused.seed, ",".join(fused.sources), ",".join(fused.merge))
"""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A marked code block: a file to write, lines to insert, or commands to run."""

    what: str
    text: str

    def write(self, tree: Path) -> None:
        """Do to `tree` what the page says; fails where the tree is not as the page has it."""
        if self.what.startswith("file: "):
            path = tree / self.what.removeprefix("file: ")
            assert not path.exists(), f"{path} is there before the reader writes it"
            path.write_text(self.text)
            return
        found = re.fullmatch(r"insert in (\S+) (before|after): (.*)", self.what)
        assert found is not None, self.what
        path, side, anchor = tree / found[1], found[2], found[3]
        lines = path.read_text().splitlines(keepends=True)
        places = [number for number, line in enumerate(lines) if line.rstrip("\n") == anchor]
        assert len(places) == 1, f"{path}: {anchor!r} is there {len(places)} times"
        lines.insert(places[0] + (side == "after"), self.text)
        path.write_text("".join(lines))


def blocks() -> Iterator[Block]:
    for found in BLOCK.finditer(PAGE):
        yield Block(what=found["what"], text=found["text"])


def commands() -> list[str]:
    return [block.text for block in blocks() if block.what == "run"]


def small(command: str) -> str:
    """One scheme is audited instead of all."""
    return re.sub(r"^(.*-m fusion\.align .*)$", r"\1 align=byte_span", command, flags=re.MULTILINE)


def trains(command: str) -> bool:
    return "-m ablations " in command


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with the reader's files in it, an environment, and what `make demo` and her study left."""
    tree = tmp_path_factory.mktemp("tutorial") / "clone"
    at_top = shutil.ignore_patterns(*LEFT)
    shutil.copytree(ROOT, tree, ignore=lambda folder, names: at_top(folder, names) if Path(folder) == ROOT else set())
    for block in blocks():
        if block.what != "run":
            block.write(tree)
    environment(tree / ".venv")
    demo(tree)
    study(tree / "artifacts/sweeps/median/20260101-000000")
    return tree


def environment(folder: Path) -> None:
    """This interpreter under the name that the page calls, and the mark that `make` looks for."""
    python = folder / "bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    (folder / ".installed").touch()


def demo(tree: Path) -> None:
    """Checkpoints of the shapes that the page asks for, and the dialogues."""
    data = PocketData(seed=0, train=20, fusion=4, questions=2, instructions=2)
    write_dialogues(data, tree / "artifacts/data/key")
    places = {}
    for name in ("pivot", "source-letters"):
        places[name] = Path("artifacts/pretrain") / name
        model = PocketModel(
            architecture="llama" if name == "pivot" else "gpt_neox", hidden_size=32, intermediate_size=32, layers=1,
            heads=1, tokenizer=PocketTokenizer(kind="byte_bpe", vocab_size=320), template="named",
            mixture={"letters": 1.0}, conversations=20,
        )  # fmt: skip
        build_checkpoint(model, tree / "artifacts/data/key", tree / places[name])
    for seed, name in enumerate(("numbers", "arithmetic", "letters")):
        place = places[f"target-{name}"] = Path("artifacts/train") / name
        shutil.copytree(tree / places["pivot"], tree / place)
        random = torch.Generator().manual_seed(seed)
        held = load_file(tree / place / "model.safetensors")
        moved = {key: value + 0.1 * torch.randn(value.shape, generator=random) for key, value in held.items()}
        save_file(moved, tree / place / "model.safetensors", metadata={"format": "pt"})
    (tree / "reports/pocket").mkdir(parents=True)
    cell = {"checkpoints": {name: str(place) for name, place in places.items()}}
    (tree / "reports/pocket/cell.json").write_text(json.dumps(cell))


def study(sweep: Path) -> None:
    """The finished cells of her study: on each of ten questions the median is one point below the mean."""
    uncertainty = Uncertainty(seed=0)

    def scored(model: str, group: str, ratings: list[float]) -> ScoredModel:
        questions = [str(number) for number in range(len(ratings))]
        row = {"benchmark": "mt_bench", "metric": "rating"}
        items = tuple(
            ItemScore(**row, question_id=q, turn=1, category="c", value=value)
            for q, value in zip(questions, ratings, strict=True)
        )
        found = mean_interval(ratings, questions, uncertainty)
        all_ = MetricRow(**row, slice="all", value=found.value, low=found.low, high=found.high, n=found.n, unscored=0)
        return ScoredModel(model=model, group=group, benchmark="mt_bench", metrics=(all_,), items=items)

    mean = [5.0, 6.0, 7.0, 8.0, 9.0] * 2
    median = scored("median", "Merged", [rating - 1 for rating in mean])
    models = [scored("pivot", "Pivot", mean), scored("linear", "Merged", mean), median]
    write_report(models, sweep / "0", title="t", uncertainty=uncertainty)
    for seed in (0, 1, 2):
        if seed:
            shutil.copytree(sweep / "0", sweep / str(seed))
        content = {
            "name": f"merge=[linear,median],seed={seed}", "experiment": "pocket", "study": "median", "seed": seed,
            "axes": {"merge": "[linear,median]"}, "checkpoints": {}, "stages": [],
            "weights": {"pivot": "p", "linear": f"l{seed}", "median": f"m{seed}"},
        }  # fmt: skip
        (sweep / str(seed) / "cell.json").write_text(json.dumps(content))


def called(command: str, tree: Path, given: str = "") -> str:
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=tree,
        input=given,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tree)},
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    return ended.stdout


def test_every_command_that_trains_is_one_that_composes(tree: Path) -> None:
    lines = [line for command in commands() for line in command.splitlines() if trains(line)]
    arguments = [" ".join(shlex.split(line)[3:]) for line in lines]
    assert len(arguments) == 3
    three = "pocket_numbers,pocket_arithmetic,pocket_letters"
    mine = f"experiment=pocket sources=[{three},mine]"
    composed = called(f".venv/bin/python -c {shlex.quote(COMPOSE)}", tree, "\n".join([*arguments, mine])).splitlines()
    assert composed == [
        f"0 {three},pocket_clerk linear,ties,sce",
        f"0 {three} linear,ties,sce,median",
        *(f"{seed} {three} linear,median" for seed in (0, 1, 2)),
        f"0 {three},mine linear,ties,sce",
    ]


def test_every_other_command_runs_and_says_what_the_page_says(tree: Path) -> None:
    said = "".join(
        called("\n".join(line for line in small(command).splitlines() if not trains(line)), tree)
        for command in commands()
    )
    audit = json.loads((tree / "reports/audit/audit.json").read_text())
    assert {row["scheme"] for row in audit["rows"]} == {"byte_span"}
    assert len(re.findall(r"^\d+ passed, \d+ deselected", said, re.MULTILINE)) == 2
    names = ["pivot", "target-numbers", "target-arithmetic", "target-letters", "median"]
    pivot, *targets, median = (load_file(tree / f"models/{name}/model.safetensors") for name in names)
    for name, value in pivot.items():
        moved = torch.stack([target[name] - value for target in targets]).sort(dim=0).values[1]
        torch.testing.assert_close(median[name], value + moved)
    page = (tree / "reports/median_study/findings-median.md").read_text()
    assert "**supported** on mt_bench: median less linear: −1.000" in page
