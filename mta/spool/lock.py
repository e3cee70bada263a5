"""One process per partition: an advisory lock on an open file, so that it dies with its holder.

The events process has such a lock of its own on the spool as a whole.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from mta.errors import SpoolError

__all__ = ["SpoolLock", "lock_holder"]

_NAME = "lock"


class SpoolLock:
    """Held from construction to `close`. Raises SpoolError, naming the holder, when somebody else has it.

    `name` is that of the file: locks of different names don't know each other.
    """

    def __init__(self, directory: Path, name: str = _NAME) -> None:
        path = directory / name
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise SpoolError(f"{path}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise SpoolError(f"spool {directory} is in use by process {holder or 'unknown'}") from error
        try:
            # Only for people; a full disk is no reason not to deliver from it.
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)
        except OSError:
            pass

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def lock_holder(directory: Path) -> str:
    """The process that has the partition open, "" when nobody has."""
    try:
        descriptor = os.open(directory / _NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
    finally:
        os.close(descriptor)
    return ""
