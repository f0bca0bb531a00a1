"""The loss from hidden states in chunks, against the dense loss over all logits: values, gradients, what is held."""

import dataclasses
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM

from fusion.train import head
from fusion.train.batching import TrainingRow, collate
from fusion.train.head import CHUNK_BYTES, has_plain_head, keeps_apart, returns_losses, shape_of, summed_losses
from fusion.train.losses import position_losses
from fusion.train.objectives import OBJECTIVES
from fusion.train.objectives.objective import Teacher

VOCABULARY, WIDTH, ROWS, KEPT = 300, 24, 37, 4
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 12, "max_position_embeddings": 64,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
# What each does to its logits; `initializer_range` makes them large enough for a cap to bend them.
ARCHITECTURES = {
    "llama": {},
    "llama, tied": {"tie_word_embeddings": True},
    "qwen2": {},
    "phi": {},  # a head with a bias
    "gemma2": {"final_logit_softcapping": 5.0, "initializer_range": 0.5},
    "gemma3_text": {"initializer_range": 0.5},
    "granite": {"logits_scaling": 7.0},
    "cohere": {"logit_scale": 0.3},
    "falcon_h1": {"lm_head_multiplier": 0.4, "mamba_d_ssm": 24, "mamba_n_heads": 2, "mamba_d_head": 12},
}


def made(name: str, **changes: object):
    torch.manual_seed(0)
    config = AutoConfig.for_model(name.split(",")[0], **{**SIZES, **ARCHITECTURES.get(name, {}), **changes})
    return AutoModelForCausalLM.from_config(config).eval()


def teacher(rows: int, generator: torch.Generator) -> Teacher:
    """Distributions over distinct tokens; of some positions the teacher says nothing."""
    ids = torch.stack([torch.randperm(VOCABULARY, generator=generator)[:KEPT] for _ in range(rows)])
    log_probs = torch.log_softmax(torch.randn(rows, KEPT + 1, generator=generator), -1)
    silent = torch.rand(rows, generator=generator) < 0.2
    return Teacher(
        ids=ids.masked_fill(silent[:, None], -1),
        log_probs=log_probs[:, :KEPT].masked_fill(silent[:, None], -torch.inf),
        tail=log_probs[:, KEPT].masked_fill(silent, 0.0),
    )


def losses_of(objective, gold, taught, *, weight=0.3, label_smoothing=0.1):
    def losses(logits, rows):
        sft, fusion = position_losses(
            logits, gold[rows], taught[rows], objective=objective, label_smoothing=label_smoothing
        )
        return weight * sft.sum() + (1 - weight) * fusion.sum(), torch.stack([sft.sum(), fusion.sum()])

    return losses


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


OBJECTIVES_MADE = [
    cls(**dict(zip(("temperature", "tail"), values, strict=True)))
    for cls in OBJECTIVES.values()
    for values in ((1.0, "renormalise"), (2.0, "bucket"))
]


@pytest.mark.parametrize("objective", OBJECTIVES_MADE, ids=repr)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("rows", [1, 5, ROWS, 1000])
def test_values_and_gradients_are_the_dense_losses(objective, smoothing, rows):
    generator = torch.Generator().manual_seed(1)
    linear = torch.nn.Linear(WIDTH, VOCABULARY)
    hidden = torch.randn(ROWS, WIDTH, generator=generator).requires_grad_()
    gold = torch.randint(VOCABULARY, (ROWS,), generator=generator)
    losses = losses_of(objective, gold, teacher(ROWS, generator), label_smoothing=smoothing)
    total, sums = losses(linear(hidden), slice(0, ROWS))
    wanted = torch.autograd.grad(3 * total, [hidden, linear.weight, linear.bias])

    found_total, found_sums = summed_losses(hidden, linear, losses, rows=rows)
    found = torch.autograd.grad(3 * found_total, [hidden, linear.weight, linear.bias])
    torch.testing.assert_close(found_total, total, rtol=1e-5, atol=0)
    torch.testing.assert_close(found_sums, sums, rtol=1e-5, atol=0)
    for one, other in zip(found, wanted, strict=True):
        assert relative(one, other) < 1e-5


