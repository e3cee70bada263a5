"""One spool file in use, and the set of them that a partition writes to.

A set's files are slots: the name says nothing, the header says what use the file is in. A file whose
messages are all gone is marked free and used again as it is: its blocks are allocated and written, so that
a sync has no metadata to journal (0.30 ms instead of 0.87 ms here), and old records in it can't come back
because they carry another number and salt.

Sizes double from the smallest to the largest as traffic asks for more files, and the largest scales with
the file system, so that a quiet installation or a small tmpfs isn't swallowed by empty segments.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mta.spool.files import Files
from mta.spool.record import (
    DATA_START,
    HEADER_COPIES,
    HEADER_SIZE,
    FileHeader,
    FileKind,
    FileState,
    encode_end,
    encode_file_header,
)

__all__ = ["Segment", "SegmentSet", "SizeRange", "header_page", "no_segment", "size_range"]

SizeRange = tuple[int, int]

_IOV_MAX = 1024
_ZEROS = bytes(1 << 20)
_END_SIZE = len(encode_end(0, 0, 0))


def size_range(kind: FileKind, total: int) -> SizeRange:
    """The smallest and largest file worth having on a file system of `total` bytes."""
    share, floor, ceiling, start = (
        (64, 256 << 10, 64 << 20, 4 << 20) if kind is FileKind.ACCEPT else (256, 64 << 10, 16 << 20, 1 << 20)
    )
    largest = floor
    while largest * 2 <= min(ceiling, total // share):
        largest *= 2
    return min(start, largest), largest


def header_page(header: FileHeader) -> bytes:
    """The first page of a file, with both copies of its header."""
    page = bytearray(DATA_START)
    for at in HEADER_COPIES:
        page[at : at + HEADER_SIZE] = encode_file_header(header)
    return bytes(page)


class Segment:
    """One file. `end` is where the next record goes; `live` counts the bytes of messages still waiting.

    `first` and `last` enclose the ids of the messages in it (accept segments).
    """

    __slots__ = ("descriptor", "end", "files", "first", "header", "last", "live", "path", "size")

    def __init__(self, files: Files, path: Path, descriptor: int, header: FileHeader, size: int) -> None:
        self.files = files
        self.path = path
        self.descriptor = descriptor
        self.header = header
        self.size = size
        self.end = DATA_START
        self.live = 0
        self.first = (1 << 64) - 1
        self.last = 0

    def __repr__(self) -> str:
        state = FileState(self.header.state).name.lower()
        filled = f"end={self.end}/{self.size} live={self.live}"
        return f"<Segment {self.path.name} number={self.header.number} {state} {filled}>"

    @property
    def number(self) -> int:
        return self.header.number

    @property
    def limit(self) -> int:
        """Where the last record has to end, so that an END after it still fits."""
        return self.size - _END_SIZE

    def has_room(self, length: int) -> bool:
        """Whether a record of `length` bytes and an END after it still fit."""
        return self.end + length <= self.limit

    def write(self, parts: Sequence[bytes | memoryview], at: int) -> int:
        """Write all of `parts` from `at` on; returns the offset behind them. OSError as the kernel has it."""
        write, descriptor = self.files.write, self.descriptor
        for start in range(0, len(parts), _IOV_MAX):
            some = parts[start : start + _IOV_MAX]
            wanted = sum(map(len, some))
            written = write(descriptor, some, at)
            if written != wanted:
                rest = memoryview(b"".join(some))
                while written < wanted:
                    more = write(descriptor, [rest[written:]], at + written)
                    if not more:
                        raise OSError(f"{self.path}: the disk took nothing")
                    written += more
            at += wanted
        return at

    def read(self, length: int, at: int) -> bytes:
        """`length` bytes from `at`, fewer only at the end of the file; OSError as the kernel has it."""
        found = self.files.read(self.descriptor, length, at)
        while 0 < len(found) < length:
            more = self.files.read(self.descriptor, length - len(found), at + len(found))
            if not more:
                break
            found += more
        return found

    def read_past_damage(self, length: int, at: int) -> bytes:
        """Like `read`, with zeros in place of blocks that can't be read."""
        try:
            return self.read(length, at)
        except OSError:
            found = b""
            while len(found) < length and at + len(found) < self.size:
                wanted = min(length - len(found), DATA_START - (at + len(found)) % DATA_START)
                try:
                    block = self.read(wanted, at + len(found))
                except OSError:
                    block = b"\0" * min(wanted, self.size - at - len(found))
                if not block:
                    break
                found += block
            return found

    def sync(self) -> None:
        self.files.sync(self.descriptor)

    def end_parts(self) -> list[bytes]:
        """END as a part to write behind the last record: what lies beyond is never looked at again.

        Nothing where it doesn't fit, because then the file itself ends there.
        """
        if self.end + _END_SIZE > self.size:
            return []
        return [encode_end(self.header.salt, self.header.number, self.end)]

    def seal(self) -> None:
        """Write END behind the last record and sync."""
        self.write(self.end_parts(), self.end)
        self.sync()


