"""How often something may happen: the sliding window behind every `rate` directive.

A window of `3/10s` holds in *any* ten seconds, not only in those that start on the minute or with a full
bucket: receivers count like that, and a bucket lets twice the rate through around its refill. Half-open:
an event at t and one at t + 10 are not in the same window.

Not here: limits on how many at once (permits.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

__all__ = ["SlidingWindow", "has_memory", "window_for"]

#: A window of more events than this is kept in so many slices. Each slice expires with its last event, so
#: the limit still holds in every window; the price is at most 1/1000 of the rate.
SLICES = 1000


class SlidingWindow:
    """At most `count` events in any `per` seconds; times must not run backwards."""

    __slots__ = ("_events", "_slice", "_used", "count", "per")

    def __init__(self, count: int, per: float) -> None:
        self.count = count
        self.per = per
        self._slice = per / SLICES if count > SLICES else 0.0
        self._events: deque[list[float]] = deque()  # [first at, last at, how many]
        self._used = 0

    def available(self, now: float) -> int:
        """How many events are allowed at `now`."""
        events = self._events
        while events and events[0][1] + self.per <= now:
            self._used -= int(events.popleft()[2])
        return self.count - self._used

    def add(self, events: int, now: float) -> None:
        """Note that `events` happened; the caller has asked `available` first."""
        self._used += events
        if self._events:
            newest = self._events[-1]
            if now - newest[0] < self._slice or now == newest[1]:
                newest[1] = now
                newest[2] += events
                return
        self._events.append([now, now, events])

    def lifts_at(self, now: float, wanted: int = 1) -> float:
        """When so many events are allowed, or (when the limit is less than that) the window is empty."""
        if self.available(now) >= wanted or not self._events:
            return now
        excess = self._used + wanted - self.count
        for _, last, how_many in self._events:
            excess -= int(how_many)
            if excess <= 0:
                return last + self.per
        return self._events[-1][1] + self.per

    def resized(self, count: int, per: float) -> SlidingWindow:
        """The window for another limit that remembers what happened under this one."""
        other = SlidingWindow(count, per)
        other._events.extend(list(event) for event in self._events)
        other._used = self._used
        return other

    def events(self) -> list[list[float]]:
        """What is counted, as JSON: first and last time, and how many."""
        return [list(event) for event in self._events]

    def take_over(self, events: Iterable[Iterable[float]], now: float) -> None:
        """Count what another window's `events` were, as far as they lie behind; nonsense is skipped."""
        for event in events:
            try:
                first, last, how_many = map(float, event)
            except (TypeError, ValueError):
                continue
            if last > now:
                continue
            self._events.append([first, last, how_many])
            self._used += int(how_many)

    def __repr__(self) -> str:
        return f"SlidingWindow({self._used}/{self.count} in {self.per:g}s)"


def window_for(rate: tuple[int, float] | None, before: SlidingWindow | None) -> SlidingWindow | None:
    """The window for a rate; what the window before it counted stays counted."""
    if rate is None:
        return None
    if before is None:
        return SlidingWindow(*rate)
    if (before.count, before.per) == tuple(rate):
        return before
    return before.resized(*rate)


def has_memory(window: SlidingWindow | None, now: float) -> bool:
    """Whether a window still counts something."""
    return window is not None and window.available(now) < window.count
