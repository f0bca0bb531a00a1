"""Which type holds what, what is measured of an update that is rounded, and when that is said."""

import pytest
import torch

from fusion.configure import Refusal
from fusion.precision import Kept, MergedConfig, check_update, widest
from fusion.rounding import UpdateTally


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["bfloat16", "bfloat16"], "bfloat16"),
        (["bfloat16", "float32"], "float32"),
        (["float32", "bfloat16", "float16"], "float32"),
        (["float16", "bfloat16"], "float32"),  # neither holds the other's numbers
        (["float16", "float16"], "float16"),
        (["bfloat16", "float64", "float32"], "float64"),
    ],
)
def test_the_widest_type_holds_the_numbers_of_all(given, found):
    assert widest(given) == found
    for name in given:  # the largest, the smallest and the finest number of each
        limits = torch.finfo(getattr(torch, name))
        numbers = torch.tensor([limits.max, limits.smallest_normal, 1 + limits.eps], dtype=getattr(torch, name))
        assert torch.equal(numbers.to(getattr(torch, found)).to(numbers.dtype), numbers)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_what_is_measured_is_what_torch_rounds_to(dtype):
    """Over all magnitudes, halfway cases and numbers below the normal ones included."""
    random = torch.Generator().manual_seed(0)
    powers = 10.0 ** torch.randint(-9, 5, (20_000,), generator=random)
    before = torch.cat([torch.randn(20_000, generator=random) * powers, torch.tensor([2.0**-14, 2.0**-25, 1.0, 0.0])])
    after = torch.cat([before[:-4] * (1 + 2.0**-9), torch.tensor([2.0**-14, 3 * 2.0**-25, 1 + 2.0**-8, -0.0])])
    kind = getattr(torch, dtype)
    tally = UpdateTally()
    tally.add(before, after, after.to(kind))
    held = after.to(kind).double() - before.to(kind).double()
    whole = after.double() - before.double()
    found = tally.kept()
    assert found.cosine == pytest.approx(float(whole @ held / whole.norm() / held.norm()), rel=1e-4)
    assert found.norm_ratio == pytest.approx(float(held.norm() / whole.norm()), rel=1e-4)
    assert found.moved == pytest.approx(float((held != 0).double().mean()))


def test_weights_that_overflow_a_type_are_left_out_of_its_figures():
    tally = UpdateTally()
    tally.add(torch.tensor([1e5]), torch.tensor([2e5]), torch.tensor([2e5]).half())
    assert tally.facts() == {}


def test_an_update_that_is_lost_is_said_or_refused_with_its_figures_and_the_way_out():
    said: list[str] = []
    lost = Kept(cosine=0.18, norm_ratio=0.22, moved=0.026)
    check_update("sce", lost, "set merged.dtype=float32", "warn", said.append)
    assert said == [
        "sce loses a part of what training changed (cosine 0.18, norm ratio 0.22, 2.6% of the entries moved; 1 is all"
        " of it): set merged.dtype=float32"
    ]
    with pytest.raises(Refusal, match=r"cosine 0\.18, norm ratio 0\.22, 2\.6% .*merged\.dtype=float32.*lost_update"):
        check_update("sce", lost, "set merged.dtype=float32", "refuse", said.append)
    check_update("sce", lost, "set merged.dtype=float32", "allow", said.append)
    check_update("sce", Kept(cosine=0.9901, norm_ratio=0.9901, moved=0.5), "", "refuse", said.append)
    check_update("sce", Kept(cosine=None, norm_ratio=None, moved=0.0), "", "refuse", said.append)  # nothing changed
    assert len(said) == 1
    for kept in (Kept(cosine=0.98, norm_ratio=1.0, moved=1), Kept(cosine=1.0, norm_ratio=0.98, moved=1),
                 Kept(cosine=None, norm_ratio=0.0, moved=0)):  # fmt: skip
        with pytest.raises(Refusal):
            check_update("sce", kept, "", "refuse", said.append)


def test_only_what_can_change_bytes_is_in_a_merges_key():
    assert MergedConfig().decides == ()
    assert MergedConfig(dtype="float32").decides == MergedConfig(dtype="float32", rounding="stochastic").decides
    distinct = [MergedConfig(dtype=dtype, rounding=rounding).decides  # type: ignore[arg-type]
                for dtype in (None, "bfloat16", "float16") for rounding in ("nearest", "stochastic")]  # fmt: skip
    assert all(a != b for i, a in enumerate(distinct) for b in distinct[:i])
