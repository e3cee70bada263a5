"""Every directive of these blocks that is in force is shown at work by a test over real sockets.

Tests say what they show: `@pytest.mark.directive("domain max-smtp-out")`, also as marks of single parameters.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mta.config.directives import TABLE, Scope, Status

TESTS = Path(__file__).resolve().parents[2]
#: Where tests use real sockets.
OVER_SOCKETS = (TESTS / "loopback", TESTS / "system")
SCOPES = (
    Scope.DOMAIN,
    Scope.VIRTUAL_MTA,
    Scope.POOL,
    Scope.SOURCE,
    Scope.SMTP_PATTERN_LIST,
    Scope.MX_ROLLUP_LIST,
)
#: What no setting of these blocks can be blamed for: the blocks in blocks themselves.
NESTED = {"virtual-mta domain", "virtual-mta-pool domain"}


def functions_with_marks() -> Iterator[Any]:
    """The test functions of all files in which the mark occurs."""
    for directory in OVER_SOCKETS:
        for path in sorted(directory.rglob("test_*.py")):
            if "mark.directive" not in path.read_text(encoding="utf-8"):
                continue
            spec = importlib.util.spec_from_file_location(f"shown_{path.stem}", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            yield from (value for name, value in vars(module).items() if name.startswith("test_"))


def places_shown() -> set[str]:
    """All that the marks name, as SCOPE NAME."""
    found: set[str] = set()
    for function in functions_with_marks():
        marks = list(getattr(function, "pytestmark", ()))
        for mark in list(marks):
            if mark.name == "parametrize":
                marks += [inner for value in mark.args[1] for inner in getattr(value, "marks", ())]
        for mark in marks:
            if mark.name == "directive":
                found.update(mark.args)
    return found


def places_in_force() -> set[str]:
    return {
        f"{scope.value} {row.name}"
        for scope in SCOPES
        for row in TABLE.rows(scope)
        if row.status in (Status.IN_FORCE, Status.EXTENSION) and not row.alias_of
    } - NESTED


def test_every_row_in_force_has_a_test_over_sockets() -> None:
    missing = places_in_force() - places_shown()

    assert sorted(missing) == []


def test_no_mark_stands_where_there_are_no_sockets() -> None:
    mark = "mark." + "directive("
    marked = {path for path in TESTS.rglob("*.py") if mark in path.read_text(encoding="utf-8")}
    outside = {path for path in marked if not any(path.is_relative_to(place) for place in OVER_SOCKETS)}

    assert outside - {Path(__file__).resolve()} == set()
    assert [path.name for path in marked - outside if not path.name.startswith("test_")] == []


def test_no_mark_names_what_does_not_exist() -> None:
    known = {f"{scope.value} {row.name}" for row in TABLE for scope in row.scopes}

    assert sorted(places_shown() - known) == []


@pytest.mark.parametrize("scope", SCOPES)
def test_every_block_has_rows_in_force(scope: Scope) -> None:
    assert any(place.startswith(f"{scope.value} ") for place in places_in_force())
