"""How long a session will take: said before it begins, and corrected as it goes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from benchmarks.archive import Take
from benchmarks.scenarios import Contest, Entry, Kind, Server, Shape

__all__ = ["Plan", "said_time", "seconds_of_cold_start", "seconds_of_runs"]

#: Messages a second on two processors, for whoever was never measured here.
USUAL_RATES = {
    Server.MTA: 4_000,
    Server.POSTFIX: 550,
    Server.HARAKA: 300,
    Server.EXIM: 100,
    Server.OPENSMTPD: 24,
}
#: Seconds for what is around a run (a look at the machine, a generator that starts, what comes in late), and
#: around all runs of a contest (servers that start and end).
AROUND_RUN, AROUND_CONTEST = 1.8, 6.0
#: Building a spool, a start and a drain, for each million of recipients.
BUILD, COLD_START = 60.0, 25.0


def seconds_of_runs(contest: Contest, runs: int, known: Mapping[str, Take]) -> float:
    """What a contest will take, by what it took the last time, or else by what is usual."""
    take = known.get(f"{contest.shape.group}/{contest.shape.name}")
    last = {one.entry.label: one for one in take.figures} if take else {}
    total = AROUND_CONTEST
    for entry in contest.entries:
        one = last.get(entry.label)
        if one is not None and one.median("rate"):
            rates = [one.median("rate"), one.median("accept_rate")]
        else:
            rates = [usual_rate(contest.shape, entry)] * 2
        timed = entry.count / rates[0]
        if contest.shape.kind is Kind.BACKLOG:
            timed += entry.count / rates[1]
        total += runs * (timed + AROUND_RUN)
    return total


def usual_rate(shape: Shape, entry: Entry) -> float:
    rate = float(USUAL_RATES[entry.server])
    if shape.delay_ms:
        rate = min(rate, entry.connections * 1000 / shape.delay_ms)
    return rate


def seconds_of_cold_start(recipients: int, runs: int) -> float:
    return (BUILD + runs * COLD_START) * recipients / 1_000_000 + 10.0 + 5.0 * runs


class Plan:
    """Parts with their expected seconds; `left()` learns from those that are done."""

    def __init__(self, parts: Sequence[float]) -> None:
        self._parts = parts
        self._done = 0
        self._begun = time.monotonic()

    def finish_one(self) -> str:
        """Call it when a part is done: a line about how far we are."""
        self._done += 1
        gone = time.monotonic() - self._begun
        left = f", about {said_time(self.left())} left" if self._done < len(self._parts) else ""
        return f"{self._done} of {len(self._parts)} in {said_time(gone)}{left}"

    def left(self) -> float:
        """Seconds, on a machine that goes on as quickly as it went so far."""
        done, total = sum(self._parts[: self._done]), sum(self._parts)
        if not done:
            return total
        return (total - done) * (time.monotonic() - self._begun) / done


def said_time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
