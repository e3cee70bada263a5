"""What holds in one place: directive by directive, with a typed getter for every kind of value.

A `Layer` is what one block wrote. `Settings` is several layers merged, general before specific, over the
defaults of the table. Values were parsed when the configuration was built, so a getter is one or two dict
look-ups; still, code on a hot path should copy what it needs into a policy of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from mta.config.directives import TABLE
from mta.config.kinds import Directive, Kind, Scope, Status
from mta.config.problems import Origin
from mta.config.quoting import unquote
from mta.config.secrets import masked
from mta.config.units import Rate
from mta.config.values import EMPTY, HostPort, NetworkLimit, PatternLimit, list_of, parse_value

__all__ = ["InForce", "Layer", "Setting", "Settings", "WrittenLine", "merge"]


class WrittenLine(NamedTuple):
    """One line of a directive: its text (quotes in place), its value and where it stands."""

    text: str
    value: Any
    origin: Origin

    def __repr__(self) -> str:
        # The text may be a password; whoever wants to see it asks `in_force`.
        return f"<WrittenLine {self.origin}>"


@dataclass(frozen=True, slots=True)
class Setting:
    """One directive as one block (or a merge) has it; the last line counts, except for repeatable ones."""

    directive: Directive
    lines: tuple[WrittenLine, ...]

    @property
    def value(self) -> Any:
        return self.lines[-1].value


#: What one block wrote, by canonical directive name.
Layer = dict[str, Setting]


class InForce(NamedTuple):
    """A row of `show settings`; `origin` is None for a default."""

    name: str
    text: str
    origin: Origin | None


def merge(layers: Iterable[Mapping[str, Setting]]) -> dict[str, Setting]:
    """Later layers win, each directive on its own."""
    merged: dict[str, Setting] = {}
    for layer in layers:
        merged.update(layer)
    return merged


def _defaults(scope: Scope) -> dict[str, tuple[Directive, Any]]:
    found = {}
    for row in TABLE.rows(scope):
        if not row.alias_of and row.status is not Status.FOREIGN:
            empty = EMPTY.get(row.kind, "")
            found[row.name] = (row, empty if row.default is None else parse_value(row, row.default))
    return found


_DEFAULTS: Mapping[Scope, Mapping[str, tuple[Directive, Any]]] = MappingProxyType(
    {scope: MappingProxyType(_defaults(scope)) for scope in Scope}
)

_NUMBERS = frozenset({Kind.INTEGER, Kind.PERCENT, Kind.PORT})
_INTERVALS = frozenset({Kind.INTERVAL, Kind.BOOLEAN_OR_INTERVAL})
_RATES = frozenset({Kind.RATE, Kind.VOLUME_RATE})
_PATHS = frozenset({Kind.FILE, Kind.DIRECTORY})
_LISTS = frozenset({Kind.TEXTS, Kind.ENUMS, Kind.ADDRESSES})


class Settings:
    """A merged view of one scope; immutable.

    Unknown names raise KeyError, getters for another kind TypeError: both are mistakes in this program.
    """

    __slots__ = ("_defaults", "_written", "scope")

    def __init__(self, scope: Scope, written: Mapping[str, Setting]) -> None:
        self.scope = scope
        self._written = written
        self._defaults = _DEFAULTS[scope]

    def boolean(self, name: str) -> bool:
        return bool(self._value(name, frozenset({Kind.BOOLEAN, Kind.BOOLEAN_OR_INTERVAL})))

    def integer(self, name: str) -> int:
        """A number, percentage or port; 0 for `unlimited`, for a word (`auto`) and when nothing is set."""
        value: int = self._value(name, _NUMBERS)
        return value

    def interval(self, name: str) -> float | None:
        """Seconds; None for `never` and when nothing is set."""
        value = self._value(name, _INTERVALS)
        return None if value is None or isinstance(value, bool) else float(value)

    def intervals(self, name: str) -> tuple[float, ...]:
        value: tuple[float, ...] = self._value(name, frozenset({Kind.INTERVALS}))
        return value

    def rate(self, name: str) -> Rate | None:
        """Per-time limit (of bytes for volume rates); None = unlimited."""
        value: Rate | None = self._value(name, _RATES)
        return value

    def size(self, name: str) -> int | None:
        """Bytes; None = unlimited."""
        value: int | None = self._value(name, frozenset({Kind.SIZE}))
        return value

    def host_port(self, name: str) -> HostPort | None:
        value: HostPort | None = self._value(name, frozenset({Kind.HOST_PORT}))
        return value

    def limits(self, name: str) -> tuple[NetworkLimit | PatternLimit, ...]:
        """All lines of a directive that gives networks or patterns a limit of their own."""
        return tuple(line.value for line in self._lines(name) if line.value is not None)

    def daily(self, name: str) -> tuple[int, ...]:
        """Messages per day, day by day; the last one repeats."""
        value: tuple[int, ...] = self._value(name, frozenset({Kind.DAILY}))
        return value

    def text(self, name: str) -> str:
        """The value without its quotes; '' when nothing is set. Of a path: absolute. Of lists: as written."""
        directive, value = self._directive(name), self._raw(name)
        if directive.kind in _PATHS:
            return str(value[0]) if value else ""
        if isinstance(value, str):
            return value
        setting = self._written.get(name)
        return unquote(setting.lines[-1].text) if setting is not None else directive.default or ""

    def texts(self, name: str) -> tuple[str, ...]:
        """Entries of a list, or all lines of a repeatable directive (both at once where both apply)."""
        directive = self._directive(name)
        if not directive.repeatable:
            return list_of(self._raw(name))
        lines = self._lines(name)
        if not lines:
            return list_of(self._raw(name))
        if directive.kind in _LISTS:
            return tuple(entry for line in lines for entry in list_of(line.value))
        if directive.kind in _PATHS:
            return tuple(str(line.value[0]) for line in lines if line.value)
        found = (line.value if isinstance(line.value, str) else unquote(line.text) for line in lines)
        return tuple(text for text in found if text)

    def words(self, name: str) -> tuple[str, ...]:
        """The words of a value of several words (a file and its password, ...)."""
        value: tuple[str, ...] = self._value(name, frozenset({Kind.WORDS, *_PATHS}))
        return value

    def path(self, name: str) -> Path | None:
        """A file or directory, absolute; None when nothing is set."""
        value = self._value(name, _PATHS)
        return Path(value[0]) if value else None

    def is_set(self, name: str) -> bool:
        """Whether somebody wrote it (here or in a more general block)."""
        self._directive(name)
        return name in self._written

    def origin(self, name: str) -> Origin | None:
        """Where the value in force was written; None for a default."""
        self._directive(name)
        setting = self._written.get(name)
        return setting.lines[-1].origin if setting is not None else None

    def in_force(self, *, with_defaults: bool = True) -> Iterator[InForce]:
        """Every directive in table order, one row per line of a repeatable one; secrets are masked."""
        for name, (directive, _value) in self._defaults.items():
            setting = self._written.get(name)
            if setting is not None:
                for line in setting.lines:
                    yield InForce(name, masked(name, line.text) or '""', line.origin)
            elif with_defaults and directive.kind is not Kind.NOTHING:
                yield InForce(name, '""' if directive.default is None else directive.default, None)

    def _directive(self, name: str) -> Directive:
        try:
            return self._defaults[name][0]
        except KeyError:
            place = f"<{self.scope.value}>" if self.scope.value else "the top level"
            raise KeyError(f"{name} is not a directive of {place}") from None

    def _raw(self, name: str) -> Any:
        setting = self._written.get(name)
        return setting.lines[-1].value if setting is not None else self._defaults[name][1]

    def _lines(self, name: str) -> tuple[WrittenLine, ...]:
        self._directive(name)
        setting = self._written.get(name)
        return setting.lines if setting is not None else ()

    def _value(self, name: str, kinds: frozenset[Kind]) -> Any:
        directive = self._directive(name)
        if directive.kind not in kinds:
            raise TypeError(f"{name} is a {directive.kind.name} and can't be read as {_names(kinds)}")
        return self._raw(name)

    def __repr__(self) -> str:
        return f"<Settings of {self.scope.value or 'top level'}: {len(self._written)} written>"


def _names(kinds: frozenset[Kind]) -> str:
    return "/".join(sorted(kind.name for kind in kinds))
