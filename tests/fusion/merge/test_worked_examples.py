"""Each rule against arithmetic done by hand, in the order of the papers' steps."""

import math

import pytest
import torch

from fusion.merge import MERGE_RULES
from fusion.merge.compiled import philox
from fusion.merge.parameter import Context, in_memory
from fusion.merge.rules.dare import Dare
from fusion.merge.rules.linear import Linear
from fusion.merge.rules.sce import Sce
from fusion.merge.rules.slerp import Slerp, gradient
from fusion.merge.rules.task_arithmetic import TaskArithmetic
from fusion.merge.rules.ties import Ties
from fusion.merge.rules.varm import Varm
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal, choose

PIVOT = torch.tensor([1.0, 1.0, 1.0, 1.0])
DELTA_A = torch.tensor([4.0, -1.0, 2.0, 0.0])
DELTA_B = torch.tensor([2.0, 3.0, -2.0, 1.0])


def close(merged: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(merged, torch.tensor(expected, dtype=torch.float32), rtol=1e-6, atol=1e-6)


def test_linear_is_the_weighted_mean_of_the_targets() -> None:
    a, b = torch.tensor([2.0, 4.0]), torch.tensor([8.0, 0.0])
    close(Linear(weight=(1.0, 2.0))(torch.zeros(2), [a, b]), [(2 + 16) / 3, 4 / 3])
    close(Linear(weight=(1.0, 2.0), normalize=False)(torch.zeros(2), [a, b]), [18.0, 4.0])


def test_linear_refuses_weights_that_sum_to_zero() -> None:
    with pytest.raises(Refusal, match="sum to zero"):
        Linear(weight=(1.0, -1.0))(torch.zeros(2), [torch.ones(2), torch.ones(2)])


def test_task_arithmetic_adds_the_scaled_weighted_deltas() -> None:
    rule = TaskArithmetic(weight=(0.5, 0.25), scale=2.0)
    # 1 + 2 * (0.5 a + 0.25 b)
    close(rule(PIVOT, [PIVOT + DELTA_A, PIVOT + DELTA_B]), [1 + 2 * 2.5, 1 + 2 * 0.25, 1 + 2 * 0.5, 1 + 2 * 0.25])


def test_slerp_of_orthogonal_vectors_follows_the_circle() -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    third = math.pi / 2 / 3  # a third of the right angle
    close(Slerp(t=1 / 3)(torch.zeros(2), [a, b]), [math.cos(third), math.sin(third)])


def test_slerp_of_nearly_parallel_vectors_is_linear() -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.001])
    close(Slerp(t=0.25)(torch.zeros(2), [a, b]), [1.0, 0.00025])


def test_slerp_with_one_target_starts_at_the_pivot() -> None:
    pivot, target = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    close(Slerp(t=0.0)(pivot, [target]), [1.0, 0.0])


def test_slerps_gradient_follows_the_layers_and_the_part_of_the_name() -> None:
    values = (0.0, 0.5, 0.3, 0.7, 1.0)  # FuseChat v1's list for attention
    assert gradient(values, 0, 33) == 0.0
    assert gradient(values, 32, 33) == 1.0
    assert gradient(values, 4, 33) == pytest.approx(0.25)  # half way from the first entry to the second
    assert gradient(values, None, None) == 0.0  # before the layers
    assert gradient(values, None, None, after=True) == 1.0
    assert gradient(values, 0, 1) == 1.0  # the only layer
    rule = Slerp(t=0.5, t_where={"self_attn": values, "mlp": tuple(reversed(values))})
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    first = Context(name="model.layers.0.self_attn.q_proj.weight", layer=0, layers=33)
    close(rule(torch.zeros(2), [a, b], context=first), [1.0, 0.0])
    assert torch.equal(
        rule(torch.zeros(2), [a, b], context=Context(name="model.layers.0.mlp.up_proj.weight", layer=0, layers=33)), b
    )


@pytest.mark.parametrize("targets", [[PIVOT + DELTA_A], [PIVOT + DELTA_A, PIVOT + DELTA_B]])
def test_wise_ft_is_between_the_pivot_and_the_mean_of_the_targets(targets) -> None:
    entry = compose("fusion", ["merge=[wise_ft]"])["merge"]["wise_ft"]
    rule = choose(MERGE_RULES, {**entry, "scale": 0.25}, at="merge.wise_ft")
    close(rule(PIVOT, targets), (0.75 * PIVOT + 0.25 * sum(targets) / len(targets)).tolist())


