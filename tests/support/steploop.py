"""An event loop that moves only when told to: for code that is all callbacks.

It offers what such code uses (call_soon, call_later, call_soon_threadsafe) and runs it in order, with a
clock that jumps to the next timer.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable
from typing import Any


class StepTimer:
    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class StepLoop:
    """`clock` follows the loop's time: both stand still until `advance`."""

    def __init__(self) -> None:
        self.errors: list[dict[str, Any]] = []
        self._now = 1_000_000.0
        self._ready: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._timers: list[tuple[float, int, StepTimer, Callable[..., object], tuple[Any, ...]]] = []
        self._count = itertools.count()
        self._landed = threading.Event()

    def now(self) -> float:
        return self._now

    wall = time = now

    def call_soon(self, call: Callable[..., object], *arguments: Any) -> None:
        self._ready.append((call, arguments))

    def call_soon_threadsafe(self, call: Callable[..., object], *arguments: Any) -> None:
        self._ready.append((call, arguments))
        self._landed.set()

    def call_later(self, delay: float, call: Callable[..., object], *arguments: Any) -> StepTimer:
        timer = StepTimer()
        heapq.heappush(self._timers, (self._now + delay, next(self._count), timer, call, arguments))
        return timer

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    def run(self) -> None:
        """Everything that is ready, and what that makes ready."""
        while self._ready:
            call, arguments = self._ready.popleft()
            call(*arguments)

    def turn(self) -> None:
        """One turn: what is ready now, and not what that makes ready."""
        for _ in range(len(self._ready)):
            call, arguments = self._ready.popleft()
            call(*arguments)

    def advance(self, seconds: float) -> None:
        """Let time pass, timers firing on their way."""
        until = self._now + seconds
        self.run()
        while self._timers and self._timers[0][0] <= until:
            at, _, timer, call, arguments = heapq.heappop(self._timers)
            self._now = max(self._now, at)
            if not timer.is_cancelled:
                call(*arguments)
            self.run()
        self._now = max(self._now, until)  # a call may have let time pass itself

    def run_until(self, is_done: Callable[[], bool], seconds: float = 20.0) -> None:
        """Run what threads land, until `is_done`."""
        self.run()
        while not is_done():
            self._landed.clear()
            if not self._ready and not self._landed.wait(seconds):
                raise AssertionError("nothing landed in time")
            self.run()
