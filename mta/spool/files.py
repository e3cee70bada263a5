"""The system calls of the spool, in one place, so that tests can make each of them fail.

It is not an abstraction over storage: every method is one call to the kernel and raises its OSError
(but that which asks whether the kernel syncs by itself).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mta.spool.kernelsync import KernelSync

__all__ = ["Files", "Room"]

# O_NOFOLLOW and O_NONBLOCK: a link or a pipe that somebody put into the spool is refused, not followed.
_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Room(NamedTuple):
    """What a file system has left for us; `inodes` is None where the file system doesn't count them."""

    free: int
    total: int
    inodes: int | None


class Files:
    """The real thing."""

    def open(self, path: Path, *, write: bool) -> int:
        """Open an existing regular file; OSError also for anything that is not one."""
        descriptor = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | _SAFE)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(f"{path} is not a regular file")
        return descriptor

    def create(self, path: Path) -> int:
        """A new file that only its owner may read."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFE, 0o600)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def size(self, descriptor: int) -> int:
        return os.fstat(descriptor).st_size

    def read(self, descriptor: int, length: int, at: int) -> bytes:
        return os.pread(descriptor, length, at)

    def write(self, descriptor: int, parts: Sequence[bytes | memoryview], at: int) -> int:
        """May write less than it was given; returns how much."""
        return os.pwritev(descriptor, parts, at)

    def sync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def kernel_sync(self) -> KernelSync | None:
        """What makes syncs without a thread; None where the kernel can't, or won't for us."""
        try:
            return KernelSync()
        except OSError:
            return None

    def sync_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def allocate(self, descriptor: int, size: int) -> None:
        """Claim the blocks now, so that a full disk shows here and not in the middle of a record."""
        os.posix_fallocate(descriptor, 0, size)

    def truncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def room(self, path: Path) -> Room:
        found = os.statvfs(path)
        inodes = found.f_favail if found.f_files else None
        return Room(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, inodes)
