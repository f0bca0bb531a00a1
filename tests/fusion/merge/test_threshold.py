"""The k-th largest magnitude by counting bit patterns, against sorting."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.merge import parameter as parameter_module
from fusion.merge.parameter import Context, in_memory
from fusion.merge.threshold import largest

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def select(values: torch.Tensor, k: int, count: str = "at_least"):  # type: ignore[no-untyped-def]
    held = in_memory(torch.zeros_like(values), [values], context=Context())
    (found,) = largest([held], lambda piece: piece.targets, lambda series, total, nonzero: k, count=count)  # type: ignore[arg-type]
    masks = [found.mask(piece.targets[0], piece.start) for piece in held.pieces()]
    return found, torch.cat(masks).bool()


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(finite | st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45]), min_size=1, max_size=60), data=st.data()
)
def test_the_threshold_is_the_kth_largest_of_a_sort(values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    tensor = torch.tensor(values)
    magnitudes = np.abs(tensor.numpy())
    expected = np.sort(magnitudes)[::-1][k - 1]
    found, mask = select(tensor, k)
    if k < len(values):
        assert found.value == expected
        assert mask.tolist() == (magnitudes >= expected).tolist()
    assert found.kept == int(mask.sum())
    _, exact = select(tensor, k, "exactly")
    assert int(exact.sum()) == k
    first = np.lexsort((np.arange(len(values)), -magnitudes.astype(np.float64)))[:k]
    assert sorted(first.tolist()) == exact.nonzero().flatten().tolist()


def test_nothing_is_kept_of_rank_zero() -> None:
    found, mask = select(torch.tensor([1.0, 2.0]), 0)
    assert found.kept == 0
    assert not mask.any()


def test_pieces_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)).bfloat16().float()  # many equal magnitudes
    coarse = (values * 2).round()  # and hundreds of equal ones: of each of 0 to 6, some in every piece
    settings = [(k, count) for k in (1, 10, 500, 700, 999) for count in ("at_least", "exactly")]
    whole = [select(numbers, k, count)[1] for numbers in (values, coarse) for k, count in settings]
    monkeypatch.setattr(parameter_module, "PIECE", 64)
    parts = [select(numbers, k, count)[1] for numbers in (values, coarse) for k, count in settings]
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_the_first_of_equal_numbers_are_kept_across_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    # A two in every third place, else a one; of twelve numbers the eight largest are the four twos and four ones.
    values = torch.tensor([2.0, 1.0, 1.0] * 4)
    expected = [True, True, True] * 2 + [True, False, False] * 2
    for piece in (12, 4):  # the ones that are kept lie in the first piece and in the second
        monkeypatch.setattr(parameter_module, "PIECE", piece)
        found, mask = select(values, 8, "exactly")
        assert mask.tolist() == expected
        assert (found.value, found.kept) == (1.0, 8)
