"""Deadlines of many owners in one heap; each owner has at most one that counts.

Moving a deadline pushes a new pair and leaves the old one to be skipped (lazy deletion), so setting one is
a push and ten thousand waiting owners cost nothing until their time comes. When skipped pairs outnumber the
live ones the heap is rebuilt.
"""

from __future__ import annotations

import heapq
from typing import Protocol

__all__ = ["NEVER", "Deadlines", "Owner"]

NEVER = float("inf")


class Owner(Protocol):
    """What a deadline belongs to."""

    wake_at: float


class Deadlines:
    """The owners by the time they want to be looked at."""

    __slots__ = ("_heap", "_live", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Owner]] = []
        self._serial = 0
        self._live = 0

    def set(self, owner: Owner, when: float) -> None:
        """Wake `owner` at `when` and not at the time it was set to before."""
        if when == owner.wake_at:
            return
        if owner.wake_at == NEVER:
            self._live += 1
        owner.wake_at = when
        if when == NEVER:
            self._live -= 1
            return
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, owner))
        if len(self._heap) > 2 * self._live + 1024:
            self._rebuild()

    def sooner(self, owner: Owner, when: float) -> None:
        """Wake `owner` at `when` unless it is woken before that anyway."""
        if when < owner.wake_at:
            self.set(owner, when)

    def pop_due(self, now: float) -> Owner | None:
        """An owner whose time has come; its deadline is gone afterwards."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            when, _, owner = heapq.heappop(heap)
            if owner.wake_at == when:
                owner.wake_at = NEVER
                self._live -= 1
                return owner
        return None

    def first(self) -> float | None:
        """The earliest deadline that counts."""
        heap = self._heap
        while heap and heap[0][2].wake_at != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def __len__(self) -> int:
        return self._live

    def _rebuild(self) -> None:
        kept = {id(item[2]): item for item in self._heap if item[2].wake_at == item[0]}
        self._heap = sorted(kept.values(), key=lambda item: item[:2])
