"""How much memory a process has, and which files it holds open."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

__all__ = ["MEBIBYTE", "open_below", "open_files", "resident"]

MEBIBYTE = 2**20


def resident(pid: int | str = "self") -> int:
    """Octets of memory that a process has now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def open_files(pid: int | str = "self") -> int:
    """Descriptors that a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def open_below(directory: Path) -> list[str]:
    """What we have open in a directory and below it."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own, and whatever others close meanwhile
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(path for path in found if path.startswith(f"{directory.resolve()}/"))
