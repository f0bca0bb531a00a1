"""Whole training runs of a tiny model in this process."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from fusion.conversations.conversation import read_conversations
from fusion.conversations.template import label_rows
from fusion.distribution import TopK
from fusion.fuse.candidate import Fused
from fusion.fuse.shards import FusedRow, FusedWriter
from fusion.runtime.configure import Refusal
from fusion.train import run as run_module
from fusion.train.batching import collate
from fusion.train.config import TrainConfig
from fusion.train.run import TrainingJob, run, training_row, training_rows
from fusion.train.trainer import FusionTrainer, OrderedRows, training_arguments

CONFIG = TrainConfig(
    max_steps=8, batch_size=4, learning_rate=3e-3, max_length=64, save_every=3, device="cpu", warmup_ratio=0.1
)


def job(checkpoint, dialogues, out, *, fused=None, **changes):
    out.mkdir(exist_ok=True)
    config = dataclasses.replace(CONFIG, **changes)
    return TrainingJob(initial=checkpoint, conversations=dialogues, fused=fused, config=config, out=out)


def log(out):
    return [json.loads(line) for line in (out / "training_log.jsonl").read_text().splitlines()]


def fused_targets(checkpoint, dialogues, out, *, spare=None, change=None):
    """Targets that always teach token 7 with probability 3/4, for every conversation but `spare`."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    out.mkdir(exist_ok=True)
    writer = FusedWriter(out, teachers=["pivot"], rows_per_shard=16)
    for conversation in read_conversations(dialogues):
        if conversation.id == spare:
            continue
        (row,) = label_rows(tokenizer, [conversation], max_length=30)
        labels = row.input_ids[row.positions].copy()
        if conversation.id == change:
            labels[0] += 1
        n = len(labels)
        top = TopK(
            ids=np.tile(np.array([[7, 8]], np.int32), (n, 1)),
            log_probs=np.log(np.tile(np.array([[0.75, 0.25]], np.float32), (n, 1))),
            tail=np.full(n, -np.inf, np.float32),
        )
        writer.add(conversation.id, labels, Fused(top=top, taught_by=np.zeros(n, np.int8)))
    writer.close()
    return out


