"""A configuration from its files (or from a text) to a snapshot and everything there is to say about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mta.config.build import build
from mta.config.directives import TABLE
from mta.config.files import Reading, Tree, read_tree, tree_of, why_unreadable
from mta.config.problems import Origin, Problem, Problems, Severity
from mta.config.quoting import split_words
from mta.config.snapshot import Snapshot

__all__ = ["Loaded", "Problem", "Severity", "load", "load_text"]


#: Read while the server runs, some of them each time: they may come later.
_LATER_FILES = frozenset(
    {
        "dummy-smtp-blacklist",
        "http-delivery-extra-headers",
        "include-headers-from",
        "precached-domains-file",
        "smtp-client-certificate",
        "smtp-tls-ca-file",
    }
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """`snapshot` is None when there are errors; `problems` are in file order, errors and warnings mixed.

    `readable` is what could be read in spite of errors: good for finding the control socket of a server that
    still runs on the configuration before, for warnings about its lines, and for nothing else.
    """

    snapshot: Snapshot | None
    problems: tuple[Problem, ...]
    readable: Snapshot

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity is Severity.ERROR)


def load(path: Path, *, epoch: int = 1, reading: Reading | None = None) -> Loaded:
    """Read the main file and all it includes; never raises for what is in them, or for missing files.

    Relative paths in directives are seen from the directory of the main file. Files that the configuration
    needs (keys, certificates) must exist; one that only this user can't read is a warning.
    A `reading` takes note of what the files say; one that was kept says it in their place.
    """
    path = Path(path).absolute()
    problems = Problems()
    tree = read_tree(path, problems, is_directive=_is_directive, reading=reading)
    return _loaded(tree, path.parent, epoch, problems, why_unreadable)


def load_text(text: str, *, directory: Path = Path("."), epoch: int = 1) -> Loaded:
    """The same for a text that is in no file; files that it refers to are not looked at."""
    problems = Problems()
    directory = Path(directory).absolute()
    tree = tree_of(text, directory, problems, is_directive=_is_directive, name="<text>")
    return _loaded(tree, directory, epoch, problems, None)


def _loaded(
    tree: Tree, directory: Path, epoch: int, problems: Problems, unreadable: Callable[[Path], str] | None
) -> Loaded:
    snapshot = build(tree.nodes, files=tree.files, directory=directory, epoch=epoch, problems=problems)
    if unreadable is not None:
        _check_files(snapshot, problems, unreadable)
        _check_later_files(snapshot, directory, problems, unreadable)
    return Loaded(None if problems.has_errors() else snapshot, problems.in_order(tree.files), snapshot)


def _is_directive(name: str) -> bool:
    return bool(TABLE.scopes(name))


def _check_files(snapshot: Snapshot, problems: Problems, unreadable: Callable[[Path], str]) -> None:
    """DKIM keys must be there; other files are looked at only where the table says FILE and in force."""
    owners = (snapshot.rules, *snapshot.vmta_rules.values(), *snapshot.pool_rules.values())
    keys = [key for owner in owners for key in owner.keys]
    keys += [key for listed in snapshot.key_lists.values() for key in listed]
    for key in keys:
        if not key.path.startswith("{"):
            _report(Path(key.path), key.origin, problems, unreadable)
    for listener in snapshot.listeners:
        for name in ("tls-certificate", "tls-ca-file"):
            path, origin = listener.settings.path(name), listener.settings.origin(name)
            if path is not None and origin is not None:
                _report(path, origin, problems, unreadable)
    for name in ("smtp-server-tls-certificate", "smtp-server-tls-ca-file", "dsn-failed-body-template-from"):
        path, origin = snapshot.top.path(name), snapshot.top.origin(name)
        if path is not None and origin is not None:
            _report(path, origin, problems, unreadable)


def _check_later_files(
    snapshot: Snapshot, directory: Path, problems: Problems, unreadable: Callable[[Path], str]
) -> None:
    """Files that are opened when they are needed: the server starts without them, and mail waits."""
    for line in snapshot.written:
        words = split_words(line.value) if line.directive.name in _LATER_FILES else ()
        reason = unreadable(directory / words[0]) if words and words[0] else ""
        if reason:
            problems.warning(line.origin, f"cannot read {directory / words[0]}: {reason}", "")


def _report(path: Path, origin: Origin, problems: Problems, unreadable: Callable[[Path], str]) -> None:
    reason = unreadable(path)
    if reason == "permission denied":
        problems.warning(origin, f"{path} can't be read by this user", "the server must be able to read it")
    elif reason:
        problems.error(origin, f"cannot read {path}: {reason}")
