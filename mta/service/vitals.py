"""What a process of ours says of itself in each heartbeat: processor time, memory, how late its loop is.

The lag of the loop is what everybody in the process waits for besides their own work. It is measured by a
timer of its own, twenty times a second while there is work, less often while the process sleeps: looking must
not be what keeps it awake. A minute of it is kept, so that one bad second can still be seen.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from mta.clock import Clock

__all__ = ["LoopLag", "ResidentMemory", "Usage", "Vitals", "percentile", "usage_of"]

SAMPLE_SECONDS = 0.05
#: Samples of one minute.
SAMPLES_KEPT = 1200
#: The longest time between two looks at a sleeping process, in samples; each look counts for all of them.
LONGEST_SLEEP = 16
#: A process that uses less of its time than this, with timers that come within CALM seconds, sleeps.
ASLEEP, CALM = 0.02, 0.005


class LoopLag:
    """How late timers of a loop come, in seconds; from `start` to `close`."""

    def __init__(self, clock: Clock, loop: asyncio.AbstractEventLoop, *, span: int = 1) -> None:
        """`span` samples are between two looks at least: more where nobody waits for the loop."""
        self._clock = clock
        self._loop = loop
        self._least_span = span
        self._samples: deque[float] = deque(maxlen=SAMPLES_KEPT)
        self._due = 0.0
        self._span = span  # samples that the next look stands for
        self._used = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<LoopLag of {len(self._samples)} samples>"

    def start(self) -> None:
        """Take the first sample soon."""
        wait = SAMPLE_SECONDS * self._span
        self._due = self._clock.now() + wait
        self._timer = self._loop.call_later(wait, self._sample)

    def close(self) -> None:
        """Take no more."""
        if self._timer is not None:
            self._timer.cancel()

    def figures(self) -> dict[str, float]:
        """The median, the worst hundredth and the worst of the last minute."""
        samples = sorted(self._samples)
        return {
            "lag": percentile(samples, 0.5),
            "lagP99": percentile(samples, 0.99),
            "lagMax": percentile(samples, 1.0),
        }

    def _sample(self) -> None:
        lag = max(0.0, self._clock.now() - self._due)
        self._samples.extend([lag] * self._span)
        used = processor_seconds()
        is_asleep = lag < CALM and used - self._used < ASLEEP * SAMPLE_SECONDS * self._span
        self._used = used
        self._span = min(self._span * 2, LONGEST_SLEEP) if is_asleep else self._least_span
        self.start()


class ResidentMemory:
    """This process's resident memory; its file stays open, to be read when no descriptor is free."""

    def __init__(self) -> None:
        self._descriptor = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def octets(self) -> int:
        return int(os.pread(self._descriptor, 200, 0).split()[1]) * resource.getpagesize()

    def close(self) -> None:
        os.close(self._descriptor)


class Vitals:
    """All of it; `figures()` is a part of a heartbeat."""

    def __init__(self, clock: Clock, loop: asyncio.AbstractEventLoop, *, span: int = 1) -> None:
        """`span` is that of the lag."""
        self._memory = ResidentMemory()
        self._lag = LoopLag(clock, loop, span=span)
        self._lag.start()

    def __repr__(self) -> str:
        return f"<Vitals {self._lag!r}>"

    def figures(self, helping: Iterable[int] = ()) -> dict[str, float]:
        """`cpu` in seconds since the process began, `rss` in bytes, lags in seconds.

        `helping` are processes that work for this one: theirs is added to ours.
        """
        usages = [usage_of(pid) for pid in helping]
        return {
            "cpu": processor_seconds() + sum(usage.processor for usage in usages),
            "rss": self._memory.octets() + sum(usage.memory for usage in usages),
            **self._lag.figures(),
        }

    def close(self) -> None:
        self._lag.close()
        self._memory.close()


class Usage(NamedTuple):
    """Processor time in seconds so far, and resident memory in octets."""

    processor: float
    memory: int


def usage_of(pid: int) -> Usage:
    """What another process uses; nothing when it has ended, or no descriptor is free to look."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # Behind the name in parentheses, which may contain anything (proc(5)).
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return Usage(0.0, 0)
    ticks = int(fields[11]) + int(fields[12])
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), max(0, int(fields[21])) * resource.getpagesize())


def processor_seconds() -> float:
    """What this process has used of the processors so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def percentile(ordered: Iterable[float], share: float) -> float:
    """The least of these ascending values that `share` of them don't exceed; 0 without any."""
    values = list(ordered)
    if not values:
        return 0.0
    rank = -int(-share * len(values) // 1)
    return round(values[max(0, min(len(values), rank) - 1)], 6)
