"""Entries of a long queue that wait on a shelf on disk, so that memory stays bounded.

Both classes stand in the place of their plain forms (entries.py) while anything is parked, and do the same;
the queue doesn't notice. What is parked comes back by itself when the queue gets there: nobody has to plan
for it, and a queue starves as little as one that waits in memory alone.

    ParkedReady     head (memory) ── pieces (shelf) ── tail (memory); new entries come behind the tail
    ParkedDeferred  what is due soon (memory), pieces (shelf) by the time their first entry is due

The shelf is no second truth: what waits is in the spool, and a restart puts a new shelf up.
"""

from __future__ import annotations

import heapq
import struct
from array import array
from collections.abc import Callable, Iterator, Set
from itertools import chain
from typing import NamedTuple, Protocol

from mta.message.envelope import NORMAL_PRIORITY
from mta.queue.entries import (
    ATTEMPTS_MASK,
    PRIORITY_AT,
    RECEIVED_MASK,
    DeferredEntries,
    Entry,
    ReadyEntries,
    count_runs,
    entry_of,
)

__all__ = ["ENTRY_OCTETS", "ParkedDeferred", "ParkedReady", "Shelf"]

#: What an entry counts for on the shelf, of either kind.
ENTRY_OCTETS = 24

#: Deferred entries that fall due so soon (seconds) stay in memory: they would be back at once.
SOON = 512.0

_PIECE = struct.Struct("<QIIQqq")


class Shelf(Protocol):
    """Where octets can be put down. Nothing on it survives a restart."""

    @property
    def held(self) -> int:
        """Octets that lie there."""

    def put(self, data: bytes) -> int | None:
        """Put down; returns the place, None when there is no room now."""

    def look(self, place: int, size: int) -> bytes:
        """What lies at a place; Contradiction when the disk can't say."""

    def drop(self, place: int, size: int) -> None:
        """It is not needed any more."""


class Piece(NamedTuple):
    """A stretch of ready entries on the shelf; to its attempts the queue's failures are to be added."""

    place: int
    entries: int
    runs: int
    oldest: int  # the earliest reception
    tiredest: int  # the most attempts, without those failures
    base: int  # of the words

    def pack(self) -> bytes:
        """As bytes, which take half of the memory: where queues are many, so are their pieces."""
        return _PIECE.pack(*self)

    @classmethod
    def of(cls, packed: bytes) -> Piece:
        """What `pack` has made bytes of."""
        return cls(*_PIECE.unpack(packed))


