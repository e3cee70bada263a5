"""Long work and everything else have their share of the loop."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from statistics import median

import pytest

from mta.service.turns import LIMIT, LOOK, take_turns


class Watch:
    """A clock that goes on by what is done: `step` seconds for each item."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time


async def sizes_of_turns(items: int, *, step: float, others: float) -> list[int]:
    """How many items each turn had, where an item takes `step` seconds and all else `others` in each turn."""
    watch, done, seen = Watch(), 0, [0]

    def work(item: int) -> None:
        nonlocal done
        done += 1
        watch.time += step

    async def other() -> None:
        while done < items:
            watch.time += others
            await asyncio.sleep(0)
            seen.append(done)

    async with asyncio.timeout(10.0), asyncio.TaskGroup() as company:
        long = company.create_task(take_turns(range(items), work, watch))
        company.create_task(other())
        assert await long == items
    # The others begin after the first turn.
    return [after - before for before, after in pairwise(seen) if after > before][1:]


@pytest.mark.both_loops
@pytest.mark.parametrize(
    ("others", "turn"), [(0.0, 0.002), (0.001, 0.002), (0.010, 0.010), (0.5, 0.020)], ids=str
)
async def test_a_turn_is_as_long_as_the_others_were_within_bounds(others: float, turn: float) -> None:
    found = await sizes_of_turns(9000, step=0.00001, others=others)

    # The clock is looked at every LOOK items.
    assert max(found) <= turn / 0.00001 + 2 * LOOK
    assert median(found) >= turn / 0.00001 - 2 * LOOK


@pytest.mark.both_loops
async def test_a_clock_that_stands_still_ends_no_turn_but_the_limit_does() -> None:
    assert max(await sizes_of_turns(3 * LIMIT, step=0.0, others=0.0)) == LIMIT
