"""Where every stored message is and how many of its recipients still wait: 22 bytes a message.

Parallel arrays sorted by id. New messages have the highest ids, so they are appended; a message is found by
bisection. A message whose recipients are all settled stays as a row with nobody waiting for as long as its
bytes are in a file that a restart would read: until then the settle records about it are needed. No object
exists per message, except a bit mask for those that are settled in part.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import compress
from typing import NamedTuple

from mta.spool.record import Deferral

__all__ = ["Index", "Place"]


class Place(NamedTuple):
    """The ACCEPT or MOVED record of a message: file number, offset and length."""

    number: int
    at: int
    length: int


class Index:
    """All messages of a partition that are on disk. Pure bookkeeping; nothing here can fail but by misuse."""

    def __init__(self) -> None:
        self.messages = 0  # with somebody waiting
        self.recipients = 0  # waiting
        self.bytes = 0  # of records with somebody waiting
        self._ids = array("Q")
        self._numbers = array("I")
        self._places = array("I")
        self._lengths = array("I")
        self._waiting = array("H")
        self._settled: dict[int, int] = {}  # message → bit mask, for messages settled in part
        self._copies: dict[int, list[int]] = {}  # message → files with older copies of it

    def __repr__(self) -> str:
        return f"<Index messages={self.messages} recipients={self.recipients} rows={len(self._ids)}>"

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def last(self) -> int:
        """The highest id, -1 without any."""
        return self._ids[-1] if self._ids else -1

    def add(self, message: int, number: int, at: int, length: int, recipients: int) -> None:
        """A new message; its id is higher than all before."""
        self._ids.append(message)
        self._numbers.append(number)
        self._places.append(at)
        self._lengths.append(length)
        self._waiting.append(recipients)
        self.messages += 1
        self.recipients += recipients
        self.bytes += length

    def extend(self, rows: list[tuple[int, int, int, int, int]]) -> None:
        """Many new messages at once, arguments as of `add`, in the order of their ids."""
        if rows:
            for column, values in zip(self._columns(), zip(*rows, strict=True), strict=True):
                column.extend(array(column.typecode, values))
            self.messages += len(rows)
            self.recipients += sum(row[4] for row in rows)
            self.bytes += sum(row[3] for row in rows)

    def merge(self, rows: list[tuple[int, int, int, int, int]]) -> None:
        """Messages in any order, arguments as of `add`: a restart finds moved ones so.

        Of two rows with one id the one in the higher file counts: it is the copy that was made last.
        """
        if not rows:
            return
        for row in sorted(rows, key=lambda row: row[1]):
            for column, value in zip(self._columns(), (row[0], *row[1:]), strict=True):
                column.append(value)
        ids, numbers = self._ids, self._numbers
        order = sorted(range(len(ids)), key=ids.__getitem__)
        kept: list[int] = []
        for place in order:
            if kept and ids[kept[-1]] == ids[place]:
                loser = min(numbers[place], numbers[kept[-1]])
                self._copies.setdefault(ids[place], []).append(loser)
                if numbers[place] > numbers[kept[-1]]:
                    kept[-1] = place
            else:
                kept.append(place)
        columns = [array(column.typecode, map(column.__getitem__, kept)) for column in self._columns()]
        self._ids, self._numbers, self._places, self._lengths, self._waiting = columns
        self.messages = len(self._ids)
        self.recipients = sum(self._waiting)
        self.bytes = sum(self._lengths)

    def row(self, message: int) -> int:
        """The row of a message that is on disk, -1 without one. Rows shift when messages leave."""
        ids = self._ids
        row = bisect_left(ids, message)
        return row if row < len(ids) and ids[row] == message else -1

    def place(self, message: int) -> Place | None:
        """Where a message's bytes are; None when they are gone."""
        row = self.row(message)
        return None if row < 0 else Place(self._numbers[row], self._places[row], self._lengths[row])

    def waiting(self, message: int) -> int:
        """How many recipients of a message wait."""
        row = self.row(message)
        return 0 if row < 0 else self._waiting[row]

    def is_waiting(self, message: int, recipient: int) -> bool:
        """Whether this recipient is not settled yet."""
        row = self.row(message)
        return row >= 0 and self._waiting[row] > 0 and not self._settled.get(message, 0) >> recipient & 1

    def settle(self, message: int, recipient: int) -> Place | None:
        """Count one recipient as settled; the place when it was the last one waiting.

        Settling is final: a second time, or for a message that is gone, it does nothing.
        """
        row = self.row(message)
        if row < 0:
            return None
        waiting = self._waiting[row]
        if not waiting:
            return None
        if waiting > 1 or message in self._settled:
            mask = self._settled.get(message, 0)
            if mask >> recipient & 1:
                return None
            self._settled[message] = mask | 1 << recipient
        self._waiting[row] = waiting - 1
        self.recipients -= 1
        if waiting > 1:
            return None
        self._settled.pop(message, None)
        length = self._lengths[row]
        self.messages -= 1
        self.bytes -= length
        return Place(self._numbers[row], self._places[row], length)

    def move(self, message: int, source: int, number: int, at: int, length: int) -> bool:
        """The message now has a copy in file `number`, and that is the one to use.

        False when the index no longer had it in file `source`. The old copy is remembered until its file
        is dropped: as long as any copy is on disk, the row stays.
        """
        row = self.row(message)
        if row < 0 or self._numbers[row] != source:
            return False
        self.bytes += (length - self._lengths[row]) if self._waiting[row] else 0
        self._numbers[row], self._places[row], self._lengths[row] = number, at, length
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
        ids, numbers = self._ids, self._numbers
        start, stop = bisect_left(ids, first), bisect_right(ids, last)
        kept = [found != number for found in numbers[start:stop]]
        lost = 0
        for row in range(start, stop) if not all(kept) else ():
            if kept[row - start]:
                continue
            if ids[row] in self._copies:
                # Nobody waits for it, but a restart would find the other copy.
                numbers[row] = self._copies[ids[row]][0]
                kept[row - start] = True
            elif self._waiting[row]:
                lost += 1
                self.messages -= 1
                self.recipients -= self._waiting[row]
                self.bytes -= self._lengths[row]
                self._settled.pop(ids[row], None)
        if not any(kept):
            for column in self._columns():
                del column[start:stop]
        else:
            for column in self._columns():
                column[start:stop] = array(column.typecode, compress(column[start:stop], kept))
        return lost

    def ids(self, number: int, first: int, last: int) -> list[int]:
        """The messages `first` to `last` in file `number` that somebody waits for."""
        start, stop = bisect_left(self._ids, first), bisect_right(self._ids, last)
        numbers, waiting, ids = self._numbers, self._waiting, self._ids
        return [ids[row] for row in range(start, stop) if numbers[row] == number and waiting[row]]

    def all_waiting(self) -> Iterator[int]:
        """The ids somebody waits for now, in order; stays right while messages come and go."""
        ids = array("Q", compress(self._ids, self._waiting))
        return iter(ids)

    def walk(self) -> Iterator[tuple[int, Place, int]]:
        """What somebody waits for now, in order: id, place, and the bit mask of who is settled.

        Stays right while messages come and go. Each row is looked for behind the one before it, where it is
        unless something has left: a restart walks over a million of them.
        """
        row = -1
        for message in self.all_waiting():
            row += 1
            ids = self._ids
            if row >= len(ids) or ids[row] != message:
                row = bisect_left(ids, message)
                if row == len(ids) or ids[row] != message:
                    continue
            if self._waiting[row]:
                place = Place(self._numbers[row], self._places[row], self._lengths[row])
                yield message, place, self._settled.get(message, 0)

    def live_bytes(self) -> dict[int, int]:
        """Per file number, the bytes of records somebody waits for."""
        live: dict[int, int] = {}
        for number, length, waiting in zip(self._numbers, self._lengths, self._waiting, strict=True):
            if waiting:
                live[number] = live.get(number, 0) + length
        return live

    def settled_in_part(self, message: int) -> int:
        """The bit mask of settled recipients of a message that others still wait for."""
        return self._settled.get(message, 0)

    def _columns(self) -> tuple[array[int], ...]:
        return self._ids, self._numbers, self._places, self._lengths, self._waiting


