"""What is secret in a configuration: which values nothing that we print may show, and which files hold them.

Passwords stand in the configuration itself, private keys in files that it names. Whether others may read
those files is looked at by `lint` when the operator asks (`mta check`), and at each start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mta.config.problems import Origin, Problem, Severity

if TYPE_CHECKING:
    from mta.config.snapshot import Snapshot

__all__ = ["MASK", "masked", "open_secrets"]

#: What stands in place of a secret.
MASK: Final = "****"

#: Directives whose values are secret.
_SECRET: Final = frozenset(
    {"password", "auth-password", "http-api-key", "api-key", "access-token", "volume-audit-api-key"}
)
#: `FILE [PASSWORD]`: the file has a private key in it, and the rest of the line is secret.
_KEY_FILES: Final = frozenset({"smtp-server-tls-certificate", "tls-certificate", "smtp-client-certificate"})


def masked(name: str, text: str) -> str:
    """The text of the directive `name` as it may be shown."""
    if name in _SECRET:
        return MASK if text else text
    if name in _KEY_FILES:
        file, blank, password = _split(text)
        return f"{file} {MASK}" if blank and password else text
    return text


def open_secrets(snapshot: Snapshot, is_open_to_all: Callable[[Path], bool]) -> Iterator[Problem]:
    """A warning for each password and private key that every user of the machine can read, at its line."""
    directory = snapshot.files[0].parent if snapshot.files else Path()
    for line in snapshot.written:
        name, origin = line.directive.name, line.origin
        has_password = name in _KEY_FILES and masked(name, line.value) != line.value
        if (name in _SECRET or has_password) and is_open_to_all(origin.file):
            yield _warning(origin, f"every user can read this file, and {line.name} in it")
        if name in _KEY_FILES:
            path = directory / _split(line.value)[0].strip('"')
            if is_open_to_all(path):
                yield _warning(origin, f"every user can read {path}, which holds a private key")
    for name in snapshot.vmtas:
        for key in snapshot.domain_keys(name):
            if not key.path.startswith("{") and is_open_to_all(Path(key.path)):
                yield _warning(key.origin, f"every user can read the private key {key.path}")


def _split(text: str) -> tuple[str, str, str]:
    """File, blank and password of `FILE [PASSWORD]`; the file may be quoted."""
    if text.startswith('"'):
        end = text.find('"', 1) + 1
        return (text[:end], text[end : end + 1], text[end + 1 :].strip()) if end else (text, "", "")
    file, blank, password = text.partition(" ")
    return file, blank, password.strip()


def _warning(origin: Origin, text: str) -> Problem:
    return Problem(origin.file, origin.line, Severity.WARNING, text, "chmod o-rwx it")
