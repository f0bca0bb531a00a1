"""A chat model of a few thousand weights, made here, and dialogues for it."""

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def dialogues(tmp_path_factory) -> Path:
    """Forty two-turn conversations as JSONL."""
    path = tmp_path_factory.mktemp("data") / "dialogues.jsonl"
    lines = []
    for i in range(40):
        messages = [
            {"role": "user", "content": f"Add {i} and {2 * i}, please."},
            {"role": "assistant", "content": f"It is {3 * i}."},
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "Yes, " + "very " * (i % 5) + "sure."},
        ]
        lines.append(json.dumps({"id": f"d{i}", "messages": messages}) + "\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, dialogues) -> Path:
    """A randomly initialised Llama with tied embeddings and more logits than its tokenizer has tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("tiny") / "model"
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    texts = [m["content"] for line in dialogues.read_text().splitlines() for m in json.loads(line)["messages"]]
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 13,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