class Deferrals:
    """What is known about tries to come, gathered at a restart and given away with `take`.

    Rows of one-recipient messages are arrays beside the index (18 bytes a message); further recipients of
    a message are few and live in a dictionary.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._sequences = array("Q", bytes(8 * len(index)))
        self._dues = array("d", bytes(8 * len(index)))
        self._attempts = array("H", bytes(2 * len(index)))
        self._ids = array("Q", index._ids)
        self._others: dict[tuple[int, int], Deferral] = {}
        self._row = -1  # found last: whoever asks for all goes from row to row
        self.highest = 0

    def note(self, message: int, recipient: int, deferral: Deferral) -> None:
        """A deferral read from the log, in any order."""
        self.highest = max(self.highest, deferral.sequence)
        row = bisect_left(self._ids, message)
        if row == len(self._ids) or self._ids[row] != message:
            return
        if recipient:
            known = self._others.get((message, recipient))
            if known is None or known.sequence < deferral.sequence:
                self._others[message, recipient] = deferral
        elif self._sequences[row] < deferral.sequence:
            self._sequences[row], self._dues[row] = deferral.sequence, deferral.due
            self._attempts[row] = min(deferral.attempts, 0xFFFF)

    def find(self, message: int, recipient: int) -> Deferral | None:
        """The latest deferral of one recipient; None when it never was deferred."""
        if recipient:
            return self._others.get((message, recipient))
        ids, row = self._ids, self._row + 1
        if row >= len(ids) or ids[row] != message:
            row = bisect_left(ids, message)
            if row == len(ids) or ids[row] != message:
                return None
        self._row = row
        if not self._sequences[row]:
            return None
        return Deferral(self._sequences[row], self._dues[row], self._attempts[row])
