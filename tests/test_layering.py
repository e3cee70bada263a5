"""The house stands as drawn: imports point down, pure rooms stay pure, files stay readable."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mta"

#: A package may import from itself and from lower floors; packages on one floor don't know each other.
FLOORS = {
    "errors": 0,
    "clock": 0,
    "smtp": 1,
    "config": 2,
    "message": 3,
    "spool": 4,
    "queue": 4,
    "routing": 4,
    "ingress": 5,
    "delivery": 5,
    "events": 5,
    "service": 6,
    "sink": 7,
    "cli": 8,
}

#: No event loop, sockets or files here; what needs them is named on the right.
PURE = {
    "smtp": set(),
    "message": set(),
    "queue": set(),
    "config": {"files", "reference", "load", "lint"},
}
IMPURE_MODULES = {
    "asyncio",
    "socket",
    "ssl",
    "select",
    "selectors",
    "subprocess",
    "threading",
    "os",
    "shutil",
}

MAX_LINES = 600


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.module or "", node.lineno


def at_import_time(path: Path) -> Iterator[str]:
    """What the module imports as it is loaded: not inside functions, not for type checkers only."""
    todo: list[ast.stmt] = list(ast.parse(path.read_text()).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            todo += node.body + node.orelse
        elif isinstance(node, ast.Try):
            todo += node.body + node.orelse + node.finalbody
            for handler in node.handlers:
                todo += handler.body


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_only_point_down(path: Path) -> None:
    parts = name_of(path).split(".")
    if len(parts) < 2 or parts[1] == "__main__":
        return
    own = parts[1]
    for target, line in imported(path):
        if not target.startswith("mta."):
            continue
        other = target.split(".")[1]
        assert other == own or FLOORS[other] < FLOORS[own], f"{path}:{line}: {own} imports {target}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_the_clock_asks_for_the_time(path: Path) -> None:
    if path.name == "clock.py":
        return
    assert "time" not in {target for target, _ in imported(path)}, f"{path} imports time"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_pure_packages_do_no_io(path: Path) -> None:
    parts = name_of(path).split(".")
    if len(parts) < 3 or parts[1] not in PURE or parts[2] in PURE[parts[1]]:
        return
    touched = {target.split(".")[0] for target, _ in imported(path)} & IMPURE_MODULES
    assert not touched, f"{path} imports {touched}"
    assert not any(isinstance(node, ast.AsyncFunctionDef) for node in ast.walk(ast.parse(path.read_text())))


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_files_stay_readable(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines < MAX_LINES, f"{path} has {lines} lines"


def test_no_import_cycles() -> None:
    known = {name_of(path): path for path in modules()}
    edges = {name: {t for t in at_import_time(path) if t in known} for name, path in known.items()}
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert state.get(name) != 1, " → ".join((*trail, name))
        if state.get(name) == 2:
            return
        state[name] = 1
        for target in edges[name]:
            if target != "mta":
                visit(target, (*trail, name))
        state[name] = 2

    for name in known:
        visit(name, ())
