"""A place on disk for what the queues park: written and read by one process, and gone with it.

The spool is what survives a crash, so nothing here is synced, and the files have no names: the kernel frees
them when the process ends, however it ends. Pieces are put behind each other; a file whose pieces have all
been dropped is closed, or begun again from the front if it is the last one.

It fails in two ways. Without room `put` says so, and the caller keeps what it has. What can't be read back is
a `Contradiction`: the process ends, and its successor finds everybody in the spool.
"""

from __future__ import annotations

import logging
from pathlib import Path

from mta.errors import Contradiction
from mta.spool.files import Files

__all__ = ["DiskShelf"]

log = logging.getLogger(__name__)

#: A place is the number of a file, and where in it.
OFFSET_BITS = 24
OFFSET_MASK = (1 << OFFSET_BITS) - 1
FILE_SIZE = 1 << OFFSET_BITS
#: Its file's name for as long as it has one.
NAME = "parked"


class DiskShelf:
    """The shelf of one partition's owner. Makes no file until something is put down."""

    def __init__(self, directory: Path, files: Files) -> None:
        self.held = 0
        self._directory = directory
        self._files = files
        self._descriptors: dict[int, int] = {}
        self._live: dict[int, int] = {}  # octets in use, by file
        self._number = 0
        self._end = FILE_SIZE
        self._is_full = False

    def __repr__(self) -> str:
        return f"<DiskShelf {self.held} octets in {len(self._descriptors)} files>"

    def put(self, data: bytes) -> int | None:
        """Put down; returns the place, None when the disk has no room now."""
        try:
            if self._end + len(data) > FILE_SIZE:
                self._begin()
            self._write(data, self._number, self._end)
        except OSError as error:
            self._have_no_room(error)
            return None
        self._is_full = False
        place = self._number << OFFSET_BITS | self._end
        self._end += len(data)
        self._live[self._number] += len(data)
        self.held += len(data)
        return place

    def replace(self, place: int, data: bytes) -> bool:
        """Put other octets, not more, where some lie; they keep their size. False when the disk has no room
        now: then what lies there counts no more."""
        try:
            self._write(data, place >> OFFSET_BITS, place & OFFSET_MASK)
        except OSError as error:
            self._have_no_room(error)
            return False
        return True

    def look(self, place: int, size: int) -> bytes:
        """What lies at a place. Raises Contradiction when the disk can't say."""
        descriptor = self._descriptors[place >> OFFSET_BITS]
        try:
            data = self._files.read(descriptor, size, place & OFFSET_MASK)
        except OSError as error:
            raise Contradiction(f"parked recipients can't be read: {error}") from error
        if len(data) != size:
            raise Contradiction("parked recipients are gone from the disk")
        return data

    def drop(self, place: int, size: int) -> None:
        """It is not needed any more."""
        number = place >> OFFSET_BITS
        self._live[number] -= size
        self.held -= size
        if self._live[number]:
            return
        if number == self._number:
            self._end = 0
        else:
            self._close(number)

    def close(self) -> None:
        """Give everything up. May be called twice."""
        for number in list(self._descriptors):
            self._close(number)
        self._end = FILE_SIZE
        self.held = 0

    def _write(self, data: bytes, number: int, at: int) -> None:
        descriptor, written = self._descriptors[number], 0
        while written < len(data):
            written += self._files.write(descriptor, [memoryview(data)[written:]], at + written)

    def _have_no_room(self, error: OSError) -> None:
        if not self._is_full:
            log.warning("directory=%s event=not-parked error=%r", self._directory, str(error))
        self._is_full = True

    def _begin(self) -> None:
        """Go on in a fresh file; the one before goes if nothing is in it."""
        path = self._directory / NAME
        try:
            descriptor = self._files.create(path)
        except FileExistsError:
            # Of a process that was killed between the next two lines.
            self._files.unlink(path)
            descriptor = self._files.create(path)
        self._files.unlink(path)
        if self._live.get(self._number) == 0:
            self._close(self._number)
        self._number += 1
        self._descriptors[self._number] = descriptor
        self._live[self._number] = 0
        self._end = 0

    def _close(self, number: int) -> None:
        self._files.close(self._descriptors.pop(number))
        del self._live[number]
