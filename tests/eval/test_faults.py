"""Ten thousand judgments through an endpoint of which every tenth place is faulty: nothing lost, nothing paid twice.

The endpoint is scripted; client, journal, benchmark, stages and table are the real ones.
"""

import asyncio
import contextlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from eval.benchmarks import MTBench
from eval.config import EvalConfig
from eval.errors import JudgeFailure
from eval.judges import OpenAI
from eval.pipeline import judge_answers
from eval.records import read_verdicts
from eval.report.write import write_report
from eval.scores.intervals import Uncertainty
from eval.serve import ExistingEndpoint
from fusion.runtime.progress import RunProgress

QUESTIONS = 5_000  # of two turns
# What goes wrong once, and is tried again.
PASSING = (
    "rate limit",
    "server error",
    "timeout",
    "dropped before the reply",
    "dropped within the reply",
    "truncated JSON",
    "no choices",
)
# What the judge says that is no rating from 1 to 10: a reply all the same.
SAID = {"refusal": "I am sorry, but I cannot rate this.", "out of range": "Rating: [[72]]"}
# The reply comes, and more than was asked for.
DOUBLED = ("two choices", "sent twice")
FAULTS = (*PASSING, *SAID, *DOUBLED)
TIMEOUT = 4.0


def fault_at(place: int) -> str | None:
    """Every tenth place is faulty, the faults taking turns."""
    return FAULTS[place // 10 % len(FAULTS)] if place % 10 == 3 else None


def rating(place: int) -> int:
    return 1 + place * 7919 % 10


def completion(text: str, *, copies: int = 1) -> bytes:
    choices = [
        {"index": i, "finish_reason": "stop", "message": {"role": "assistant", "content": text}} for i in range(copies)
    ]
    usage = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
    whole = {"id": "x", "object": "chat.completion", "created": 0, "model": "judge", "choices": choices, "usage": usage}
    return json.dumps(whole).encode()


class Judge:
    """Rates the place that a prompt names; `faulty` says which fault a place has when it is first asked."""

    def __init__(self, faulty) -> None:
        self.faulty = faulty
        self.asked: Counter[int] = Counter()
        self.given: Counter[int] = Counter()  # whole replies, readable or not
        self.dies_after: int | None = None
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self.answer(reader, writer):
                await writer.drain()
        writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; False where the connection ends with it."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1])
        asked = json.loads(await reader.readexactly(length))["messages"][-1]["content"]
        place = int(re.search(r"place (\d+)\b", asked)[1])
        self.asked[place] += 1
        if self.dies_after is not None and self.given.total() >= self.dies_after:
            return False
        fault = self.faulty(place) if self.asked[place] == 1 else None
        said = f"As good as it says. Rating: [[{rating(place)}]]"
        if fault == "timeout":
            await asyncio.sleep(TIMEOUT * 3)
            return False
        if fault == "dropped before the reply":
            return False
        if fault in ("rate limit", "server error"):
            status, header = ("429 Slow", "Retry-After: 0.01\r\n") if fault == "rate limit" else ("500 Oops", "")
            self.send(writer, b'{"error": {"message": "scripted"}}', status=status, header=header)
            return True
        if fault == "truncated JSON":
            self.send(writer, completion(said)[:70])
            return True
        if fault == "no choices":
            self.send(writer, completion(said, copies=0))
            return True
        whole = completion(SAID.get(fault, said), copies=2 if fault == "two choices" else 1)
        if fault == "dropped within the reply":
            self.send(writer, whole[:70], length=len(whole))
            await writer.drain()
            return False
        self.given[place] += 1
        self.send(writer, whole)
        if fault == "sent twice":
            self.send(writer, whole)
        return True

    def send(self, writer, body: bytes, *, status="200 OK", header="", length: int | None = None) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{header}"
        writer.write(f"{head}Content-Length: {length or len(body)}\r\n\r\n".encode() + body)


@contextlib.contextmanager
def listening(judge: Judge) -> Iterator[Judge]:
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(judge.serve, "127.0.0.1", 0))
    judge.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield judge
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        server.close()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()


