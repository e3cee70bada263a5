"""A stretch of the spool's index: parallel arrays, a row for each message, sorted by id.

22 bytes a message; no object exists for one, except a bit mask for those that are settled in part.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import compress

__all__ = ["Row", "Rows", "Sums"]

#: Message, file number, offset, length, recipients.
Row = tuple[int, int, int, int, int]
#: Of rows with somebody waiting: how many, recipients waiting, bytes.
Sums = tuple[int, int, int]

_SIZES = struct.Struct("<II")
_MASK = struct.Struct("<QI")


class Rows:
    """Rows of messages with rising ids. Plain data: who changes it keeps the columns of one length."""

    __slots__ = ("ids", "lengths", "numbers", "places", "settled", "waiting")

    def __init__(self) -> None:
        self.ids = array("Q")
        self.numbers = array("I")  # of files
        self.places = array("I")
        self.lengths = array("I")
        self.waiting = array("H")
        self.settled: dict[int, int] = {}  # message → bit mask, for messages settled in part

    def __repr__(self) -> str:
        return f"<Rows {len(self.ids)}>"

    def columns(self) -> tuple[array[int], ...]:
        """All columns, in the order of a `Row`."""
        return self.ids, self.numbers, self.places, self.lengths, self.waiting

    def find(self, message: int) -> int:
        """The row of a message, -1 without one."""
        ids = self.ids
        row = bisect_left(ids, message)
        return row if row < len(ids) and ids[row] == message else -1

    def sums(self) -> Sums:
        """Counts of those that somebody waits for."""
        waiting = self.waiting
        return len(waiting) - waiting.count(0), sum(waiting), sum(compress(self.lengths, waiting))

    def extend(self, rows: Sequence[Row]) -> None:
        """More rows, in the order of their ids, which are higher than all before."""
        for column, values in zip(self.columns(), zip(*rows, strict=True), strict=True):
            column.extend(array(column.typecode, values))

    def join(self, others: Rows) -> None:
        """The rows of `others`, whose ids are higher, are these rows' from now on."""
        for column, values in zip(self.columns(), others.columns(), strict=True):
            column.extend(values)
        self.settled.update(others.settled)

    def part(self, start: int, stop: int) -> Rows:
        """A copy of the rows from `start` to before `stop`."""
        part = Rows()
        for column, values in zip(part.columns(), self.columns(), strict=True):
            column.extend(values[start:stop])
        if self.settled:
            part.settled = {id: self.settled[id] for id in self.settled.keys() & set(part.ids)}
        return part

    def cut(self, stop: int) -> None:
        """Forget the rows before `stop`."""
        if self.settled:
            for message in self.settled.keys() & set(self.ids[:stop]):
                del self.settled[message]
        for column in self.columns():
            del column[:stop]

    def merge(self, rows: Sequence[Row]) -> list[tuple[int, int]]:
        """Put rows in by their ids. Of two with one id the one in the higher file counts; returns what the
        others were: message and file."""
        for column, values in zip(self.columns(), zip(*rows, strict=True), strict=True):
            column.extend(array(column.typecode, values))
        ids, numbers = self.ids, self.numbers
        order = sorted(range(len(ids)), key=ids.__getitem__)
        kept: list[int] = []
        older: list[tuple[int, int]] = []
        for place in order:
            if kept and ids[kept[-1]] == ids[place]:
                older.append((ids[place], min(numbers[place], numbers[kept[-1]])))
                if numbers[place] > numbers[kept[-1]]:
                    kept[-1] = place
            else:
                kept.append(place)
        columns = [array(column.typecode, map(column.__getitem__, kept)) for column in self.columns()]
        self.ids, self.numbers, self.places, self.lengths, self.waiting = columns
        return older

    def drop(self, number: int, first: int, last: int, copies: Mapping[int, list[int]]) -> Sums:
        """Forget those of the messages `first` to `last` that are in file `number`, and have no other of
        their `copies` on disk; returns what somebody still waited for."""
        ids, numbers, waiting = self.ids, self.numbers, self.waiting
        start, stop = bisect_left(ids, first), bisect_right(ids, last)
        kept = [found != number for found in numbers[start:stop]]
        lost = recipients = octets = 0
        for row in range(start, stop) if not all(kept) else ():
            if kept[row - start]:
                continue
            if ids[row] in copies:
                # Nobody waits for it, but a restart would find the other copy.
                numbers[row] = copies[ids[row]][0]
                kept[row - start] = True
            elif waiting[row]:
                lost += 1
                recipients += waiting[row]
                octets += self.lengths[row]
                self.settled.pop(ids[row], None)
        if not any(kept):
            for column in self.columns():
                del column[start:stop]
        else:
            for column in self.columns():
                column[start:stop] = array(column.typecode, compress(column[start:stop], kept))
        return lost, recipients, octets

    def encode(self) -> bytes:
        """As bytes for `decode`, in this machine's order."""
        masks = [
            _MASK.pack(message, len(mask)) + mask
            for message, settled in self.settled.items()
            for mask in [settled.to_bytes((settled.bit_length() + 7) // 8, "little")]
        ]
        columns = [column.tobytes() for column in self.columns()]
        return b"".join([_SIZES.pack(len(self.ids), len(masks)), *columns, *masks])

    @classmethod
    def decode(cls, data: bytes) -> Rows:
        """What `encode` has made bytes of."""
        rows = cls()
        count, masks = _SIZES.unpack_from(data)
        at = _SIZES.size
        for column in rows.columns():
            end = at + count * column.itemsize
            column.frombytes(data[at:end])
            at = end
        for _ in range(masks):
            message, size = _MASK.unpack_from(data, at)
            at += _MASK.size
            rows.settled[message] = int.from_bytes(data[at : at + size], "little")
            at += size
        return rows
