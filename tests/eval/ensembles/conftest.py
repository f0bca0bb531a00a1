"""Tiny chat checkpoints with tokenizers that disagree: byte-level BPE, and Unigram with a space marker."""

from collections.abc import Callable
from pathlib import Path

import pytest

TEXT = ["What is the sum of seven and nine? The answer is sixteen, because 7 + 9 = 16. naïve"] * 20
TEMPLATES = {
    "bytes": "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "pieces": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}",
}


def made_tokenizer(kind: str):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if kind == "bytes":
        raw = Tokenizer(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"],
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
def tokenizers() -> dict:
    """One tokenizer of each kind."""
    return {kind: made_tokenizer(kind) for kind in TEMPLATES}


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make_checkpoint(seed, kind, wider)` writes a small Llama with random weights, and its tokenizer.

    Its vocabulary is `wider` than the tokenizer, as padded ones are.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    def make(seed: int, kind: str = "bytes", wider: int = 0) -> Path:
        out = tmp_path_factory.mktemp(f"checkpoint-{kind}-{seed}-")
        tokenizer = made_tokenizer(kind)
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer) + wider,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
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
