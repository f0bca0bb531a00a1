"""A scripted judge model on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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

    def __init__(self, script):
        self.asked: list[dict] = []
        lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    before = sum(one["messages"] == body["messages"] for one in endpoint.asked)
                    endpoint.asked.append({**body, "key": self.headers["Authorization"]})
                found = script(body["messages"][-1]["content"], before)
                if found is None:
                    self.connection.close()
                    return
                status, headers, payload = (200, {}, chat_completion(found)) if isinstance(found, str) else found
                data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

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

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def completion():
    return chat_completion


@pytest.fixture
def endpoint():
    opened = []

    def start(script):
        opened.append(Endpoint(script))
        return opened[-1]

    yield start
    for one in opened:
        one.close()
