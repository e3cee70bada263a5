"""Which entries wait on the shelf: those at the back of the queues, when memory holds more than it may.

Theory of operation. Nothing is decided where a recipient comes in or goes out. Once in each `take` the number
in memory is compared with the limit; if it is more, queues are visited in turn, a few each time, and each
puts on the shelf what goes beyond its share: the back of what is ready, and what is due last. The share is
an equal part of the limit, so that every queue keeps enough in memory for its connections. What is parked
comes back when its queue gets there (parked.py).

So memory holds the limit, or LEAST entries of each queue, whichever is more, and what came in since the
last look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from mta.queue.entries import DeferredEntries, ReadyEntries
from mta.queue.levels import LeveledEntries
from mta.queue.parked import ENTRY_OCTETS, ParkedDeferred, ParkedReady, Shelf
from mta.queue.queue import DeliveryQueue
from mta.queue.registry import Registry

__all__ = ["LEAST", "Park", "Parking"]

#: What each queue may hold in memory in any case (of the ready and of the deferred ones), and the smallest
#: piece on the shelf; the largest one.
LEAST = 16
LARGEST = 4096

#: Queues that are looked at, and entries that are put away, in one go.
QUEUES_AT_ONCE = 32
ENTRIES_AT_ONCE = 1 << 15


class Park(NamedTuple):
    """Where entries may be parked, how many may be in memory (0: all), and how many there are in all, also in
    flight and outside of queues."""

    shelf: Shelf
    limit: Callable[[], int]
    waiting: Callable[[], int]
    least: int = LEAST


class Parking:
    """Keeps the entries of all queues within the limit."""

    __slots__ = ("_park", "_parked", "_registry", "_round", "is_behind")

    def __init__(self, registry: Registry, park: Park) -> None:
        self._registry = registry
        self._park = park
        self._round: Iterator[DeliveryQueue] = iter(())
        self.is_behind = False  # the last look put something away, and there was more
        self._parked: dict[DeliveryQueue, None] = {}  # those whose entries are not in their plain form

    @property
    def parked(self) -> int:
        """Entries on the shelf."""
        return self._park.shelf.held // ENTRY_OCTETS

    def look(self, now: float) -> None:
        """Put away what is too much. Cheap when nothing is."""
        if self._parked:
            self._restore_one()
        limit, least = self._park.limit(), self._park.least
        surplus = self._park.waiting() - self.parked - limit
        self.is_behind = False
        if not limit or surplus <= 0:
            return
        # Less than a piece may stay behind a share.
        share = max(least, limit // max(1, len(self._registry)) - least)
        most = min(ENTRIES_AT_ONCE, surplus + limit // 16)
        went = 0
        for _ in range(QUEUES_AT_ONCE):
            queue = self._next()
            if queue is None or went >= most:
                break
            went += self._put_away(queue, now, share)
        self.is_behind = 0 < went < surplus

    def _next(self) -> DeliveryQueue | None:
        """The queue whose turn it is; those that were forgotten since the round began are passed by."""
        for _ in range(2):
            for queue in self._round:
                if self._registry.by_key.get(queue.key) is queue:
                    return queue
            self._round = iter(list(self._registry))
        return None

    def _put_away(self, queue: DeliveryQueue, now: float, share: int) -> int:
        """Put on the shelf what a queue has beyond its share; returns how many went."""
        went, least = 0, self._park.least
        for ready in levels(queue):
            if isinstance(ready, ReadyEntries) and len(ready) >= share + least:
                ready = ParkedReady(ready, self._park.shelf)
            if isinstance(ready, ParkedReady):
                went += ready.put_away(share, least, min(LARGEST, share))
                put_level(queue, ready)
        if isinstance(queue.deferred, DeferredEntries) and len(queue.deferred) >= least:
            queue.deferred = ParkedDeferred(queue.deferred, self._park.shelf)
        if isinstance(queue.deferred, ParkedDeferred):
            went += queue.deferred.put_away(now, least, LARGEST)
        self._note(queue)
        return went

    def _restore_one(self) -> None:
        """Give the queue whose turn it is back its plain entries, if nothing of them is parked any more."""
        queue = next(iter(self._parked))
        del self._parked[queue]
        for ready in levels(queue):
            if isinstance(ready, ParkedReady) and (plain := ready.plain()) is not None:
                put_level(queue, plain)
        if isinstance(queue.deferred, ParkedDeferred) and (wheel := queue.deferred.plain()) is not None:
            queue.deferred = wheel
        self._note(queue)

    def _note(self, queue: DeliveryQueue) -> None:
        """Remember a queue whose entries are not all in their plain form."""
        if isinstance(queue.deferred, ParkedDeferred) or any(
            isinstance(ready, ParkedReady) for ready in levels(queue)
        ):
            self._parked[queue] = None

    def __repr__(self) -> str:
        return f"<Parking {self.parked} parked, limit {self._park.limit()}>"


def levels(queue: DeliveryQueue) -> list[ReadyEntries | ParkedReady]:
    """The ready entries of a queue, of each priority."""
    return queue.ready.levels if isinstance(queue.ready, LeveledEntries) else [queue.ready]


def put_level(queue: DeliveryQueue, entries: ReadyEntries | ParkedReady) -> None:
    """Hold the entries of one priority in another form."""
    if isinstance(queue.ready, LeveledEntries):
        queue.ready.replace(entries)
    else:
        queue.ready = entries
