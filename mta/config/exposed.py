"""Which secrets of a configuration every user of the machine can read.

`lint` asks when the operator does (`mta check`), and the supervisor at each start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mta.config.problems import Origin, Problem, Severity
from mta.config.secrets import is_secret, key_file, masked
from mta.config.snapshot import Snapshot

__all__ = ["open_secrets"]


def open_secrets(snapshot: Snapshot, is_open_to_all: Callable[[Path], bool]) -> Iterator[Problem]:
    """A warning for each password and private key that every user of the machine can read, at its line."""
    directory = snapshot.files[0].parent if snapshot.files else Path()
    for line in snapshot.written:
        name, origin = line.directive.name, line.origin
        file = key_file(name, line.value)
        has_password = bool(file) and masked(name, line.value) != line.value
        if (is_secret(name) or has_password) and is_open_to_all(origin.file):
            yield _warning(origin, f"every user can read this file, and {line.name} in it")
        if file and is_open_to_all(directory / file):
            yield _warning(origin, f"every user can read {directory / file}, which holds a private key")
    for name in snapshot.vmtas:
        for key in snapshot.domain_keys(name):
            if not key.path.startswith("{") and is_open_to_all(Path(key.path)):
                yield _warning(key.origin, f"every user can read the private key {key.path}")


def _warning(origin: Origin, text: str) -> Problem:
    return Problem(origin.file, origin.line, Severity.WARNING, text, "chmod o-rwx it")
