"""Checkpoints through a server that is killed while it answers: nothing is lost, and nobody is mixed up."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from eval.answer.candidate import Candidate
from eval.benchmarks import LMEvalHarness, MTBench
from eval.config import EvalConfig
from eval.errors import ServerFailure
from eval.judges import Reference
from eval.pipeline import evaluate
from eval.records import Answer, read_records
from eval.report.write import write_report
from eval.scores.intervals import Uncertainty
from eval.serve import VLLM, Endpoint, Loaded, Serve, Transformers, chat_client
from eval.serve.endpoint_client import Patience
from eval.serve.machine import unavailable
from fusion.runtime.digests import directory_key
from fusion.runtime.progress import RunProgress

QUESTIONS = 40


def written(folder: Path) -> Path:
    """Two-turn questions, and a multiple-choice task of lm-eval with its documents beside it."""
    folder.mkdir()
    rows = [
        {"question_id": i, "category": "sums", "turns": [f"What is {i} + 7?", "And?"], "reference": [str(i + 7), "x"]}
        for i in range(QUESTIONS)
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    documents = [
        {"question": f"{i} + {i} =", "choices": [f" {2 * i}", f" {3 * i + 1}"], "answer": i % 2} for i in range(24)
    ]
    tasks = folder / "tasks"
    tasks.mkdir()
    (tasks / "documents.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents))
    for name, template in (("sums", "question"), ("doubled", '"Sum: {{question}}"')):
        (tasks / f"{name}.yaml").write_text(
            f"task: {name}\ndataset_path: json\n"
            f"dataset_kwargs: {{data_files: {{test: {tasks / 'documents.jsonl'}}}}}\n"
            f"output_type: multiple_choice\ntest_split: test\ndoc_to_text: {template}\n"
            'doc_to_choice: "{{choices}}"\ndoc_to_target: answer\n'
            "metric_list: [{metric: acc}, {metric: acc_norm}]\nmetadata: {version: 1.0}\n"
        )
    (tasks / "both.yaml").write_text(
        "group: both\ntask: [sums, doubled]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    )
    return folder


def configured(data: Path, artifacts: Path, serve: Serve, **more) -> EvalConfig:
    return EvalConfig(
        serve=serve,
        benchmarks={"mt_bench": MTBench(questions="questions.jsonl", temperature=0.0, max_tokens=48), **more},
        judges={"mt_bench": Reference(), **dict.fromkeys(more, Reference())},
        uncertainty=Uncertainty(),
        data=data,
        artifacts=artifacts,
    )


def candidates(*checkpoints: Path) -> list[Candidate]:
    return [
        Candidate(model=f"m{i}", group="Models", path=path, weights=directory_key(path, path / ".digests.json"))
        for i, path in enumerate(checkpoints)
    ]


def journals(artifacts: Path) -> list[Path]:
    return [*artifacts.glob("answers/.partial-*/.answers.jsonl"), *artifacts.glob("answers/*/.answers.jsonl")]


def killed_while_answering(artifacts: Path, checkpoint: Path, lines: int, done: list[int]) -> None:
    """End the vLLM process that serves `checkpoint` once so many answers are on disk."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if sum(path.read_bytes().count(b"\n") for path in journals(artifacts)) >= lines:
            for directory in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    line = (directory / "cmdline").read_bytes()
                    if str(checkpoint).encode() in line and b"guardian" not in line:
                        os.kill(int(directory.name), signal.SIGKILL)
                        done.append(int(directory.name))
            return
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(unavailable() is not None, reason=f"vLLM cannot run here: {unavailable()}")
def test_vllm_killed_while_answering_is_restarted_and_every_model_gets_its_own_scores(
    make_checkpoint, tmp_path, capsys
):
    first, second = make_checkpoint(11), make_checkpoint(12)
    data = written(tmp_path / "data")
    harness = LMEvalHarness(tasks=("both",), task_folder="tasks", max_length=128)
    chat = LMEvalHarness(tasks=("sums",), task_folder="tasks", max_length=128, apply_chat_template=True)
    serve = VLLM(dtype="float32", max_model_len=128, max_num_seqs=4)
    config = configured(data, tmp_path / "artifacts", serve, lm_eval=harness, lm_eval_chat=chat)
    killed: list[int] = []
    killer = threading.Thread(
        target=killed_while_answering, args=(config.artifacts, first, QUESTIONS // 4, killed), daemon=True
    )
    killer.start()
    with RunProgress() as progress:
        scored = evaluate(candidates(first, second), config, progress, {})
    killer.join()
    assert len(killed) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "the server had died" in said
    assert said.count("vLLM is starting") == 2  # the start and the restart; the second checkpoint was reloaded

    rows = [row for path in config.artifacts.glob("answers/*/answers.jsonl") for row in read_records(path, Answer)]
    assert len({(row.weights, row.question_id) for row in rows}) == len(rows) == 2 * QUESTIONS
    assert [row for row in rows if row.reason is not None or len(row.turns) != 2] == []

    # Another engine, never killed, gives every model the same answers and makes the same choices.
    calm = configured(data, tmp_path / "calm", Transformers(dtype="float32"), lm_eval=harness, lm_eval_chat=chat)
    with RunProgress() as progress:
        expected = evaluate(candidates(first, second), calm, progress, {})
    assert beginnings(config) == beginnings(calm)
    chosen = [(one.model, one.items) for one in scored if one.benchmark != "mt_bench"]
    assert chosen == [(one.model, one.items) for one in expected if one.benchmark != "mt_bench"]
    measured = {(model, item.question_id, item.metric): item.value for model, items in chosen for item in items}
    # The second model was not given the first one's choices from some cache.
    assert [value for (model, *_), value in measured.items() if model == "m0"] != [
        value for (model, *_), value in measured.items() if model == "m1"
    ]
    table = write_report(scored, tmp_path / "report", title="two", uncertainty=config.uncertainty)
    assert set(table["benchmark"]) == {"mt_bench", "lm_eval", "lm_eval_chat"}
    rows = table[table["benchmark"].str.startswith("lm_eval") & (table["metric"] == "acc")]
    assert [(row["model"], row["benchmark"], row["slice"], row["n"]) for _, row in rows.iterrows()] == [
        (model, *cell) for model in ("m0", "m1") for cell in (("lm_eval", "both", 48), ("lm_eval_chat", "sums", 24))
    ]
    header = (tmp_path / "report" / "leaderboard.md").read_text().splitlines()[2]
    assert "both acc " in header
    assert header.count("sums acc ") == 1


def beginnings(config: EvalConfig) -> dict[tuple[str, str], str]:
    """How each first answer begins, by weights and question: before half a character, which two engines spell apart."""
    rows = [row for path in config.artifacts.glob("answers/*/answers.jsonl") for row in read_records(path, Answer)]
    return {(row.weights, row.question_id): row.turns[0].split("\N{REPLACEMENT CHARACTER}")[0][:20] for row in rows}


@dataclass
class Mortal(Serve):
    """A server of answers whose process dies after `lives[i]` of them in its i-th life; then it is restarted."""

    lives: Sequence[int | None]
    started: int = 0
    asked: list[str] = field(default_factory=list)
    note: str = ""

    def identity(self) -> dict[str, str]:
        return {"type": "Mortal"}

    @contextlib.contextmanager
    def start(self, *, logs: Path, say) -> Iterator["Mortal"]:
        yield self
        self.close()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(base_url=f"http://127.0.0.1:{self.http.server_port}/v1", model="m", key="k")

    def load(self, checkpoint: Path) -> Loaded:
        how = "started"
        if self.started:
            if self.left is None or self.left > 0:
                return Loaded(how="unchanged", checkpoint=checkpoint, weights="w", seconds=0.0)
            self.close()
            how = "restarted"
        self.left: int | None = self.lives[self.started]
        self.started += 1
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        return Loaded(how=how, checkpoint=checkpoint, weights="w", seconds=0.0)

    def handler(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if server.left is not None:
                    server.left -= 1
                    if server.left < 0:
                        self.close_connection = True
                        return
                server.asked.append(body["messages"][-1]["content"])
                message = {"role": "assistant", "content": "said"}
                data = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        return Handler


@pytest.fixture
def impatient(monkeypatch):
    """A dead server is given up in a moment."""
    monkeypatch.setattr(chat_client, "Patience", lambda: Patience(concurrency=4, attempts=2, longest_wait_seconds=0.01))


@pytest.mark.parametrize("lives", [(12, None), (QUESTIONS * 2 - 3, None)], ids=["early", "at the last few questions"])
def test_a_server_that_dies_is_restarted_once_and_asked_only_what_is_missing(
    make_checkpoint, tmp_path, lives, impatient
):
    data = written(tmp_path / "data")
    server = Mortal(lives=lives)
    with RunProgress() as progress:
        evaluate(candidates(make_checkpoint(11)), configured(data, tmp_path / "a", server), progress, {})
    assert server.started == 2
    (answers,) = (tmp_path / "a").glob("answers/*/answers.jsonl")
    assert [row.turns for row in read_records(answers, Answer)] == [("said", "said")] * QUESTIONS
    # A conversation that was cut between its turns begins anew; whole ones are not repeated.
    assert 2 * QUESTIONS <= len(server.asked) <= 2 * QUESTIONS + 4


def test_a_server_that_dies_twice_is_told_and_the_repeated_command_continues(make_checkpoint, tmp_path, impatient):
    data = written(tmp_path / "data")
    config = configured(data, tmp_path / "a", Mortal(lives=(12, 14)))
    models = candidates(make_checkpoint(11))
    with RunProgress() as progress, pytest.raises(ServerFailure, match="does not answer any more.*repeat the command"):
        evaluate(models, config, progress, {})
    (journal,) = (tmp_path / "a").glob("answers/.partial-*/.answers.jsonl")
    kept = {row.question_id for row in read_records(journal, Answer) if row.reason is None}
    assert 4 <= len(kept) < QUESTIONS
    again = Mortal(lives=(None,))
    with RunProgress() as progress:
        evaluate(models, configured(data, tmp_path / "a", again), progress, {})
    assert len(again.asked) == 2 * (QUESTIONS - len(kept))
