"""Accounting that will not come: records of types that nothing writes yet, and programs that are not there.

`lint` asks; a report that stays away is noticed weeks later.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator

from mta.config.problems import Problem, Severity
from mta.config.snapshot import Snapshot

__all__ = ["missing_programs", "silent_records"]

#: What `records` may name, short and long, although the processing of incoming mail does not exist yet.
_NOT_YET = frozenset({"rb", "remote-bounce", "rs", "remote-status", "f", "feedback-loop", "feedback", "fbl"})


def silent_records(snapshot: Snapshot) -> Iterator[Problem]:
    """A warning for each `records` line of an accounting file that names a type nobody writes."""
    for file in snapshot.acct_files:
        silent = [name for name in file.settings.texts("records") if name.lower() in _NOT_YET]
        origin = file.settings.origin("records")
        if silent and origin is not None:
            text = f"records {', '.join(silent)}: there are no such records yet"
            yield Problem(origin.file, origin.line, Severity.WARNING, text)


def missing_programs(snapshot: Snapshot, has_program: Callable[[str], bool]) -> Iterator[Problem]:
    """A warning for each `<acct-file |COMMAND>` whose program can't be run on this machine."""
    for file in snapshot.acct_files:
        if not file.target.startswith("|"):
            continue
        try:
            program = next(iter(shlex.split(file.target[1:])), "")
        except ValueError:
            program = file.target[1:].strip()
        if not has_program(program):
            origin = file.origin
            text = f"<acct-file {file.target}>: there is no program {program!r} that can be run"
            yield Problem(origin.file, origin.line, Severity.WARNING, text, "its records wait until there is")
