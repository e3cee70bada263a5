"""One directive line into a layer: row found, alias followed, macros expanded, value checked."""

from __future__ import annotations

import posixpath
from pathlib import Path
from types import MappingProxyType

from mta.config.directives import TABLE
from mta.config.draft import Draft
from mta.config.kinds import Directive, Kind, Scope, Status
from mta.config.macros import Macros
from mta.config.problems import Origin, Problems
from mta.config.quoting import unquote
from mta.config.settings import Layer, Setting, WrittenLine
from mta.config.snapshot import Written
from mta.config.syntax import Line
from mta.config.values import parse_value

__all__ = ["Assigner", "place_name"]

#: Kinds whose values may use macros.
_WITH_MACROS = frozenset({Kind.DOMAIN_PATTERN, Kind.PATTERN_INTEGER})

#: Values that circulate in files but were never PowerMTA's, and what to write instead.
_FOREIGN_VALUES = MappingProxyType({("records", "all"): "list the types, as in records d, b, t"})

#: Blocks in which a directive of <domain> is taken for one of <domain *>, with a warning.
_HOLDS_DOMAINS = frozenset({Scope.GLOBAL, Scope.VIRTUAL_MTA, Scope.POOL})


class Assigner:
    """Checks lines and files them; shared by all blocks of one build."""

    def __init__(self, draft: Draft, macros: Macros, problems: Problems, directory: Path) -> None:
        self._draft = draft
        self._macros = macros
        self._problems = problems
        self._directory = directory

    def take(self, scope: Scope, line: Line, origin: Origin, layer: Layer) -> Directive | None:
        """File one line in `layer`; None when it is unusable or not obeyed (it was then reported)."""
        row = TABLE.find(scope, line.name)
        if row is None:
            self._refuse(scope, line.name, origin)
            return None
        self._draft.written.append(Written(line.name, row, scope, line.value, origin))
        if row.status is Status.FOREIGN:
            self._problems.warning(
                origin, f"{row.name} is not a PowerMTA directive and is not obeyed", row.hint
            )
            return None
        if (row.name, line.value.lower()) in _FOREIGN_VALUES:
            hint = _FOREIGN_VALUES[row.name, line.value.lower()]
            self._problems.warning(origin, f"{row.name} {line.value} means nothing and is not obeyed", hint)
            return None
        if row.alias_of and row.status is Status.EXTENSION:
            self._problems.warning(origin, f"{row.name} is obeyed as {row.alias_of}", row.hint)
        try:
            target, texts = self._resolved(row, scope, line.value)
            for text in texts:
                self._file(target, text, origin, layer)
        except ValueError as error:
            self._problems.error(origin, _sentence(row.name, str(error)), _unit_hint(row))
            return None
        return target

    def repeat(self, scope: Scope, line: Line, origin: Origin, layer: Layer) -> None:
        """File a line that `take` has accepted once more, without reporting or noting it again."""
        row = TABLE.find(scope, line.name)
        if row is not None:
            target, texts = self._resolved(row, scope, line.value)
            for text in texts:
                self._file(target, text, origin, layer)

    def note(self, scope: Scope, line: Line, origin: Origin) -> None:
        """Remember that a line was written whose value is read elsewhere."""
        row = TABLE.find(scope, line.name)
        if row is not None:
            self._draft.written.append(Written(line.name, row, scope, line.value, origin))

    def knows(self, scope: Scope, name: str) -> bool:
        return TABLE.find(scope, name) is not None

    def belongs_in_domain(self, scope: Scope, name: str) -> bool:
        """Whether `name`, unknown in `scope`, is one of <domain> that `scope` can hold a <domain *> for."""
        return scope in _HOLDS_DOMAINS and not self.knows(scope, name) and self.knows(Scope.DOMAIN, name)

    def expand(self, text: str) -> tuple[str, ...]:
        """The texts that `text` stands for; ValueError for unknown macros."""
        return self._macros.expand(text) if self._macros.is_used_in(text) else (text,)

    def _resolved(self, row: Directive, scope: Scope, raw: str) -> tuple[Directive, tuple[str, ...]]:
        """The row that counts and the texts for it: an alias's value in the words of its target."""
        if row.kind in _WITH_MACROS:
            return row, self.expand(raw)
        if not row.alias_of:
            return row, (raw,)
        value = parse_value(row, raw)
        target = TABLE.resolve(scope, row.name) or row
        if row.alias_value == "{}":
            return target, (raw,)
        is_off = value == 0 and row.alias_value.startswith("{}")
        return target, ("0" if is_off else row.alias_value.format(unquote(raw)),)

    def _file(self, row: Directive, text: str, origin: Origin, layer: Layer) -> None:
        value = parse_value(row, text)
        if row.kind in (Kind.FILE, Kind.DIRECTORY) and value:
            value = (self.absolute(value[0]), *value[1:])
        written = WrittenLine(text, value, origin)
        earlier = layer.get(row.name)
        if row.repeatable and earlier is not None and text != '""' and earlier.lines[-1].text != '""':
            layer[row.name] = Setting(row, (*earlier.lines, written))
        else:
            layer[row.name] = Setting(row, (written,))

    def absolute(self, name: str) -> str:
        """`name` seen from the directory of the main file; commands and vault names stay as they are."""
        if name.startswith(("|", "{")) or name[1:3] == ":\\":
            return name
        return posixpath.normpath(self._directory / name)

    def _refuse(self, scope: Scope, name: str, origin: Origin) -> None:
        elsewhere = TABLE.scopes(name)
        if elsewhere:
            places = " or ".join(sorted(place_name(other) for other in elsewhere))
            self._problems.error(
                origin, f"{name} doesn't belong {_inside(scope)}", f"it is a directive of {places}"
            )
            return
        close, places_of_it = TABLE.suggest(scope, name)
        hint = f"did you mean {close}?" if close else ""
        if close and scope not in places_of_it and not self.belongs_in_domain(scope, close):
            hint = f"did you mean {close}, in {' or '.join(sorted(map(place_name, places_of_it)))}?"
        self._problems.error(origin, f"unknown directive {name} {_inside(scope)}", hint)


def place_name(scope: Scope) -> str:
    """How messages call a scope."""
    return f"<{scope.value}>" if scope.value else "the top level"


def _inside(scope: Scope) -> str:
    return f"in <{scope.value}>" if scope.value else "at the top level"


def _sentence(name: str, text: str) -> str:
    return text if text.startswith(name) else f"{name}: {text}"


def _unit_hint(row: Directive) -> str:
    return f"{row.name} takes: {', '.join(row.choices)}" if row.choices and row.kind is Kind.ENUM else ""
