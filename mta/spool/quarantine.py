"""Where damaged bytes go: copied beside the spool with a note, for a person to look at.

The original stays where it is until its file is used again. A quarantine that can't be written (full disk)
is reported and otherwise ignored: the sound mail matters more.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

from mta.spool.segment import Segment

__all__ = ["Damage", "Quarantine"]

logger = logging.getLogger(__name__)

_MAX_COPY = 64 << 20


class Damage(NamedTuple):
    """Bytes `at` to `end` of a file that should have been records and are not."""

    path: Path
    number: int
    at: int
    end: int
    why: str


class Quarantine:
    """The directory `quarantine` of a partition; made when it is first needed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "quarantine"
        self.kept = 0

    def keep(self, segment: Segment, damage: Damage) -> bool:
        """Copy the damaged bytes, and say what they are; False when that failed.

        The same damage is kept once.
        """
        name = f"{damage.path.parent.name}-{damage.number:08d}-{damage.at:010d}"
        copy, note = self.directory / f"{name}.bytes", self.directory / f"{name}.txt"
        if note.exists():
            return True
        self.kept += 1
        logger.error("spool damage file=%s at=%d bytes=%d why=%r kept=%s",
                     damage.path, damage.at, damage.end - damage.at, damage.why, copy)  # fmt: skip
        text = (
            f"file: {damage.path}\nuse: {damage.number}\nbytes: {damage.at} to {damage.end}\n"
            f"why: {damage.why}\ncopy: {copy.name}\n"
        )
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            length = min(damage.end - damage.at, _MAX_COPY, max(0, segment.size - damage.at))
            _write_new(copy, segment.read_past_damage(length, damage.at))
            _write_new(note, text.encode())
        except OSError as error:
            logger.error("spool quarantine failed path=%s why=%r", self.directory, str(error))
            return False
        return True


def _write_new(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
