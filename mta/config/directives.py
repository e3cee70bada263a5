"""The single table of every directive, and how to ask it.

The parser, the checks, the reference page, the man page and `show settings` all read `TABLE`. The rows are in
`mta.config.table`; this module only indexes them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from mta.config.kinds import Directive, Kind, Scope, Status
from mta.config.table.rows import ROWS

__all__ = ["TABLE", "Directive", "Kind", "Scope", "Status", "Table"]


class Table:
    """Rows by scope and name; immutable once built."""

    def __init__(self, rows: Iterable[Directive]) -> None:
        """Raise ValueError when two rows claim the same name in the same scope."""
        self._rows = tuple(rows)
        self._by_place: dict[tuple[Scope, str], Directive] = {}
        self._by_name: dict[str, list[Directive]] = {}
        for row in self._rows:
            self._by_name.setdefault(row.name, []).append(row)
            for scope in row.scopes:
                if (scope, row.name) in self._by_place:
                    raise ValueError(f"two rows for {row.name!r} in scope {scope.name}")
                self._by_place[scope, row.name] = row

    def __iter__(self) -> Iterator[Directive]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, scope: Scope, name: str) -> Directive | None:
        """The row that `name` (any case) has in `scope`, aliases not followed."""
        return self._by_place.get((scope, name)) or self._by_place.get((scope, name.lower()))

    def resolve(self, scope: Scope, name: str) -> Directive | None:
        """The row whose meaning `name` has in `scope`: aliases are followed."""
        row = self.find(scope, name)
        if row is not None and row.alias_of:
            return self.find(scope, row.alias_of) or row
        return row

    def rows(self, scope: Scope) -> tuple[Directive, ...]:
        """Every row of one scope, in table order."""
        return tuple(row for row in self._rows if scope in row.scopes)

    def scopes(self, name: str) -> frozenset[Scope]:
        """Where `name` may stand; empty when nobody knows it."""
        found: frozenset[Scope] = frozenset()
        for row in self._by_name.get(name.lower(), ()):
            found |= row.scopes
        return found

    def suggest(self, scope: Scope, name: str) -> tuple[str, frozenset[Scope]]:
        """The name that was probably meant by `name`, and where it may stand; names of `scope` come first."""
        known = [row for row in self._rows if row.status is not Status.FOREIGN]
        for rows in ([row for row in known if scope in row.scopes], known):
            close = difflib.get_close_matches(
                name.lower(), {row.name: None for row in rows}, n=1, cutoff=0.75
            )
            if close:
                return close[0], self.scopes(close[0])
        return "", frozenset()


TABLE = Table(ROWS)