def no_segment(files: Files, kind: FileKind) -> Segment:
    """What stands for the current file while the disk has no room for one: it has no room either."""
    return Segment(files, Path(), -1, FileHeader(kind, FileState.FREE, 0, 0, 0, 0), 0)


class SegmentSet:
    """The files of one kind: the one being written, the full ones, and the free ones.

    Nothing here syncs a record: that is the commit's business. `largest` bounds a file unless one record
    needs more.
    """

    def __init__(self, files: Files, directory: Path, kind: FileKind, sizes: SizeRange) -> None:
        self.files = files
        self.directory = directory
        self.kind = kind
        self.in_use: dict[int, Segment] = {}
        self.free: list[Segment] = []
        self.next_number = 1
        self.next_slot = 1
        self._smallest, self.largest = sizes
        self._next_size = sizes[0]

    def __repr__(self) -> str:
        return f"<SegmentSet {self.kind.name} in_use={len(self.in_use)} free={len(self.free)}>"

    @property
    def keep(self) -> int:
        """How many bytes of free files are worth keeping."""
        return 4 * self.largest

    @property
    def spare_size(self) -> int:
        """The size the next new file will have."""
        return self._next_size

    @property
    def free_bytes(self) -> int:
        return sum(segment.size for segment in self.free)

    def adopt(self, found: Sequence[Segment]) -> None:
        """Take over the files that a restart found."""
        for segment in found:
            self.next_number = max(self.next_number, segment.number + 1)
            self.next_slot = max(self.next_slot, int(segment.path.name) + 1)
            if segment.header.state == FileState.IN_USE:
                self.in_use[segment.number] = segment
            else:
                self.free.append(segment)

    def obtain(self, length: int, first: int) -> tuple[Segment, bool]:
        """A file in use with room for a record of `length`, and whether its name is new in the directory.

        Its header is written, not synced: the commit that writes the first record does that, and syncs the
        directory for a new name. OSError when there is neither a free file nor room for a new one.
        """
        needed = DATA_START + length + _END_SIZE
        place = next((i for i, segment in enumerate(self.free) if segment.size >= needed), -1)
        is_new = place < 0
        segment = self.create(needed, written=False) if is_new else self.free.pop(place)
        try:
            self.activate(segment, first)
        except BaseException:
            self.free.append(segment)
            raise
        return segment, is_new

    def activate(self, segment: Segment, first: int) -> None:
        """Start a new use of a free file."""
        salt = int.from_bytes(os.urandom(4), "little")
        header = FileHeader(self.kind, FileState.IN_USE, self.next_number, salt, first, segment.size)
        segment.write([header_page(header)], 0)
        segment.header = header
        segment.end, segment.live, segment.first, segment.last = DATA_START, 0, (1 << 64) - 1, 0
        self.next_number += 1
        self.in_use[header.number] = segment

    def create(self, needed: int, *, written: bool) -> Segment:
        """A new free file, at least `needed` bytes; `written` fills it and syncs it and its directory.

        Filling takes as long as the disk needs for the bytes: do it in a thread of its own, or at start.
        """
        size = self._next_size
        if needed > size:
            size = -(-needed // DATA_START) * DATA_START if needed > self.largest else self.largest
        else:
            self._next_size = min(self.largest, size * 2)
        while True:
            path = self.directory / f"{self.next_slot:08d}"
            self.next_slot += 1
            try:
                descriptor = self.files.create(path)
            except FileExistsError:
                continue
            break
        header = FileHeader(self.kind, FileState.FREE, 0, 0, 0, size)
        segment = Segment(self.files, path, descriptor, header, size)
        try:
            if written:
                for at in range(0, size, len(_ZEROS)):
                    segment.write([_ZEROS[: size - at]], at)
                    segment.sync()
                segment.write([header_page(header)], 0)
                segment.sync()
                self.files.sync_directory(self.directory)
            else:
                self.files.allocate(descriptor, size)
        except BaseException:
            self.discard(segment)
            raise
        return segment

    def free_header(self, segment: Segment) -> bytes:
        """The page that says that nothing in the file is needed any more."""
        return header_page(segment.header._replace(state=FileState.FREE))

    def release(self, segment: Segment, keep: int) -> None:
        """Take a file whose free header is on disk out of use; at most `keep` bytes of free files stay."""
        self.in_use.pop(segment.number, None)
        segment.header = segment.header._replace(state=FileState.FREE)
        segment.end, segment.live = DATA_START, 0
        if self.free_bytes + segment.size > keep or not self._smallest <= segment.size <= self.largest:
            self.discard(segment)
        else:
            self.free.append(segment)

    def discard(self, segment: Segment) -> None:
        """Close and remove a file that nobody needs."""
        self.files.close(segment.descriptor)
        try:
            self.files.unlink(segment.path)
        except OSError:
            return  # it is marked free: the next start finds it and uses it

    def trim(self, keep: int) -> None:
        """Remove free files until at most `keep` bytes of them are left."""
        while self.free and self.free_bytes > keep:
            self.discard(self.free.pop(0))

    def close(self) -> None:
        for segment in [*self.in_use.values(), *self.free]:
            self.files.close(segment.descriptor)
        self.in_use.clear()
        self.free.clear()
