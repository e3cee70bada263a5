"""How much memory a process has."""

from __future__ import annotations

import resource
from pathlib import Path

__all__ = ["MEBIBYTE", "open_files", "resident"]

MEBIBYTE = 2**20


def resident(pid: int | str = "self") -> int:
    """Octets of memory that a process has now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def open_files(pid: int | str = "self") -> int:
    """Descriptors that a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
