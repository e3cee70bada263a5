"""What a configuration says about accounting files and the reject log, read once per epoch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from mta.config.settings import Settings
from mta.config.snapshot import AcctFile, Snapshot
from mta.events.accounting import FormatOptions, HeaderMapping, record_type
from mta.events.files import FileOptions
from mta.events.pipe import PipeOptions

__all__ = ["Target", "targets_of"]

_REJECT_TYPES = {"c": "C", "r": "R"}
#: Types that only come with the inbound processors: no events of theirs exist yet.
_NOT_YET = ("rb", "rs", "f")


@dataclass(frozen=True, slots=True)
class Target:
    """One `<acct-file>` or `<rejectlog-file>`: `name` is short, file-system safe and says which."""

    name: str
    shown: str
    format: FormatOptions
    file: FileOptions | None = None
    pipe: PipeOptions | None = None


def targets_of(snapshot: Snapshot) -> tuple[Target, ...]:
    """All targets of a configuration; a target written twice counts once, the later one."""
    found = [acct_target(file) for file in snapshot.acct_files]
    found += [reject_target(file) for file in snapshot.reject_files]
    return tuple({target.name: target for target in found}.values())


def acct_target(file: AcctFile) -> Target:
    """Never raises: a record type or field that means nothing has been reported by the configuration."""
    settings = file.settings
    known = (record_type(name) for name in settings.texts("records"))
    types = tuple(dict.fromkeys(kind for kind in known if kind and kind not in _NOT_YET))
    fields: dict[str, list[str]] = {}
    for line in settings.texts("record-fields"):
        kind, _, entries = line.partition(" ")
        fields.setdefault(record_type(kind), []).extend(entry.strip() for entry in entries.split(","))
    mappings = []
    for line in settings.texts("map-header-to-field"):
        words = line.replace(",", " ").split()
        if len(words) == 3 and words[1].lower().startswith("header_"):
            mappings.append(HeaderMapping(record_type(words[0]), words[1][7:].lower(), words[2]))
    form = FormatOptions(
        types=types,
        fields=fields,
        mappings=tuple(mappings),
        iso_times=settings.boolean("iso-times"),
        user_string=settings.text("user-string"),
    )
    if not file.target.startswith("|"):
        return Target(named("acct", file.target), file.target, form, file=file_options(file.target, settings))
    pipe = PipeOptions(
        command=file.target[1:].strip(),
        retry_interval=settings.interval("retry-interval") or 300.0,
        write_timeout=settings.interval("write-timeout") or 60.0,
    )
    return Target(named("acct", file.target), file.target, form, pipe=pipe)


def reject_target(file: AcctFile) -> Target:
    settings = file.settings
    form = FormatOptions(
        types=tuple(
            _REJECT_TYPES[kind.lower()] for kind in settings.texts("records") if kind.lower() in _REJECT_TYPES
        ),
        iso_times=settings.boolean("iso-times"),
        user_string=settings.text("user-string"),
    )
    return Target(named("reject", file.target), file.target, form, file=file_options(file.target, settings))


def file_options(target: str, settings: Settings) -> FileOptions:
    return FileOptions(
        path=Path(target),
        move_to=settings.path("move-to"),
        interval=settings.interval("move-interval"),
        max_size=settings.size("max-size"),
        delete_after=settings.interval("delete-after"),
        sync=settings.boolean("sync"),
        world_readable=settings.boolean("world-readable"),
    )


def named(kind: str, target: str) -> str:
    """A name for cursors: the same for the same target over restarts and reloads."""
    return f"{kind}-{hashlib.sha256(target.encode()).hexdigest()[:12]}"
