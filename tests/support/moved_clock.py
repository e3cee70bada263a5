"""A clock that runs with the event loop and can be moved forward by a test."""

from __future__ import annotations

import asyncio

__all__ = ["MovedClock"]


class MovedClock:
    """Steady and wall time are the same. Timers of the loop don't know that it was moved: whoever waits for
    one has to be woken."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._loop = asyncio.get_running_loop()
        self._offset = start - self._loop.time()

    def now(self) -> float:
        return self._loop.time() + self._offset

    wall = now

    def move(self, seconds: float) -> None:
        """Let so many seconds have passed."""
        assert seconds >= 0.0, "time does not run backwards"
        self._offset += seconds

    def move_to(self, when: float) -> None:
        """Let it be `when`."""
        self.move(when - self.now())
