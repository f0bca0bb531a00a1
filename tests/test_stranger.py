"""What a stranger does: the wheel in a fresh environment, a folder of her own, models, data and a judge of her own."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fusion.pocket.dialogues import PocketData
from fusion.pocket.models import PocketModel, build_checkpoint
from fusion.pocket.questions import write_dialogues
from fusion.pocket.tokenizers import PocketTokenizer

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# Three families; what they are called, and what their tokenizers and turns look like.
FAMILIES = {
    "small-llama": {"architecture": "llama", "kind": "byte_bpe", "figures": "triples", "template": "brackets"},
    "runs/final": {"architecture": "qwen2", "kind": "byte_bpe", "figures": "single", "template": "chatml"},
    "neox": {"architecture": "gpt_neox", "kind": "space_bpe", "figures": "runs", "template": "letters"},
}
MODELS = [
    "pivot",
    "source-final",
    "source-neox",
    "sft",
    "multi",
    "target-final",
    "target-neox",
    "linear",
    "ties",
    "sce",
]
# What the judge thinks of an answer, by the question it stands under.
RATINGS = {"Greet a neighbour.": 2, "Describe the sea.": 5, "Advise a cook.": 9}
PROMPT = {
    "type": "single",
    "system_prompt": "You rate answers.",
    "description": "",
    "category": "general",
    "output_format": "[[rating]]",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since building leaves folders beside pyproject.toml."""
    source = tmp_path_factory.mktemp("source")
    for part in ("fusion", "eval", "ablations", "hydra_plugins", "conf"):
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    out = source / "dist"
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", out, source]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture
def judge() -> Iterator[str]:
    """An OpenAI-compatible endpoint's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = asked["messages"][-1]["content"]
            (rating,) = {rating for question, rating in RATINGS.items() if question in text}
            message = {"role": "assistant", "content": f"Rating: [[{rating}]]"}
            reply: dict[str, Any] = {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": asked["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
            data = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def hers(tmp_path: Path) -> Path:
    """Her folder: three checkpoints, dialogues, questions, the judge prompts that the benchmark's fetch brings; and a
    script of hers that is called as a package of ours is.
    """
    folder = tmp_path / "hers"
    folder.mkdir()
    made = tmp_path / "made"
    write_dialogues(PocketData(seed=0, train=40, fusion=2, questions=2, instructions=2), made)
    for place, family in FAMILIES.items():
        (folder / place).parent.mkdir(exist_ok=True)
        tokenizer = PocketTokenizer(kind=family["kind"], figures=family["figures"], vocab_size=352)
        model = PocketModel(
            architecture=family["architecture"], hidden_size=32, intermediate_size=32, layers=1, heads=1,
            tokenizer=tokenizer, template=family["template"], mixture={"letters": 1.0}, conversations=40,
        )  # fmt: skip
        build_checkpoint(model, made, folder / place)
        for left in (folder / place).glob("*.jsonl"):
            left.unlink()
    said = [
        {"role": "user", "content": "What do you say in the morning?"},
        {"role": "assistant", "content": "I say good morning."},
    ]
    write_rows(folder / "dialogues.jsonl", [{"messages": said}, {"messages": [*said, *said]}])
    questions = [
        {"question_id": number, "category": "writing", "turns": [turn, "Say it again in fewer words."]}
        for number, turn in enumerate(RATINGS, start=1)
    ]
    write_rows(folder / "questions.jsonl", questions)
    turns = {"": "{question}\n{answer}", "-multi-turn": "{question_1}\n{answer_1}\n{question_2}\n{answer_2}"}
    known = {"single-v1": "", "single-math-v1": "\n{ref_answer_1}"}
    prompts = [
        PROMPT | {"name": name + turn, "prompt_template": template + reference}
        for name, reference in known.items()
        for turn, template in turns.items()
    ]
    write_rows(folder / "data/mt_bench/judge_prompts.jsonl", prompts)
    (folder / "eval.py").write_text("raise SystemExit('this is her own script')\n")
    return folder


def listed(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_five_commands_from_a_folder_of_her_own_end_in_a_table(wheel: Path, hers: Path, judge: str, tmp_path: Path):
    ours = ("FUSECHAT_LAB_", "PYTHON", "NUMBA_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}

    def run(command: str) -> str:
        ended = subprocess.run(
            shlex.split(command), cwd=hers, env={**environment, "HOME": str(tmp_path)}, capture_output=True, text=True
        )
        assert ended.returncode == 0, f"{command}\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
        assert "Traceback" not in ended.stderr
        return ended.stdout

    run(f"{sys.executable} -m venv env")
    # The packages that pip would fetch are lent by the environment of the tests.
    (installed,) = (hers / "env/lib").glob("python3*/site-packages")
    (installed / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    run(f"env/bin/pip install --no-deps {wheel}")
    before = listed(installed)
    written = run(
        "env/bin/fusechat-lab new --pivot ./small-llama --sources runs/final neox/ --data dialogues.jsonl"
        f" --questions questions.jsonl --judge {judge} --judge-model hers"
    )
    assert "written: conf/experiment/mine.yaml" in written
    settings = "experiment=mine serve=transformers benchmark.mt_bench.max_tokens=8"
    assert "to compute" in run(f"env/bin/fusechat-lab ablations {settings} plan=true")
    said = run(f"env/bin/fusechat-lab ablations {settings}")

    assert listed(installed) == before
    assert {path.name for path in hers.iterdir()} == {
        "artifacts", "conf", "data", "dialogues.jsonl", "env", "eval.py", "neox", "questions.jsonl", "reports", "runs",
        "small-llama",
    }  # fmt: skip
    with (hers / "reports/mine/scores.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if (row["metric"], row["slice"]) == ("rating", "all")]
    assert [row["model"] for row in rows] == MODELS
    mean = sum(RATINGS.values()) / len(RATINGS)
    assert all(abs(float(row["value"]) - mean) < 1e-9 for row in rows)
    assert all((row["n"], row["unscored"]) == ("6", "0") for row in rows), rows
    assert all(model in said for model in MODELS)