def test_ties_trims_elects_and_takes_the_mean() -> None:
    # density 3/4 keeps three of four: a loses 0 (its smallest), b loses 1.
    # a: 4 -1 2 0      b: 2 3 -2 0      sums: 6 2 0 0      signs: + + + (zero elects plus) +
    # agreeing: (4, 2), (3), (2), none
    targets = [PIVOT + DELTA_A, PIVOT + DELTA_B]
    close(Ties(density=0.75, weight=1.0)(PIVOT, targets), [1 + 3, 1 + 3, 1 + 2, 1])
    close(Ties(density=0.75, weight=1.0, aggregate="sum", scale=0.5)(PIVOT, targets), [1 + 3, 1 + 1.5, 1 + 1, 1])


def test_ties_elects_plus_where_votes_cancel_whatever_the_common_weight() -> None:
    # 1 + 2 - 3 = 0 at every position and scale, but 0.2 * 1 + 0.2 * 2 - 0.2 * 3 is not in fp32
    grid = torch.tensor([1.0, 3.0, 7.0, 11.0]) * 2.0**-13
    targets = [grid, 2 * grid, -3 * grid]
    for weight in (0.1, 0.2, 0.3, 1.0):
        close(Ties(density=1.0, weight=weight)(torch.zeros(4), targets), (1.5 * grid).tolist())  # the mean of 1 and 2


def test_ties_weights_vote_and_weigh() -> None:
    # weights 1 and 3: weighted sums 10, 8, -4, 3: the third position now elects minus
    # means: (4 + 3*2)/4, 3, -2, 1
    close(
        Ties(density=1.0, weight=(1.0, 3.0))(PIVOT, [PIVOT + DELTA_A, PIVOT + DELTA_B]), [1 + 2.5, 1 + 3, 1 - 2, 1 + 1]
    )


def test_ties_counts_equal_magnitudes_as_the_count_rule_says() -> None:
    pivot = torch.zeros(4)
    target = torch.tensor([1.0, -1.0, 1.0, 3.0])  # half of four is two: 3 and one of three equal ones
    close(Ties(density=0.5, weight=1.0)(pivot, [target]), [1, -1, 1, 3])
    close(Ties(density=0.5, weight=1.0, count="exactly")(pivot, [target]), [1, 0, 0, 3])


def test_ties_over_the_model_trims_small_parameters_whole() -> None:
    pivot = torch.zeros(2)
    large, small = torch.tensor([8.0, 6.0]), torch.tensor([2.0, 1.0])
    rule = Ties(density=0.5, weight=1.0, scope="model")
    survey = rule.survey([in_memory(pivot, [target], context=Context()) for target in (large, small)])
    close(rule(pivot, [large], context=Context(survey=survey)), [8, 6])
    close(rule(pivot, [small], context=Context(survey=survey)), [0, 0])
    close(Ties(density=0.5, weight=1.0)(pivot, [small]), [2, 0])


def test_dare_keeps_entries_rescaled_and_drops_the_rest() -> None:
    size = 20_000
    delta = torch.ones(size)
    merged = Dare(density=0.25, weight=1.0)(torch.zeros(size), [delta], generator=torch.Generator().manual_seed(1))
    assert set(merged.unique().tolist()) == {0.0, 4.0}  # 1 / 0.25
    kept = int((merged > 0).sum())
    assert abs(kept - size / 4) < 5 * math.sqrt(size * 0.25 * 0.75)  # five standard deviations
    assert merged.mean() == pytest.approx(kept * 4 / size)


def test_dare_keeps_the_l1_norm_when_told() -> None:
    delta = torch.linspace(-1, 1, 1001)
    merged = Dare(density=0.3, weight=1.0, rescale="match_l1")(torch.zeros(1001), [delta])
    assert merged.abs().sum() == pytest.approx(float(delta.abs().sum()), rel=1e-5)
    plain = Dare(density=0.3, weight=1.0, rescale="none")(torch.zeros(1001), [delta])
    assert torch.equal(plain, torch.where(plain != 0, delta, 0.0))


