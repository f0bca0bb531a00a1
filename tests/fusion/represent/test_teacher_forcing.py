"""The stored representation against the same model run densely, one conversation at a time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from fusion.conversations.conversation import Conversation, Message
from fusion.conversations.template import label_rows
from fusion.fuse.fuse import pivot_candidate
from fusion.represent import RepresentConfig, open_representation, represent
from fusion.represent.teacher_forcing import batches
from fusion.runtime.configure import Refusal

TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def _conversation(number: int, answers: list[str]) -> Conversation:
    messages: list[Message] = []
    for turn, answer in enumerate(answers):
        messages += [Message(role="user", content=f"question {turn}"), Message(role="assistant", content=answer)]
    return Conversation(id=f"c{number}", messages=tuple(messages))


CONVERSATIONS = [
    _conversation(0, ["yes"]),
    _conversation(1, ["the answer is forty-two, and 日本 is far", "so it is 😀"]),
    _conversation(2, ["a longer answer " * 6]),
    _conversation(3, ["no", "maybe", "who knows"]),
    _conversation(4, ["é"]),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("checkpoint")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    specials = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([m.content for c in CONVERSATIONS for m in c.messages], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=352,  # wider than the tokenizer, as padded embeddings are
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,  # sharp distributions: tails far below fp32's epsilon would cancel
    )
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def _dense(checkpoint: Path, conversation: Conversation, max_length: int = 2048):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (row,) = label_rows(AutoTokenizer.from_pretrained(checkpoint), [conversation], max_length=max_length)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    with torch.inference_mode():
        logits = model(input_ids=torch.from_numpy(row.input_ids.astype(np.int64))[None]).logits[0]
    return row, logits[torch.from_numpy(row.positions.astype(np.int64) - 1)]


def test_stored_distributions_are_the_dense_ones_cut_to_k(checkpoint: Path, tmp_path: Path) -> None:
    represent(checkpoint=checkpoint, conversations=CONVERSATIONS, config=RepresentConfig(k=10), out=tmp_path)
    representation = open_representation(tmp_path)
    assert len(representation.rows) == len(CONVERSATIONS)
    for conversation, row in zip(CONVERSATIONS, representation.rows, strict=True):
        labelled, logits = _dense(checkpoint, conversation)
        dense = logits.log_softmax(-1).numpy()
        assert row.conversation_id == conversation.id
        np.testing.assert_array_equal(row.label_ids, labelled.input_ids[labelled.positions])
        for name in ("turn", "start", "end"):
            np.testing.assert_array_equal(getattr(row, name), getattr(labelled, name))
        np.testing.assert_allclose(
            row.top.log_probs, np.take_along_axis(dense, row.top.ids.astype(np.int64), 1), rtol=1e-3, atol=1e-3
        )
        np.testing.assert_allclose(row.top.log_probs, -np.sort(-dense, axis=1)[:, :10], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(np.exp(row.top.log_probs).sum(1) + np.exp(row.top.tail), 1, atol=2e-3)
        kept = np.exp(np.take_along_axis(dense.astype(np.float64), row.top.ids.astype(np.int64), 1)).sum(1)
        rest = [np.exp(np.delete(d.astype(np.float64), i)).sum() for d, i in zip(dense, row.top.ids, strict=True)]
        np.testing.assert_allclose(row.top.tail, np.log(rest), rtol=1e-3, atol=1e-3)
        assert np.all(kept + rest > 0.999)


ARCHITECTURES = {
    "qwen2_tied": ("Qwen2Config", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "gpt_neox": ("GPTNeoXConfig", {}),
    "gemma2_soft_capped": ("Gemma2Config", {"final_logit_softcapping": 2.0, "head_dim": 32, "num_key_value_heads": 2}),
    "cohere_scaled": ("CohereConfig", {"logit_scale": 0.25, "pad_token_id": 0}),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_an_architecture_does_to_its_logits_is_kept(checkpoint: Path, tmp_path: Path, name: str) -> None:
    import shutil

    import torch
    import transformers

    path = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, path, ignore=shutil.ignore_patterns("*.safetensors", "*config.json"))
    shutil.copy(checkpoint / "tokenizer_config.json", path)
    kind, extra = ARCHITECTURES[name]
    torch.manual_seed(1)
    size = {
        "vocab_size": 352,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = getattr(transformers, kind)(**size, bos_token_id=1, eos_token_id=2, **extra)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(path)
    represent(checkpoint=path, conversations=CONVERSATIONS, config=RepresentConfig(), out=tmp_path / "out")
    for conversation, row in zip(CONVERSATIONS, open_representation(tmp_path / "out").rows, strict=True):
        labelled, logits = _dense(path, conversation)
        gold = torch.from_numpy(labelled.input_ids[labelled.positions].astype(np.int64))
        expected = float(torch.nn.functional.cross_entropy(logits, gold, reduction="sum"))
        assert row.nll == pytest.approx(expected, rel=1e-5)


def test_bfloat16_weights_are_reduced_in_fp32(checkpoint: Path, tmp_path: Path) -> None:
    config = RepresentConfig(dtype="bfloat16")
    represent(checkpoint=checkpoint, conversations=CONVERSATIONS, config=config, out=tmp_path)
    for row in open_representation(tmp_path).rows:
        # A bf16 softmax would miss 1 by several percent; what remains is the rounding of stored halves.
        np.testing.assert_allclose(np.exp(row.top.log_probs).sum(1) + np.exp(row.top.tail), 1, atol=2e-3)


@pytest.mark.gpu
def test_the_accelerator_agrees_with_the_cpu(checkpoint: Path, tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        config = RepresentConfig(device_map=device)
        represent(checkpoint=checkpoint, conversations=CONVERSATIONS, config=config, out=tmp_path / device)
    for one, other in zip(
        open_representation(tmp_path / "cpu").rows, open_representation(tmp_path / "cuda").rows, strict=True
    ):
        assert one.nll == pytest.approx(other.nll, rel=1e-3)


def test_nll_is_the_cross_entropy_in_fp32_and_not_of_the_stored_halves(checkpoint: Path, tmp_path: Path) -> None:
    import torch

    represent(checkpoint=checkpoint, conversations=CONVERSATIONS, config=RepresentConfig(), out=tmp_path)
    for conversation, row in zip(CONVERSATIONS, open_representation(tmp_path).rows, strict=True):
        labelled, logits = _dense(checkpoint, conversation)
        gold = torch.from_numpy(labelled.input_ids[labelled.positions].astype(np.int64))
        expected = float(torch.nn.functional.cross_entropy(logits.double(), gold, reduction="sum"))
        assert row.nll == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(-row.gold_log_prob.sum(), expected, rtol=2e-3)
        assert row.bytes == sum(len(m.content.encode()) for m in conversation.messages if m.role == "assistant")
        candidate = pivot_candidate(row)
        assert candidate.cross_entropy("byte") == pytest.approx(expected / row.bytes, rel=1e-5)
        assert candidate.cross_entropy("token") == pytest.approx(expected / len(gold), rel=1e-5)


def test_batching_changes_rounding_only(checkpoint: Path, tmp_path: Path) -> None:
    alone = RepresentConfig(batch_tokens=1)
    together = RepresentConfig(batch_tokens=10_000)
    represent(checkpoint=checkpoint, conversations=CONVERSATIONS, config=alone, out=tmp_path / "alone")
    represent(checkpoint=checkpoint, conversations=CONVERSATIONS, config=together, out=tmp_path / "together")
    pairs = zip(
        open_representation(tmp_path / "alone").rows, open_representation(tmp_path / "together").rows, strict=True
    )
    for one, other in pairs:
        assert one.nll == pytest.approx(other.nll, rel=1e-5)
        np.testing.assert_allclose(one.top.log_probs, other.top.log_probs, rtol=1e-3, atol=1e-3)


def test_a_killed_run_resumes_to_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    config = RepresentConfig(rows_per_shard=2)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    represent(checkpoint=checkpoint, conversations=CONVERSATIONS, config=config, out=whole)

    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        represent(checkpoint=checkpoint, conversations=CONVERSATIONS, config=config, out=resumed, advance=kill)
    first = resumed / "shard-00000.safetensors"
    assert sorted(p.name for p in resumed.glob("*.safetensors")) == [first.name]
    assert not (resumed / "index.json").exists()
    with pytest.raises(Refusal, match="no finished representation"):
        open_representation(resumed)
    written = first.stat().st_mtime_ns
    represent(checkpoint=checkpoint, conversations=CONVERSATIONS, config=config, out=resumed)
    assert first.stat().st_mtime_ns == written
    names = sorted(path.name for path in whole.iterdir() if not path.name.startswith("."))
    assert names == ["index.json", *(f"shard-{i:05d}.safetensors" for i in range(3))]
    for name in names:
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()


def test_shards_of_another_job_are_not_kept(checkpoint: Path, tmp_path: Path) -> None:
    represent(checkpoint=checkpoint, conversations=CONVERSATIONS, config=RepresentConfig(k=3), out=tmp_path)
    represent(checkpoint=checkpoint, conversations=CONVERSATIONS, config=RepresentConfig(k=4), out=tmp_path)
    assert open_representation(tmp_path).rows[0].top.ids.shape[1] == 4


def test_a_conversation_cut_before_its_answer_keeps_its_place_without_labels(checkpoint: Path, tmp_path: Path) -> None:
    late = Conversation(
        id="late",
        messages=(Message(role="user", content="word " * 80), Message(role="assistant", content="never seen")),
    )
    config = RepresentConfig(max_length=40)
    facts = represent(checkpoint=checkpoint, conversations=[late, CONVERSATIONS[0]], config=config, out=tmp_path)
    rows = open_representation(tmp_path).rows
    assert [row.conversation_id for row in rows] == ["late", "c0"]
    assert len(rows[0].label_ids) == 0
    assert pivot_candidate(rows[0]).cross_entropy("byte") == math.inf
    assert facts["labelled_tokens"] == len(rows[1].label_ids)


def test_k_beyond_the_vocabulary_keeps_everything_and_no_tail(checkpoint: Path, tmp_path: Path) -> None:
    represent(checkpoint=checkpoint, conversations=CONVERSATIONS[:1], config=RepresentConfig(k=1000), out=tmp_path)
    row = open_representation(tmp_path).rows[0]
    assert row.top.ids.shape[1] == 352
    assert np.isneginf(row.top.tail).all()


@pytest.mark.parametrize(("damage", "message"), [("nan", "not finite"), ("missing", "lacks 1 tensors")])
def test_damaged_weights_are_refused_by_name(checkpoint: Path, tmp_path: Path, damage: str, message: str) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    tensors = load_file(broken / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    if damage == "nan":
        tensors[name][3, 5] = float("nan")
    else:
        del tensors[name]
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Refusal, match=f"broken.*{message}"):
        represent(checkpoint=broken, conversations=CONVERSATIONS, config=RepresentConfig(), out=tmp_path / "out")


def test_a_truncated_weight_file_and_a_missing_directory_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    for path in (broken, tmp_path / "absent"):
        with pytest.raises(Refusal, match=path.name):
            represent(checkpoint=path, conversations=CONVERSATIONS, config=RepresentConfig(), out=tmp_path / "out")


def test_a_conversation_beyond_the_position_embeddings_is_refused_with_the_limit(
    checkpoint: Path, tmp_path: Path
) -> None:
    long = _conversation(9, ["x y z " * 200])
    with pytest.raises(Refusal, match=r"represent\.max_length=256"):
        represent(checkpoint=checkpoint, conversations=[long], config=RepresentConfig(), out=tmp_path)


def test_batches_keep_the_budget_and_cover_every_row_once() -> None:
    lengths = [5, 0, 9, 3, 9, 1]
    found = list(batches(lengths, 18))
    assert found == [[2, 4], [0, 3, 5]]  # 2 x 9 = 18; then 3 x 5 = 15
    assert list(batches([50], 18)) == [[0]]
