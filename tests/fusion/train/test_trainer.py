"""The steps a run takes, against steps taken by hand: order, loss, optimiser, schedule, what is saved."""

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from fusion.train.batching import collate
from fusion.train.config import TrainConfig
from fusion.train.run import Job, run, training_rows
from fusion.train.trainer import FusionTrainer, Plan, training_arguments

CONFIG = TrainConfig(max_steps=4, batch_size=4, learning_rate=3e-3, max_length=64, device="cpu", warmup_ratio=0.0)


def job(checkpoint, dialogues, out, **changes):
    out.mkdir(exist_ok=True)
    config = dataclasses.replace(CONFIG, **changes)
    return Job(initial=checkpoint, conversations=dialogues, fused=None, config=config, out=out)


def log(out):
    return [json.loads(line) for line in (out / "training_log.jsonl").read_text().splitlines()]


def token_losses(model, row):
    """-log p of every labelled token of one conversation, by itself and unpadded."""
    log_probs = torch.log_softmax(model(input_ids=torch.from_numpy(row.input_ids).long()[None]).logits[0], -1)
    return torch.stack([-log_probs[at - 1, int(row.input_ids[at])] for at in row.positions])


def gradient_norm(loss, model):
    gradients = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    return math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_seed_decides_which_conversations_a_step_sees(seed, checkpoint, dialogues, tmp_path):
    task = job(checkpoint, dialogues, tmp_path / "out", seed=seed)
    rows, _ = training_rows(task)
    run(task)

    def labels_by_step(seed):
        order = np.random.default_rng(seed).permutation(len(rows))
        return [sum(len(rows[i].positions) for i in order[4 * step : 4 * step + 4]) for step in range(4)]

    assert (
        [line["labelled_tokens"] for line in log(tmp_path / "out")] == labels_by_step(seed) != labels_by_step(seed + 1)
    )


# Of the step counted from 0, of four: the share of the peak rate, with no warm-up.
SCHEDULES = {
    "cosine": lambda step: (1 + math.cos(math.pi * step / 4)) / 2,
    "linear": lambda step: 1 - step / 4,
    "constant_with_warmup": lambda step: 1.0,
}


@pytest.mark.parametrize("scheduler", SCHEDULES)
def test_a_run_is_adamw_with_the_settings_given(scheduler, checkpoint, dialogues, tmp_path):
    settings = {"betas": (0.7, 0.9), "weight_decay": 0.3, "epsilon": 1e-4, "max_grad_norm": 0.5}
    task = job(checkpoint, dialogues, tmp_path / "out", scheduler=scheduler, **settings)
    run(task)

    # By hand: Loshchilov & Hutter (2019), algorithm 2, with gradients clipped to a norm of 0.5 and matrices decayed.
    rows, _ = training_rows(task)
    order = np.random.default_rng(task.config.seed).permutation(len(rows))
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    weights = list(model.parameters())
    first, second = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    for step in range(4):
        loss = torch.cat([token_losses(model, rows[i]) for i in order[4 * step : 4 * step + 4]]).mean()
        gradients = torch.autograd.grad(loss, weights)
        norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
        rate = 3e-3 * SCHEDULES[scheduler](step)
        line = log(tmp_path / "out")[step]
        assert line["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert line["gradient_norm"] == pytest.approx(norm, rel=1e-4) and norm > 0.5
        assert line["learning_rate"] == pytest.approx(rate, rel=1e-6, abs=1e-12)
        with torch.no_grad():
            for weight, gradient, m, v in zip(weights, gradients, first, second, strict=True):
                clipped = gradient * 0.5 / norm
                m.mul_(0.7).add_(clipped, alpha=0.3)
                v.mul_(0.9).add_(clipped**2, alpha=0.1)
                if weight.ndim == 2:
                    weight.mul_(1 - rate * 0.3)
                corrected = (v / (1 - 0.9 ** (step + 1))).sqrt() + 1e-4
                weight.sub_(rate * m / (1 - 0.7 ** (step + 1)) / corrected)

    saved = load_file(tmp_path / "out" / "model.safetensors")
    for name, weight in model.named_parameters():
        # A setting left at its default moves some entry of every matrix by more than a hundred times as much.
        assert torch.allclose(saved[name], weight, rtol=0, atol=2e-6), name


def test_the_papers_normalisation_is_the_mean_of_the_micro_batches_means(checkpoint, dialogues, tmp_path):
    settings = {"gradient_accumulation": 2, "max_steps": 1}
    for normalisation in ("micro_batch", "step"):
        run(job(checkpoint, dialogues, tmp_path / normalisation, normalisation=normalisation, **settings))
    rows, _ = training_rows(job(checkpoint, dialogues, tmp_path / "rows"))
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    seen = [token_losses(model, rows[i]) for i in np.random.default_rng(0).permutation(len(rows))[:4]]
    halves = torch.cat(seen[:2]), torch.cat(seen[2:])
    assert len(halves[0]) != len(halves[1])
    expected = {
        "micro_batch": gradient_norm((halves[0].mean() + halves[1].mean()) / 2, model),
        "step": gradient_norm(torch.cat(seen).mean(), model),
    }
    assert abs(expected["micro_batch"] / expected["step"] - 1) > 5e-4
    for normalisation, norm in expected.items():
        (line,) = log(tmp_path / normalisation)
        assert line["gradient_norm"] == pytest.approx(norm, rel=1e-4)


def test_the_mean_over_processes_of_their_losses_is_the_steps_loss(checkpoint, dialogues, tmp_path):
    task = job(checkpoint, dialogues, tmp_path / "out")
    rows, _ = training_rows(task)
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    arguments = training_arguments(task.config, checkpoints=tmp_path / "c", steps=1)
    trainer = FusionTrainer(config=task.config, model=model, plan=Plan(rows, np.arange(4)), arguments=arguments)
    labels = torch.tensor(sum(len(row.positions) for row in rows[:4]))  # of the whole step, as processes share it
    alone = trainer.compute_loss(model, collate(rows[:4], pad_id=0), num_items_in_batch=labels)
    trainer.accelerator = SimpleNamespace(num_processes=2)
    halves = [
        trainer.compute_loss(model, collate(share, pad_id=0), num_items_in_batch=labels)
        for share in (rows[:2], rows[2:4])
    ]
    # Each process works on its half; what accelerate does with their gradients is the mean.
    assert (halves[0] + halves[1]).item() / 2 == pytest.approx(alone.item(), rel=1e-5)


def dtypes(out):
    """The dtype of every tensor in the file's header."""
    with safe_open(out / "model.safetensors", framework="pt") as file:
        return {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  not a mapping


@pytest.mark.parametrize("precision", ["fp32", "bf16_mixed", "bf16_pure"])
def test_weights_are_saved_in_the_dtype_asked_for(precision, checkpoint, dialogues, tmp_path):
    for dtype, code in (("float32", "F32"), ("bfloat16", "BF16")):
        out = tmp_path / dtype
        run(job(checkpoint, dialogues, out, precision=precision, save_dtype=dtype))
        assert dtypes(out) == {code}
        assert json.loads((out / "config.json").read_text())["dtype"] == dtype
    whole, rounded = (load_file(tmp_path / dtype / "model.safetensors") for dtype in ("float32", "bfloat16"))
    # Equal runs but for the saving; only in pure bf16 there is nothing to round.
    assert all(torch.equal(whole[name].bfloat16(), rounded[name]) for name in whole)
    exact = all(torch.equal(whole[name], rounded[name].float()) for name in whole)
    assert exact == (precision == "bf16_pure")