def test_dares_masks_differ_between_targets_and_follow_the_generator() -> None:
    pivot, ones = torch.zeros(1000), torch.ones(1000)
    rule = Dare(density=0.5, weight=1.0, normalize=False)

    def merged(seed: int, targets: int) -> torch.Tensor:
        return rule(pivot, [ones] * targets, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(merged(3, 1), merged(3, 1))
    assert not torch.equal(merged(3, 1), merged(4, 1))
    assert set(merged(3, 2).unique().tolist()) == {0.0, 2.0, 4.0}
    # the first target's mask does not depend on how many there are: where it kept, the sum is 2 or 4
    assert (merged(3, 2)[merged(3, 1) > 0] >= 2).all()
    assert (merged(3, 2)[merged(3, 1) == 0] <= 2).all()


def test_dares_mask_at_a_position_does_not_depend_on_how_many_positions_follow() -> None:
    rule = Dare(density=0.5, weight=1.0, normalize=False)
    dropped = {
        length: [
            rule(torch.zeros(length), [torch.ones(length)], generator=torch.Generator().manual_seed(seed)) == 0
            for seed in range(16)
        ]
        for length in (5, 6, 7, 8)  # words are drawn four at a time
    }
    for length in (5, 6, 7):
        assert all(torch.equal(ours, eight[:length]) for ours, eight in zip(dropped[length], dropped[8], strict=True))


def test_dare_with_ties_elects_signs_among_what_was_kept() -> None:
    targets = [PIVOT + DELTA_A, PIVOT + DELTA_B]
    undropped = Dare(density=1.0, weight=1.0, merge="ties")(PIVOT, targets)
    assert torch.equal(undropped, Ties(density=1.0, weight=1.0)(PIVOT, targets))


def test_philox_gives_the_known_answer_of_its_authors() -> None:
    # Random123's kat_vectors: philox4x32, 10 rounds, counter and key zero
    assert [int(word) for word in philox(0, 0, 0)] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def test_varm_weighs_by_mean_squares() -> None:
    # sums of squares: a 16 + 1 + 4 = 21, b 4 + 9 + 4 + 1 = 18; weights 21/39, 18/39
    expected = [1 + (21 * a + 18 * b) / 39 for a, b in zip(DELTA_A.tolist(), DELTA_B.tolist(), strict=True)]
    close(Varm()(PIVOT, [PIVOT + DELTA_A, PIVOT + DELTA_B]), expected)


def test_varm_weighs_by_magnitudes_when_told() -> None:
    # sums of magnitudes: a 7, b 8
    expected = [1 + (7 * a + 8 * b) / 15 for a, b in zip(DELTA_A.tolist(), DELTA_B.tolist(), strict=True)]
    close(Varm(statistic="abs")(PIVOT, [PIVOT + DELTA_A, PIVOT + DELTA_B]), expected)


def test_varm_by_element_weighs_each_position_for_itself() -> None:
    # (16*4 + 4*2)/20, (1*-1 + 9*3)/10, (4*2 + 4*-2)/8, (0 + 1)/1
    close(Varm(granularity="element")(PIVOT, [PIVOT + DELTA_A, PIVOT + DELTA_B]), [1 + 3.6, 1 + 2.6, 1, 2])


def test_varm_by_element_is_uniform_where_one_target_did_not_move_when_told() -> None:
    # At the last position a did not move and b by 1: half of it each, where the equation gives b all the weight.
    rule = Varm(granularity="element", unmoved="uniform")
    close(rule(PIVOT, [PIVOT + DELTA_A, PIVOT + DELTA_B]), [1 + 3.6, 1 + 2.6, 1, 1.5])


def test_varm_by_layer_and_model_pools_parameters() -> None:
    pivot = torch.zeros(1)
    moves = {  # name: layer, delta a, delta b
        "model.embed_tokens.weight": (None, 1.0, 1.0),
        "model.layers.0.x": (0, 1.0, 2.0),
        "model.layers.0.y": (0, 2.0, 4.0),
        "model.layers.1.x": (1, 3.0, 0.0),
    }
    parameters = [
        in_memory(pivot, [torch.tensor([a]), torch.tensor([b])], context=Context(name=name, layer=layer, layers=2))
        for name, (layer, a, b) in moves.items()
    ]
    by_layer = Varm(granularity="layer")
    survey = by_layer.survey(parameters)
    # layer 0: a 1 + 4, b 4 + 16; layer 1: a 9, b 0; outside: each its own
    assert survey == {"model.embed_tokens.weight": (0.5, 0.5), "layer 0": (0.2, 0.8), "layer 1": (1.0, 0.0)}
    inside = Context(name="model.layers.0.x", layer=0, layers=2, survey=survey)
    close(by_layer(pivot, [torch.tensor([1.0]), torch.tensor([2.0])], context=inside), [0.2 + 1.6])
    # the whole: a 1 + 1 + 4 + 9 = 15, b 1 + 4 + 16 = 21
    assert Varm(granularity="model").survey(parameters)["model"] == pytest.approx((15 / 36, 21 / 36))
    assert Varm(granularity="layer", unmoved="uniform").survey(parameters)["layer 1"] == (0.5, 0.5)


# SCE.  Six positions, two targets; variances are quarters of squared differences.
SCE_PIVOT = torch.zeros(6)
SCE_A = torch.tensor([3.0, 1.0, -2.0, 1.0, 0.5, 0.0])
SCE_B = torch.tensor([1.0, -1.0, 2.0, 1.0, 0.5, 1.0])
# differences 2 2 4 0 0 1: four positions differ, tau 0.75 selects three of them: 2, 0 and 1.
# masked squares: a 9 + 1 + 4 = 14, b 1 + 1 + 4 = 6; eta 0.7, 0.3


def test_sce_as_the_paper_has_it() -> None:
    # masked sums: 4, 0, 0 elect plus; survivors: a, b at 0; a at 1; b at 2; not renormalised
    merged = Sce(select_topk=0.75, reading="paper")(SCE_PIVOT, [SCE_A, SCE_B])
    close(merged, [0.7 * 3 + 0.3 * 1, 0.7 * 1, 0.3 * 2, 0, 0, 0])


def test_sce_as_the_authors_code_has_it() -> None:
    # all positions move, divided by the eta that survive
    merged = Sce(select_topk=0.75, reading="fuseai")(SCE_PIVOT, [SCE_A, SCE_B])
    close(merged, [0.7 * 3 + 0.3 * 1, 1, 2, 1, 0.5, 1])


def test_sce_as_mergekit_has_it() -> None:
    merged = Sce(select_topk=0.75, reading="mergekit")(SCE_PIVOT, [SCE_A, SCE_B])
    close(merged, [0.7 * 3 + 0.3 * 1, 1, 2, 0, 0, 0])


def test_mergekits_sce_weighs_small_changes_equally_and_the_others_do_not() -> None:
    # masked mean squares (14 + 6) / 6 = 3.3; scaled by 1e-4 squared they are 3.3e-8, below 1e-6
    a, b = SCE_A * 1e-4, SCE_B * 1e-4
    mergekit = Sce(select_topk=0.75, reading="mergekit")(SCE_PIVOT, [a, b])
    fuseai = Sce(select_topk=0.75, reading="fuseai")(SCE_PIVOT, [a, b])
    torch.testing.assert_close(mergekit[0], torch.tensor(0.5 * 3e-4 + 0.5 * 1e-4))
    torch.testing.assert_close(fuseai[0], torch.tensor(0.7 * 3e-4 + 0.3 * 1e-4))


def test_sces_steps_can_be_left_out() -> None:
    targets = [SCE_A, SCE_B]
    # unselected: squares a 9+1+4+1+.25 = 15.25, b 1+1+4+1+.25+1 = 8.25
    eta = [15.25 / 23.5, 8.25 / 23.5]
    unselected = Sce(select=False, erase=False)(SCE_PIVOT, targets)
    close(unselected, [eta[0] * a + eta[1] * b for a, b in zip(SCE_A.tolist(), SCE_B.tolist(), strict=True)])
    equal = Sce(select_topk=0.75, calculate=False)(SCE_PIVOT, targets)
    close(equal, [2, 0.5, 1, 0, 0, 0])
    unerased = Sce(select_topk=0.75, erase=False)(SCE_PIVOT, targets)
    close(unerased, [0.7 * 3 + 0.3, 0.7 - 0.3, -1.4 + 0.6, 0, 0, 0])


def test_sce_keeps_equal_variances_as_the_count_rule_says() -> None:
    # tau 0.5 of four is two: position 2, and one of the two with difference 2
    moved = Sce(select_topk=0.5, erase=False)(SCE_PIVOT, [SCE_A, SCE_B]) != 0
    assert moved.tolist() == [True, True, True, False, False, False]
    exact = Sce(select_topk=0.5, erase=False, count="exactly")(SCE_PIVOT, [SCE_A, SCE_B]) != 0
    assert exact.tolist() == [True, False, True, False, False, False]


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("ties", {"density": 1.5}, "density is 1.5"),
        ("ties", {"scope": "model", "count": "exactly"}, "use it with scope: tensor"),
        ("ties", {"weight": -1.0}, "aggregate: sum"),
        ("dare", {"density": 0.0}, "density is 0.0"),
        ("sce", {"select_topk": -0.1}, "select_topk is -0.1"),
        ("slerp", {"pair": (1, 1)}, "two different targets"),
    ],
)
def test_hyperparameters_out_of_range_are_refused(name: str, fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MERGE_RULES[name](**fields)
