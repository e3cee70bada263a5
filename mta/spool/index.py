"""Where every stored message is and how many of its recipients still wait: 22 bytes a message.

Parallel arrays sorted by id (rows.py). New messages have the highest ids, so they are appended; a message is
found by bisection. A message whose recipients are all settled stays as a row with nobody waiting for as long
as its bytes are in a file that a restart would read: until then the settle records about it are needed.

With a `limit` only so many rows of the youngest messages are kept in memory, and those of older ones lie on a
shelf on disk in pages (pages.py), of which the last used ones are in memory as well. What a page costs then
is a few hundred bytes, a third of a byte a message. Whoever settles a young message doesn't notice.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress, groupby, repeat
from operator import itemgetter
from typing import NamedTuple

from mta.errors import Contradiction
from mta.spool.batch import Filled, Outcome
from mta.spool.pages import LEAST_PAGES, NoShelf, Pages, Shelf
from mta.spool.record import RecordKind
from mta.spool.rows import Row, Rows, Sums

__all__ = ["Index", "Place"]

#: Rows in a page, as it is made.
PAGE_ROWS = 1024
#: Messages that a walk looks at in one go.
_STRETCH = 4096
_SETTLE = int(RecordKind.SETTLE)
#: Of a row.
_length, _recipients = itemgetter(3), itemgetter(4)


class Place(NamedTuple):
    """The ACCEPT or MOVED record of a message: file number, offset and length."""

    number: int
    at: int
    length: int


class Index:
    """All messages of a partition that are on disk. Pure bookkeeping; nothing here can fail but by misuse,
    and by a Contradiction when the disk has lost a page (see `mourn`)."""

    def __init__(self, shelf: Shelf | None = None, limit: int = 0, page_rows: int = PAGE_ROWS) -> None:
        """`limit` is how many rows may be in memory, about, 0 for all; `page_rows` are put away together."""
        self.messages = 0  # with somebody waiting
        self.recipients = 0  # waiting
        self.bytes = 0  # of records with somebody waiting
        self.limit = limit
        self._page_rows = page_rows
        self._young = Rows()
        self._copies: dict[int, list[int]] = {}  # message → files with older copies of it
        self._pages = Pages(shelf or NoShelf(), Rows.encode, Rows.decode)
        self._firsts = array("Q")  # pages by the lowest id that may be in them, which is their number
        self._files: dict[int, tuple[int, ...]] = {}  # page → numbers of files that its messages are in
        self._paged = 0  # rows in pages
        self._last_paged = -1  # the highest id that may be in a page

    def __repr__(self) -> str:
        return f"<Index messages={self.messages} recipients={self.recipients} rows={len(self)}>"

    def __len__(self) -> int:
        return len(self._young.ids) + self._paged

    @property
    def last(self) -> int:
        """The highest id, -1 without any."""
        ids = self._young.ids
        return ids[-1] if ids else self._last_paged

    @property
    def paged(self) -> int:
        """How many rows are in pages."""
        return self._paged

    def extend(self, rows: Sequence[Row]) -> None:
        """New messages in the order of their ids, which are higher than all before."""
        if rows:
            self._young.extend(rows)
            self.messages += len(rows)
            self.recipients += sum(map(_recipients, rows))
            self.bytes += sum(map(_length, rows))

    def append(self, filled: Filled) -> None:
        """New messages of one file; their ids are higher than all before. Hot path."""
        rows, number = self._young, filled.segment.number
        rows.ids.extend(filled.messages)
        rows.numbers.extend(repeat(number, len(filled.messages)))
        rows.places.extend(filled.places[:-1])
        rows.lengths.extend(filled.lengths)
        rows.waiting.extend(filled.recipients)
        self.messages += len(filled.messages)
        self.recipients += sum(filled.recipients)
        self.bytes += filled.octets

    def merge(self, rows: Sequence[Row]) -> None:
        """Messages in any order: a restart finds moved ones so.

        Of two rows with one id the one in the higher file counts: it is the copy that was made last.
        """
        paged = [(self._page_of(row[0]), row) for row in sorted(rows)]
        for number, some in groupby(paged, itemgetter(0)):
            part = self._young if number is None else self._pages.get(number, is_changing=True)
            size, before = len(part.ids), part.sums()
            for message, older in part.merge([row for _, row in some]):
                self._copies.setdefault(message, []).append(older)
            self._count(before, part.sums())
            if number is not None:
                self._divide(number, part, size)

    def row(self, message: int) -> int:
        """The row of a message that is on disk, among its neighbours, -1 without one. Rows shift when
        messages leave."""
        return self._find(message)[1]

    def place(self, message: int) -> Place | None:
        """Where a message's bytes are; None when they are gone."""
        rows, row = self._find(message)
        return None if row < 0 else Place(rows.numbers[row], rows.places[row], rows.lengths[row])

    def waiting(self, message: int) -> int:
        """How many recipients of a message wait."""
        rows, row = self._find(message)
        return 0 if row < 0 else rows.waiting[row]

    def is_waiting(self, message: int, recipient: int) -> bool:
        """Whether this recipient is not settled yet."""
        rows, row = self._find(message)
        return row >= 0 and rows.waiting[row] > 0 and not rows.settled.get(message, 0) >> recipient & 1

    def settle(self, message: int, recipient: int) -> Place | None:
        """Count one recipient as settled; the place when it was the last one waiting.

        Settling is final: a second time, or for a message that is gone, it does nothing.
        """
        rows = self._young
        ids = rows.ids
        row = bisect_left(ids, message)
        if row == len(ids) or ids[row] != message:
            rows, row = self._find_old(message, is_changing=True)
            if row < 0:
                return None
        waiting = rows.waiting[row]
        if not waiting:
            return None
        settled = rows.settled
        if waiting > 1 or message in settled:
            mask = settled.get(message, 0)
            if mask >> recipient & 1:
                return None
            settled[message] = mask | 1 << recipient
        rows.waiting[row] = waiting - 1
        self.recipients -= 1
        if waiting > 1:
            return None
        settled.pop(message, None)
        length = rows.lengths[row]
        self.messages -= 1
        self.bytes -= length
        return Place(rows.numbers[row], rows.places[row], length)

    def settle_all(self, outcomes: Iterable[Outcome]) -> tuple[list[int], dict[int, int]]:
        """`settle` for those of the outcomes that do: the messages that nobody waits for any more, and how
        many bytes of them are in which file. Hot path."""
        rows = self._young
        ids, waiting, settled = rows.ids, rows.waiting, rows.settled
        numbers, lengths, count = rows.numbers, rows.lengths, len(rows.ids)
        ended: list[int] = []
        octets: defaultdict[int, int] = defaultdict(int)
        others: list[tuple[int, int]] = []
        for kind, recipient, message, _, _ in outcomes:
            if kind != _SETTLE:
                continue
            row = bisect_left(ids, message)
            if row < count and ids[row] == message and waiting[row] == 1 and message not in settled:
                # The usual: young, and for one recipient.
                waiting[row] = 0
                octets[numbers[row]] += lengths[row]
                ended.append(message)
            else:
                others.append((message, recipient))
        self.messages -= len(ended)
        self.recipients -= len(ended)
        self.bytes -= sum(octets.values())
        for message, recipient in others:
            place = self.settle(message, recipient)
            if place is not None:
                octets[place.number] += place.length
                ended.append(message)
        return ended, octets

    def move(self, message: int, source: int, number: int, at: int, length: int) -> bool:
        """The message now has a copy in file `number`, and that is the one to use.

        False when the index no longer had it in file `source`. The old copy is remembered until its file
        is dropped: as long as any copy is on disk, the row stays.
        """
        rows, row = self._find(message, is_changing=True)
        if row < 0 or rows.numbers[row] != source:
            return False
        self.bytes += (length - rows.lengths[row]) if rows.waiting[row] else 0
        rows.numbers[row], rows.places[row], rows.lengths[row] = number, at, length
        page = self._page_of(message)
        if page is not None and number not in self._files[page]:
            self._files[page] += (number,)
        self._copies.setdefault(message, []).append(source)
        return True

    def drop(self, number: int, first: int, last: int) -> int:
        """Forget those of the messages `first` to `last` that are in file `number`: their bytes are gone.

        Returns how many of them somebody still waited for (none, unless the file was damaged).
        """
        for message, others in list(self._copies.items()):
            if number in others:
                others.remove(number)
                if not others:
                    del self._copies[message]
        lost = self._young.drop(number, first, last, self._copies)
        messages = lost[0]
        self._count(lost, (0, 0, 0))
        for page in self._pages_with(number, first, last):
            rows = self._pages.get(page, is_changing=True)
            before = len(rows.ids)
            lost = rows.drop(number, first, last, self._copies)
            messages += lost[0]
            self._count(lost, (0, 0, 0))
            self._tidy(page, rows, before)
        return messages

    def ids(self, number: int, first: int, last: int) -> list[int]:
        """The messages `first` to `last` in file `number` that somebody waits for."""
        found: list[int] = []
        for page in self._pages_with(number, first, last):
            found += _waiting_ids(self._pages.get(page), number, first, last)
        return found + _waiting_ids(self._young, number, first, last)

    def all_waiting(self) -> Iterator[int]:
        """The ids somebody waits for now, in order; stays right while messages come and go."""
        last, after = self.last, -1
        while after < last:
            ids, after = self._stretch(after, last)
            yield from ids

    def walk(self) -> Iterator[tuple[int, Place, int]]:
        """What somebody waits for now, in order: id, place, and the bit mask of who is settled.

        Stays right while messages come and go. Each row is looked for behind the one before it, where it is
        unless something has left: a restart walks over a million of them.
        """
        rows, row = self._young, -1
        for message in self.all_waiting():
            row += 1
            ids = rows.ids
            if row >= len(ids) or ids[row] != message or not (rows is self._young or self._pages.holds(rows)):
                rows, row = self._find(message)
                if row < 0:
                    continue
            if rows.waiting[row]:
                place = Place(rows.numbers[row], rows.places[row], rows.lengths[row])
                yield message, place, rows.settled.get(message, 0)

    def live_bytes(self) -> dict[int, int]:
        """Per file number, the bytes of records somebody waits for."""
        live: dict[int, int] = {}
        for rows in self._all_rows():
            for number, length, waiting in zip(rows.numbers, rows.lengths, rows.waiting, strict=True):
                if waiting:
                    live[number] = live.get(number, 0) + length
        return live

    def settled_in_part(self, message: int) -> int:
        """The bit mask of settled recipients of a message that others still wait for."""
        return self._find(message)[0].settled.get(message, 0)

    def mourn(self, tell: Callable[[str], None]) -> None:
        """From now on `tell` when the disk has lost a page, and go on as if nothing had been in it.

        Whoever is told sees to it that nothing more is done with this partition before it is read anew.
        """

        def lost(error: Contradiction) -> Rows:
            tell(str(error))
            return Rows()

        self._pages.lost = lost

    def young_ids(self) -> array[int]:
        """A copy of the ids of those in memory; all others have lower ones."""
        return array("Q", self._young.ids)

    # -- what is in pages ---------------------------------------------------------------------------------

    def age(self) -> None:
        """Put rows of the oldest messages on the shelf when there are more in memory than may be. Not for
        each message: it moves all of the others."""
        self._pages.try_again()
        rows = self._young
        surplus = len(rows.ids) - self.limit
        if not self.limit or surplus < max(self._page_rows, self.limit >> 4):
            return
        self._pages.most = max(LEAST_PAGES, self.limit // (4 * self._page_rows))
        surplus -= surplus % self._page_rows
        for start in range(0, surplus, self._page_rows):
            self._add_page(rows.ids[start], rows.part(start, start + self._page_rows))
        rows.cut(surplus)

    def _find(self, message: int, *, is_changing: bool = False) -> tuple[Rows, int]:
        rows = self._young
        ids = rows.ids
        row = bisect_left(ids, message)
        if row < len(ids) and ids[row] == message:
            return rows, row
        return self._find_old(message, is_changing=is_changing)

    def _find_old(self, message: int, *, is_changing: bool = False) -> tuple[Rows, int]:
        """The page of a message that is not among the young, and its row there, -1 without one."""
        page = self._page_of(message)
        if page is None:
            return self._young, -1
        rows = self._pages.get(page, is_changing=is_changing)
        return rows, rows.find(message)

    def _page_of(self, message: int) -> int | None:
        """The page that has a message if any has; None when it can only be among the young."""
        if message > self._last_paged or not self._firsts:
            return None
        return self._firsts[max(0, bisect_right(self._firsts, message) - 1)]

    def _pages_with(self, number: int, first: int, last: int) -> list[int]:
        """The pages that may have messages from `first` to `last` in file `number`."""
        if not self._firsts or first > self._last_paged:
            return []
        start = max(0, bisect_right(self._firsts, first) - 1)
        return [
            page
            for page in self._firsts[start : bisect_right(self._firsts, last)]
            if number in self._files[page]
        ]

    def _all_rows(self) -> Iterator[Rows]:
        for page in array("Q", self._firsts):
            yield self._pages.get(page)
        yield self._young

    def _stretch(self, after: int, last: int) -> tuple[list[int], int]:
        """Ids somebody waits for behind `after`, not beyond `last`, and how far that reaches."""
        page = self._page_of(after + 1)
        rows = self._young if page is None else self._pages.get(page)
        start, stop = bisect_right(rows.ids, after), bisect_right(rows.ids, last)
        if page is not None:
            following = bisect_right(self._firsts, page)
            upto = self._firsts[following] - 1 if following < len(self._firsts) else self._last_paged
        elif stop - start > _STRETCH:
            stop = start + _STRETCH
            upto = rows.ids[stop - 1]
        else:
            upto = last
        return list(compress(rows.ids[start:stop], rows.waiting[start:stop])), upto

    def _add_page(self, number: int, rows: Rows) -> None:
        """Rows that are in a page from now on; what they count for doesn't change."""
        self._firsts.insert(bisect_left(self._firsts, number), number)
        self._files[number] = tuple(set(rows.numbers))
        self._paged += len(rows.ids)
        self._last_paged = max(self._last_paged, rows.ids[-1])
        self._pages.add(number, rows)

    def _forget_page(self, number: int, rows: int) -> None:
        """A page with so many rows is gone."""
        self._firsts.remove(number)
        del self._files[number]
        self._paged -= rows
        self._pages.remove(number)

    def _divide(self, number: int, rows: Rows, before: int) -> None:
        """A page that had `before` rows and got more becomes as many pages as it should be."""
        self._forget_page(number, before)
        for start in range(0, len(rows.ids), self._page_rows):
            self._add_page(rows.ids[start], rows.part(start, start + self._page_rows))

    def _tidy(self, number: int, rows: Rows, before: int) -> None:
        """A page that had `before` rows and lost some goes when none is left, and joins the page in front of
        it when both are short."""
        self._paged += len(rows.ids) - before
        if not rows.ids:
            self._forget_page(number, 0)
            return
        self._files[number] = tuple(set(rows.numbers))
        at, short = bisect_left(self._firsts, number), self._page_rows // 4
        if len(rows.ids) > short or not at:
            return
        previous = self._firsts[at - 1]
        others = self._pages.get(previous, is_changing=True)
        if len(others.ids) <= short:
            others.join(rows)
            self._files[previous] = tuple(set(others.numbers))
            self._paged += len(rows.ids)
            self._forget_page(number, len(rows.ids))

    def _count(self, before: Sums, after: Sums) -> None:
        self.messages += after[0] - before[0]
        self.recipients += after[1] - before[1]
        self.bytes += after[2] - before[2]


def _waiting_ids(rows: Rows, number: int, first: int, last: int) -> list[int]:
    """The messages `first` to `last` in file `number` that somebody waits for."""
    start, stop = bisect_left(rows.ids, first), bisect_right(rows.ids, last)
    numbers, waiting, ids = rows.numbers, rows.waiting, rows.ids
    return [ids[row] for row in range(start, stop) if numbers[row] == number and waiting[row]]
