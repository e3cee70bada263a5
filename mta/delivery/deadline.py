"""A deadline that moves with every message and costs nothing when it does.

Arming a timer costs a microsecond and more; moving this is an assignment. A timer rings at most `LOOK_EVERY`
seconds ahead, looks where the deadline is by then, and sets itself again; only a deadline before the next
look has to set it anew. So it is met to the moment, and a connection that works has a timer every 15 s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from mta.clock import Clock

__all__ = ["LOOK_EVERY", "Deadline"]

#: Seconds between looks, at most.
LOOK_EVERY: Final = 15.0
#: What the loop's clock and ours may differ by (seconds): its resolution.
TOLERANCE: Final = 0.001


class Deadline:
    """Calls `overdue` once when the clock passes the time last given to `move`."""

    __slots__ = ("_clock", "_loop", "_overdue", "_timer", "at", "looks_at")

    def __init__(self, overdue: Callable[[], None], *, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self.at = float("inf")
        #: When the timer rings; a deadline before it has to be `move`d, a later one may be assigned.
        self.looks_at = float("inf")
        self._overdue = overdue
        self._clock = clock
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def move(self, at: float, now: float) -> None:
        """The deadline is `at` from now on."""
        self.at = at
        if at < self.looks_at:
            self._arm(now)

    def hand_over(self, overdue: Callable[[], None]) -> None:
        """Somebody else is told from now on; the timer goes on as it is."""
        self._overdue = overdue

    def cancel(self) -> None:
        """There is no deadline any more, nor will there be one.

        The callback is let go of: its owner has us, and a ring of the two would wait for the garbage
        collector with all that hangs on it, transport and buffers included.
        """
        self.at = float("inf")
        self.looks_at = float("-inf")
        self._overdue = _nothing
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = min(max(self.at - now, 0.0), LOOK_EVERY)
        self.looks_at = now + delay
        self._timer = self._loop.call_later(delay, self._look)

    def _look(self) -> None:
        now = self._clock.now()
        self._timer = None
        self.looks_at = float("inf")
        if now < self.at - TOLERANCE:
            self._arm(now)
        else:
            self.at = float("inf")
            self._overdue()


def _nothing() -> None:
    """What a cancelled deadline calls."""