@pytest.fixture(scope="module")
def trained(checkpoint, dialogues, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "out"
    facts = run(job(checkpoint, dialogues, out))
    return out, facts


def test_training_lowers_the_loss_and_says_what_it_did(trained):
    out, facts = trained
    lines = log(out)
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert facts["steps"] == 8 and facts["conversations"] == 40 and facts["left_out"] == 0
    assert all(line["gradient_norm"] > 0 for line in lines)
    # one step of warm-up, then the cosine's way down
    assert lines[0]["learning_rate"] == 0.0
    assert lines[1]["learning_rate"] == CONFIG.learning_rate > lines[2]["learning_rate"]


def test_the_checkpoint_loads_with_the_pivots_tokenizer_template_and_config(trained, checkpoint):
    out, _ = trained
    model = AutoModelForCausalLM.from_pretrained(out)
    before = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert model.dtype == torch.float32
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert not torch.equal(model.lm_head.weight, before.lm_head.weight)
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (checkpoint / name).read_bytes()
    ours, theirs = json.loads((out / "config.json").read_text()), json.loads((checkpoint / "config.json").read_text())
    assert ours == theirs | {"dtype": "float32"}


def test_only_assistant_tokens_are_learned_from(checkpoint, dialogues, tmp_path):
    task = job(checkpoint, dialogues, tmp_path / "out")
    rows, _ = training_rows(task)
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    arguments = training_arguments(task.config, checkpoints=tmp_path / "c", steps=1)
    trainer = FusionTrainer(config=task.config, model=model, plan=OrderedRows(rows, np.arange(4)), arguments=arguments)
    batch = collate(rows[:4], pad_id=0)
    count = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    loss = trainer.compute_loss(model, batch, num_items_in_batch=count)
    # By hand: every token of the assistant's text and the end of its turn, and no other.
    nll, learned = [], []
    for conversation, row in zip(read_conversations(dialogues), rows[:4], strict=False):
        ids = torch.from_numpy(row.input_ids).long()[None]
        log_probs = torch.log_softmax(model(input_ids=ids).logits[0], -1)
        speaking = False
        text = ""
        for t, token in enumerate(ids[0].tolist()):
            if speaking:
                nll.append(-log_probs[t - 1, token])
                text += tokenizer.decode([token])
            if token in (1, 2, 3):  # <|end|>, <|user|>, <|assistant|>
                speaking = token == 3
        learned.append(text)
        assert text == "".join(m.content + "<|end|>" for m in conversation.messages if m.role == "assistant")
    assert loss.item() == pytest.approx(torch.stack(nll).mean().item(), abs=1e-5)


def test_padding_does_not_change_the_loss(checkpoint, dialogues, tmp_path):
    task = job(checkpoint, dialogues, tmp_path / "out")
    rows, _ = training_rows(task)
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    arguments = training_arguments(task.config, checkpoints=tmp_path / "c", steps=1)
    trainer = FusionTrainer(config=task.config, model=model, plan=OrderedRows(rows, np.arange(4)), arguments=arguments)
    losses = [trainer.compute_loss(model, collate([r], pad_id=0), num_items_in_batch=torch.tensor(1)) for r in rows[:5]]
    together = trainer.compute_loss(model, collate(rows[:5], pad_id=0), num_items_in_batch=torch.tensor(1))
    assert together.item() == pytest.approx(sum(losses).item(), rel=1e-5)


def test_a_step_is_the_same_where_conversations_share_rows(checkpoint, tmp_path):
    said = ["It is " + "so " * (40 if i % 4 == 0 else i % 3) + f"{i}." for i in range(16)]
    turns = [
        [{"role": "user", "content": f"And {i}?"}, {"role": "assistant", "content": one}] for i, one in enumerate(said)
    ]
    uneven = tmp_path / "uneven.jsonl"
    uneven.write_text("".join(json.dumps({"id": f"u{i}", "messages": one}) + "\n" for i, one in enumerate(turns)))
    tasks = {
        packed: job(checkpoint, uneven, tmp_path / str(packed), packing=packed, batch_size=8)
        for packed in (False, True)
    }
    rows, _ = training_rows(tasks[True])
    first = np.random.default_rng(0).permutation(len(rows))[:8]
    assert len(collate([rows[i] for i in first], pad_id=0, packed=True)["input_ids"]) < 8  # rows are shared
    for task in tasks.values():
        run(task)
    for ours, padded in zip(log(tmp_path / "True"), log(tmp_path / "False"), strict=True):
        assert ours["labelled_tokens"] == padded["labelled_tokens"]
        assert ours["loss"] == pytest.approx(padded["loss"], rel=1e-5)
        assert ours["gradient_norm"] == pytest.approx(padded["gradient_norm"], rel=1e-4)


def test_a_step_is_the_same_however_it_is_divided_into_micro_batches(checkpoint, dialogues, tmp_path, trained):
    run(job(checkpoint, dialogues, tmp_path / "out", gradient_accumulation=4))
    for ours, whole in zip(log(tmp_path / "out"), log(trained[0]), strict=True):
        assert ours["loss"] == pytest.approx(whole["loss"], rel=1e-4)
        assert ours["gradient_norm"] == pytest.approx(whole["gradient_norm"], rel=1e-3)
        assert ours["labelled_tokens"] == whole["labelled_tokens"]


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [2, 5])
def test_an_interrupted_run_continues_to_the_same_bytes(at, checkpoint, dialogues, tmp_path, trained, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        step = FusionTrainer.training_step

        def dies(self, *arguments, **named):
            if self.state.global_step == at:
                raise Killed
            return step(self, *arguments, **named)

        patch.setattr(FusionTrainer, "training_step", dies)
        with pytest.raises(Killed):
            run(job(checkpoint, dialogues, out))
    # A kill in the middle of writing leaves a checkpoint without its mark, and half a line of log.
    (out / ".checkpoints" / "checkpoint-7").mkdir(parents=True)
    with (out / "training_log.jsonl").open("a") as stream:
        stream.write('{"step": 4, "lo')
    facts = run(job(checkpoint, dialogues, out))
    assert facts["resumed_at"] == (3 if at == 5 else 0)
    for name in ("model.safetensors", "training_log.jsonl", "config.json"):
        assert (out / name).read_bytes() == (trained[0] / name).read_bytes()


def test_the_run_follows_fused_targets_where_lm_weight_lets_it(checkpoint, dialogues, tmp_path):
    targets = fused_targets(checkpoint, dialogues, tmp_path / "fused")
    out = tmp_path / "out"
    facts = run(job(checkpoint, dialogues, out, fused=targets, lm_weight=0.0, max_steps=30, learning_rate=2e-2))
    first, last = log(out)[0], log(out)[-1]
    assert last["fusion"] < 0.5 * first["fusion"] and last["sft"] > first["fusion"] - 1
    assert facts["final_loss"] == pytest.approx(facts["final_fusion"])
    model = AutoModelForCausalLM.from_pretrained(out)
    rows, _ = training_rows(job(checkpoint, dialogues, out, fused=targets))
    logits = model(input_ids=torch.from_numpy(rows[0].input_ids).long()[None]).logits[0]
    assert set(logits[rows[0].positions[:10] - 1].argmax(-1).tolist()) == {7}


def test_positions_the_targets_do_not_reach_have_no_entry(checkpoint, dialogues, tmp_path):
    targets = fused_targets(checkpoint, dialogues, tmp_path / "fused")  # made with 30 tokens a row
    rows, _ = training_rows(job(checkpoint, dialogues, tmp_path / "out", fused=targets, max_length=64))
    reaching = [(row.positions < 30, (row.teacher.ids >= 0).any(1)) for row in rows]
    assert all(np.array_equal(a, b) for a, b in reaching)
    assert any(not a.all() for a, _ in reaching)
    shorter, _ = training_rows(job(checkpoint, dialogues, tmp_path / "out", fused=targets, max_length=20))
    assert all(len(row.teacher) == len(row.positions) and row.positions.max() < 20 for row in shorter)


def test_labels_the_targets_do_not_reach_are_counted(checkpoint, dialogues, tmp_path):
    targets = fused_targets(checkpoint, dialogues, tmp_path / "fused")  # made with 30 tokens a row
    rows, counted = training_rows(job(checkpoint, dialogues, tmp_path / "out", fused=targets, max_length=64))
    behind = [int((row.positions >= 30).sum()) for row in rows]
    assert counted == {
        "conversations": 40,
        "left_out": 0,
        "labels": sum(len(row.positions) for row in rows),
        "labels_without_target": sum(behind),
        "conversations_cut": sum(count > 0 for count in behind),
        "conversations_without_target": 0,
    }
    assert 0 < counted["conversations_cut"] < 40  # some dialogues are short
    whole = training_rows(job(checkpoint, dialogues, tmp_path / "out", fused=targets, max_length=30))[1]
    assert (whole["labels_without_target"], whole["conversations_cut"]) == (0, 0)
    alone = training_rows(job(checkpoint, dialogues, tmp_path / "out", max_length=64))[1]
    assert alone == {"conversations": 40, "left_out": 0}


def test_conversations_whose_targets_hold_no_label_are_counted_and_trained_on(checkpoint, tmp_path):
    def said(question: str) -> dict[str, object]:
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "Yes."}]
        return {"id": question, "messages": turns}

    dialogues = tmp_path / "dialogues.jsonl"
    long = "Is it so, and so, and so, and so, and so on?"
    dialogues.write_text("".join(json.dumps(said(question)) + "\n" for question in ("So?", long)))
    targets = tmp_path / "fused"
    targets.mkdir()
    writer = FusedWriter(targets, teachers=["pivot"], rows_per_shard=16)
    rows, _ = training_rows(job(checkpoint, dialogues, tmp_path / "plain"))
    for conversation, row in zip(read_conversations(dialogues), rows, strict=True):
        n = 0 if conversation.id == long else len(row.positions)
        top = TopK(
            ids=np.full((n, 2), 7, np.int32), log_probs=np.full((n, 2), -1, np.float32), tail=np.full(n, -1, np.float32)
        )
        writer.add(conversation.id, row.input_ids[row.positions][:n], Fused(top=top, taught_by=np.zeros(n, np.int8)))
    writer.close()
    facts = run(job(checkpoint, dialogues, tmp_path / "out", fused=targets, lm_weight=0.5, max_steps=1, batch_size=2))
    assert facts["labels"] == sum(len(row.positions) for row in rows)
    assert facts["labels_without_target"] == len(rows[1].positions)
    assert (facts["conversations_cut"], facts["conversations_without_target"]) == (1, 1)