class ParkedReady:
    """First in, first out, as `ReadyEntries`."""

    __slots__ = ("_failures", "_gone", "_head", "_pieces", "_runs", "_shelf", "_tail", "level", "parked")

    def __init__(self, head: ReadyEntries, shelf: Shelf) -> None:
        """The entries of `head` are this object's from now on."""
        self.level = head.level
        self.parked = 0  # entries on the shelf
        self._head = head
        self._tail = ReadyEntries(head.level)
        self._pieces: list[bytes] = []  # packed; a deque is for hundreds of them, and takes 700 bytes for one
        self._shelf = shelf
        self._runs = 0  # of those on the shelf
        self._failures = 0  # of the queue since the beginning
        self._gone = 0  # what `taken` of earlier heads counted, and what was removed from pieces

    def __len__(self) -> int:
        return len(self._head) + self.parked + len(self._tail)

    @property
    def runs(self) -> int:
        return self._head.runs + self._runs + self._tail.runs

    @property
    def taken(self) -> int:
        return self._gone + self._head.taken + self._tail.taken

    def plain(self) -> ReadyEntries | None:
        """The same in plain form; None while there are parked ones."""
        if self.parked:
            return None
        taken = self.taken
        head = self._head
        for entry in self._tail:
            head.append(entry.ref, entry.received, entry.attempts, self.level)
        head.taken = taken
        return head

    # -- parking ----------------------------------------------------------------------------------------

    def put_away(self, keep: int, least: int, most: int) -> int:
        """Put what lies behind the first `keep` in memory on the shelf, in pieces of `least` to `most`;
        returns how many went."""
        went = 0
        if not self.parked and not len(self._tail):
            went += self._put_away(self._head, max(1, keep), least, most)
        return went + self._put_away(self._tail, 0, least, most)

    def _put_away(self, source: ReadyEntries, keep: int, least: int, most: int) -> int:
        went = 0
        while (left := len(source) - keep - went) >= least:
            refs, words = source.peek_back(keep + went, min(left, most))
            if not self._put(refs, words, source.base):
                break
            went += len(refs)
        if went:
            rest = source.peek_back(keep + went, len(source))
            source.cut_back(keep)
            self._lay_behind(*rest, source.base)
        return went

    def _put(self, refs: array[int], words: array[int], base: int) -> bool:
        """Put these behind all pieces; False when the shelf has no room."""
        place = self._shelf.put(padded(refs, words))
        if place is None:
            return False
        attempts = max([(word >> 32) + base & ATTEMPTS_MASK for word in words])
        piece = Piece(
            place=place,
            entries=len(refs),
            runs=count_runs(refs),
            oldest=min([word & RECEIVED_MASK for word in words]),
            tiredest=attempts - self._failures,
            base=base - self._failures,
        )
        self._pieces.append(piece.pack())
        self.parked += piece.entries
        self._runs += piece.runs
        return True

    def _lay_behind(self, refs: array[int], words: array[int], base: int) -> None:
        """What is too little for a piece of its own stays in memory, behind the pieces."""
        for ref, word in zip(refs, words, strict=True):
            self._tail.append(ref, word & RECEIVED_MASK, (word >> 32) + base & ATTEMPTS_MASK, self.level)

    def _refill(self) -> None:
        """Bring back what comes next, when the head is empty."""
        while not len(self._head):
            if self._pieces:
                piece = Piece.of(self._pieces.pop(0))
                refs, words = self._read(piece)
                self._forget(piece)
                self._head.fill(refs, words, piece.base + self._failures)
            elif len(self._tail):
                self._head, self._tail = self._tail, self._head
            else:
                return

    def _read(self, piece: Piece) -> tuple[array[int], array[int]]:
        data = self._shelf.look(piece.place, piece.entries * ENTRY_OCTETS)
        return columns(data, piece.entries)[:2]

    def _forget(self, piece: Piece) -> None:
        self._shelf.drop(piece.place, piece.entries * ENTRY_OCTETS)
        self.parked -= piece.entries
        self._runs -= piece.runs

    # -- what a queue does ------------------------------------------------------------------------------

    def append(self, ref: int, received: int, attempts: int, priority: int = NORMAL_PRIORITY) -> None:
        self._tail.append(ref, received, attempts, priority)
        if not len(self._head):
            self._refill()

    def push_front(self, ref: int, received: int, attempts: int, priority: int = NORMAL_PRIORITY) -> None:
        self._head.push_front(ref, received, attempts, priority)

    def first(self) -> int:
        return self._head.first()

    def received_first(self) -> int:
        return self._head.received_first()

    def take_message(self, limit: int, into: dict[int, int]) -> list[int]:
        taken = self._head.take_message(limit, into)
        if not len(self._head):
            self._refill()
        return taken

    def count_failure(self) -> None:
        self._head.count_failure()
        self._tail.count_failure()
        self._failures += 1

    def remove_older(self, received_before: float) -> list[int]:
        return self._remove(
            lambda entries: entries.remove_older(received_before),
            lambda piece: piece.oldest < received_before,
        )

    def remove_tired(self, attempts: int) -> list[int]:
        return self._remove(
            lambda entries: entries.remove_tired(attempts),
            lambda piece: piece.tiredest + self._failures >= attempts,
        )

    def remove(self, unwanted: Set[int]) -> list[int]:
        return self._remove(lambda entries: entries.remove(unwanted), lambda piece: True)

    def clear(self) -> list[int]:
        return self._remove(lambda entries: entries.clear(), lambda piece: True)

    def drain(self) -> Iterator[Entry]:
        """Take out everything, in order; a piece is read when it is its turn."""
        while len(self):
            yield from self._head.drain()
            self._refill()

    def oldest(self) -> int:
        inside = [entries.oldest() for entries in (self._head, self._tail) if len(entries)]
        return min(chain(inside, (Piece.of(piece).oldest for piece in self._pieces)))

    def __iter__(self) -> Iterator[Entry]:
        yield from self._head
        for piece in list(self._pieces):
            yield from self._loaded(Piece.of(piece))
        yield from self._tail

    def _loaded(self, piece: Piece) -> ReadyEntries:
        entries = ReadyEntries(self.level)
        entries.fill(*self._read(piece), piece.base + self._failures)
        return entries

    def _remove(
        self, remove: Callable[[ReadyEntries], list[int]], concerns: Callable[[Piece], bool]
    ) -> list[int]:
        """Take out of everything here; pieces that it doesn't concern are not read."""
        removed = remove(self._head)
        pieces, self._pieces = self._pieces, []
        for packed in pieces:
            piece = Piece.of(packed)
            entries = self._loaded(piece) if concerns(piece) else None
            gone = [] if entries is None else remove(entries)
            if gone and entries is not None:
                self._forget(piece)
                self._gone += len(gone)
                removed += gone
                self._put_again(entries)
            else:
                self._pieces.append(packed)
        removed += remove(self._tail)
        self._refill()
        return removed

    def _put_again(self, entries: ReadyEntries) -> None:
        """The rest of a piece takes its place; without room it goes behind the others, in memory."""
        if len(entries):
            refs, words = entries.peek_back(0, len(entries))
            if not self._put(refs, words, entries.base):
                self._lay_behind(refs, words, entries.base)


