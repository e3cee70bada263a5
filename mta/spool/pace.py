"""When to commit: the operator of a disk can't know, so it is measured while we go.

An outcome that was said and is not on disk yet is a delivery that a crash repeats. How long that takes is the
duplicate window; half of it is waiting for the commit in flight, the other half one's own. Both follow
from how long a commit takes from forming to landing, hand-overs between threads included.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Pace", "Turnaround", "WindowGauge"]

#: So many lags of outcomes are kept as they are before they are counted.
_MANY_LAGS = 1024


@dataclass(frozen=True, slots=True)
class Pace:
    """When to commit, and where. Times in seconds.

    Up to `inline_limit` waiting messages are committed in the loop, unless syncs usually take longer than
    `slow_sync` or commits have had more than `crowd` messages on average. A commit in the loop waits
    `turns_to_gather` turns for those that come meanwhile, where commits usually have more than `company`
    messages. Outcomes are carried by a commit of messages as soon as they are `settle_age` old, and get a
    commit of their own at `settle_delay`; both earlier where commits are slow. Once they are `settle_rush`
    old, the next commit begins the moment that the one in flight has landed: it does not wait for what else
    comes in this turn. While syncs usually take longer than `stalling_sync`, nothing but small commits is
    written in the loop: the kernel lets those wait who write faster than its disks do.
    """

    inline_limit: int = 64
    # Measured with a thread beside the loop, which lets it take the next commands meanwhile and asks it for
    # the interpreter several times a commit. Against commits in the loop, two processors, 20 and 50 writers:
    # with syncs of 0.4 to 1.5 ms it took 12 to 46 % more CPU and gave 3 to 24 % fewer messages a second (9 %
    # more once, with 0.4 ms); with 2 ms 6 to 11 % more CPU for 3 to 19 % more messages, with 4 ms up to 30 %
    # more messages. From 100 writers on (some 60 messages a commit) it gives more with syncs of 0.8 ms too.
    slow_sync: float = 0.0015
    crowd: float = 48.0
    # A sync in the loop holds everybody up. Two turns double what one carries: 20 writers get 10 % more
    # messages a second for 11 % less CPU, and a third turn is one too many.
    turns_to_gather: int = 2
    company: float = 1.5
    settle_age: float = 0.015
    settle_delay: float = 0.03
    settle_rush: float = 0.008
    stalling_sync: float = 0.05


class Turnaround:
    """How long commits take, in seconds: `syncs` the disk alone, `whole` from forming to landing; and how
    many `messages` those have that have any.

    `syncs` is about the lower quartile: a thread that comes back from the disk may wait for the interpreter
    for many times what the disk took, and an average would hold that against the disk.
    """

    __slots__ = ("messages", "syncs", "whole")

    def __init__(self) -> None:
        self.syncs = self.whole = self.messages = 0.0

    def note(self, syncs: float, whole: float, messages: int) -> None:
        """One more commit; the averages are of about the last sixteen."""
        if not self.syncs:
            self.syncs = syncs
        else:  # at rest where a quarter of the steps lead down, each three times as far as one up
            self.syncs *= 1.05 if syncs > self.syncs else 0.86
        self.whole += (whole - self.whole) / 16
        if messages:
            self.messages += (messages - self.messages) / 16

    def in_time(self, wait: float) -> float:
        """`wait`, less the commit that may be in flight then and the one of the outcomes themselves."""
        return max(0.0, wait - 2 * self.whole)


class WindowGauge:
    """How long outcomes took from being said to being safe, as a histogram of milliseconds."""

    def __init__(self) -> None:
        self._counts = [0] * 512
        self._fresh = array("d")

    def note(self, lags: Iterable[float]) -> None:
        """Some more, in seconds. Hot path: they are sorted into the histogram many at a time."""
        self._fresh.extend(lags)
        if len(self._fresh) >= _MANY_LAGS:
            self._count()

    def _count(self) -> None:
        fresh, self._fresh = sorted(self._fresh), array("d")
        start = 0
        while start < len(fresh):
            # The clock is steady: nothing is safe before it was said.
            milliseconds = min(int(fresh[start] * 1000), 511)
            is_last = milliseconds == 511
            stop = len(fresh) if is_last else bisect_left(fresh, (milliseconds + 1) / 1000, start + 1)
            self._counts[milliseconds] += stop - start
            start = stop

    def percentile(self, share: float) -> float:
        """Seconds that `share` of the outcomes stayed under; 0 without any."""
        self._count()
        wanted = share * sum(self._counts)
        seen = 0
        for milliseconds, count in enumerate(self._counts):
            seen += count
            if seen >= wanted and seen:
                return (milliseconds + 1) / 1000
        return 0.0
