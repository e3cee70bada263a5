"""How far an output has got: a cursor for each partition, and where its file stood just then.

Both are written together, in one small file beside the output's file: after a crash the output goes on at
exactly that point, cuts off what it had written beyond, and writes it again. Each partition gets a copy of
its cursor as well (`spool.settlelog`), by which it knows what it may delete; the copy may be older.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mta.events.files import Resting, sync_directory
from mta.spool.settlelog import Cursor

__all__ = ["Position", "read_position", "write_position"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Position:
    """Cursors by the partition's path, and the file's safe point (None without a file)."""

    cursors: dict[str, Cursor] = field(default_factory=dict)
    resting: Resting | None = None


def read_position(path: Path) -> Position:
    """What an earlier process left; an empty one when there is none or it makes no sense."""
    try:
        stored = json.loads(path.read_bytes())
        cursors = {
            str(name): Cursor(int(number), int(at)) for name, (number, at) in stored["cursors"].items()
        }
        rest = stored["file"]
        resting = Resting(str(rest[0]), int(rest[1]), float(rest[2])) if rest else None
    except FileNotFoundError:
        return Position()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        log.warning("file=%s event=position-unreadable error=%s", path, error)
        return Position()
    return Position(cursors, resting)


def write_position(path: Path, cursors: Mapping[str, Cursor], resting: Resting | None) -> None:
    """Keep it: on disk, whole or not at all. OSError when it can't be written."""
    text = json.dumps({"cursors": cursors, "file": resting}).encode()
    temporary = path.with_name(path.name + "~")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o600)
    try:
        os.write(descriptor, text)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(temporary, path)
    sync_directory(path.parent)