class Widest(TorchDispatchMode):
    """The most rows of any tensor as wide as the vocabulary that some operation gave."""

    rows = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = func(*args, **(kwargs or {}))
        for one in tree_leaves(given):
            if isinstance(one, torch.Tensor) and one.ndim > 1 and one.shape[-1] == VOCABULARY:
                self.rows = max(self.rows, one.numel() // VOCABULARY)
        return given


@settings(deadline=None, max_examples=15)
@given(rows=st.integers(1, 60))
def test_no_more_rows_of_logits_are_ever_held_than_asked_for(rows):
    generator = torch.Generator().manual_seed(2)
    linear = torch.nn.Linear(1, VOCABULARY, bias=False)  # its own weights, transposed, are one row
    hidden = torch.randn(ROWS, 1, generator=generator).requires_grad_()
    gold = torch.randint(VOCABULARY, (ROWS,), generator=generator)
    losses = losses_of(OBJECTIVES["ce"](tail="bucket"), gold, teacher(ROWS, generator))
    with Widest() as seen:
        total, _ = summed_losses(hidden, linear, losses, rows=rows)
        total.backward()
    assert seen.rows == min(rows, ROWS)


def test_by_itself_it_holds_as_many_rows_as_their_bytes_allow(monkeypatch):
    monkeypatch.setattr(head, "CHUNK_BYTES", 4 * VOCABULARY * 9 + 1)
    parts = []

    def losses(logits, rows):
        parts.append((rows.start, rows.stop))
        return logits.sum(), logits.sum()[None]

    summed_losses(torch.randn(20, 8), torch.nn.Linear(8, VOCABULARY), losses)
    assert parts == [(0, 9), (9, 18), (18, 20)]
    assert CHUNK_BYTES == 2**27


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_s_own_logits_are_met(name, monkeypatch):
    model, generator = made(name), torch.Generator().manual_seed(3)
    assert ("bias" in dict(model.get_output_embeddings().named_parameters())) == (name == "phi")
    ids = torch.randint(3, VOCABULARY, (3, 12), generator=generator)
    places = torch.tensor([0, 3, 4, 11, 13, 20, 24, 35])
    gold = torch.randint(VOCABULARY, (len(places),), generator=generator)
    losses = losses_of(OBJECTIVES["kl"](), gold, teacher(len(places), generator))
    dense = model(input_ids=ids, use_cache=False).logits.float().flatten(0, 1)[places]
    total, sums = losses(dense, slice(None))
    wanted = dict(
        zip(dict(model.named_parameters()), torch.autograd.grad(total, list(model.parameters())), strict=True)
    )

    monkeypatch.setattr(head, "CHUNK_BYTES", 4 * VOCABULARY * 3)
    assert returns_losses(model, ids[0])
    found_total, found_sums = model(input_ids=ids, places=places, losses=losses)
    found_total.backward()
    torch.testing.assert_close(found_total, total, rtol=1e-5, atol=0)
    torch.testing.assert_close(found_sums, sums, rtol=1e-5, atol=0)
    for parameter, weights in model.named_parameters():
        assert relative(weights.grad, wanted[parameter]) < 1e-5, parameter


def conversations(generator: torch.Generator) -> list[TrainingRow]:
    """Of lengths that leave much padding, each with labels to its last token."""
    rows = []
    for length in (40, 9, 14, 3, 22, 8):
        ids = torch.randint(3, VOCABULARY, (length,), generator=generator)
        rows.append(TrainingRow(input_ids=ids.int().numpy(), positions=np.arange(1, length, dtype=np.int32)))
    return rows


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "falcon_h1"])
def test_conversations_that_share_rows_cost_what_they_cost_by_themselves(name, monkeypatch):
    monkeypatch.setattr(head, "CHUNK_BYTES", 4 * VOCABULARY * 5)
    changes = {"sliding_window": 8} if name.startswith("gemma") else {}
    rows = conversations(torch.Generator().manual_seed(8))
    found = {}
    for packed in (False, True):
        model = made(name, **changes)
        assert returns_losses(model, torch.from_numpy(rows[0].input_ids).long())
        assert keeps_apart(model, *(torch.from_numpy(row.input_ids).long() for row in rows[:2]))
        batch = collate(rows, pad_id=0, packed=packed)
        gold = batch.pop("gold")
        total, _ = model(**batch, losses=plain_losses(gold))
        total.backward()
        found[packed] = (batch["input_ids"].numel(), total, {k: w.grad for k, w in model.named_parameters()})
    assert found[True][0] == 3 * 40 and found[False][0] == 6 * 40  # 96 tokens in all
    torch.testing.assert_close(found[True][1], found[False][1], rtol=1e-5, atol=0)
    for parameter, gradient in found[False][2].items():
        assert relative(found[True][2][parameter], gradient) < 1e-5, parameter


