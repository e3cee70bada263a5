"""Long work in turns of the event loop: as much of each as everything else took of the one before.

So neither waits for the other, however busy the loop is: a fixed number of items a turn would be next to
nothing where turns are long, and too much where they are short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from mta.clock import Clock

__all__ = ["Turn", "take_turns"]

T = TypeVar("T")

#: Seconds of a turn that the work takes at least and at most.
LEAST, MOST = 0.002, 0.02
#: Items between two looks at the clock, and in one turn in any case.
LOOK, LIMIT = 25, 2500


class Turn:
    """How long a turn may last: `begin`, `is_over` after each item, `end`; `now` gives the time."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ended_at = now()
        self._until = 0.0
        self._count = 0

    def begin(self) -> None:
        now = self._now()
        self._count = 0
        self._until = now + min(MOST, max(LEAST, now - self._ended_at))

    def is_over(self) -> bool:
        """Whether somebody else should have the loop."""
        self._count += 1
        return self._count >= LIMIT or (self._count % LOOK == 0 and self._now() >= self._until)

    def end(self) -> None:
        self._ended_at = self._now()


async def take_turns(items: Iterable[T], work: Callable[[T], None], clock: Clock) -> int:
    """Do the work for each item; returns how many there were."""
    turn, count = Turn(clock.now), 0
    turn.begin()
    for item in items:
        work(item)
        count += 1
        if turn.is_over():
            turn.end()
            await asyncio.sleep(0)
            turn.begin()
    return count
