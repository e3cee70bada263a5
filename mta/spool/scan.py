"""Reading a spool file forward, past whatever damage it holds.

What checks out is given out in order; what does not is a hole. Behind a hole the scanner looks for the next
sound record of the same use of the file: a flipped bit costs the record it hits, not the file. It reads
through a callable and knows neither descriptors nor errors of the disk: the caller substitutes zeros for
blocks that can't be read, and they become holes like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from mta.spool.checksum import crc32
from mta.spool.record import (
    DATA_START,
    LEAST_HEAD,
    RECORD_SIZE,
    FileHeader,
    RecordKind,
    record_mark,
    unpack_accept,
    unpack_record,
)

__all__ = ["HOLE", "Found", "Reader", "Scanner"]

#: `read(length, at)`: the file's bytes from `at`, fewer only at its end.
Reader = Callable[[int, int], bytes]

#: (kind, at, recipient, message, head, next): one record, or a hole with kind HOLE that ends at `next`. The
#: hole of a sound head with a damaged body has that head, any other an empty one.
Found = tuple[int, int, int, int, bytes, int]

HOLE = 0

_WINDOW = 256 * 1024
#: Octets that the head of a record has at least, by kind.
_LEAST: Mapping[int, int] = MappingProxyType({int(kind): least for kind, least in LEAST_HEAD.items()})
_ACCEPT, _MOVED, _END = int(RecordKind.ACCEPT), int(RecordKind.MOVED), int(RecordKind.END)


class Scanner:
    """One pass over the records of a file between `start` and `limit`.

    After the pass `end` is where sound records end, and `is_sealed` says whether an END record said so: in
    a file without one the last records may be torn, and the pass should be repeated with `bodies`, which
    checks the bodies too.
    """

    def __init__(
        self,
        read: Reader,
        header: FileHeader,
        limit: int,
        *,
        start: int = DATA_START,
        bodies: bool = False,
        heads: bool = True,
    ) -> None:
        """Without `heads` sound messages come with an empty head, which is cheaper where nobody reads it."""
        self.end = start
        self.is_sealed = False
        self._read = read
        self._header = header
        self._limit = limit
        self._bodies = bodies
        self._heads = heads

    def __iter__(self) -> Iterator[Found]:
        # The hot path of a restart with a million messages: local names, one buffer, no calls per record.
        read, limit, salt, number = self._read, self._limit, self._header.salt, self._header.number
        least_of, bodies, heads = _LEAST.get, self._bodies, self._heads
        at, base, buffer = self.end, self.end, b""
        while at + RECORD_SIZE <= limit:
            here = at - base
            if here + RECORD_SIZE > len(buffer):
                buffer, base, here = read(min(_WINDOW, limit - at), at), at, 0
                if len(buffer) < RECORD_SIZE:
                    break
            check, its_salt, its_number, kind, _, recipient, length, message = unpack_record(buffer, here)
            end = here + RECORD_SIZE + length
            is_ours = its_salt == salt and its_number == number and base + end <= limit and 1 <= kind <= _END
            if is_ours and end > len(buffer):
                buffer, base = read(min(max(_WINDOW, RECORD_SIZE + length), limit - at), at), at
                here, end = 0, RECORD_SIZE + length
            is_ours = is_ours and end <= len(buffer) and crc32(buffer[here + 4 : end]) == check
            if is_ours and length >= least_of(kind, 0):
                if kind <= _MOVED:
                    size, body_check = unpack_accept(buffer, here + RECORD_SIZE)
                    follow = base + end + size
                    if follow <= limit and (
                        not bodies or self._is_body_sound(buffer, base, end, size, body_check)
                    ):
                        head = buffer[here + RECORD_SIZE : end] if heads else b""
                        yield kind, at, recipient, message, head, follow
                        at = follow
                        continue
                elif kind != _END:
                    follow = base + end
                    yield kind, at, recipient, message, buffer[here + RECORD_SIZE : end], follow
                    at = follow
                    continue
                elif message == at:
                    self.is_sealed = True
                    break
            hole = self._hole(at, buffer[here:end] if is_ours and kind != _END else b"")
            if hole is None:
                break
            yield hole
            at = hole[-1]
        self.end = at

    def begins_record(self, at: int) -> bool:
        """Whether the bytes at `at` are those of a record of this use, sound or not."""
        return self._read(8, at + 4) == record_mark(self._header)

    def _is_body_sound(self, buffer: bytes, base: int, at: int, size: int, check: int) -> bool:
        """Whether the body at `at` in the buffer, whose first byte is at `base`, has this checksum."""
        if at + size <= len(buffer):
            return crc32(buffer[at : at + size]) == check
        found, at, end = 0, base + at, base + at + size
        while at < end:
            part = self._read(min(_WINDOW, end - at), at)
            if not part:
                return False
            found = crc32(part, found)
            at += len(part)
        return found == check

    def _hole(self, at: int, record: bytes) -> Found | None:
        """What is damaged at `at`, as far as something sound may follow; None when nothing does.

        `record` is the head of a record that has the right checksum and is not sound for all that: empty when
        not even that stands here, or an END record that has strayed from another place.
        """
        if record:
            _, _, _, kind, _, recipient, length, message = unpack_record(record, 0)
            head, follow = b"", at + len(record)
            if kind <= _MOVED and length >= _LEAST[kind]:
                head = record[RECORD_SIZE:]
                follow += unpack_accept(record, RECORD_SIZE)[0]
            # Its length can't be believed: the head may have strayed here from another place.
            inside = self._search(at + len(record))
            if 0 <= inside < follow:
                follow = inside
            if follow <= self._limit:
                return HOLE, at, recipient, message, head, follow
        follow = self._search(at + 1)
        return None if follow < 0 else (HOLE, at, 0, 0, b"", follow)

    def _search(self, at: int) -> int:
        """The offset of the next sound record from `at` on, -1 without one."""
        mark = record_mark(self._header)
        base = at + 4
        while base < self._limit:
            buffer = self._read(min(_WINDOW, self._limit - base), base)
            place = buffer.find(mark)
            while place >= 0:
                if self._is_head_sound(base + place - 4):
                    return base + place - 4
                place = buffer.find(mark, place + 1)
            if len(buffer) < len(mark):
                return -1
            base += len(buffer) - len(mark) + 1
        return -1

    def _is_head_sound(self, at: int) -> bool:
        fixed = self._read(RECORD_SIZE, at)
        if len(fixed) < RECORD_SIZE:
            return False
        check, _, _, kind, _, _, length, message = unpack_record(fixed, 0)
        if not 1 <= kind <= _END or at + RECORD_SIZE + length > self._limit:
            return False
        if kind == _END and message != at:
            return False
        return bool(crc32(self._read(RECORD_SIZE + length, at)[4:]) == check)
