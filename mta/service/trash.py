"""Deleted recipients that can still be brought back: an operator's slip need not be final at once.

They are out of their queues but not settled until their grace is over, so a crash in between brings them back
as well; an end in good order deletes them. Sixteen bytes a recipient, like in a queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mta.queue.entries import Entry
from mta.queue.key import QueueKey
from mta.service.jobs import HeldQueue

__all__ = ["Trash"]

#: Recipients deleted for good in one turn of the loop.
AT_ONCE = 200

#: Called with queue, reference, whether the sender is to be told, and whether a b record is wanted.
Delete = Callable[[QueueKey, int, bool, bool], None]


@dataclass(eq=False, slots=True)
class Heap:
    """What one command deleted."""

    queues: dict[QueueKey, HeldQueue]
    with_dsn: bool
    is_recorded: bool

    def __len__(self) -> int:
        return sum(map(len, self.queues.values()))

    def entries(self) -> Iterator[tuple[QueueKey, Entry]]:
        return ((key, entry) for key, held in self.queues.items() for entry in held)


class Trash:
    """The heaps of one worker; `delete` makes an end of a recipient."""

    def __init__(self, delete: Delete, *, loop: asyncio.AbstractEventLoop) -> None:
        self._delete = delete
        self._loop = loop
        self._heaps: dict[Heap, asyncio.TimerHandle] = {}
        self._ending: Iterator[tuple[QueueKey, int, bool, bool]] | None = None
        self._over: list[Heap] = []

    def __len__(self) -> int:
        """Recipients that can be brought back."""
        return sum(map(len, self._heaps))

    def keep(
        self,
        entries: dict[QueueKey, list[Entry]],
        grace: float,
        *,
        with_dsn: bool = False,
        is_recorded: bool = True,
    ) -> None:
        """Delete these in `grace` seconds."""
        heap = Heap({}, with_dsn, is_recorded)
        for key, some in entries.items():
            held = heap.queues[key] = HeldQueue()
            for entry in some:
                held.add(entry)
        if len(heap):
            self._heaps[heap] = self._loop.call_later(grace, self._end, heap)

    def bring_back(self) -> list[tuple[QueueKey, Entry]]:
        """Everything that was not deleted for good yet; it is the caller's again."""
        found = []
        for heap, timer in self._heaps.items():
            timer.cancel()
            found += list(heap.entries())
        self._heaps.clear()
        return found

    def empty(self) -> None:
        """Delete everything for good, now."""
        for heap, timer in self._heaps.items():
            timer.cancel()
            self._over.append(heap)
        self._heaps.clear()
        while self._step():
            pass

    def _end(self, heap: Heap) -> None:
        del self._heaps[heap]
        self._over.append(heap)
        self._go_on()

    def _go_on(self) -> None:
        if self._step():
            self._loop.call_soon(self._go_on)

    def _step(self) -> bool:
        """Delete some; returns whether there are more."""
        if self._ending is None:
            if not self._over:
                return False
            heap = self._over.pop(0)
            self._ending = (
                (key, entry.ref, heap.with_dsn, heap.is_recorded) for key, entry in heap.entries()
            )
        for _ in range(AT_ONCE):
            found = next(self._ending, None)
            if found is None:
                self._ending = None
                break
            self._delete(*found)
        return True

    def __repr__(self) -> str:
        return f"<Trash {len(self)} recipients>"
