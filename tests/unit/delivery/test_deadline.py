"""A deadline that moves: met to the moment, with few timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mta.delivery.deadline import LOOK_EVERY, Deadline


class Timer:
    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call = call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Loop:
    """A clock and a loop whose time the test turns on."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.timers: list[Timer] = []

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.time + delay, call))
        return self.timers[-1]

    def run_until(self, time: float) -> None:
        while True:
            due = [timer for timer in self.timers if not timer.is_cancelled and timer.at <= time]
            if not due:
                break
            first = min(due, key=lambda timer: timer.at)
            self.time = max(self.time, first.at)
            first.is_cancelled = True
            first.call()
        self.time = time


def make() -> tuple[Loop, Deadline, list[float]]:
    loop = Loop()
    rung: list[float] = []
    deadline = Deadline(lambda: rung.append(loop.time), clock=loop, loop=loop)  # type: ignore[arg-type]
    return loop, deadline, rung


def test_it_is_met_to_the_moment_however_far_it_is() -> None:
    for patience in (0.0, 0.2, 14.9, 15.0, 15.1, 600.0):
        loop, deadline, rung = make()

        deadline.move(1000.0 + patience, 1000.0)
        loop.run_until(2000.0)

        assert rung == [1000.0 + patience]


def test_a_deadline_that_keeps_moving_needs_a_timer_every_look_only() -> None:
    loop, deadline, rung = make()
    deadline.move(1300.0, 1000.0)
    for second in range(1, 151):
        loop.run_until(1000.0 + second)
        deadline.move(loop.time + 300.0, loop.time)

    assert rung == []
    assert len(loop.timers) <= 150 / LOOK_EVERY + 2


def test_a_nearer_deadline_counts_at_once() -> None:
    loop, deadline, rung = make()
    deadline.move(1600.0, 1000.0)
    deadline.move(1000.2, 1000.0)

    loop.run_until(1700.0)

    assert rung == [1000.2]


def test_a_cancelled_deadline_never_rings() -> None:
    loop, deadline, rung = make()
    deadline.move(1001.0, 1000.0)
    deadline.cancel()
    deadline.move(1002.0, 1000.5)

    loop.run_until(2000.0)

    assert rung == []


def test_after_it_rang_it_may_be_set_again() -> None:
    loop, deadline, rung = make()
    deadline.move(1001.0, 1000.0)
    loop.run_until(1002.0)
    deadline.move(1003.0, 1002.0)
    loop.run_until(1004.0)

    assert rung == [1001.0, 1003.0]


async def test_it_works_with_a_real_loop() -> None:
    from mta.clock import SystemClock

    rung = asyncio.Event()
    clock = SystemClock()
    deadline = Deadline(rung.set, clock=clock, loop=asyncio.get_running_loop())

    deadline.move(clock.now() + 0.02, clock.now())

    await asyncio.wait_for(rung.wait(), 5)
