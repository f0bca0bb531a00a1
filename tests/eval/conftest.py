"""What several rooms of evaluation are tested with: tiny chat checkpoints, and a scripted address on the loopback."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.judges import OpenAI

TEXT = ["What is the sum of seven and nine? The answer is sixteen, because 7 + 9 = 16. naïve"] * 20
TEMPLATES = {
    "bytes": "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "pieces": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}",
}


def made_tokenizer(kind: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if kind == "bytes":
        raw = Tokenizer(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        end, pad = "<|end|>", "<|pad|>"
    else:
        raw = Tokenizer(models.Unigram())
        raw.pre_tokenizer = pre_tokenizers.Metaspace()
        raw.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
        )
        end, pad = "</s>", "<pad>"
    raw.train_from_iterator(TEXT, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=end, pad_token=pad)
    tokenizer.chat_template = TEMPLATES[kind]
    return tokenizer


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, Any]:
    """Tokenizers that disagree: byte-level BPE (`bytes`), and Unigram with a space marker (`pieces`)."""
    return {kind: made_tokenizer(kind) for kind in TEMPLATES}


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make_checkpoint(seed, kind="bytes", layers=2, wider=0)` writes a Llama with random weights, and its tokenizer.

    vLLM can serve it on a CPU (head size 32).  Its vocabulary is `wider` than the tokenizer, as padded ones are.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    def make(seed: int, kind: str = "bytes", layers: int = 2, wider: int = 0) -> Path:
        out = tmp_path_factory.mktemp(f"checkpoint-{kind}-{seed}-")
        tokenizer = made_tokenizer(kind)
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer) + wider,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=256,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=0.4,  # far from uniform, so that greedy choices have no near ties
        )
        LlamaForCausalLM(config).save_pretrained(out)
        tokenizer.save_pretrained(out)
        return out

    return make


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
