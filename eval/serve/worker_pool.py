"""Many questions to one endpoint at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def work_through(items: Iterable[T], work: Callable[[T], Awaitable[None]], *, workers: int) -> None:
    """Await `work` of every item, each taken once and in order, at most `workers` under way at a time.

    What `work` raises is raised here, after the others under way were cancelled; items not yet taken stay untouched.
    """
    waiting = iter(items)

    async def one_after_another() -> None:
        for item in waiting:  # one iterator for all workers
            await work(item)

    tasks = [asyncio.create_task(one_after_another()) for _ in range(workers)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
