"""A clock that runs with the event loop and can be moved forward by a test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["MovedClock"]


class MovedClock:
    """Steady and wall time are the same. Timers of the loop don't know that it was moved: whoever waits for
    one has to be woken."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._loop = asyncio.get_running_loop()
        self._offset = start - self._loop.time()
        self._stands_at: float | None = None

    def now(self) -> float:
        return self._loop.time() + self._offset if self._stands_at is None else self._stands_at

    wall = now

    def move(self, seconds: float) -> None:
        """Let so many seconds have passed."""
        assert seconds >= 0.0, "time does not run backwards"
        self._offset += seconds

    def move_to(self, when: float) -> None:
        """Let it be `when`."""
        self.move(when - self.now())

    @contextmanager
    def standing(self, when: float) -> Iterator[None]:
        """Let it be `when` all the time, then go on from there."""
        self.move_to(max(when, self.now()))
        self._stands_at = self.now()
        try:
            yield
        finally:
            self._offset = self._stands_at - self._loop.time()
            self._stands_at = None
