"""A served judge whose server dies under it."""

import contextlib
import json
from types import SimpleNamespace

import pytest

from eval.errors import JudgeFailure
from eval.judges import JudgeRequest, Served
from eval.judges.served import RunningJudge
from eval.serve import Endpoint


class Dying:
    """A choice of server whose addresses follow each other: each `load` after a death moves on to the next."""

    def __init__(self, *addresses):
        self.addresses = [*addresses]
        self.loads = 0

    @contextlib.contextmanager
    def start(self, *, logs, say):
        yield self

    def template_of(self, checkpoint):
        return None  # its addresses take conversations as they are

    @property
    def endpoint(self):
        return Endpoint(base_url=self.addresses[0], model="judge", key="k")

    def load(self, checkpoint):
        self.loads += 1
        if self.loads > 1 and len(self.addresses) > 1:
            self.addresses.pop(0)
            return SimpleNamespace(how="restarted")
        return SimpleNamespace(how="unchanged")


def requests(count):
    return [
        JudgeRequest(
            benchmark="mt_bench",
            question_id=str(i),
            turn=1,
            model="m",
            form="rating",
            question="?",
            answers=("a",),
            reference=None,
            messages=({"role": "user", "content": f"question {i}"},),
        )
        for i in range(count)
    ]


def judge(server, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({}))
    settings = Served(checkpoint=str(tmp_path), attempts=1, concurrency=1, longest_wait_seconds=0.0)
    replies = {}
    with contextlib.ExitStack() as stack:
        running = RunningJudge(settings, server, stack, logs=tmp_path, say=lambda line: None)
        running.judge(requests(30), lambda request, reply: replies.__setitem__(request.question_id, reply))
    return replies


def test_the_rest_is_asked_of_its_successor(endpoint, tmp_path):
    dies = endpoint(lambda question, _: "[[5]]" if question == "question 0" else None)
    successor = endpoint(lambda *_: "[[7]]")
    server = Dying(dies.url, successor.url)
    replies = judge(server, tmp_path)
    assert [reply.text for reply in replies.values()] == ["[[5]]"] + ["[[7]]"] * 29
    assert len(successor.asked) == 29
    assert server.loads == 2


def test_a_server_that_lives_and_does_not_answer_is_not_started_again(endpoint, tmp_path):
    mute = endpoint(lambda *_: None)
    with pytest.raises(JudgeFailure, match="does not answer"):
        judge(Dying(mute.url), tmp_path)
    assert len(mute.asked) == 20
