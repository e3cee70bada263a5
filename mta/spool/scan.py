"""Reading a spool file forward, past whatever damage it holds.

What checks out is given out in order; what does not is a hole. Behind a hole the scanner looks for the next
sound record of the same use of the file: a flipped bit costs the record it hits, not the file. It reads
through a callable and knows neither descriptors nor errors of the disk: the caller substitutes zeros for
blocks that can't be read, and they become holes like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from zlib import crc32

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
        accept_of, unpack, check_of, record_size, end_kind = (
            unpack_accept,
            unpack_record,
            crc32,
            RECORD_SIZE,
            _END,
        )
        least_of, bodies, heads = _LEAST.get, self._bodies, self._heads
        at, base, buffer = self.end, self.end, b""
        while at + record_size <= limit:
            here = at - base
            if here + record_size > len(buffer):
                buffer, base, here = read(min(_WINDOW, limit - at), at), at, 0
                if len(buffer) < record_size:
                    break
            check, its_salt, its_number, kind, _, recipient, length, message = unpack(buffer, here)
            end = here + record_size + length
            if its_salt == salt and its_number == number and base + end <= limit and 1 <= kind <= end_kind:
                if end > len(buffer):
                    buffer, base = read(min(max(_WINDOW, record_size + length), limit - at), at), at
                    here, end = 0, record_size + length
                is_misplaced = kind == end_kind and message != at
                if end <= len(buffer) and check_of(buffer[here + 4 : end]) == check and not is_misplaced:
                    if kind == end_kind:
                        self.is_sealed = True
                        break
                    follow = base + end
                    head, sound = b"", True
                    if length < least_of(kind, 0):
                        sound = False  # no record of ours, although its checksum fits
                    elif kind <= _MOVED:
                        size, body_check = accept_of(buffer, here + record_size)
                        follow += size
                        if follow > limit:
                            sound = False
                        elif not bodies:
                            pass
                        elif end + size <= len(buffer):
                            sound = check_of(buffer[end : end + size]) == body_check
                        else:
                            sound = self._is_body_sound(follow - size, size, body_check)
                        if heads or not sound:
                            head = buffer[here + record_size : end]
                    else:
                        head = buffer[here + record_size : end]
                    if not sound:
                        # Nor can its length be believed: the head may have strayed here from another place.
                        inside = self._search(base + end)
                        follow = inside if 0 <= inside < follow else follow
                    if follow <= limit:
                        yield (kind if sound else HOLE), at, recipient, message, head, follow
                        at = follow
                        continue
            found = self._search(at + 1)
            if found < 0:
                break
            yield HOLE, at, 0, 0, b"", found
            at = found
        self.end = at

    def begins_record(self, at: int) -> bool:
        """Whether the bytes at `at` are those of a record of this use, sound or not."""
        return self._read(8, at + 4) == record_mark(self._header)

    def _is_body_sound(self, at: int, size: int, check: int) -> bool:
        found, end = 0, at + size
        while at < end:
            part = self._read(min(_WINDOW, end - at), at)
            if not part:
                return False
            found = crc32(part, found)
            at += len(part)
        return found == check

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
