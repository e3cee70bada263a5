"""How often something may happen: the sliding window behind every `rate` directive.

A window of `3/10s` holds in *any* ten seconds, not only in those that start on the minute or with a full
bucket: receivers count like that, and a bucket lets twice the rate through around its refill. Half-open:
an event at t and one at t + 10 are not in the same window.

A queue has two rates of a kind, one for each mode. Both windows count everything, whichever mode it happens
in, so that going into backoff and out of it gives nobody more than either rate allows: the active window has
the other one behind it.

Not here: limits on how many at once (permits.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

__all__ = ["SlidingWindow", "has_memory", "window_for", "window_pair"]

#: Stands for no rate where the other mode has one.
NO_LIMIT = (1 << 62, 0.0)

#: A window of more events than this is kept in so many slices. Each slice expires with its last event, so
#: the limit still holds in every window; the price is at most 1/1000 of the rate.
SLICES = 1000


class SlidingWindow:
    """At most `count` events in any `per` seconds; times must not run backwards."""

    __slots__ = ("_events", "_slice", "_used", "count", "other", "per")

    def __init__(self, count: int, per: float) -> None:
        self.count = count
        self.per = per
        self._slice = per / SLICES if count > SLICES else 0.0
        self._events: deque[list[float]] = deque()  # [first at, last at, how many]
        self._used = 0
        self.other: SlidingWindow | None = None  # counts along: the rate of the other mode

    def available(self, now: float) -> int:
        """How many events are allowed at `now`."""
        events = self._events
        while events and events[0][1] + self.per <= now:
            self._used -= int(events.popleft()[2])
        return self.count - self._used

    def add(self, events: int, now: float) -> None:
        """Note that `events` happened; the caller has asked `available` first."""
        if self.other is not None:
            self.other.count_along(events, now)
        self._used += events
        if self._events:
            newest = self._events[-1]
            if now - newest[0] < self._slice or now == newest[1]:
                newest[1] = now
                newest[2] += events
                return
        self._events.append([now, now, events])

    def count_along(self, events: int, now: float) -> None:
        """Note events that this limit was not asked about; of more than it allows the last ones decide."""
        self.add(events, now)
        self.available(now)
        while self._used - int(self._events[0][2]) >= self.count:
            self._used -= int(self._events.popleft()[2])

    def take_back(self, at: float) -> None:
        """One event of that moment did not happen after all, if it still counts."""
        if self.other is not None:
            self.other.take_back(at)
        for event in reversed(self._events):
            if event[0] <= at <= event[1] and event[2] >= 1:
                event[2] -= 1
                self._used -= 1
                return

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


def window_pair(
    rate: tuple[int, float] | None, resting: tuple[int, float] | None, before: SlidingWindow | None
) -> SlidingWindow | None:
    """The window for a rate, with one behind it for `resting`, the rate of the other mode.

    What the windows before counted stays counted.
    """
    if rate is None and resting is None:
        return None
    known = [] if before is None else [window for window in (before, before.other) if window is not None]
    active = _found(rate or NO_LIMIT, known, before)
    other = None
    if resting is not None and resting != rate:
        other = _found(resting, known, before.other or before if before is not None else None)
        other.other = None
    active.other = other
    return active


def _found(
    rate: tuple[int, float], known: list[SlidingWindow], before: SlidingWindow | None
) -> SlidingWindow:
    for window in known:
        if (window.count, window.per) == tuple(rate):
            return window
    return SlidingWindow(*rate) if before is None else before.resized(*rate)


def has_memory(window: SlidingWindow | None, now: float) -> bool:
    """Whether a window, or the one behind it, still counts something."""
    if window is None:
        return False
    return window.available(now) < window.count or has_memory(window.other, now)
