"""Where something was written, and what is wrong with it."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Origin", "Problem", "Problems", "Severity"]


@dataclass(frozen=True, slots=True)
class Origin:
    """The place of a line: file, line number (from 1) and the blocks around it, outermost first."""

    file: Path
    line: int
    block: str = ""  #: e.g. "virtual-mta v1 / domain gmail.com"; '' at top level

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Severity(enum.Enum):
    """An error stops the configuration from being used; a warning doesn't."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to tell the operator; `hint` says what to do about it, or is ''."""

    file: Path
    line: int
    severity: Severity
    text: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{place}: {self.severity.value}: {self.text}{hint}"


class Problems:
    """Collects problems while a configuration is read: everything is reported at once."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def error(self, origin: Origin, text: str, hint: str = "") -> None:
        self._found.append(Problem(origin.file, origin.line, Severity.ERROR, text, hint))

    def warning(self, origin: Origin, text: str, hint: str = "") -> None:
        self._found.append(Problem(origin.file, origin.line, Severity.WARNING, text, hint))

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def has_errors(self) -> bool:
        """Whether the configuration can't be used."""
        return any(problem.severity is Severity.ERROR for problem in self._found)

    def in_order(self, files: tuple[Path, ...]) -> tuple[Problem, ...]:
        """Sorted by file (in reading order) and line; exact repeats (macro-made blocks) once."""
        rank = {file: index for index, file in enumerate(files)}
        unique = dict.fromkeys(self._found)
        return tuple(sorted(unique, key=lambda found: (rank.get(found.file, len(rank)), found.line)))
