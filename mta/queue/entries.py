"""Where a queue's recipients wait: two arrays each, sixteen bytes a recipient.

An entry is a reference (queue/key.py) and a word. `ReadyEntries` are those that may go out, in order;
`DeferredEntries` wait for a time of their own. Objects would cost twenty times as much: a million
recipients are 16 MB here and 340 MB as tuples, and the garbage collector never has to look at an array.

    ready word      attempts, minus `base` (16 bits) | received (32 bits, epoch seconds)
    deferred word   due, from the bucket's start (16 bits) | attempts (16 bits) | received (32 bits)

Attempts are stored relative to `base`, so that a failure of the queue as a whole counts for every waiting
recipient in one step. Times are whole seconds: `received` is rounded down, `due` up, so that nothing
expires late or is tried early.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mta.queue.key import RECIPIENT_BITS

__all__ = ["MOST_ATTEMPTS", "RECEIVED_MASK", "DeferredEntries", "Entry", "ReadyEntries"]

MOST_ATTEMPTS = 0x7FFF
RECEIVED_MASK = 0xFFFFFFFF
ATTEMPTS_MASK = 0xFFFF
WORD_MASK = (1 << 48) - 1

#: Deferred entries are kept by the 256 seconds they fall due in; a bucket is sorted when its time comes.
BUCKET_BITS = 8

#: How many taken entries may stay at the front of an array before it is cut.
SLACK = 64


class Entry(NamedTuple):
    """One waiting recipient, unpacked; `due` is 0 for a ready one."""

    ref: int
    received: int
    attempts: int
    due: int = 0


class ReadyEntries:
    """First in, first out; recipients of one message that lie side by side are one `run`.

    `taken` counts what has left at the front, so that somebody who remembers `taken + len` can tell later
    whether everything that waited then has gone.
    """

    __slots__ = ("_head", "_refs", "_words", "base", "runs", "taken")

    def __init__(self) -> None:
        self._refs = array("Q")
        self._words = array("Q")
        self._head = 0
        self.base = 0
        self.runs = 0
        self.taken = 0

    def __len__(self) -> int:
        return len(self._refs) - self._head

    def append(self, ref: int, received: int, attempts: int) -> None:
        """Add at the back."""
        refs = self._refs
        if self._head == len(refs):
            self.base = 0
            self.runs = 1
        elif refs[-1] >> RECIPIENT_BITS != ref >> RECIPIENT_BITS:
            self.runs += 1
        refs.append(ref)
        self._words.append((attempts - self.base & ATTEMPTS_MASK) << 32 | received)

    def push_front(self, ref: int, received: int, attempts: int) -> None:
        """Put back at the front what was taken too early."""
        refs = self._refs
        head = self._head
        if head == len(refs):
            self.base = 0
            self.runs = 1
        elif refs[head] >> RECIPIENT_BITS != ref >> RECIPIENT_BITS:
            self.runs += 1
        word = (attempts - self.base & ATTEMPTS_MASK) << 32 | received
        if head:
            self._head = head - 1
            refs[head - 1] = ref
            self._words[head - 1] = word
        else:
            refs.insert(0, ref)
            self._words.insert(0, word)
        self.taken -= 1

    def first(self) -> int:
        """The reference at the front; there must be one."""
        return self._refs[self._head]

    def received_first(self) -> int:
        """When the entry at the front was received."""
        return self._words[self._head] & RECEIVED_MASK

    def take_message(self, limit: int, into: dict[int, int]) -> list[int]:
        """Take the message at the front, at most `limit` recipients of it; there must be one.

        `into` gets a word (attempts | received) per reference. Hot path.
        """
        refs, words, head, base = self._refs, self._words, self._head, self.base
        end = len(refs)
        ref = refs[head]
        message = ref >> RECIPIENT_BITS
        taken = [ref]
        into[ref] = words[head]
        tail = head + 1
        if tail < end and refs[tail] >> RECIPIENT_BITS == message:
            stop = min(end, head + limit)
            while tail < stop and (ref := refs[tail]) >> RECIPIENT_BITS == message:
                taken.append(ref)
                into[ref] = words[tail]
                tail += 1
        if base:
            for ref in taken:
                word = into[ref]
                into[ref] = ((word >> 32) + base & ATTEMPTS_MASK) << 32 | word & RECEIVED_MASK
        self.taken += tail - head
        if tail == end:
            self.runs = 0
        elif refs[tail] >> RECIPIENT_BITS != message:
            self.runs -= 1
        if tail > SLACK and (tail == end or tail * 2 > end):
            del refs[:tail]
            del words[:tail]
            tail = 0
        self._head = tail
        return taken

    def count_failure(self) -> None:
        """One more attempt for every entry."""
        if self._head < len(self._refs):
            self.base += 1

    def remove_older(self, received_before: float) -> list[int]:
        """Take out everything received before that time; returns the references."""
        return self._keep(lambda word: word & RECEIVED_MASK >= received_before)

    def remove_tired(self, attempts: int) -> list[int]:
        """Take out everything with that many attempts or more; returns the references."""
        base = self.base
        return self._keep(lambda word: (word >> 32) + base & ATTEMPTS_MASK < attempts)

    def oldest(self) -> int:
        """The smallest time of reception; there must be an entry."""
        return min(word & RECEIVED_MASK for word in self._words[self._head :])

    def clear(self) -> list[int]:
        """Take out everything; returns the references."""
        return self._keep(lambda word: False)

    def __iter__(self) -> Iterator[Entry]:
        for position in range(self._head, len(self._refs)):
            word = self._words[position]
            attempts = (word >> 32) + self.base & ATTEMPTS_MASK
            yield Entry(self._refs[position], word & RECEIVED_MASK, attempts)

    def _keep(self, wanted: Callable[[int], bool]) -> list[int]:
        """Keep the entries whose word is wanted; returns the references of the others."""
        removed: list[int] = []
        refs, words = array("Q"), array("Q")
        for position in range(self._head, len(self._refs)):
            if wanted(self._words[position]):
                refs.append(self._refs[position])
                words.append(self._words[position])
            else:
                removed.append(self._refs[position])
        if removed:
            self._refs, self._words, self._head = refs, words, 0
            self.taken += len(removed)
            self._count_runs()
        return removed

    def _count_runs(self) -> None:
        self.runs, last = 0, -1
        for ref in self._refs:
            message = ref >> RECIPIENT_BITS
            self.runs += message != last
            last = message


class DeferredEntries:
    """Entries in order of the time they are due: a wheel of buckets, made as they are needed."""

    __slots__ = ("_buckets", "_order", "_size")

    def __init__(self) -> None:
        self._buckets: dict[int, Bucket] = {}
        self._order: list[int] = []  # heap of the buckets' numbers
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, ref: int, due: int, received: int, attempts: int) -> None:
        """Keep until `due` (whole seconds)."""
        number = due >> BUCKET_BITS
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = Bucket()
            heapq.heappush(self._order, number)
        bucket.add(ref, due - (number << BUCKET_BITS) << 48 | attempts << 32 | received)
        self._size += 1

    def next_due(self) -> float | None:
        """When the first one is due."""
        if not self._order:
            return None
        number = self._order[0]
        return float((number << BUCKET_BITS) + self._buckets[number].first_offset())

    def take_due(self, now: float, limit: int = 1 << 62) -> list[Entry]:
        """Take out what is due, in order, at most `limit` entries."""
        taken: list[Entry] = []
        while self._order and len(taken) < limit:
            number = self._order[0]
            start = number << BUCKET_BITS
            if start > now:
                break
            bucket = self._buckets[number]
            for ref, word in bucket.take(int(now) - start, limit - len(taken)):
                due = start + (word >> 48)
                taken.append(Entry(ref, word & RECEIVED_MASK, word >> 32 & ATTEMPTS_MASK, due))
            if len(bucket):
                break
            heapq.heappop(self._order)
            del self._buckets[number]
        self._size -= len(taken)
        return taken

    def clear(self) -> list[Entry]:
        """Take out everything."""
        entries = list(self)
        self._buckets.clear()
        self._order.clear()
        self._size = 0
        return entries

    def __iter__(self) -> Iterator[Entry]:
        for number in sorted(self._order):
            start = number << BUCKET_BITS
            for ref, word in self._buckets[number]:
                yield Entry(ref, word & RECEIVED_MASK, word >> 32 & ATTEMPTS_MASK, start + (word >> 48))


class Bucket:
    """The entries due in the same 256 seconds; sorted by their words, that is by time, when asked."""

    __slots__ = ("_head", "_is_sorted", "_refs", "_words")

    def __init__(self) -> None:
        self._refs = array("Q")
        self._words = array("Q")
        self._head = 0
        self._is_sorted = True

    def __len__(self) -> int:
        return len(self._refs) - self._head

    def add(self, ref: int, word: int) -> None:
        words = self._words
        if self._is_sorted and self._head < len(words) and word < words[-1]:
            self._is_sorted = False
        self._refs.append(ref)
        words.append(word)

    def first_offset(self) -> int:
        self._sort()
        return self._words[self._head] >> 48

    def take(self, offset: int, limit: int) -> list[tuple[int, int]]:
        self._sort()
        refs, words, tail = self._refs, self._words, self._head
        end = min(len(refs), tail + limit)
        taken = []
        while tail < end and words[tail] >> 48 <= offset:
            taken.append((refs[tail], words[tail]))
            tail += 1
        if tail * 2 > len(refs):
            del refs[:tail]
            del words[:tail]
            tail = 0
        self._head = tail
        return taken

    def __iter__(self) -> Iterator[tuple[int, int]]:
        self._sort()
        return iter(list(zip(self._refs[self._head :], self._words[self._head :], strict=True)))

    def _sort(self) -> None:
        if self._is_sorted:
            return
        words, refs = self._words, self._refs
        order = sorted(range(self._head, len(words)), key=words.__getitem__)
        self._refs = array("Q", [refs[position] for position in order])
        self._words = array("Q", [words[position] for position in order])
        self._head = 0
        self._is_sorted = True
