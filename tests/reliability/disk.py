"""Disks of a test's own: one whose power can be cut, and small ones that fill up.

A file system in a file, mounted over a loop device. `cut` is the kernel's own shutdown call for file systems
(FS_IOC_SHUTDOWN without flushing the log): from then on nothing reaches the disk, and after the next mount
everything is gone that no sync had made lasting.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LoopDisk", "no_mounting", "small_disk"]

_FS_IOC_SHUTDOWN = 0x8004587D
_WITHOUT_LOG_FLUSH = 2
#: For letting go of a disk, and seconds between.
_TRIES, _BETWEEN = 200, 0.02


def no_mounting() -> str:
    """Why this machine can't mount disks for tests; empty when it can."""
    if os.geteuid() != 0:
        return "only root may mount a file system"
    missing = [name for name in ("mount", "umount", "mkfs.ext4") if shutil.which(name) is None]
    return f"{', '.join(missing)} is not installed" if missing else ""


class LoopDisk:
    """ext4 in a file. `with LoopDisk(place) as disk:` mounts it at `disk.path`; it is gone afterwards.

    Raises OSError with the tool's words when the machine doesn't allow it.
    """

    def __init__(self, place: Path, megabytes: int = 96) -> None:
        self.path = place / "mounted"
        self._image = place / "disk.img"
        self._megabytes = megabytes
        self._is_mounted = False

    def __enter__(self) -> LoopDisk:
        self.path.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as image:
            image.truncate(self._megabytes << 20)
        _call("mkfs.ext4", "-q", "-F", str(self._image))
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        self._unmount()
        self._image.unlink(missing_ok=True)

    def cut(self) -> None:
        """The power is gone: whatever was not synced is lost, and every call fails from now on."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _FS_IOC_SHUTDOWN, struct.pack("I", _WITHOUT_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def fail(self) -> None:
        """The kernel has met an error and makes the file system read-only, open files or not."""
        _call("mount", "-o", "remount,abort", str(self.path))

    def restore(self) -> None:
        """The power is back: mount again. Nobody may have files open on it."""
        self._unmount()
        self._mount()

    def settle(self) -> None:
        """Make everything lasting that is on it now."""
        _call("sync", "-f", str(self.path))

    def _mount(self) -> None:
        _call("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.path))
        self._is_mounted = True

    def _unmount(self) -> None:
        if self._is_mounted:
            self._is_mounted = False
            for _ in range(_TRIES):
                try:
                    return _call("umount", str(self.path))
                except OSError:
                    # Whoever looks at a process that has just died (`ps` does) keeps its files in use for
                    # that moment. Mounting again meanwhile would show the disk that was cut, not its content.
                    time.sleep(_BETWEEN)
            _call("umount", "-l", str(self.path))
            raise OSError(f"{self.path} stays in use")


@contextlib.contextmanager
def small_disk(path: Path, options: str) -> Iterator[Path]:
    """A tmpfs with the given size or number of inodes, gone afterwards."""
    path.mkdir(parents=True, exist_ok=True)
    _call("mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "tmpfs", str(path))
    try:
        yield path
    finally:
        _call("umount", "-l", str(path))


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
