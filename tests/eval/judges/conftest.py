"""A scripted judge model on loopback."""

import threading

import pytest

from eval.judges import OpenAI


def chat_completion(text, *, top=()):
    content = [{"token": text, "logprob": 0.0, "bytes": None, "top_logprobs": list(top)}]
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "judge",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
                "logprobs": {"content": content} if top else None,
            }
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
    }


class Endpoint:
    """Answers every question by `script(question, times asked before)`: a text, or (status, headers, body), or None
    to hang up.
    """

    def __init__(self, loopback, script):
        self.asked: list[dict] = []
        self._script = script
        self._lock = threading.Lock()
        self.url = f"{loopback(self._react)}/v1"

    def _react(self, path, key, body):
        with self._lock:
            before = sum(one["messages"] == body["messages"] for one in self.asked)
            self.asked.append({**body, "key": key})
        found = self._script(body["messages"][-1]["content"], before)
        return (200, {}, chat_completion(found)) if isinstance(found, str) else found

    def judge(self, **settings):
        return OpenAI(
            **{
                "model": "judge",
                "base_url": self.url,
                "key_variable": None,
                "longest_wait_seconds": 0.02,
                "timeout_seconds": 5.0,
                **settings,
            }
        )


@pytest.fixture
def completion():
    return chat_completion


@pytest.fixture
def endpoint(loopback):
    return lambda script: Endpoint(loopback, script)
