"""Where a queue's recipients wait: two arrays each, sixteen bytes a recipient.

An entry is a reference (queue/key.py) and a word. `ReadyEntries` are those that may go out, in order;
`DeferredEntries` wait for a time of their own. Objects would cost twenty times as much: a million
recipients are 16 MB here and 340 MB as tuples, and the garbage collector never has to look at an array.

    ready word      0 (8 bits) | priority (8) | attempts, minus `base` (16) | received (32, epoch seconds)
    deferred word   due, from the bucket's start (8) | priority (8) | attempts (16) | received (32)

A priority is stored as what differs from the normal one, so that it is nothing for nearly everybody. All in
one `ReadyEntries` of a queue have the same; a queue with several has `LeveledEntries` (levels.py).

Attempts are stored relative to `base`, so that a failure of the queue as a whole counts for every waiting
recipient in one step. Times are whole seconds: `received` is rounded down, `due` up, so that nothing
expires late or is tried early.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from itertools import islice, repeat
from operator import or_
from typing import NamedTuple

from mta.message.envelope import NORMAL_PRIORITY
from mta.queue.key import RECIPIENT_BITS, RECIPIENT_MASK

__all__ = [
    "ATTEMPTS_MASK",
    "MOST_ATTEMPTS",
    "PRIORITY_AT",
    "RECEIVED_MASK",
    "DeferredEntries",
    "Entry",
    "ReadyEntries",
    "entry_of",
    "priority_of",
]

MOST_ATTEMPTS = 0x7FFF
RECEIVED_MASK = 0xFFFFFFFF
ATTEMPTS_MASK = 0xFFFF
#: Where the priority stands in a word.
PRIORITY_AT = 48
PRIORITY_BITS = 0xFF << PRIORITY_AT
#: Where the time stands in a deferred word.
DUE_AT = 56

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
    priority: int = NORMAL_PRIORITY


def priority_of(word: int) -> int:
    """The priority in the word of an entry."""
    return (word >> PRIORITY_AT & 0xFF) ^ NORMAL_PRIORITY


def entry_of(ref: int, word: int) -> Entry:
    """The entry that was taken as `ready.take_message` gives it."""
    return Entry(ref, word & RECEIVED_MASK, word >> 32 & ATTEMPTS_MASK, 0, priority_of(word))


class ReadyEntries:
    """First in, first out; recipients of one message that lie side by side are one `run`.

    `taken` counts what has left at the front, so that somebody who remembers `taken + len` can tell later
    whether everything that waited then has gone. `level` is the priority that all entries of a queue's have;
    here it changes nothing.
    """

    __slots__ = ("_gone", "_head", "_refs", "_words", "base", "level", "runs")

    def __init__(self, level: int = NORMAL_PRIORITY) -> None:
        self.level = level
        self._refs = array("Q")
        self._words = array("Q")
        self._head = 0
        self._gone = 0  # taken, without those before the head
        self.base = 0
        self.runs = 0

    def __len__(self) -> int:
        return len(self._refs) - self._head

    @property
    def taken(self) -> int:
        """How many have left at the front."""
        return self._gone + self._head

    @taken.setter
    def taken(self, count: int) -> None:
        self._gone = count - self._head

    def append(self, ref: int, received: int, attempts: int, priority: int = NORMAL_PRIORITY) -> None:
        """Add at the back."""
        refs = self._refs
        if self._head == len(refs):
            self.base = 0
            self.runs = 1
        elif refs[-1] >> RECIPIENT_BITS != ref >> RECIPIENT_BITS:
            self.runs += 1
        refs.append(ref)
        word = received
        if attempts != self.base:
            word |= (attempts - self.base & ATTEMPTS_MASK) << 32
        if priority != NORMAL_PRIORITY:
            word |= (priority ^ NORMAL_PRIORITY) << PRIORITY_AT
        self._words.append(word)

    def extend(self, fresh: Mapping[int, int]) -> None:
        """Add recipients that nobody has tried at the back: by reference, when they were received."""
        if not fresh:
            return
        refs = self._refs
        if self._head == len(refs):
            self.base = 0
            self.runs = 0
        elif refs[-1] >> RECIPIENT_BITS == next(iter(fresh)) >> RECIPIENT_BITS:
            self.runs -= 1  # it goes on
        self.runs += count_runs(fresh)
        refs.extend(fresh)
        never_tried = (-self.base & ATTEMPTS_MASK) << 32
        self._words.extend(map(or_, fresh.values(), repeat(never_tried)) if never_tried else fresh.values())

    def push_front(self, ref: int, received: int, attempts: int, priority: int = NORMAL_PRIORITY) -> None:
        """Put back at the front what was taken too early."""
        refs = self._refs
        head = self._head
        if head == len(refs):
            self.base = 0
            self.runs = 1
        elif refs[head] >> RECIPIENT_BITS != ref >> RECIPIENT_BITS:
            self.runs += 1
        word = (attempts - self.base & ATTEMPTS_MASK) << 32 | received
        if priority != NORMAL_PRIORITY:
            word |= (priority ^ NORMAL_PRIORITY) << PRIORITY_AT
        if head:
            self._head = head - 1
            refs[head - 1] = ref
            self._words[head - 1] = word
        else:
            refs.insert(0, ref)
            self._words.insert(0, word)
            self._gone -= 1

    def first(self) -> int:
        """The reference at the front; there must be one."""
        return self._refs[self._head]

    def received_first(self) -> int:
        """When the entry at the front was received."""
        return self._words[self._head] & RECEIVED_MASK

    def take_message(self, limit: int, into: dict[int, int]) -> list[int]:
        """Take the message at the front, at most `limit` recipients of it; there must be one.

        `into` gets a word (priority | attempts | received) per reference. Hot path.
        """
        refs, head = self._refs, self._head
        end, tail = len(refs), head + 1
        ref = refs[head]
        taken = [ref]
        into[ref] = self._words[head]
        if tail < end and ref ^ refs[tail] <= RECIPIENT_MASK:
            tail = self._take_others(limit, taken, into)
        else:
            self.runs -= 1
        if self.base:
            self._count_base(taken, into)
        if tail > SLACK and tail * 2 > end:
            del refs[:tail], self._words[:tail]
            self._gone += tail
            tail = 0
        self._head = tail
        return taken

    def _take_others(self, limit: int, taken: list[int], into: dict[int, int]) -> int:
        """More recipients of the message whose first one is `taken`; returns where the next one waits."""
        refs, words, head = self._refs, self._words, self._head
        end, tail, message = len(refs), head + 1, refs[head] >> RECIPIENT_BITS
        stop = min(end, head + limit)
        while tail < stop and (ref := refs[tail]) >> RECIPIENT_BITS == message:
            taken.append(ref)
            into[ref] = words[tail]
            tail += 1
        if tail == end or refs[tail] >> RECIPIENT_BITS != message:
            self.runs -= 1
        return tail

    def _count_base(self, taken: list[int], into: dict[int, int]) -> None:
        """Add the attempts that all entries have in common to the words of those that are leaving."""
        base = self.base
        for ref in taken:
            word = into[ref]
            attempts = (word >> 32) + base & ATTEMPTS_MASK
            into[ref] = word & (PRIORITY_BITS | RECEIVED_MASK) | attempts << 32

    def count_failure(self) -> None:
        """One more attempt for every entry."""
        if self._head < len(self._refs):
            self.base += 1

    def remove_older(self, received_before: float) -> list[int]:
        """Take out everything received before that time; returns the references."""
        return self._keep(lambda _, word: word & RECEIVED_MASK >= received_before)

    def remove_tired(self, attempts: int) -> list[int]:
        """Take out everything with that many attempts or more; returns the references."""
        base = self.base
        return self._keep(lambda _, word: (word >> 32) + base & ATTEMPTS_MASK < attempts)

    def remove(self, unwanted: Set[int]) -> list[int]:
        """Take these out, as far as they are here; returns the references."""
        return self._keep(lambda ref, _: ref not in unwanted)

    def oldest(self) -> int:
        """The smallest time of reception; there must be an entry."""
        return min(word & RECEIVED_MASK for word in self._words[self._head :])

    def clear(self) -> list[int]:
        """Take out everything; returns the references."""
        return self._keep(lambda _, word: False)

    def drain(self) -> Iterator[Entry]:
        """Take out everything, in order."""
        entries = list(self)
        self.clear()
        return iter(entries)

    def peek_back(self, skip: int, count: int) -> tuple[array[int], array[int]]:
        """References and words of at most `count` entries behind the first `skip`."""
        start = self._head + skip
        return self._refs[start : start + count], self._words[start : start + count]

    def cut_back(self, keep: int) -> None:
        """Drop everything behind the first `keep`: somebody else has it now."""
        del self._refs[self._head + keep :], self._words[self._head + keep :]
        self._count_runs()

    def fill(self, refs: array[int], words: array[int], base: int) -> None:
        """Hold these, and nothing else; there must be nothing here."""
        self._gone += self._head
        self._refs, self._words, self._head, self.base = refs, words, 0, base
        self._count_runs()

    def __iter__(self) -> Iterator[Entry]:
        for position in range(self._head, len(self._refs)):
            word = self._words[position]
            attempts = (word >> 32) + self.base & ATTEMPTS_MASK
            yield Entry(self._refs[position], word & RECEIVED_MASK, attempts, 0, priority_of(word))

    def _keep(self, wanted: Callable[[int, int], bool]) -> list[int]:
        """Keep the entries whose reference and word are wanted; returns the references of the others."""
        removed: list[int] = []
        refs, words = array("Q"), array("Q")
        for position in range(self._head, len(self._refs)):
            if wanted(self._refs[position], self._words[position]):
                refs.append(self._refs[position])
                words.append(self._words[position])
            else:
                removed.append(self._refs[position])
        if removed:
            self._gone += self._head + len(removed)
            self._refs, self._words, self._head = refs, words, 0
            self._count_runs()
        return removed

    def _count_runs(self) -> None:
        self.runs = count_runs(islice(self._refs, self._head, None))


def count_runs(refs: Iterable[int]) -> int:
    """How many times the message changes along these references."""
    runs, last = 0, -1
    for ref in refs:
        message = ref >> RECIPIENT_BITS
        runs += message != last
        last = message
    return runs


class DeferredEntries:
    """Entries in order of the time they are due: a wheel of buckets, made as they are needed."""

    __slots__ = ("_buckets", "_order", "_size")

    def __init__(self) -> None:
        self._buckets: dict[int, Bucket] = {}
        self._order: list[int] = []  # heap of the buckets' numbers
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, ref: int, due: int, received: int, attempts: int, priority: int = NORMAL_PRIORITY) -> None:
        """Keep until `due` (whole seconds)."""
        number = due >> BUCKET_BITS
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = Bucket()
            heapq.heappush(self._order, number)
        rank = (priority ^ NORMAL_PRIORITY) << PRIORITY_AT
        bucket.add(ref, due - (number << BUCKET_BITS) << DUE_AT | rank | attempts << 32 | received)
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
                taken.append(deferred_entry(ref, word, start))
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

    def drain(self) -> Iterator[Entry]:
        """Take out everything, in order."""
        return iter(self.clear())

    def remove(self, unwanted: Set[int]) -> list[int]:
        """Take these out, as far as they are here; returns the references."""
        removed: list[int] = []
        for number in list(self._order):
            gone = self._buckets[number].remove(unwanted)
            removed += gone
            if gone and not len(self._buckets[number]):
                self._drop(number)
        self._size -= len(removed)
        return removed

    def take_last(self, after: float, most: int) -> list[Entry]:
        """Take out at most `most` entries from the last bucket, if that begins after
        `after`, in order."""
        taken: list[Entry] = []
        number = max(self._order, default=0)
        start = number << BUCKET_BITS
        if self._order and start > after:
            bucket = self._buckets[number]
            for ref, word in bucket.take_back(most):
                taken.append(deferred_entry(ref, word, start))
            self._size -= len(taken)
            if not len(bucket):
                self._drop(number)
        return taken

    def _drop(self, number: int) -> None:
        """An empty bucket goes."""
        del self._buckets[number]
        self._order.remove(number)
        heapq.heapify(self._order)

    def __iter__(self) -> Iterator[Entry]:
        for number in sorted(self._order):
            start = number << BUCKET_BITS
            for ref, word in self._buckets[number]:
                yield deferred_entry(ref, word, start)


def deferred_entry(ref: int, word: int, start: int) -> Entry:
    """The entry of a deferred word in the bucket that begins at `start`."""
    attempts = word >> 32 & ATTEMPTS_MASK
    return Entry(ref, word & RECEIVED_MASK, attempts, start + (word >> DUE_AT), priority_of(word))


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
        return self._words[self._head] >> DUE_AT

    def take(self, offset: int, limit: int) -> list[tuple[int, int]]:
        self._sort()
        refs, words, tail = self._refs, self._words, self._head
        end = min(len(refs), tail + limit)
        taken = []
        while tail < end and words[tail] >> DUE_AT <= offset:
            taken.append((refs[tail], words[tail]))
            tail += 1
        if tail * 2 > len(refs):
            del refs[:tail]
            del words[:tail]
            tail = 0
        self._head = tail
        return taken

    def take_back(self, most: int) -> list[tuple[int, int]]:
        self._sort()
        start = max(self._head, len(self._refs) - most)
        taken = list(zip(self._refs[start:], self._words[start:], strict=True))
        del self._refs[start:], self._words[start:]
        return taken

    def remove(self, unwanted: Set[int]) -> list[int]:
        kept = [place for place in range(self._head, len(self._refs)) if self._refs[place] not in unwanted]
        if len(kept) == len(self):
            return []
        removed = [ref for ref in islice(self._refs, self._head, None) if ref in unwanted]
        self._refs = array("Q", [self._refs[place] for place in kept])
        self._words = array("Q", [self._words[place] for place in kept])
        self._head = 0
        return removed

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