def test_a_conversation_longer_than_the_model_sees_is_refused(checkpoint, tmp_path):
    dialogues = tmp_path / "dialogues.jsonl"
    turns = [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": "é" * 300}]
    dialogues.write_text(json.dumps({"id": "long", "messages": turns}) + "\n")
    with pytest.raises(Refusal, match=r"tokens and .* sees 256: set train.max_length=256"):
        run(job(checkpoint, dialogues, tmp_path / "out", max_length=400, max_steps=1))


def test_targets_made_for_other_tokens_are_refused(checkpoint, dialogues, tmp_path):
    targets = fused_targets(checkpoint, dialogues, tmp_path / "fused", change="d3")
    with pytest.raises(Refusal, match="conversation 'd3': the fused targets were made for other tokens"):
        training_rows(job(checkpoint, dialogues, tmp_path / "out", fused=targets))


def test_a_conversation_without_targets_is_refused(checkpoint, dialogues, tmp_path):
    targets = fused_targets(checkpoint, dialogues, tmp_path / "fused", spare="d9")
    with pytest.raises(Refusal, match="conversation 'd9' of .* has no fused targets"):
        training_rows(job(checkpoint, dialogues, tmp_path / "out", fused=targets))


def test_a_set_without_any_label_is_refused(checkpoint, dialogues, tmp_path):
    with pytest.raises(Refusal, match="no conversation of .* has an assistant token within 2 tokens"):
        training_rows(job(checkpoint, dialogues, tmp_path / "out", max_length=2))


def test_a_label_at_the_very_first_token_is_left_out():
    from fusion.conversations.template import LabelledRow

    labelled = LabelledRow(
        conversation_id="x",
        input_ids=np.array([5, 6], np.int32),
        positions=np.array([0, 1], np.int32),
        turn=np.zeros(2, np.int16),
        start=np.array([0, 1], np.int32),
        end=np.array([1, 2], np.int32),
        content_bytes=np.array([2], np.int32),
    )
    top = TopK(ids=np.array([[5], [6]], np.int32), log_probs=np.zeros((2, 1), np.float32), tail=np.zeros(2, np.float32))
    fused = FusedRow(conversation_id="x", label_ids=np.array([5, 6]), top=top, taught_by=np.zeros(2, np.int8))
    row = training_row(labelled, fused)
    assert row.positions.tolist() == [1] and row.teacher.ids.tolist() == [[6]]
    assert training_row(labelled, None).positions.tolist() == [1]


@pytest.mark.parametrize("precision", ["bf16_mixed", "bf16_pure"])
def test_reduced_precision_trains_nearly_as_fp32_does_and_not_exactly_so(
    precision, checkpoint, dialogues, tmp_path, trained
):
    out = tmp_path / "out"
    run(job(checkpoint, dialogues, out, precision=precision))
    for ours, theirs in zip(log(out), log(trained[0]), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.01)
        assert ours["loss"] != theirs["loss"]


def test_what_saving_in_fewer_bits_leaves_of_training_is_measured(checkpoint, dialogues, tmp_path):
    """Two steps of 1e-5 beside weights of 0.02, where bf16 has a number every 2**-13 = 1.2e-4: most is rounded off."""
    found = {}
    for dtype in ("float32", "bfloat16"):
        found[dtype] = run(
            job(checkpoint, dialogues, tmp_path / dtype, max_steps=3, learning_rate=1e-5, save_dtype=dtype)
        )
    whole, rounded = (load_file(tmp_path / dtype / "model.safetensors") for dtype in ("float32", "bfloat16"))
    start = load_file(checkpoint / "model.safetensors")
    update = torch.cat([(whole[name] - start[name]).double().reshape(-1) for name in start])
    left = torch.cat([(rounded[name].double() - start[name].bfloat16().double()).reshape(-1) for name in start])
    expected = {
        "cosine": float(update @ left / update.norm() / left.norm()),
        "norm_ratio": float(left.norm() / update.norm()),
        "moved": float((left != 0).double().mean()),
    }
    assert found["bfloat16"]["update"]["stored"] == pytest.approx(expected, rel=1e-3)
    assert expected["cosine"] < 0.9
    # The fp32 file keeps all, and says what a server in bf16 would.
    assert found["float32"]["update"]["stored"]["cosine"] == pytest.approx(1)
    assert found["float32"]["update"]["bfloat16"] == pytest.approx(expected, rel=1e-3)
    assert found["bfloat16"]["dtype"] == {
        "initial": "float32", "trained": "float32", "arithmetic": "float32", "stored": "bfloat16",
    }  # fmt: skip


def test_gradient_checkpointing_changes_nothing_but_memory(checkpoint, dialogues, tmp_path, trained):
    run(job(checkpoint, dialogues, tmp_path / "out", gradient_checkpointing=True, max_steps=2))
    run(job(checkpoint, dialogues, tmp_path / "plain", max_steps=2))
    assert log(tmp_path / "out")[1]["loss"] == pytest.approx(log(tmp_path / "plain")[1]["loss"], rel=1e-6)


def test_an_unreadable_checkpoint_is_refused(checkpoint, dialogues, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in checkpoint.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(Refusal, match="cannot be loaded"):
        run_module._load(job(broken, dialogues, tmp_path / "out"))
    weights = load_file(checkpoint / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Refusal, match="lacks 1 tensors of its own architecture.*model.norm.weight"):
        run_module._load(job(broken, dialogues, tmp_path / "out"))
