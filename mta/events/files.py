"""A file that is continued in the next one: `acct.csv` is written as `acct-2026-11-21-0000.csv`, -0001, ...

A new file begins with the header line, at midnight, at a size, at an age, or when the operator says so. A
finished file is moved to another directory, or deleted when it is old. What has been written is safe after
`sync`; a file that a crash interrupted is continued at the last such point (`resume`), so that nothing
stands in it twice. Every method that writes may raise OSError; the file then ends where it did before.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

__all__ = ["FileOptions", "Resting", "RotatingFile"]

log = logging.getLogger(__name__)

QUARTER = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """Where and how long; times are seconds, None means never."""

    path: Path
    move_to: Path | None = None
    interval: float | None = 86400.0
    max_size: int | None = 250 << 20
    delete_after: float | None = 8 * 86400.0
    sync: bool = False
    world_readable: bool = False


class Resting(NamedTuple):
    """Where a file stood when it was last safe: name, octets, and when it was begun (epoch seconds)."""

    name: str
    offset: int
    begun: float


class RotatingFile:
    """One stream of lines over many files; `now` is always wall time in epoch seconds."""

    def __init__(self, options: FileOptions, header: bytes) -> None:
        self.options = options
        self.written = 0  # octets since this object was made, over all files
        self._header = header
        self._descriptor = -1
        self._name = ""
        self._offset = 0
        self._begun = 0.0
        self._quarter = -1.0  # the last one in which the file's day was looked at, and was today
        self._last_name = ""
        path = options.path
        self._pattern = re.compile(
            re.escape(path.stem) + r"-(\d{4}-\d{2}-\d{2})-(\d{4,})" + re.escape(path.suffix)
        )

    def __repr__(self) -> str:
        return f"<RotatingFile {self._name or 'none'} octets={self._offset}>"

    @property
    def directory(self) -> Path:
        return self.options.path.parent

    @property
    def current(self) -> Path | None:
        """The file being written."""
        return self.directory / self._name if self._name else None

    @property
    def is_open(self) -> bool:
        return self._descriptor >= 0

    # --- writing

    def write(self, data: bytes, now: float) -> None:
        """Append whole lines; a new file is begun if there is none. All or nothing."""
        if self._descriptor < 0:
            self.begin(now)
        self._append(data)
        self.written += len(data)

    def sync(self) -> Resting | None:
        """Make what was written safe; returns where that is."""
        if self._descriptor < 0:
            return None
        os.fdatasync(self._descriptor)
        return Resting(self._name, self._offset, self._begun)

    def is_due(self, now: float, more: int = 0) -> bool:
        """Whether the file is to be finished before `more` octets are added."""
        if self._descriptor < 0:
            return False
        options = self.options
        if options.max_size is not None and self._offset + more > options.max_size:
            return self._offset > len(self._header)
        if options.interval is not None and now >= self._begun + options.interval:
            return True
        # Days begin with a quarter of an hour in all time zones, and asking for the day is not cheap.
        if now // QUARTER == self._quarter:
            return False
        if day(now) not in self._name:
            return True
        self._quarter = now // QUARTER
        return False

    def is_gone(self) -> bool:
        """Whether somebody removed, moved or replaced the file that we write to."""
        if self._descriptor < 0:
            return False
        mine = os.fstat(self._descriptor)
        try:
            theirs = os.stat(self.directory / self._name)
        except OSError:
            return True
        return (mine.st_ino, mine.st_dev) != (theirs.st_ino, theirs.st_dev)

    def finish(self, now: float, steady: float | None = None) -> Path | None:
        """Close the file for good and move it away if that is wanted; returns where it now lies.

        `steady` decides which finished files are too old: a clock that is set forward deletes nothing.
        """
        finished = self.current
        self.close()
        if finished is None:
            return None
        self._last_name = finished.name
        moved = self._move(finished)
        self.tidy(now if steady is None else min(now, steady))
        return moved

    def close(self) -> None:
        """Let go of the file, without finishing it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._name, self._offset, self._quarter = -1, "", 0, -1.0

    # --- after a start

    def resume(self, resting: Resting, now: float) -> bool:
        """Continue the file that an earlier process left; False when it can't be or shouldn't be.

        What that process wrote after the last safe point is cut off: it is going to be written again.
        """
        path = self.directory / resting.name
        if not self._pattern.fullmatch(resting.name):
            return False
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            size = os.fstat(descriptor).st_size
            has_header = os.pread(descriptor, len(self._header), 0) == self._header
            if size < resting.offset:
                raise OSError("shorter than it was")
            os.ftruncate(descriptor, resting.offset)
            os.lseek(descriptor, 0, os.SEEK_END)
        except OSError as error:
            log.warning("file=%s event=not-continued error=%s", path, error)
            os.close(descriptor)
            return False
        self._descriptor, self._name = descriptor, resting.name
        self._offset, self._begun = resting.offset, resting.begun
        if not has_header:
            # Its columns are others than those we write now.
            self.finish(now)
            return False
        return True

    def tidy(self, now: float) -> None:
        """Move finished files that a crash left behind; delete those that are too old."""
        for path in self._finished():
            if self.options.move_to is not None:
                self._move(path)
            elif self.options.delete_after is not None:
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < now - self.options.delete_after:
                        path.unlink()
                        log.info("file=%s event=deleted", path)

    def begin(self, now: float) -> None:
        """Create the next file, with its header line; nothing is left of it when that fails."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        mode = 0o644 if self.options.world_readable else 0o640
        number = self._next_number(now)
        while True:
            name = f"{self.options.path.stem}-{day(now)}-{number:04d}{self.options.path.suffix}"
            try:
                descriptor = os.open(self.directory / name, flags, mode)
                break
            except FileExistsError:
                number += 1
        self._descriptor, self._name, self._offset, self._begun = descriptor, name, 0, now
        try:
            # The umask of whoever started us is not the operator's wish.
            os.fchmod(descriptor, mode)
            self._append(self._header)
            sync_directory(self.directory)
        except OSError:
            self.discard()
            raise

    def discard(self) -> None:
        """Close and remove the file that was just begun."""
        path = self.current
        self.close()
        if path is not None:
            path.unlink(missing_ok=True)

    # --- inside

    def _append(self, data: bytes) -> None:
        done = 0
        try:
            while done < len(data):
                done += os.write(self._descriptor, data[done:] if done else data)
        except OSError:
            # No half a line may stay: the next attempt writes it whole.
            os.ftruncate(self._descriptor, self._offset)
            os.lseek(self._descriptor, self._offset, os.SEEK_SET)
            raise
        self._offset += done

    def _next_number(self, now: float) -> int:
        """One more than the highest of the day, here and where finished files go."""
        today = day(now)
        names = [self._last_name, *(path.name for path in self._finished())]
        if self.options.move_to is not None:
            with contextlib.suppress(OSError):
                names += os.listdir(self.options.move_to)
        found = [self._pattern.fullmatch(name) for name in names]
        return max((int(match[2]) + 1 for match in found if match and match[1] == today), default=0)

    def _finished(self) -> Iterator[Path]:
        """Files of ours in the directory that are not being written."""
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(self.directory)):
                if name != self._name and self._pattern.fullmatch(name):
                    yield self.directory / name

    def _move(self, path: Path) -> Path:
        target = self.options.move_to
        if target is None:
            return path
        try:
            os.rename(path, target / path.name)
            sync_directory(target)
        except OSError as error:
            # It stays where it is and is tried again with the next one.
            log.error("file=%s event=not-moved move-to=%s error=%s", path, target, error.strerror)
            return path
        return target / path.name


def day(now: float) -> str:
    """The local date, as file names have it."""
    return datetime.fromtimestamp(now).strftime("%Y-%m-%d")


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