def material(folder: Path, questions: int) -> Path:
    """Questions, judge prompts and answers in MT-Bench's files; a prompt names the place that it asks about."""
    asked = [
        {"question_id": i, "category": f"kind {i % 8}", "turns": [f"place {2 * i}", f"place {2 * i + 1}"]}
        for i in range(questions)
    ]
    answers = [
        {"question_id": i, "model_id": "m", "choices": [{"index": 0, "turns": [f"one {i}", f"two {i}"]}]}
        for i in range(questions)
    ]
    prompts = [
        {
            "name": name,
            "type": "single",
            "system_prompt": "Rate.",
            "prompt_template": "{answer_2} for {question_2}" if "multi" in name else "{answer} for {question}",
            "description": "",
            "category": "general",
            "output_format": "[[rating]]",
        }
        for name in ("single-v1", "single-v1-multi-turn", "single-math-v1", "single-math-v1-multi-turn")
    ]
    for name, rows in (("questions", asked), ("m", answers), ("prompts", prompts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def evaluated(where: Path, judge: Judge, out: Path, **settings) -> str:
    """The score table of one run whose artifacts lie in `out`."""
    asked = {"timeout_seconds": TIMEOUT, "longest_wait_seconds": 0.02, "concurrency": 64, **settings}
    config = EvalConfig(
        serve=ExistingEndpoint(base_url="http://nowhere", model="m"),
        benchmarks={"mt_bench": MTBench(questions="questions.jsonl", judge_prompts="prompts.jsonl")},
        judges={"mt_bench": OpenAI(model="judge", base_url=judge.url, key_variable=None, **asked)},
        uncertainty=Uncertainty(),
        data=where,
        artifacts=out / "artifacts",
    )
    with RunProgress() as progress:
        scored = judge_answers(where / "m.jsonl", config, progress)
    write_report(scored, out, title="faults", uncertainty=config.uncertainty)
    return (out / "scores.csv").read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_of_ten_thousand_judgments_none_is_lost_or_paid_twice_and_the_table_is_the_faultless_one(tmp_path):
    where = material(tmp_path, QUESTIONS)
    with listening(Judge(fault_at)) as judge:
        table = evaluated(where, judge, tmp_path / "faulty", readings=2)
    expected = Counter({place: 1 + (fault_at(place) in (*PASSING, *SAID)) for place in range(2 * QUESTIONS)})
    assert judge.asked == expected
    assert judge.given == Counter({place: 1 + (fault_at(place) in SAID) for place in range(2 * QUESTIONS)})
    verdicts = read_verdicts(next((tmp_path / "faulty").glob("artifacts/verdicts/*/verdicts.jsonl")))
    assert [((one.question_id, one.turn), one.value) for one in verdicts] == [
        ((str(i), turn), float(rating(2 * i + turn - 1))) for i in range(QUESTIONS) for turn in (1, 2)
    ]
    with listening(Judge(lambda place: None)) as faultless:
        assert evaluated(where, faultless, tmp_path / "faultless", readings=2) == table
    assert set(faultless.asked.values()) == {1}


def test_an_endpoint_that_dies_is_told_and_the_repeated_command_asks_only_what_is_missing(tmp_path):
    where = material(tmp_path, 100)
    with listening(Judge(lambda place: None)) as judge:
        judge.dies_after = 70
        with pytest.raises(JudgeFailure, match="does not answer .* its replies so far are kept"):
            evaluated(where, judge, tmp_path, attempts=1, concurrency=8)
        answered = set(judge.given)
        judge.dies_after = None
        judge.asked.clear()
        evaluated(where, judge, tmp_path, attempts=1, concurrency=8)
    assert len(answered) == 70
    assert set(judge.asked) == set(range(200)) - answered
    assert set(judge.given.values()) == {1}
