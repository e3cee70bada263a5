"""Ready recipients of several priorities in one queue: one `ReadyEntries` for each.

Who has the highest priority goes first, and among equals who came first. So that nobody starves below a
stream of more important mail, one message in LOWER_TURN comes from a lower level, and the lower levels take
turns, as queues do by `queue-priority` (rings.py). A queue has this only while its recipients differ.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Set

from mta.message.envelope import NORMAL_PRIORITY
from mta.queue.entries import Entry, ReadyEntries
from mta.queue.parked import ParkedReady
from mta.queue.rings import LOWER_TURN

__all__ = ["LeveledEntries"]


class LeveledEntries:
    """What `ReadyEntries` is, in order of priority."""

    __slots__ = ("_front", "_levels", "_lower", "_order", "_size", "_turn", "runs", "taken")

    #: No priority: entries have different ones.
    level = -1

    def __init__(self, first: ReadyEntries | ParkedReady) -> None:
        """Begin with the entries of one level, which are this object's from now on."""
        self._levels: dict[int, ReadyEntries | ParkedReady] = {first.level: first}
        self._order = [first.level]  # ascending
        self._front: ReadyEntries | ParkedReady = first  # whose turn it is
        self._turn = 0  # messages of the highest level since a lower one had its turn
        self._lower = 0
        self._size = len(first)
        self.runs = first.runs
        self.taken = first.taken

    def __len__(self) -> int:
        return self._size

    def append(self, ref: int, received: int, attempts: int, priority: int = NORMAL_PRIORITY) -> None:
        """Add at the back of its level."""
        entries = self._entries(priority)
        runs = entries.runs
        entries.append(ref, received, attempts, priority)
        self._size += 1
        self.runs += entries.runs - runs

    def push_front(self, ref: int, received: int, attempts: int, priority: int = NORMAL_PRIORITY) -> None:
        """Put back at the front of its level what was taken too early."""
        entries = self._entries(priority)
        runs = entries.runs
        entries.push_front(ref, received, attempts, priority)
        self._size += 1
        self.runs += entries.runs - runs
        self.taken -= 1

    def first(self) -> int:
        """The reference at the front; there must be one."""
        return self._front.first()

    def received_first(self) -> int:
        """When the entry at the front was received."""
        return self._front.received_first()

    def take_message(self, limit: int, into: dict[int, int]) -> list[int]:
        """Take the message at the front, as `ReadyEntries.take_message`."""
        front, order = self._front, self._order
        runs = front.runs
        taken = front.take_message(limit, into)
        self.runs += front.runs - runs
        self._size -= len(taken)
        self.taken += len(taken)
        if len(order) > 1:
            if front.level == order[-1]:
                self._turn += 1
            else:
                self._turn = 0
                self._lower += 1
        if not front.runs:
            self._drop_empty()
        self._choose()
        return taken

    def count_failure(self) -> None:
        """One more attempt for every entry."""
        for entries in self._levels.values():
            entries.count_failure()

    def remove_older(self, received_before: float) -> list[int]:
        """Take out everything received before that time; returns the references."""
        return self._removed([entries.remove_older(received_before) for entries in self._levels.values()])

    def remove_tired(self, attempts: int) -> list[int]:
        """Take out everything with that many attempts or more; returns the references."""
        return self._removed([entries.remove_tired(attempts) for entries in self._levels.values()])

    def remove(self, unwanted: Set[int]) -> list[int]:
        """Take these out, as far as they are here; returns the references."""
        return self._removed([entries.remove(unwanted) for entries in self._levels.values()])

    def drain(self) -> Iterator[Entry]:
        """Take out everything, in order."""
        entries = list(self)
        self.clear()
        return iter(entries)

    def clear(self) -> list[int]:
        """Take out everything; returns the references."""
        return self._removed([entries.clear() for entries in self._levels.values()])

    @property
    def levels(self) -> list[ReadyEntries | ParkedReady]:
        """The entries of each level."""
        return list(self._levels.values())

    def replace(self, entries: ReadyEntries | ParkedReady) -> None:
        """Hold the entries of a level in another form, or count them again: parking divides runs."""
        self._levels[entries.level] = entries
        self.runs = sum(entries.runs for entries in self._levels.values())
        self._choose()

    def oldest(self) -> int:
        """The smallest time of reception; there must be an entry."""
        return min(entries.oldest() for entries in self._levels.values() if len(entries))

    def __iter__(self) -> Iterator[Entry]:
        for level in reversed(self._order):
            yield from self._levels[level]

    def __repr__(self) -> str:
        levels = ", ".join(f"{level}: {len(self._levels[level])}" for level in reversed(self._order))
        return f"<LeveledEntries {levels}>"

    def _entries(self, level: int) -> ReadyEntries | ParkedReady:
        entries = self._levels.get(level)
        if entries is None:
            entries = self._levels[level] = ReadyEntries(level)
            insort(self._order, level)
            self._choose()
        return entries

    def _choose(self) -> None:
        """Say whose turn it is: the highest level's, or now and then a lower one's."""
        order = self._order
        if not order:
            return
        level = order[-1]
        if self._turn >= LOWER_TURN - 1 and len(order) > 1:
            level = order[self._lower % (len(order) - 1)]
        self._front = self._levels[level]

    def _drop_empty(self) -> None:
        self._levels = {level: entries for level, entries in self._levels.items() if len(entries)}
        self._order = sorted(self._levels)

    def _removed(self, parts: list[list[int]]) -> list[int]:
        refs = [ref for part in parts for ref in part]
        self._size -= len(refs)
        self.taken += len(refs)
        self._drop_empty()
        self.runs = sum(entries.runs for entries in self._levels.values())
        self._choose()
        return refs
