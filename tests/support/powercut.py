"""Files on a disk that can lose power: what was not synced is kept, lost or torn, sector by sector.

Every write goes through to the real file, so the program sees what it wrote, and is remembered until the
file is synced. `cut` makes a directory as it might look after the power came back: of every write that was
not synced each sector is there or not, a new name whose directory was not synced may be missing, a removed
one may be back, and a file may still have its old length.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.support.spool import FaultyFiles

SECTOR = 512


class Image:
    """One file as the disk surely has it, and what was done to it since: (offset, data), or (size, None)."""

    def __init__(self, path: Path, durable: bytes) -> None:
        self.path = path
        self.durable = bytearray(durable)
        self.pending: list[tuple[int, bytes | None]] = []
        self.name_is_safe = False
        self.is_removed = False

    def settle(self) -> None:
        for at, data in self.pending:
            self.apply(self.durable, at, data)
        self.pending.clear()

    @staticmethod
    def apply(to: bytearray, at: int, data: bytes | None) -> None:
        if data is None:
            del to[at:]
            to.extend(bytes(at - len(to)))
        else:
            to.extend(bytes(max(0, at + len(data) - len(to))))
            to[at : at + len(data)] = data

    def after_cut(self, chance: random.Random) -> bytes:
        found, luck = bytearray(self.durable), chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for at, data in self.pending:
            if data is None:
                if chance.random() < luck:
                    self.apply(found, at, None)
                continue
            end = at + len(data)
            while at < end:
                upto = min(end, at - at % SECTOR + SECTOR)
                if chance.random() < luck:
                    self.apply(found, at, data[len(data) - (end - at) : len(data) - (end - upto)])
                at = upto
        return bytes(found)


class PowerCutFiles(FaultyFiles):
    """The disk; one per test, over any number of cuts."""

    def __init__(self) -> None:
        super().__init__()
        self.images: dict[tuple[int, int], Image] = {}
        self.removed: list[Image] = []

    def _image(self, descriptor: int) -> Image:
        status = os.fstat(descriptor)
        return self.images[status.st_dev, status.st_ino]

    def adopt(self, directory: Path) -> None:
        """Take what is in a directory for safely on disk, as after a start."""
        self.images.clear()
        self.removed.clear()
        for path in directory.rglob("0*"):
            if path.is_file() and path.parent.name in ("segments", "settle"):
                status = path.stat()
                image = self.images[status.st_dev, status.st_ino] = Image(path, path.read_bytes())
                image.name_is_safe = True

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        status = os.fstat(descriptor)
        self.images[status.st_dev, status.st_ino] = Image(path, b"")
        return descriptor

    def write(self, descriptor: int, parts: Sequence[bytes | memoryview], at: int) -> int:
        data = b"".join(parts)
        written = super().write(descriptor, [data], at)
        self._image(descriptor).pending.append((at, data[:written]))
        return written

    def allocate(self, descriptor: int, size: int) -> None:
        super().allocate(descriptor, size)
        self._image(descriptor).pending.append((size, None))

    def truncate(self, descriptor: int, size: int) -> None:
        super().truncate(descriptor, size)
        self._image(descriptor).pending.append((size, None))

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        self._image(descriptor).settle()

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        for image in self.images.values():
            if image.path.parent == path:
                image.name_is_safe = True
        self.removed = [image for image in self.removed if image.path.parent != path]

    def unlink(self, path: Path) -> None:
        status = path.stat()
        super().unlink(path)
        image = self.images.pop((status.st_dev, status.st_ino))
        if image.name_is_safe:
            self.removed.append(image)

    def cut(self, directory: Path, to: Path, chance: random.Random) -> None:
        """What the disk may hold now, as a copy of `directory` without any process on it."""
        for folder in ("segments", "settle"):
            (to / folder).mkdir(parents=True)
            (to / folder).chmod(0o700)
        to.chmod(0o700)
        for path in directory.glob("cursor.*"):
            shutil.copy(path, to / path.name)  # its writer syncs it
        if (directory / "marks").exists() and chance.random() < 0.7:
            shutil.copy(directory / "marks", to / "marks")
        for image in [*self.images.values(), *(one for one in self.removed if chance.random() < 0.5)]:
            if image.name_is_safe or chance.random() < 0.5:
                (to / image.path.relative_to(directory)).write_bytes(image.after_cut(chance))
