"""The names of shares that a worker has, or has had lately: what recognises a share that comes again.

A colleague that heard no answer keeps a copy and offers it later, perhaps only after both of us have been
ended and started. So the names outlive an end in good order, in a small file beside the partition, for the
next life and no further: whoever opens the partition takes the file away first. A name that outlived what
happened to its share meanwhile would lose mail, a name that is missing can only repeat some.
"""

from __future__ import annotations

import os
from pathlib import Path
from zlib import crc32

from mta.spool.files import Files

__all__ = ["MEMORY", "NAMES_FILE", "ShareNames"]

#: Names remembered, at about 130 bytes each.
MEMORY = 50_000
#: In the partition of the worker whose names they are.
NAMES_FILE = "shares"


class ShareNames:
    """The last MEMORY names; like a set."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def __repr__(self) -> str:
        return f"<ShareNames {len(self._names)}>"

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str) -> None:
        names = self._names
        names[name] = None
        if len(names) > MEMORY:
            del names[next(iter(names))]

    def discard(self, name: str) -> None:
        self._names.pop(name, None)

    def keep(self, partition: Path) -> None:
        """Leave them to the next life. Raises OSError."""
        if not self._names:
            return
        text = "\n".join(self._names).encode()
        path = partition / NAMES_FILE
        descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        with open(descriptor, "wb") as file:
            file.write(b"%08x\n%s" % (crc32(text), text))

    @classmethod
    def taken(cls, partition: Path) -> ShareNames:
        """What the last life has left, which is not there any more when this returns. Raises OSError when it
        can't be taken away; what is damaged is nothing."""
        found = cls()
        path = partition / NAMES_FILE
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return found
        path.unlink()
        Files().sync_directory(partition)
        check, _, text = data.partition(b"\n")
        if check == b"%08x" % crc32(text) and text:
            for name in text.decode().split("\n"):
                found.add(name)
        return found
