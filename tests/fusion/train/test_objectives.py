"""The sparse objectives against dense oracles, values and gradients, and the properties that every objective has."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.runtime.command import group_entry
from fusion.runtime.configure import choose
from fusion.train.losses import position_losses
from fusion.train.objectives import OBJECTIVES
from fusion.train.objectives.cross_entropy import CrossEntropy
from fusion.train.objectives.objective import Teacher

V = 23


def teacher_from(probabilities: torch.Tensor, k: int) -> Teacher:
    """The k likeliest entries of dense distributions [N, V], and the mass of the rest."""
    top = probabilities.topk(k, dim=-1)
    tail = (1 - top.values.sum(-1)).clamp(min=0)
    return Teacher(ids=top.indices.int(), log_probs=top.values.log(), tail=tail.log())


def drawn(seed: int, n: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, V, generator=generator)
    probabilities = torch.softmax(2 * torch.randn(n, V, generator=generator), dim=-1)
    gold = torch.randint(0, V, (n,), generator=generator)
    return logits, probabilities, gold


def dense_loss(logits, teacher, *, objective, temperature, tail):
    """The loss as an equation over all V tokens, in float64; the tail is one more outcome under `bucket`."""
    log_q = torch.log_softmax(logits.double(), dim=-1)
    losses = []
    for n in range(len(logits)):
        kept = teacher.ids[n] >= 0
        ids = teacher.ids[n][kept].long()
        p = teacher.log_probs[n][kept].double().exp()
        log_q_of = log_q[n, ids]
        if tail == "bucket":
            others = torch.ones(V, dtype=torch.bool)
            others[ids] = False
            p = torch.cat([p, teacher.tail[n].double().exp()[None]])
            rest = log_q[n].exp()[others].sum().log() if others.any() else torch.zeros((), dtype=torch.float64)
            log_q_of = torch.cat([log_q_of, rest[None]])
        p = p ** (1 / temperature)
        p = p / p.sum()
        used = p > 0
        loss = -(p[used] * log_q_of[used]).sum()
        if objective == "kl":
            loss = loss + (p[used] * p[used].log()).sum()
        losses.append(loss)
    return torch.stack(losses)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    k=st.integers(1, V),
    objective=st.sampled_from(["ce", "kl"]),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    tail=st.sampled_from(["renormalise", "bucket"]),
)
def test_the_sparse_loss_and_its_gradient_equal_the_dense_ones(seed, k, objective, temperature, tail):
    logits, probabilities, gold = drawn(seed)
    teacher = teacher_from(probabilities, k)
    if k == V:  # what rounding left over is no tail
        teacher = Teacher(ids=teacher.ids, log_probs=teacher.log_probs, tail=torch.full((len(gold),), -torch.inf))
    mine = logits.clone().requires_grad_()
    _, fusion = position_losses(
        mine, gold, teacher, objective=OBJECTIVES[objective](temperature=temperature, tail=tail)
    )
    oracle = logits.clone().requires_grad_()
    expected = dense_loss(oracle, teacher, objective=objective, temperature=temperature, tail=tail)
    torch.testing.assert_close(fusion.double(), expected, atol=1e-5, rtol=1e-5)
    fusion.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(mine.grad, oracle.grad, atol=1e-5, rtol=0)


def test_a_one_hot_teacher_gives_the_label_loss_in_every_variant():
    logits, _, gold = drawn(1)
    n = len(gold)
    ids = torch.full((n, 4), -1, dtype=torch.int32)
    ids[:, 0] = gold
    log_probs = torch.full((n, 4), -torch.inf)
    log_probs[:, 0] = 0.0
    teacher = Teacher(ids=ids, log_probs=log_probs, tail=torch.full((n,), -torch.inf))
    expected = torch.nn.functional.cross_entropy(logits, gold, reduction="none")
    for objective in ("ce", "kl"):
        for tail in ("renormalise", "bucket"):
            sft, fusion = position_losses(logits, gold, teacher, objective=OBJECTIVES[objective](tail=tail))
            torch.testing.assert_close(sft, expected)
            torch.testing.assert_close(fusion, expected)


@pytest.mark.parametrize("tail", ["renormalise", "bucket"])
def test_a_position_where_the_teacher_says_nothing_is_learned_from_its_label(tail):
    logits, probabilities, gold = drawn(2)
    teacher = teacher_from(probabilities, 3)
    teacher.ids[2] = -1
    teacher.log_probs[2] = -torch.inf
    teacher.tail[2] = 0.0
    mine = logits.clone().requires_grad_()
    sft, fusion = position_losses(mine, gold, teacher, objective=CrossEntropy(tail=tail))
    assert fusion[2] == sft[2]
    fusion.sum().backward()
    assert torch.isfinite(mine.grad).all()
    softmax = torch.softmax(logits[2], -1)
    torch.testing.assert_close(mine.grad[2], softmax - torch.nn.functional.one_hot(gold[2], V), atol=1e-6, rtol=0)


def test_kl_of_the_student_to_itself_is_zero_and_ce_is_its_entropy():
    logits, _, gold = drawn(3)
    q = torch.softmax(logits, -1)
    teacher = Teacher(
        ids=torch.arange(V).expand(len(gold), V).int(), log_probs=q.log(), tail=torch.full((len(gold),), -torch.inf)
    )
    _, kl = position_losses(logits, gold, teacher, objective=OBJECTIVES["kl"]())
    torch.testing.assert_close(kl, torch.zeros(len(gold)), atol=1e-6, rtol=0)
    _, ce = position_losses(logits, gold, teacher, objective=OBJECTIVES["ce"]())
    torch.testing.assert_close(ce, -(q * q.log()).sum(-1), atol=1e-5, rtol=1e-5)


def test_the_bucket_pulls_the_students_residual_mass_towards_the_tail():
    """At the optimum kept entries match p and all other tokens together match the tail: the gradient vanishes."""
    _, probabilities, gold = drawn(4)
    teacher = teacher_from(probabilities, 5)
    logits = probabilities.log().requires_grad_()
    _, fusion = position_losses(logits, gold, teacher, objective=CrossEntropy(tail="bucket"))
    fusion.sum().backward()
    assert logits.grad.abs().max() < 1e-6
    renormalised = probabilities.log().requires_grad_()
    position_losses(renormalised, gold, teacher, objective=CrossEntropy())[1].sum().backward()
    assert renormalised.grad.abs().max() > 1e-3


def test_an_unused_slot_does_not_take_token_zero_out_of_the_residual():
    logits = torch.zeros(1, 4)
    teacher = Teacher(
        ids=torch.tensor([[2, -1]], dtype=torch.int32),
        log_probs=torch.tensor([[np.log(0.5), -np.inf]], dtype=torch.float32),
        tail=torch.tensor([np.log(0.5)], dtype=torch.float32),
    )
    _, loss = position_losses(logits, torch.tensor([1]), teacher, objective=CrossEntropy(tail="bucket"))
    # student: 1/4 on the kept token, 3/4 on the others
    assert loss.item() == pytest.approx(-0.5 * np.log(0.25) - 0.5 * np.log(0.75), abs=1e-6)


def test_label_smoothing_mixes_in_the_uniform_distribution_and_leaves_fusion_alone():
    logits, probabilities, gold = drawn(5)
    teacher = teacher_from(probabilities, 5)
    sft, fusion = position_losses(logits, gold, teacher, objective=CrossEntropy(), label_smoothing=0.1)
    expected = torch.nn.functional.cross_entropy(logits, gold, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(sft, expected)
    torch.testing.assert_close(fusion, position_losses(logits, gold, teacher, objective=CrossEntropy())[1])


@pytest.mark.parametrize("name", OBJECTIVES)
class TestEveryObjective:
    """What an entry of OBJECTIVES meets at its default settings."""

    def test_it_gives_a_finite_loss_and_gradient_at_each_position_whatever_slots_are_empty(self, name):
        logits, probabilities, _ = drawn(6)
        teacher = teacher_from(probabilities, 4)
        teacher.ids[1, 2:], teacher.log_probs[1, 2:] = -1, -torch.inf  # two unused slots
        teacher.log_probs[2, 3] = -torch.inf  # a kept entry without mass
        mine = logits.clone().requires_grad_()
        loss = OBJECTIVES[name]()(mine, torch.logsumexp(mine, -1), teacher)
        assert loss.shape == (len(logits),)
        assert loss.dtype == torch.float32
        loss.sum().backward()
        assert torch.isfinite(loss).all()
        assert torch.isfinite(mine.grad).all()

    def test_where_the_teacher_says_nothing_it_costs_nothing(self, name):
        logits, probabilities, _ = drawn(7)
        teacher = teacher_from(probabilities, 4)
        teacher.ids[3], teacher.log_probs[3] = -1, -torch.inf
        mine = logits.clone().requires_grad_()
        loss = OBJECTIVES[name]()(mine, torch.logsumexp(mine, -1), teacher)
        loss.sum().backward()
        assert loss[3] == 0
        assert not mine.grad[3].any()
        assert mine.grad[2].any()

    def test_a_position_does_not_depend_on_the_others_nor_on_empty_slots(self, name):
        logits, probabilities, _ = drawn(8)
        teacher = teacher_from(probabilities, 4)
        loss = OBJECTIVES[name]()(logits, torch.logsumexp(logits, -1), teacher)
        wider = Teacher(
            ids=torch.nn.functional.pad(teacher.ids[2:4], (0, 3), value=-1),
            log_probs=torch.nn.functional.pad(teacher.log_probs[2:4], (0, 3), value=-torch.inf),
            tail=teacher.tail[2:4],
        )
        alone = OBJECTIVES[name]()(logits[2:4], torch.logsumexp(logits[2:4], -1), wider)
        torch.testing.assert_close(alone, loss[2:4])

    def test_a_student_that_predicts_as_the_teacher_has_nothing_to_learn(self, name):
        _, probabilities, gold = drawn(9)
        everything = torch.arange(V).expand(len(gold), V).int()
        teacher = Teacher(ids=everything, log_probs=probabilities.log(), tail=torch.full((len(gold),), -torch.inf))
        student = probabilities.log().requires_grad_()
        OBJECTIVES[name]()(student, torch.logsumexp(student, -1), teacher).sum().backward()
        assert student.grad.abs().max() < 1e-6

    def test_the_file_in_conf_holds_the_defaults(self, name):
        entry = group_entry("objective", name)
        assert choose(OBJECTIVES, entry, at="objective") == OBJECTIVES[name]()
        assert set(entry) == {"name", *(field.name for field in dataclasses.fields(OBJECTIVES[name]))}
