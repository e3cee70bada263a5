"""Follows an accounting file as it is written, from one numbered file into the next."""

from __future__ import annotations

import csv
import io
from pathlib import Path

__all__ = ["AccountingTail"]


class AccountingTail:
    """`read()` adds what is new to `records`; `target` is the name in the configuration (`acct.csv`)."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.records: list[dict[str, str]] = []
        self._offsets: dict[Path, int] = {}
        self._columns: dict[Path, list[str]] = {}

    def read(self) -> int:
        """Take up whole new lines; returns how many records there were."""
        before = len(self.records)
        for path in sorted(self.target.parent.glob(f"{self.target.stem}-*{self.target.suffix}")):
            self._read_file(path)
        return len(self.records) - before

    def _read_file(self, path: Path) -> None:
        with path.open("rb") as file:
            file.seek(self._offsets.get(path, 0))
            data = file.read()
        end = data.rfind(b"\n") + 1
        if not end:
            return
        self._offsets[path] = self._offsets.get(path, 0) + end
        for row in csv.reader(io.StringIO(data[:end].decode("utf-8", "replace"), newline="")):
            columns = self._columns.setdefault(path, row)
            if columns is not row:
                self.records.append(dict(zip(columns, row, strict=False)))
