"""Untrained pocket checkpoints: loadable, reproducible, with tokenizers that round-trip and templates that differ."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from fusion.conversations.conversation import read_conversations
from fusion.pocket.dialogues import DOMAINS, PocketData
from fusion.pocket.models import PocketModel, build_checkpoint
from fusion.pocket.questions import write_dialogues
from fusion.pocket.tokenizers import PocketTokenizer
from fusion.runtime.configure import Refusal, typed

LLAMA = PocketModel(
    architecture="llama",
    hidden_size=64,
    intermediate_size=96,
    layers=1,
    heads=2,
    tokenizer=PocketTokenizer(kind="byte_bpe", vocab_size=400),
    template="named",
    mixture={"numbers": 2.0, "arithmetic": 1.0, "letters": 1.0},
    conversations=120,
)
QWEN = replace(
    LLAMA,
    architecture="qwen2",
    tokenizer=PocketTokenizer(kind="byte_bpe", vocab_size=360, longest=6),
    template="chatml",
)
NEOX = replace(
    LLAMA,
    architecture="gpt_neox",
    tokenizer=PocketTokenizer(kind="space_bpe", vocab_size=420),
    template="letters",
)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    out = tmp_path_factory.mktemp("text")
    write_dialogues(PocketData(train=100, fusion=5, questions=2, instructions=2), out)
    return out


def loaded(path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path)


@pytest.mark.parametrize("config", [LLAMA, QWEN, NEOX], ids=lambda config: config.architecture)
def test_a_checkpoint_loads_and_its_tokenizer_gives_every_text_back(config, text, tmp_path):
    facts = build_checkpoint(config, text, tmp_path)
    tokenizer, model = loaded(tmp_path)
    assert model.config.model_type == config.architecture
    assert len(tokenizer) == facts["vocabulary"] <= config.tokenizer.vocab_size
    for row in read_conversations(tmp_path / "train.jsonl"):
        for message in row.messages:
            ids = tokenizer(message.content, add_special_tokens=False)["input_ids"]
            assert tokenizer.decode(ids) == message.content
    figures = tokenizer("take 5 from 347", add_special_tokens=False)["input_ids"]
    assert [tokenizer.decode([token]) for token in figures[-3:]] == ["3", "4", "7"]


@pytest.mark.parametrize("config", [LLAMA, NEOX], ids=lambda config: config.architecture)
def test_the_same_settings_write_the_same_bytes(config, text, tmp_path):
    for name in ("one", "two"):
        build_checkpoint(config, text, tmp_path / name)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_checkpoints_built_side_by_side_have_the_weights_of_those_built_alone(text, tmp_path):
    configs = [replace(QWEN, seed=seed) for seed in range(4)]
    for number, config in enumerate(configs):
        build_checkpoint(config, text, tmp_path / f"alone-{number}")
    with ThreadPoolExecutor(max_workers=4) as lanes:
        together = [
            lanes.submit(build_checkpoint, config, text, tmp_path / f"together-{number}")
            for number, config in enumerate(configs)
        ]
        for future in together:
            future.result()
    for number in range(len(configs)):
        alone, other = (tmp_path / f"{how}-{number}" / "model.safetensors" for how in ("alone", "together"))
        assert alone.read_bytes() == other.read_bytes()


def test_the_template_continues_its_own_generation_prompt_and_ends_turns_with_the_end_token(text, tmp_path):
    build_checkpoint(QWEN, text, tmp_path)
    tokenizer, _ = loaded(tmp_path)
    asked = [{"role": "user", "content": "halve 46"}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    answered = [*asked, {"role": "assistant", "content": "23"}]
    assert tokenizer.apply_chat_template(answered, tokenize=False) == prompt + "23" + tokenizer.eos_token


def test_the_mixture_is_kept(text, tmp_path):
    build_checkpoint(LLAMA, text, tmp_path)
    rows = read_conversations(tmp_path / "train.jsonl")
    assert [sum(row.domain == domain for row in rows) for domain in DOMAINS] == [60, 30, 30]


def test_more_dialogues_than_were_written_are_refused(text, tmp_path):
    with pytest.raises(Refusal, match=r"holds 100 dialogues, the mixture wants 200: raise data\.pocket\.train"):
        build_checkpoint(replace(LLAMA, conversations=400), text, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 4}, "at least 32 wide"),
        ({"mixture": {"poetry": 1.0}}, "expected shares of numbers, arithmetic, letters"),
        ({"architecture": "lama"}, "did you mean 'llama'"),
    ],
)
def test_settings_that_cannot_work_are_refused(change, message):
    given = {name: getattr(LLAMA, name) for name in LLAMA.__dataclass_fields__} | change
    with pytest.raises(Refusal, match=message):
        typed(given, PocketModel)
