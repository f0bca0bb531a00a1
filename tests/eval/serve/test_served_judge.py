"""A tiny checkpoint answers through one real vLLM, and a second real vLLM judges it by both benchmarks.

The judge is random weights held to the form of a reply, so what it says means nothing; that it was asked, read, counted
and ended is what is tested.
"""

import contextlib
import json
import os
import threading
from pathlib import Path

import pytest

from eval.answer.candidate import Candidate
from eval.benchmarks import AlpacaEval, MTBench
from eval.config import EvalConfig
from eval.judges import JudgeRequest, Served
from eval.judges.served import RunningJudge
from eval.pipeline import evaluate
from eval.records import Unscored, Verdict
from eval.report.judging import write_judging
from eval.scores.intervals import Uncertainty
from eval.serve import VLLM, Transformers
from eval.serve.machine import unavailable
from fusion.runtime.artifacts import Store
from fusion.runtime.configure import Refusal
from fusion.runtime.digests import directory_key
from fusion.runtime.progress import RunProgress

# Every token is free but the form is not: "m" or "M" for AlpacaEval's annotator, a rating for MT-Bench.
FORM = {"structured_outputs": {"regex": r"(m|M) Rating: \[\[[0-9]\]\]"}}


class Noting(RunProgress):
    """Keeps what a person would have read."""

    def __init__(self):
        super().__init__()
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def judge_checkpoint(make_checkpoint):
    """With room for AlpacaEval's published prompt."""
    found = make_checkpoint(2)
    config = json.loads((found / "config.json").read_text())
    (found / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(unavailable() is not None, reason=f"vLLM cannot run here: {unavailable()}")
def test_a_served_model_is_judged_by_a_served_model(make_checkpoint, judge_checkpoint, tmp_path):
    checkpoint = make_checkpoint(1)
    long = "word " * 1500  # alone more than the judge reads
    questions = lines(
        tmp_path / "question.jsonl",
        [
            {"question_id": 1, "category": "c", "turns": ["What is 7 + 9?", "Because?"]},
            {"question_id": 2, "category": "c", "turns": ["seven"]},
        ],
    )
    names = ("single-v1", "single-v1-multi-turn", "single-math-v1", "single-math-v1-multi-turn")
    template = {"single-v1": "{question} {answer}", "single-v1-multi-turn": "{question_1} {answer_2}" + long}
    lines(
        tmp_path / "prompts.jsonl",
        [{"name": n, "system_prompt": "Judge.", "prompt_template": template.get(n, "{question}")} for n in names],
    )
    instructions = [{"instruction": f"say {i}", "output": "sixteen", "generator": "base"} for i in range(3)]
    (tmp_path / "instructions.json").write_text(json.dumps(instructions))
    judge = Served(
        checkpoint=str(judge_checkpoint),
        serve=VLLM(dtype="float32", max_model_len=2048, logprobs_mode="processed_logprobs"),
        extra=FORM,
    )
    config = EvalConfig(
        serve=VLLM(dtype="float32", max_model_len=128),
        benchmarks={
            "mt_bench": MTBench(
                questions="question.jsonl", judge_prompts="prompts.jsonl", temperature=0, max_tokens=16
            ),
            "alpaca_eval": AlpacaEval(questions="instructions.json", temperature=0, max_tokens=16),
        },
        judges={"mt_bench": judge, "alpaca_eval": judge},
        uncertainty=Uncertainty(),
        data=tmp_path,
        artifacts=tmp_path / "artifacts",
    )
    candidate = Candidate(
        model="m", group="Models", path=checkpoint, weights=directory_key(checkpoint, tmp_path / "digests.json")
    )
    progress = Noting()
    scored = {one.benchmark: one for one in evaluate([candidate], config, progress, {"mt_bench": questions})}
    assert sum("vLLM is starting" in note for note in progress.notes) == 2
    assert guardians() == []

    rating, preference = (scored[name].shown.verdicts for name in ("mt_bench", "alpaca_eval"))
    assert [(one.question_id, one.turn, type(one)) for one in rating if one.turn == 2] == [("1", 2, Unscored)]
    assert [one.kind for one in rating if one.turn == 2] == ["rejected"]
    for one in rating:  # a 0 is out of range, and then unreadable
        if one.turn == 1:
            assert isinstance(one, Verdict) or one.kind == "unreadable"
            assert "Rating: [[" in one.text
    rows = {row.slice: row for row in scored["mt_bench"].metrics if row.metric == "rating"}
    assert rows["all"].n + rows["all"].unscored == 3
    assert rows["all"].unscored >= 1

    assert len(preference) == 3
    for one in preference:
        assert isinstance(one, Verdict)
        assert one.text in ("m", "M")
        probabilities = dict(one.top_logprobs)
        assert {"m", "M"} <= set(probabilities)
        assert 1 <= one.value <= 2
    assert {row.metric: row.n for row in scored["alpaca_eval"].metrics}["win_rate"] == 3

    (tmp_path / "report").mkdir()
    notes = write_judging([*scored.values()], tmp_path / "report", Uncertainty())
    assert "Judging took" in notes[-1]

    again = Noting()
    moved = tmp_path / "moved"
    judge_checkpoint.rename(moved)
    elsewhere = Served(**{**judge.__dict__, "checkpoint": str(moved), "concurrency": 1})
    config = EvalConfig(**{**config.__dict__, "judges": {"mt_bench": elsewhere, "alpaca_eval": elsewhere}})
    repeated = evaluate([candidate], config, again, {"mt_bench": questions})
    assert again.notes == []  # kept under the digest of the judge's weights, not under its path
    assert [one.metrics for one in repeated] == [one.metrics for one in scored.values()]
    assert len([stage for stage, _ in Store(root=config.artifacts).built() if stage == "verdicts"]) == 2


def test_a_judges_server_starts_at_the_first_request_and_rejects_what_it_cannot_read(make_checkpoint, tmp_path):
    def request(number, text):
        return JudgeRequest(
            benchmark="mt_bench",
            question_id=str(number),
            turn=1,
            model="m",
            form="rating",
            question="?",
            answers=("a",),
            reference=None,
            messages=({"role": "user", "content": text},),
            max_tokens=8,
        )

    said, replies, before = [], {}, threads()
    settings = Served(checkpoint=str(make_checkpoint(3)), attempts=1)
    with contextlib.ExitStack() as stack:
        judge = RunningJudge(settings, Transformers(dtype="float32"), stack, logs=tmp_path, say=said.append)
        judge.judge([], lambda *_: None)
        assert threads() == before
        asked = [request(1, "What is 7 + 9?"), request(2, "word " * 500)]
        judge.judge(asked, lambda request, reply: replies.__setitem__(request.question_id, reply))
        assert threads() != before
    assert threads() == before
    assert replies["1"].failure is None
    assert replies["1"].completion_tokens <= 8
    assert replies["2"].rejected
    assert "the model's limit is 256" in replies["2"].failure


def test_a_judge_that_is_not_there_is_refused():
    with pytest.raises(Refusal, match="there is no config.json"):
        _ = Served(checkpoint="nowhere").directory


def threads() -> list[str]:
    """Threads of a server inside this process."""
    return [thread.name for thread in threading.enumerate() if "serve_forever" in thread.name]


def guardians() -> list[str]:
    """Servers that this process started and that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.endswith(b"guardian.py") for word in words) and str(os.getpid()).encode() in words:
            found.append(b" ".join(words).decode())
    return found