class ParkedDeferred:
    """In the order of the times they are due, as `DeferredEntries`."""

    __slots__ = ("_memory", "_pieces", "_shelf", "parked")

    def __init__(self, memory: DeferredEntries, shelf: Shelf) -> None:
        self._memory = memory
        self._pieces: list[tuple[int, int, int]] = []  # heap of (first due, place, entries)
        self._shelf = shelf
        self.parked = 0  # entries on the shelf

    def __len__(self) -> int:
        return len(self._memory) + self.parked

    def plain(self) -> DeferredEntries | None:
        """The same in plain form; None while there are parked ones."""
        return None if self.parked else self._memory

    def put_away(self, now: float, least: int, most: int) -> int:
        """Put what is due last on the shelf, at most `most` entries, if there are `least` that aren't due
        soon; returns how many went."""
        taken: list[Entry] = []
        while len(taken) < most:
            some = self._memory.take_last(now + SOON, most - len(taken))
            if not some:
                break
            taken[:0] = some
        if len(taken) >= least and self._put(taken):
            return len(taken)
        self._remember(taken)
        return 0

    def _remember(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._memory.add(entry.ref, entry.due, entry.received, entry.attempts, entry.priority)

    def _put(self, entries: list[Entry]) -> bool:
        """Put entries, in the order of their times, into a piece."""
        refs = array("Q", [entry.ref for entry in entries])
        words = array("Q", [word_of(entry) for entry in entries])
        dues = array("Q", [entry.due for entry in entries])
        place = self._shelf.put(refs.tobytes() + words.tobytes() + dues.tobytes())
        if place is None:
            return False
        heapq.heappush(self._pieces, (entries[0].due, place, len(entries)))
        self.parked += len(entries)
        return True

    def _read(self, place: int, count: int) -> list[Entry]:
        refs, words, dues = columns(self._shelf.look(place, count * ENTRY_OCTETS), count)
        return [
            entry_of(ref, word)._replace(due=due) for ref, word, due in zip(refs, words, dues, strict=True)
        ]

    def _take(self) -> list[Entry]:
        """Take the first piece off the shelf."""
        _, place, count = heapq.heappop(self._pieces)
        entries = self._read(place, count)
        self._shelf.drop(place, count * ENTRY_OCTETS)
        self.parked -= count
        return entries

    # -- what a queue does ------------------------------------------------------------------------------

    def add(self, ref: int, due: int, received: int, attempts: int, priority: int = NORMAL_PRIORITY) -> None:
        self._memory.add(ref, due, received, attempts, priority)

    def next_due(self) -> float | None:
        due = self._memory.next_due()
        if not self._pieces:
            return due
        first = float(self._pieces[0][0])
        return first if due is None else min(due, first)

    def take_due(self, now: float, limit: int = 1 << 62) -> list[Entry]:
        taken = self._memory.take_due(now, limit)
        while len(taken) < limit and self._pieces and self._pieces[0][0] <= now:
            self._remember(self._take())
            taken += self._memory.take_due(now, limit - len(taken))
        return taken

    def clear(self) -> list[Entry]:
        return list(self.drain())

    def drain(self) -> Iterator[Entry]:
        """Take out everything; a piece is read when it is its turn."""
        yield from self._memory.clear()
        while self._pieces:
            yield from self._take()

    def remove(self, unwanted: Set[int]) -> list[int]:
        removed = self._memory.remove(unwanted)
        for _, place, count in list(self._pieces):
            entries = self._read(place, count)
            kept = [entry for entry in entries if entry.ref not in unwanted]
            if len(kept) == count:
                continue
            removed += [entry.ref for entry in entries if entry.ref in unwanted]
            self._pieces = [piece for piece in self._pieces if piece[1] != place]
            heapq.heapify(self._pieces)
            self._shelf.drop(place, count * ENTRY_OCTETS)
            self.parked -= count
            if kept and not self._put(kept):
                self._remember(kept)
        return removed

    def __iter__(self) -> Iterator[Entry]:
        yield from self._memory
        for _, place, count in sorted(self._pieces):
            yield from self._read(place, count)


def word_of(entry: Entry) -> int:
    """The word of an entry, without its time."""
    rank = (entry.priority ^ NORMAL_PRIORITY) << PRIORITY_AT
    return rank | entry.attempts << 32 | entry.received


def padded(refs: array[int], words: array[int]) -> bytes:
    """Ready entries as they lie on the shelf: as long as deferred ones, so that the shelf counts entries."""
    return refs.tobytes() + words.tobytes() + bytes(8 * len(refs))


def columns(data: bytes, count: int) -> tuple[array[int], array[int], array[int]]:
    """The three columns of a piece."""
    first, second = 8 * count, 16 * count
    return array("Q", data[:first]), array("Q", data[first:second]), array("Q", data[second:])
