"""Messages with windows of their own (`x-schedule`): they wait in their queues until the next one opens.

What is drawn outside of its windows, because its queue was held up, goes back until the next one. Behind the
last window it expires: the schedule stands instead of `bounce-after`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from mta.clock import Clock
from mta.delivery.supply import Stored, Withheld
from mta.message.envelope import NORMAL_PRIORITY, Envelope
from mta.message.schedule import Windows, closes_at, next_open
from mta.queue.entries import Entry
from mta.queue.key import QueueKey
from mta.queue.scheduler import Scheduler

__all__ = ["Schedules"]


class Schedules:
    """Knows when scheduled recipients may go; one per worker."""

    def __init__(self, scheduler: Scheduler, clock: Clock) -> None:
        self._scheduler = scheduler
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Schedules of {self._scheduler!r}>"

    def admit(
        self,
        envelope: Envelope,
        key: QueueKey,
        ref: int,
        *,
        attempts: int = 0,
        due: float = 0.0,
        priority: int = NORMAL_PRIORITY,
    ) -> None:
        """One recipient of a scheduled message enters its queue; `due` as it is on disk, 0 = at once."""
        self._enter(envelope.schedule, key, Entry(ref, 0, attempts, priority=priority), due)

    def check(self, stored: Stored) -> None:
        """Raise Withheld when a message, drawn just now, may not be sent now."""
        windows = stored.envelope.schedule
        wall = self._clock.wall()
        if next_open(windows, wall) != wall:
            raise Withheld(stored, partial(self._keep, windows))

    def _keep(self, windows: Windows, key: QueueKey, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._enter(windows, key, entry, 0.0)

    def _enter(self, windows: Windows, key: QueueKey, entry: Entry, due: float) -> None:
        now, wall = self._clock.now(), self._clock.wall()
        # The sender means the clock on the wall; the queues have one that nobody sets.
        ahead = now - wall
        opens = next_open(windows, max(wall, due - ahead))
        expires = closes_at(windows) + ahead
        self._scheduler.admit(
            key,
            entry.ref,
            now,
            received=now,
            attempts=entry.attempts,
            due=now if opens is None or opens <= wall else opens + ahead,
            expires=expires,
            priority=entry.priority,
        )
