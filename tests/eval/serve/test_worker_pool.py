"""One pool of workers for whoever asks an endpoint."""

import asyncio

import pytest

from eval.serve.worker_pool import work_through


def test_each_item_is_taken_once_and_no_more_than_the_limit_are_under_way():
    taken, under_way, most = [], 0, 0

    async def work(item):
        nonlocal under_way, most
        taken.append(item)
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1

    asyncio.run(work_through(range(50), work, workers=7))
    assert taken == list(range(50))
    assert most == 7


def test_a_failure_cancels_what_is_under_way_and_leaves_the_rest_untaken():
    taken, cancelled = [], []

    async def work(item):
        taken.append(item)
        if item == 2:
            raise ValueError("third")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise

    with pytest.raises(ValueError, match="third"):
        asyncio.run(work_through(range(50), work, workers=3))
    assert (taken, cancelled) == ([0, 1, 2], [0, 1])


def test_nothing_to_do_ends_at_once():
    asyncio.run(work_through([], None, workers=0))