def test_recurrent_layers_do_not_keep_conversations_apart():
    one, other = (torch.from_numpy(row.input_ids).long() for row in conversations(torch.Generator().manual_seed(9))[:2])
    assert not keeps_apart(made("falcon_h1"), one, other)


def test_a_micro_batch_whose_logits_are_one_chunk_goes_through_the_model_s_own_forward(monkeypatch):
    model, ids = made("llama"), torch.arange(3, 15)[None]
    assert returns_losses(model, ids[0])
    for most, chunked in ((12, False), (11, True)):  # twelve positions
        monkeypatch.setattr(head, "CHUNK_BYTES", 4 * VOCABULARY * most)
        with mock.patch.object(model.lm_head, "forward", wraps=model.lm_head.forward) as own:
            model(input_ids=ids, places=torch.arange(11), losses=plain_losses(ids[0, 1:]))
        assert own.called != chunked


def test_logits_that_no_known_setting_explains_are_computed_by_the_model_itself():
    # It multiplies by what Granite divides by.
    model, generator = made("hyperclovax", logits_scaling=3.0), torch.Generator().manual_seed(4)
    ids = torch.randint(3, VOCABULARY, (2, 9), generator=generator)
    assert not has_plain_head(model, ids[0])
    places = torch.tensor([1, 7, 10, 11])
    gold = torch.randint(VOCABULARY, (4,), generator=generator)
    losses = losses_of(OBJECTIVES["ce"](), gold, teacher(4, generator))
    total, sums = losses(model(input_ids=ids).logits.flatten(0, 1)[places], slice(None))
    (wanted,) = torch.autograd.grad(total, [model.lm_head.weight])
    assert not returns_losses(model, ids[0])
    found_total, found_sums = model(input_ids=ids, places=places, losses=losses)
    found_total.backward()
    torch.testing.assert_close(found_total, total)
    torch.testing.assert_close(found_sums, sums)
    assert relative(model.lm_head.weight.grad, wanted) < 1e-5


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("gemma2", {"final_logit_softcapping": 5.0}),
        ("granite", {"logits_scaling": 7.0}),
        ("cohere", {"logit_scale": 0.3}),
        ("llama", {}),
    ],
)
def test_the_trial_tells_a_head_from_one_that_is_read_wrongly(name, settings, monkeypatch):
    model = made(name, **settings, initializer_range=0.5)
    ids = torch.arange(3, 15)
    assert has_plain_head(model, ids)
    right = shape_of(model.config)
    wrong = [
        dataclasses.replace(right, scale=right.scale * 1.01),
        dataclasses.replace(right, cap=None if right.cap else 30.0),
    ]
    for one in wrong:
        monkeypatch.setattr(head, "shape_of", lambda config, one=one: one)
        assert not has_plain_head(model, ids)


