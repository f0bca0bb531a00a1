"""Fusion rules: worked examples, and what must hold for every rule."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.distribution import NO_TOKEN, TopK
from fusion.fuse import FUSION_RULES
from fusion.fuse.average_ce import AverageCE, mixture
from fusion.fuse.candidate import LABEL, TeacherCandidate, gold_log_prob
from fusion.fuse.min_ce import MinCE, bfloat16
from fusion.fuse.min_entropy import MinEntropy, entropy
from fusion.fuse.oracle import Oracle
from fusion.runtime.configure import Refusal, choose

RULES = [
    MinCE(),
    MinCE(unit="byte"),
    MinCE(fuse_with_pivot=False),
    MinCE(rounding="bf16"),
    MinCE(granularity="position"),
    MinCE(granularity="position", fuse_with_pivot=False),
    AverageCE(),
    AverageCE(weighting="softmax", temperature=0.1),
    AverageCE(fuse_with_pivot=False),
    AverageCE(keep=2),
    AverageCE(mass="kept"),
    AverageCE(mass="kept", fuse_with_pivot=False, keep=1),
    MinEntropy(),
    MinEntropy(fuse_with_pivot=False),
    MinEntropy(granularity="position"),
    MinEntropy(granularity="position", fuse_with_pivot=False),
    Oracle(teachers={"sums": "1", "words": "2"}),
]


def top(*positions):
    """TopK from dictionaries id -> probability; what is missing to one is the tail."""
    k = max(len(position) for position in positions)
    ids = np.full((len(positions), k), NO_TOKEN, np.int32)
    log_probs = np.full((len(positions), k), -np.inf, np.float32)
    tail = np.full(len(positions), -np.inf, np.float32)
    for p, position in enumerate(positions):
        for slot, (token, probability) in enumerate(position.items()):
            ids[p, slot], log_probs[p, slot] = token, np.log(probability)
        rest = 1 - sum(position.values())
        if rest > 1e-6:
            tail[p] = np.log(rest)
    return TopK(ids=ids, log_probs=log_probs, tail=tail)


def candidate(name, distributions, *, nll, tokens=2, size=8, says=None, label=None, gold=None, domain=""):
    n = len(distributions)
    return TeacherCandidate(
        name=name,
        top=distributions,
        nll=nll,
        tokens=tokens,
        bytes=size,
        says=np.ones(n, bool) if says is None else np.array(says),
        label=np.zeros(n, bool) if label is None else np.array(label),
        gold_log_prob=None if gold is None else np.log(np.array(gold, np.float32)),
        domain=domain,
    )


def as_dictionaries(distributions):
    return [
        {int(i): float(np.exp(p)) for i, p in zip(ids, log_probs, strict=True) if i != NO_TOKEN}
        for ids, log_probs in zip(distributions.ids, distributions.log_probs, strict=True)
    ]


PIVOT = candidate("pivot", top({1: 0.6, 2: 0.3}, {3: 0.9}), nll=2.0)


def test_min_ce_takes_the_whole_conversation_from_the_lowest_cross_entropy():
    better = candidate("source", top({4: 0.5, 5: 0.5}, {6: 1.0}), nll=1.9)
    worse = candidate("source", better.top, nll=2.1)
    fused = MinCE()([PIVOT, better])
    assert as_dictionaries(fused.top) == [{4: 0.5, 5: 0.5}, {6: 1.0}]
    assert fused.taught_by.tolist() == [1, 1]
    assert MinCE()([PIVOT, worse]).taught_by.tolist() == [0, 0]
    assert MinCE(fuse_with_pivot=False)([PIVOT, worse]).taught_by.tolist() == [1, 1]


def test_equal_cross_entropy_leaves_the_pivot():
    assert MinCE()([PIVOT, candidate("source", PIVOT.top, nll=2.0)]).taught_by.tolist() == [0, 0]


def test_a_coarse_vocabulary_loses_per_token_and_wins_per_byte():
    # The source needs one token where the pivot needs two: 1.6 nats per token against 1.0, 0.2 per byte against 0.25.
    coarse = candidate("source", PIVOT.top, nll=1.6, tokens=1)
    assert MinCE(unit="token")([PIVOT, coarse]).taught_by.tolist() == [0, 0]
    assert MinCE(unit="byte")([PIVOT, coarse]).taught_by.tolist() == [1, 1]


def test_several_sources_at_once_leave_the_best_of_all():
    first = candidate("first", top({4: 1.0}, {4: 1.0}), nll=1.5)
    second = candidate("second", top({5: 1.0}, {5: 1.0}), nll=1.0)
    third = candidate("third", top({6: 1.0}, {6: 1.0}), nll=1.0)
    assert MinCE()([PIVOT, first, second, third]).taught_by.tolist() == [2, 2]


@pytest.mark.parametrize("rule", [MinCE(), MinCE(fuse_with_pivot=False)])
def test_where_the_chosen_source_says_nothing_the_pivot_teaches_and_a_label_is_nobodys(rule):
    distributions = top({4: 0.5}, {7: 1.0})
    source = candidate("source", distributions, nll=1.0, says=[False, True], label=[False, True])
    fused = rule([PIVOT, source])
    assert fused.taught_by.tolist() == [0, LABEL]
    assert as_dictionaries(fused.top)[0] == pytest.approx({1: 0.6, 2: 0.3})
    assert as_dictionaries(fused.top)[1] == {7: 1.0}


def test_a_model_that_read_nothing_is_never_the_best():
    assert MinCE()([PIVOT, candidate("source", PIVOT.top, nll=0.0, tokens=0, size=0)]).taught_by.tolist() == [0, 0]
    assert MinCE()([PIVOT, candidate("source", PIVOT.top, nll=float("nan"))]).taught_by.tolist() == [0, 0]


def test_the_released_gate_cannot_tell_near_ties_apart():
    # bf16 has 8 significant bits: 1.000 and 0.999 nats both become the reward 0.3672, and the pivot is named first.
    near = candidate("source", PIVOT.top, nll=1.998)
    assert MinCE()([PIVOT, near]).taught_by.tolist() == [1, 1]
    assert MinCE(rounding="bf16")([PIVOT, near]).taught_by.tolist() == [0, 0]
    clear = candidate("source", PIVOT.top, nll=1.9)
    assert MinCE(rounding="bf16")([PIVOT, clear]).taught_by.tolist() == [1, 1]
    unread = candidate("source", PIVOT.top, nll=0.0, tokens=0)
    assert MinCE(rounding="bf16")([PIVOT, unread]).taught_by.tolist() == [0, 0]


def test_bfloat16_rounds_as_torch_does():
    import torch

    values = np.concatenate([np.random.default_rng(0).exponential(2, 500), [0.0, 1.00390625, 1.01171875, np.inf]])
    expected = torch.from_numpy(values).float().bfloat16().float().numpy()
    assert np.array_equal(bfloat16(values), expected)


def test_by_position_each_token_has_its_own_teacher():
    pivot = dataclasses.replace(PIVOT, gold_log_prob=np.log(np.array([0.6, 0.2], np.float32)))
    source = candidate("source", top({1: 0.5}, {3: 0.7}), nll=9.0, gold=[0.5, 0.7])
    fused = MinCE(granularity="position")([pivot, source])
    assert fused.taught_by.tolist() == [0, 1]
    # A one-hot label is no opinion: it would win everywhere.
    labelled = candidate("source", source.top, nll=9.0, gold=[1.0, 1.0], label=[True, True])
    assert MinCE(granularity="position")([pivot, labelled]).taught_by.tolist() == [0, 0]
    alone = MinCE(granularity="position", fuse_with_pivot=False)([pivot, labelled])
    assert alone.taught_by.tolist() == [LABEL, LABEL]


def test_by_position_without_the_labels_probability_is_refused():
    with pytest.raises(Refusal, match="needs the label's log-probability from pivot"):
        MinCE(granularity="position")([PIVOT, PIVOT])


SURE, UNSURE = {1: 0.9, 2: 0.1}, {1: 0.5, 2: 0.5}


def test_entropy_counts_the_tail_as_one_outcome():
    found = entropy(top({1: 0.5, 2: 0.25}, {3: 1.0}))
    assert found == pytest.approx([0.5 * np.log(2) + 2 * 0.25 * np.log(4), 0.0], rel=1e-5)


@pytest.mark.parametrize("granularity", ["sequence", "position"])
def test_the_surest_teaches_whatever_the_label_and_the_cross_entropy_say(granularity):
    pivot = candidate("pivot", top(UNSURE, UNSURE), nll=0.1, gold=[0.5, 0.5])
    source = candidate("source", top(SURE, SURE), nll=9.0, gold=[0.01, 0.01])
    assert MinEntropy(granularity=granularity)([pivot, source]).taught_by.tolist() == [1, 1]
    assert MinEntropy(granularity=granularity)([source, pivot]).taught_by.tolist() == [0, 0]
    assert MinEntropy(granularity=granularity, fuse_with_pivot=False)([source, pivot]).taught_by.tolist() == [1, 1]


def test_equal_entropy_leaves_the_pivot():
    twin = candidate("source", top(SURE, SURE), nll=1.0)
    assert MinEntropy()([twin, twin]).taught_by.tolist() == [0, 0]


def test_candidates_are_compared_where_all_of_them_speak():
    # At the first position the source is the surer one.  The pivot's mean over both is lower, .17 against .33, but what
    # the pivot is sure of at the second says nothing about the source, which does not speak there.
    pivot = candidate("pivot", top({1: 0.85, 2: 0.15}, {3: 1.0}), nll=1.0)
    source = candidate("source", top(SURE, UNSURE), nll=1.0, says=[True, False])
    assert entropy(pivot.top).mean() < entropy(source.top)[0] < entropy(pivot.top)[0]
    assert MinEntropy()([pivot, source]).taught_by.tolist() == [1, 0]
    # The gold token alone is no opinion either, and one who says nothing at all hinders nobody's comparison.
    labelled = candidate("source", top(SURE, {3: 1.0}), nll=1.0, label=[False, True])
    silent = candidate("silent", top(SURE, SURE), nll=1.0, says=[False, False])
    assert MinEntropy()([pivot, silent, labelled]).taught_by.tolist() == [2, LABEL]
    assert MinEntropy()([pivot, silent]).taught_by.tolist() == [0, 0]


def test_where_sources_speak_at_no_common_position_each_is_taken_at_its_own():
    first = candidate("first", top(UNSURE, UNSURE), nll=1.0, says=[True, False])
    second = candidate("second", top(SURE, SURE), nll=1.0, says=[False, True])
    assert MinEntropy(fuse_with_pivot=False)([PIVOT, first, second]).taught_by.tolist() == [0, 2]


def test_by_position_the_surest_that_speaks_teaches_each_token():
    pivot = candidate("pivot", top(UNSURE, SURE, UNSURE), nll=1.0)
    source = candidate("source", top(SURE, UNSURE, SURE), nll=1.0, says=[True, True, False])
    fused = MinEntropy(granularity="position")([pivot, source])
    assert fused.taught_by.tolist() == [1, 0, 0]
    assert as_dictionaries(fused.top) == [pytest.approx(each) for each in (SURE, SURE, UNSURE)]


@pytest.mark.parametrize(("domain", "teaches"), [("sums", [2, 0]), ("words", [0, 0]), ("poems", [0, 0]), ("", [0, 0])])
def test_the_oracle_names_the_teacher_by_domain_and_leaves_the_pivot_elsewhere(domain, teaches):
    # Who teaches words is not here, nobody is named for poems, and the expert of sums says nothing at the end.
    pivot = dataclasses.replace(PIVOT, domain=domain)
    other = candidate("a", top({4: 1.0}, {4: 1.0}), nll=0.0)
    expert = candidate("b", top({5: 1.0}, {5: 1.0}), nll=9.0, says=[True, False])
    fused = Oracle(teachers={"sums": "b", "words": "c"})([pivot, other, expert])
    assert fused.taught_by.tolist() == teaches


def test_average_ce_mixes_with_the_papers_weights():
    source = candidate("source", top({1: 0.2, 9: 0.5}, {3: 0.5}), nll=0.0)
    fused = AverageCE()([PIVOT, source])
    # cross-entropies 1 and 0: rewards e^-1 and 1, weights softmax of those
    rewards = np.array([np.exp(-1.0), 1.0])
    w = np.exp(rewards) / np.exp(rewards).sum()
    first, second = as_dictionaries(fused.top)
    assert first == pytest.approx({1: w[0] * 0.6 + w[1] * 0.2, 2: w[0] * 0.3, 9: w[1] * 0.5}, rel=1e-5)
    assert second == pytest.approx({3: w[0] * 0.9 + w[1] * 0.5}, rel=1e-5)
    np.testing.assert_allclose(np.exp(fused.top.tail), [w[0] * 0.1 + w[1] * 0.3, w[0] * 0.1 + w[1] * 0.5], rtol=1e-5)
    assert fused.taught_by.tolist() == [1, 1]


def test_by_kept_mass_a_model_teaches_its_weight_however_little_it_keeps():
    pivot = candidate("pivot", top({1: 0.5, 2: 0.25}, {3: 0.9}), nll=2.0)
    vague = candidate("source", top({1: 0.04, 9: 0.16}, {8: 0.01}), nll=0.0)
    w = np.exp(AverageCE().log_weights(np.array([1.0, 0.0])))
    kept = AverageCE(mass="kept")([pivot, vague])
    first, second = as_dictionaries(kept.top)
    assert first == pytest.approx({1: w[0] * 2 / 3 + w[1] * 0.2, 2: w[0] / 3, 9: w[1] * 0.8}, rel=1e-5)
    assert second == pytest.approx({3: w[0], 8: w[1]}, rel=1e-5)
    assert (kept.top.tail == -np.inf).all()
    # The whole distributions give the vague model a small part of what is kept, whatever its weight.
    full = AverageCE(mass="full")([pivot, vague])
    assert as_dictionaries(full.top)[1] == pytest.approx({3: w[0] * 0.9, 8: w[1] * 0.01}, rel=1e-5)
    np.testing.assert_allclose(np.exp(full.top.tail[1]), w[0] * 0.1 + w[1] * 0.99, rtol=1e-5)


def test_by_kept_mass_the_label_counts_whole_and_the_pivot_stands_in_with_its_kept_entries():
    source = candidate("source", top({5: 0.1}, {7: 1.0}), nll=0.0, says=[False, True], label=[False, True])
    w = np.exp(AverageCE().log_weights(np.array([1.0, 0.0])))
    first, second = as_dictionaries(AverageCE(mass="kept")([PIVOT, source]).top)
    assert first == pytest.approx({1: 2 / 3, 2: 1 / 3}, rel=1e-5)
    assert second == pytest.approx({7: w[1], 3: w[0]}, rel=1e-5)


def test_by_kept_mass_a_pivot_that_keeps_nothing_says_nothing():
    silent = TopK(
        ids=np.full((1, 2), NO_TOKEN, np.int32),
        log_probs=np.full((1, 2), -np.inf, np.float32),
        tail=np.zeros(1, np.float32),
    )
    fused = AverageCE(mass="kept")([candidate("pivot", silent, nll=1.0)])
    assert (fused.top.ids == NO_TOKEN).all()
    assert fused.top.tail.tolist() == [0.0]


def test_average_ce_by_softmax_of_cross_entropy():
    weights = np.exp(AverageCE(weighting="softmax", temperature=0.5).log_weights(np.array([1.0, 2.0])))
    assert weights == pytest.approx([1 / (1 + np.exp(-2)), np.exp(-2) / (1 + np.exp(-2))], rel=1e-5)


def test_average_ce_lets_the_label_and_the_pivot_stand_in():
    source = candidate("source", top({5: 1.0}, {7: 1.0}), nll=0.0, says=[False, True], label=[False, True])
    fused = AverageCE()([PIVOT, source])
    w = np.exp(AverageCE().log_weights(np.array([1.0, 0.0])))
    assert as_dictionaries(fused.top)[0] == pytest.approx({1: 0.6, 2: 0.3}, rel=1e-5)
    assert as_dictionaries(fused.top)[1] == pytest.approx({7: w[1], 3: w[0] * 0.9}, rel=1e-5)
    assert fused.taught_by.tolist() == [0, 0]


def test_the_likeliest_kept_entries_come_first_and_the_rest_goes_to_the_tail():
    mixed = mixture([top({1: 0.5, 2: 0.2, 3: 0.1})], np.zeros(1, np.float32), keep=2)
    assert as_dictionaries(mixed) == [pytest.approx({1: 0.5, 2: 0.2})]
    assert np.exp(mixed.tail[0]) == pytest.approx(0.3, rel=1e-5)


def test_the_labels_probability_is_read_from_the_slots_or_bounded_by_the_tail():
    distributions = top({1: 0.6, 2: 0.3}, {3: 0.9}, {4: 1.0})
    found = np.exp(gold_log_prob(distributions, np.array([2, 8, 8], np.int32)))
    assert found == pytest.approx([0.3, 0.1, 0.0], rel=1e-5)


def test_a_lost_tail_does_not_bound_the_label_higher_than_the_least_entry_kept():
    # 0.75 went to a token that the pivot lacks: the label, in no slot, is no likelier than what was kept instead.
    found = np.exp(gold_log_prob(top({1: 0.2, 2: 0.05}, {1: 0.9, 2: 0.08}), np.array([7, 7], np.int32)))
    assert found == pytest.approx([0.05, 0.02], rel=1e-5)


@st.composite
def conversations(draw):
    seed = draw(st.integers(0, 10**6))
    sources = draw(st.integers(1, 3))
    length = draw(st.integers(1, 6))
    generator = np.random.default_rng(seed)
    domain = draw(st.sampled_from(["sums", "words", ""]))
    made = []
    for s in range(sources + 1):
        k = int(generator.integers(1, 6))
        p = generator.dirichlet(np.full(k + 1, 0.5), length).astype(np.float64)
        if generator.random() < 0.3:
            p[:, :k] /= p[:, :k].sum(1, keepdims=True)
            p[:, k] = 0
        ids = np.stack([generator.permutation(8)[:k] for _ in range(length)]).astype(np.int32)
        with np.errstate(divide="ignore"):
            full = TopK(ids=ids, log_probs=np.log(p[:, :k]).astype(np.float32), tail=np.log(p[:, k]).astype(np.float32))
        kind = generator.integers(0, 3, length) if s else np.full(length, 2)
        label = kind == 1
        gold_ids = np.full((length, k), NO_TOKEN, np.int32)
        gold_ids[:, 0] = generator.integers(0, 8, length)
        certain = np.where(gold_ids == NO_TOKEN, -np.inf, 0).astype(np.float32)
        mixed = TopK(
            ids=np.where(label[:, None], gold_ids, full.ids),
            log_probs=np.where(label[:, None], certain, full.log_probs),
            tail=np.where(label, np.float32(-np.inf), full.tail),
        )
        nll, tokens = float(generator.exponential()), int(generator.integers(1, 9))
        made.append(
            candidate(
                str(s),
                mixed,
                nll=nll,
                tokens=tokens,
                says=kind > 0,
                label=label,
                gold=generator.uniform(0.01, 1, length),
                domain=domain,
            )
        )
    return made


@pytest.mark.parametrize("rule", RULES, ids=repr)
@settings(max_examples=40, deadline=None)
@given(candidates=conversations())
def test_every_rule_conserves_mass_names_each_id_once_and_says_who_teaches(rule, candidates):
    fused = rule(candidates)
    length = len(candidates[0].top)
    mass = np.exp(fused.top.log_probs).sum(1) + np.exp(fused.top.tail)
    np.testing.assert_allclose(mass, np.ones(length), atol=1e-5)
    assert fused.top.ids.dtype == np.int32 and fused.top.log_probs.dtype == np.float32
    for ids in fused.top.ids:
        used = ids[ids != NO_TOKEN]
        assert len(set(used.tolist())) == len(used)
    assert fused.taught_by.dtype == np.int8 and len(fused.taught_by) == length
    assert ((fused.taught_by >= LABEL) & (fused.taught_by < len(candidates))).all()
    for position, teacher in enumerate(fused.taught_by.tolist()):
        if teacher > 0:
            assert candidates[teacher].says[position] and not candidates[teacher].label[position]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_pivot_alone_teaches_itself(rule):
    alone = dataclasses.replace(PIVOT, gold_log_prob=np.zeros(2, np.float32))
    fused = rule([alone])
    assert fused.taught_by.tolist() == [0, 0]
    if getattr(rule, "keep", None) is None:
        for ours, theirs in zip(as_dictionaries(fused.top), as_dictionaries(PIVOT.top), strict=True):
            whole = sum(theirs.values()) if getattr(rule, "mass", "full") == "kept" else 1.0
            assert ours == pytest.approx({token: p / whole for token, p in theirs.items()}, rel=1e-5)


def test_rules_are_chosen_by_name_and_refuse_what_they_do_not_know():
    assert choose(FUSION_RULES, {"name": "min_ce", "unit": "byte"}, at="fuse") == MinCE(unit="byte")
    with pytest.raises(Refusal, match="did you mean 'min_ce'"):
        choose(FUSION_RULES, {"name": "mince"}, at="fuse")
    with pytest.raises(Refusal, match="temperature is 0.0: expected more than 0"):
        choose(FUSION_RULES, {"name": "average_ce", "temperature": 0}, at="fuse")
    with pytest.raises(Refusal, match="keep is 0"):
        choose(FUSION_RULES, {"name": "average_ce", "keep": 0}, at="fuse")


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[3] / "conf" / "fuse").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_shipped_rule_is_valid(file):
    assert callable(choose(FUSION_RULES, yaml.safe_load(file.read_text()), at=file.stem))
