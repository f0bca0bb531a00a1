"""The pocket models before training: a tokenizer of their own, a chat template of their own, random weights.

Pivot and sources differ in architecture, size, vocabulary and template, so the recipe meets what it was made for.  A
checkpoint is an ordinary Hugging Face directory; training it is the train stage's work.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fusion.conversations.conversation import Conversation, read_conversations, write_conversations
from fusion.pocket.dialogues import DOMAINS
from fusion.pocket.tokenizers import PocketTokenizer, train_tokenizer
from fusion.runtime.configure import Refusal
from fusion.runtime.work import Size

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

# from_config draws from torch's one global generator, which two lanes would share.
_GLOBAL_GENERATOR = threading.Lock()
PAD, BEGIN = "<|endoftext|>", "<|begin|>"  # Qwen2's tokenizer class adds the former where it is missing
_MARKERS = {
    "named": ("<|user|>", "<|assistant|>", "<|end|>"),
    "brackets": ("[INST]", "[/INST]", "</s>"),
    "chatml": ("<|im_user|>", "<|im_assistant|>", "<|im_end|>"),
    "letters": ("<|Q|>", "<|A|>", "<|.|>"),
}


@dataclass(frozen=True, kw_only=True)
class PocketModel:
    """A tiny chat model and what it learns from.

    `mixture` maps a domain to its share of the model's `conversations`; `template` names its turn markers.  A head
    must be at least 32 wide: narrower ones end vLLM on CPU at the first request.
    """

    architecture: Literal["llama", "qwen2", "gpt_neox"]
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    tokenizer: PocketTokenizer
    template: Literal["named", "brackets", "chatml", "letters"]
    mixture: Mapping[str, float]
    conversations: int
    max_length: int = 256
    initializer_range: float = 0.09  # about 1/sqrt(hidden size): 0.02, meant for wide models, learns many times slower
    seed: int = 0

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads or self.hidden_size // self.heads < 32:
            raise ValueError(
                f"hidden_size {self.hidden_size} over {self.heads} heads: expected heads of one size, at least 32 wide"
            )
        if set(self.mixture) - set(DOMAINS) or any(share < 0 for share in self.mixture.values()):
            raise ValueError(f"mixture is {dict(self.mixture)}: expected shares of {', '.join(DOMAINS)}")
        if sum(self.mixture.values()) <= 0 or self.conversations < 1:
            raise ValueError("the model learns from nothing: set mixture and conversations")

    @property
    def size(self) -> Size:
        """Two embeddings and the layers' matrices, without norms and biases."""
        matrices = 2 if self.architecture == "gpt_neox" else 3
        layer = 4 * self.hidden_size**2 + matrices * self.hidden_size * self.intermediate_size
        parameters = float(2 * self.tokenizer.vocab_size * self.hidden_size + self.layers * layer)
        return Size(parameters=parameters, active=parameters, bytes_each=4, conversations=self.conversations)


def build_checkpoint(config: PocketModel, text: Path, out: Path) -> dict[str, object]:
    """Write an untrained checkpoint into `out`, and beside it `train.jsonl`, the dialogues it is to be trained on.

    `text` is the directory that fusion.pocket.questions.write_dialogues wrote.  The tokenizer is trained on the
    model's own dialogues.  Raises ValueError when `text` holds too few of them.
    """
    import torch
    from transformers import AutoModelForCausalLM

    learned = mixed(config, text)
    tokenizer = chat_tokenizer(config, learned)
    settings = model_settings(config, tokenizer)
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_conversations(out / "train.jsonl", learned)
    end = tokenizer.eos_token_id
    generation = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": end, "pad_token_id": tokenizer.pad_token_id}
    (out / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "vocabulary": len(tokenizer), "conversations": len(learned)}


def mixed(config: PocketModel, text: Path) -> list[Conversation]:
    """The model's own training dialogues: the first of each domain, in its share, in a mixed order."""
    whole = sum(config.mixture.values())
    chosen: list[Conversation] = []
    for domain in DOMAINS:
        wanted = round(config.conversations * config.mixture.get(domain, 0.0) / whole)
        if wanted:
            path = text / f"train_{domain}.jsonl"
            found = read_conversations(path)[:wanted]
            if len(found) < wanted:
                raise Refusal(
                    f"{path} holds {len(found)} dialogues, the mixture wants {wanted}: raise data.pocket.train"
                )
            chosen += found
    random.Random(f"{config.seed}/mixture").shuffle(chosen)
    return chosen


def chat_tokenizer(config: PocketModel, conversations: Sequence[Conversation]) -> PreTrainedTokenizerFast:
    """A fast tokenizer trained on the conversations' text, with this model's markers and template."""
    from transformers import PreTrainedTokenizerFast

    user, assistant, end = _MARKERS[config.template]
    special = [PAD, BEGIN, user, assistant, end]
    core = train_tokenizer(config.tokenizer, _texts(conversations), special=special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BEGIN,
        eos_token=end,
        pad_token=PAD,
        model_max_length=config.max_length,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = chat_template(user=user, assistant=assistant, end=end)
    return tokenizer


def chat_template(*, user: str, assistant: str, end: str) -> str:
    """Jinja: a marker before every turn, and an end marker after the assistant's; a system turn reads as a user's."""
    return (
        "{{ bos_token }}{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}" + assistant + "{{ message['content'] }}" + end + "{% else %}"
        "" + user + "{{ message['content'] }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}" + assistant + "{% endif %}"
    )


def model_settings(config: PocketModel, tokenizer: PreTrainedTokenizerFast) -> PretrainedConfig:
    """The architecture's Hugging Face configuration; input and output embeddings are not tied."""
    from transformers import GPTNeoXConfig, LlamaConfig, Qwen2Config

    shared: dict[str, int | float | bool | None] = {
        "vocab_size": len(tokenizer),
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "max_position_embeddings": config.max_length,
        "initializer_range": config.initializer_range,
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if config.architecture == "llama":
        return LlamaConfig(**shared, num_key_value_heads=config.heads)
    if config.architecture == "qwen2":
        return Qwen2Config(**shared, num_key_value_heads=config.heads)
    return GPTNeoXConfig(
        **shared, rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}
    )


def _texts(conversations: Sequence[Conversation]) -> Iterator[str]:
    for conversation in conversations:
        for message in conversation.messages:
            yield message.content