@pytest.mark.parametrize("mixed", [True, False])
def test_in_bf16_gradients_are_as_near_to_the_exact_ones_as_the_dense_loss_s(mixed):
    generator = torch.Generator().manual_seed(5)
    exact = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
    hidden = torch.randn(400, WIDTH, generator=generator)
    gold = torch.randint(VOCABULARY, (400,), generator=generator)
    losses = losses_of(OBJECTIVES["ce"](), gold, teacher(400, generator))

    def gradients(dtype, chunked):
        linear = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
        linear.load_state_dict(exact.state_dict())
        narrow = dtype == torch.bfloat16 and not mixed
        linear, inputs = (linear.bfloat16(), hidden.bfloat16()) if narrow else (linear, hidden.clone())
        inputs.requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16 and mixed):
            if chunked:
                total, _ = summed_losses(inputs, linear, losses, rows=50)
            else:
                total, _ = losses(linear(inputs).float(), slice(None))
        total.backward()
        assert inputs.grad.dtype == inputs.dtype and linear.weight.grad.dtype == linear.weight.dtype
        return inputs.grad.float(), linear.weight.grad.float()

    true = gradients(torch.float32, chunked=False)
    ours, theirs = gradients(torch.bfloat16, chunked=True), gradients(torch.bfloat16, chunked=False)
    for found, dense, expected in zip(ours, theirs, true, strict=True):
        assert relative(found, expected) < max(1.2 * relative(dense, expected), 2**-8)


def test_no_rows_cost_nothing():
    linear, hidden = torch.nn.Linear(WIDTH, VOCABULARY), torch.zeros(0, WIDTH).requires_grad_()
    total, sums = summed_losses(hidden, linear, plain_losses(torch.zeros(0, dtype=torch.long)), rows=8)
    total.backward()
    assert (total.item(), sums.tolist()) == (0.0, [0.0])
    assert hidden.grad.shape == (0, WIDTH) and not linear.weight.grad.any()


def test_without_gradients_the_values_are_the_same():
    generator = torch.Generator().manual_seed(6)
    linear = torch.nn.Linear(WIDTH, VOCABULARY)
    hidden = torch.randn(ROWS, WIDTH, generator=generator)
    gold = torch.randint(VOCABULARY, (ROWS,), generator=generator)
    losses = losses_of(OBJECTIVES["ce"](), gold, teacher(ROWS, generator))
    with torch.no_grad():
        found, _ = summed_losses(hidden, linear, losses, rows=8)
        expected, _ = losses(linear(hidden), slice(None))
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad


def sharded(rank: int, file: Path, out: Path) -> None:
    """One of two processes: the gradients of a model sharded over both, of its half of a batch."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    head.CHUNK_BYTES = 4 * VOCABULARY * 5
    model, ids = made("llama, tied"), torch.randint(3, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(7))
    returns_losses(model, ids[0])
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    total, _ = model(input_ids=ids[rank : rank + 1], places=torch.arange(8), losses=plain_losses(ids[rank, 1:]))
    total.backward()
    full = {
        name: one.grad.full_tensor() if isinstance(one.grad, DTensor) else one.grad
        for name, one in model.named_parameters()
    }
    if rank == 0:
        torch.save(full, out)
    torch.distributed.destroy_process_group()


def plain_losses(gold):
    def losses(logits, rows):
        sft, _ = position_losses(logits, gold[rows], None, objective=OBJECTIVES["ce"]())
        return sft.sum(), sft.sum()[None]

    return losses


@pytest.mark.slow
def test_a_model_that_is_sharded_over_processes_has_the_whole_one_s_gradients(tmp_path):
    torch.multiprocessing.spawn(sharded, (tmp_path / "meet", tmp_path / "found"), nprocs=2)
    model, ids = made("llama, tied"), torch.randint(3, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(7))
    logits = model(input_ids=ids).logits[:, :-1].flatten(0, 1)
    total, _ = plain_losses(ids[:, 1:].flatten())(logits, slice(None))
    total.backward()
    found = torch.load(tmp_path / "found")
    for name, weights in model.named_parameters():
        assert relative(found[name], weights.grad / 2) < 1e-5, name  # the mean over processes
