"""The settle log as the events process reads it: in another process, through a cursor, only what is safe.

The partition publishes how far its settle files are on disk (`marks`); a reader never looks beyond. Its
cursor is a file number and an offset; it is kept in a small file of its own, replaced atomically, and the
partition removes settle files that every cursor has passed. An event may be read again after a crash (the
cursor is written after the events are, not with them): it then carries the same event id.

Several readers keep cursors under different names. A reader that has never written one holds nothing back
by itself, but while there is none at all, everything is kept.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from mta.errors import SpoolError
from mta.spool.files import Files
from mta.spool.marks import read_marks
from mta.spool.record import (
    DATA_START,
    FileHeader,
    FileState,
    FormatVersionError,
    decode_file_header,
    event_of,
    record_mark,
    sound_events,
)
from mta.spool.scan import HOLE, Scanner

__all__ = ["SETTLE_FOLDER", "Cursor", "EventReader", "read_cursor", "read_cursors", "write_cursor"]

SETTLE_FOLDER = "settle"
_PREFIX = "cursor."
#: Octets read at once.
_WINDOW = 256 * 1024


class Cursor(NamedTuple):
    """Where to go on reading: number of a settle file, and offset in it. The default is the beginning."""

    number: int = 0
    at: int = 0


class EventReader:
    """Reads the events of one partition, in the order in which they happened.

    It has files open; `close` it. It never writes. Damage is skipped and counted in `damaged`.
    """

    def __init__(self, directory: Path, files: Files | None = None) -> None:
        self.damaged = 0
        self._directory = directory
        self._files = files or Files()
        self._descriptor = -1
        self._header: FileHeader | None = None
        self._page = b""  # the file's first page, which said so

    def __repr__(self) -> str:
        number = self._header.number if self._header else 0
        return f"<EventReader {self._directory} number={number} damaged={self.damaged}>"

    def read(self, cursor: Cursor, limit: int) -> tuple[list[bytes], Cursor]:
        """At most `limit` encoded events from `cursor` on, and the cursor behind them.

        An empty list means that there is nothing new. Raises SpoolError when the files can't be read.
        """
        events: list[bytes] = []
        known = read_marks(self._directory).settle
        if known is None:
            return events, cursor
        try:
            while len(events) < limit and cursor < known:
                header = self._open(cursor.number, known.number)
                if header is None:
                    return events, cursor
                if header.number != cursor.number:
                    cursor = Cursor(header.number, DATA_START)
                is_last = header.number == known.number
                end = known.at if is_last else self._files.size(self._descriptor)
                cursor, is_through = self._read_file(header, cursor, end, events, limit)
                if is_through and not is_last:
                    cursor = Cursor(header.number + 1, DATA_START)
                elif is_through:
                    return events, Cursor(header.number, max(cursor.at, end))
        except OSError as error:
            raise SpoolError(f"settle log of {self._directory}: {error.strerror or error}") from error
        return events, cursor

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            self._files.close(self._descriptor)
            self._descriptor, self._header, self._page = -1, None, b""

    def _read_file(
        self, header: FileHeader, cursor: Cursor, end: int, events: list[bytes], limit: int
    ) -> tuple[Cursor, bool]:
        """Events of one file up to `end`; the cursor behind them and whether the file has no more."""
        start = self._read_sound(header, max(cursor.at, DATA_START), end, events, limit)
        if len(events) >= limit:
            return Cursor(header.number, start), False
        for kind, _, _, _, head, follow in Scanner(self._read, header, end, start=start):
            if kind == HOLE:
                self.damaged += 1
            elif event := event_of(kind, head):
                events.append(event)
            start = follow
            if len(events) >= limit:
                return Cursor(header.number, start), False
        return Cursor(header.number, start), True

    def _read_sound(self, header: FileHeader, start: int, end: int, events: list[bytes], limit: int) -> int:
        """Events of records that follow one another without damage, which is nearly all; where they end."""
        mark = record_mark(header)
        while start < end and len(events) < limit:
            found, length = sound_events(
                self._read(min(_WINDOW, end - start), start), mark, limit - len(events)
            )
            if not length:
                break
            events += found
            start += length
        return start

    def _read(self, length: int, at: int) -> bytes:
        return self._files.read(self._descriptor, length, at)

    def _open(self, number: int, highest: int) -> FileHeader | None:
        """Open the file `number`, or the first one after it, if it isn't open already."""
        if self._header is not None and self._header.number == number and self._is_still(self._header):
            return self._header
        self.close()
        best: tuple[FileHeader, Path] | None = None
        for entry in os.scandir(self._directory / SETTLE_FOLDER):
            if not entry.name.isdigit():
                continue
            header = self._header_of(Path(entry.path))
            if header is None or header.state != FileState.IN_USE or not number <= header.number <= highest:
                continue
            if best is None or header.number < best[0].number:
                best = header, Path(entry.path)
        if best is None:
            return None
        self._descriptor = self._files.open(best[1], write=False)
        if self._files.read(self._descriptor, DATA_START, 0) == b"" or not self._is_still(best[0]):
            self.close()
            return None
        self._header = best[0]
        return best[0]

    def _is_still(self, header: FileHeader) -> bool:
        """Whether the open file is still in the use that we think (it may have been freed and used again)."""
        page = self._files.read(self._descriptor, DATA_START, 0)
        if page == self._page:
            return True
        try:
            is_same = decode_file_header(page) == header
        except FormatVersionError:
            return False
        self._page = page if is_same else b""
        return is_same

    def _header_of(self, path: Path) -> FileHeader | None:
        try:
            descriptor = self._files.open(path, write=False)
        except OSError:
            return None  # removed meanwhile
        try:
            return decode_file_header(self._files.read(descriptor, DATA_START, 0))
        except (OSError, FormatVersionError):
            return None
        finally:
            self._files.close(descriptor)


def read_cursor(directory: Path, name: str = "events") -> Cursor:
    """The cursor that a reader left; the beginning when there is none or it can't be understood.

    Reading some events twice is allowed, losing some is not.
    """
    try:
        words = (directory / f"{_PREFIX}{name}").read_text("ascii").split()
        number, at, check = (int(word) for word in words)
    except (OSError, ValueError):
        return Cursor()
    return Cursor(number, at) if check == number ^ at else Cursor()


def read_cursors(directory: Path) -> list[Cursor]:
    """The cursors of all readers."""
    names = sorted(entry.name for entry in os.scandir(directory) if entry.name.startswith(_PREFIX))
    return [read_cursor(directory, name.removeprefix(_PREFIX)) for name in names if "~" not in name]


def write_cursor(directory: Path, cursor: Cursor, name: str = "events") -> None:
    """Keep a reader's cursor: on disk, whole or not at all. OSError when it can't be written."""
    path = directory / f"{_PREFIX}{name}"
    temporary = directory / f"{_PREFIX}{name}~"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o600)
    try:
        os.write(descriptor, b"%d %d %d\n" % (cursor.number, cursor.at, cursor.number ^ cursor.at))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(temporary, path)
    Files().sync_directory(directory)
