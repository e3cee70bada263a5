"""What a process says about itself."""

from __future__ import annotations

import asyncio

import pytest

from mta.clock import SystemClock
from mta.service.vitals import Vitals, percentile


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [([], 0.99, 0.0), ([5.0], 0.5, 5.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0), ([1.0, 2.0, 3.0, 4.0], 1.0, 4.0)],
)
def test_a_percentile_is_one_of_the_values(values: list[float], share: float, found: float) -> None:
    assert percentile(values, share) == found


@pytest.mark.parametrize("hundredths", [1, 2])
def test_the_worst_hundredth_is_seen_when_there_are_enough_samples(hundredths: int) -> None:
    values = [0.0] * (100 * hundredths - hundredths - 1) + [9.0] * (hundredths + 1)

    assert percentile(values, 0.99) == 9.0
    assert percentile(values, 0.5) == 0.0


@pytest.mark.both_loops
async def test_a_loop_that_was_held_up_says_for_how_long() -> None:
    clock = SystemClock()
    vitals = Vitals(clock, asyncio.get_running_loop())
    try:
        held_until = clock.now() + 0.15
        while clock.now() < held_until:
            pass
        async with asyncio.timeout(10.0):
            while not vitals.figures()["lagMax"]:
                await asyncio.sleep(0)
        figures = vitals.figures()
    finally:
        vitals.close()

    assert 0.09 < figures["lagMax"] < 10.0
    assert figures["lag"] <= figures["lagP99"] <= figures["lagMax"]
    assert figures["cpu"] > 0.0
    assert figures["rss"] > 1 << 20
