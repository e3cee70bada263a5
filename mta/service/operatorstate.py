"""What an operator did and would hate to lose in a restart: paused queues and the like.

A small SQLite file beside the partition, written through at every change (they are rare). Damaged or of an
unknown shape, it is set aside: mail must flow although somebody has to pause a queue again.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

__all__ = ["OperatorState"]

log = logging.getLogger(__name__)

#: What SQLite says about the content of a file, not about the access to it.
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})


class OperatorState:
    """JSON values by name.

    What an operator does is told to every worker, so a new worker begins with what a `sibling` knows.
    """

    def __init__(self, path: Path, siblings: Iterable[Path] = ()) -> None:
        self._path = path
        if not path.exists():
            inherit(path, siblings)
        try:
            self._open()
        except sqlite3.DatabaseError as failure:
            if failure.sqlite_errorcode & 0xFF not in _DAMAGE:
                # No descriptors, no rights, a failing disk: what cannot be read now may be sound.
                raise OSError(f"{path}: {failure}") from None
            aside = path.with_suffix(".damaged")
            log.error("operator state %s: %s; set aside as %s", path, failure, aside)
            path.replace(aside)
            self._open()

    def __repr__(self) -> str:
        return f"<OperatorState {self._path}>"

    def _open(self) -> None:
        # Written on the loop's thread and closed on it; a thread of its own would be more than it is worth.
        self._database = sqlite3.connect(self._path, isolation_level=None)
        self._path.chmod(0o600)
        try:
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL)"
            )
        except sqlite3.DatabaseError:
            self._database.close()
            raise

    def load(self, name: str) -> dict[str, Any]:
        """The value saved under that name; empty when there is none."""
        row = self._database.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        value = json.loads(row[0]) if row else {}
        return value if isinstance(value, dict) else {}

    def save(self, name: str, value: dict[str, Any]) -> None:
        """Replace the value; on disk when this returns. Raises OSError when it can't be written."""
        try:
            self._database.execute("REPLACE INTO state VALUES (?, ?)", (name, json.dumps(value)))
        except sqlite3.Error as failure:
            raise OSError(f"{self._path}: {failure}") from None

    def close(self) -> None:
        self._database.close()


def inherit(path: Path, siblings: Iterable[Path]) -> None:
    """Copy the first of these databases that there is; one that can't be read is passed over."""
    for sibling in siblings:
        if not sibling.exists():
            continue
        try:
            with closing(sqlite3.connect(sibling)) as source, closing(sqlite3.connect(path)) as copy:
                source.backup(copy)
        except sqlite3.Error as failure:
            log.warning("operator state %s: %s; not taken over", sibling, failure)
            path.unlink(missing_ok=True)
        else:
            return
