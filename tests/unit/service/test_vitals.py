"""What a process says about itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from mta.clock import SystemClock
from mta.service.vitals import LoopLag, Usage, Vitals, percentile, usage_of
from tests.support.steploop import StepLoop


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


def test_a_process_that_sleeps_is_looked_at_rarely_and_a_late_timer_wakes_the_watch() -> None:
    loop = StepLoop()
    looks: list[float] = []

    class Watched:
        """The loop's time; late by `late` from the next look on."""

        late = 0.0

        def now(self) -> float:
            looks.append(loop.now())
            return loop.now() + self.late

        wall = now

    clock = Watched()
    lag = LoopLag(clock, loop)  # type: ignore[arg-type]
    lag.start()
    loop.advance(60.0)
    assert len(looks) < 60 / 0.05 / 4

    looks.clear()
    clock.late = 0.2
    loop.advance(1.0)
    clock.late = 0.0
    lag.close()

    # What was late stands for the time since the look before, so percentiles are those of time.
    assert 0.0 < lag.figures()["lagP99"] <= lag.figures()["lagMax"] < 0.3
    assert lag.figures()["lag"] == 0.0


def test_a_loop_that_nobody_waits_for_is_looked_at_less_often_and_its_samples_stand_for_as_long() -> None:
    loop = StepLoop()
    lag = LoopLag(loop, loop, span=8)  # type: ignore[arg-type]
    lag.start()

    loop.advance(0.05 * 8 - 0.01)
    assert repr(lag) == "<LoopLag of 0 samples>"
    loop.advance(0.02)
    lag.close()

    assert repr(lag) == "<LoopLag of 8 samples>"


async def test_what_processes_use_that_work_for_this_one_is_added() -> None:
    vitals = Vitals(SystemClock(), asyncio.get_running_loop())
    try:
        alone, together = vitals.figures(), vitals.figures([os.getpid()])
    finally:
        vitals.close()

    assert together["cpu"] > alone["cpu"] * 1.5
    assert together["rss"] > alone["rss"] * 1.5


def test_a_process_that_has_ended_uses_nothing() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert usage_of(ended.pid) == Usage(0.0, 0)
