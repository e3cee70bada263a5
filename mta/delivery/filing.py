"""`type file`: messages as files on this machine. Blocking: for threads.

A file is written under a name that ends in `.tmp`, synced, and then gets its own; it never replaces another.
A mailbox in mbox form is locked while something is added to it. Everything is on the disk at the end.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

from mta.message.envelope import Envelope

__all__ = ["append_to_mailbox", "pickup_head", "plain_text", "write_new_file"]

_FROM = re.compile(rb"^(>*From )", re.MULTILINE)


def plain_text(wire: bytes) -> bytes:
    """A message with line ends of this machine and single dots."""
    text = wire.replace(b"\r\n.", b"\r\n")
    if text.startswith(b"."):
        text = text[1:]
    return text.replace(b"\r\n", b"\n")


def pickup_head(envelope: Envelope, index: int) -> bytes:
    """The headers that make a pickup file of a message."""
    lines = [f"x-sender: {envelope.originator or '<>'}", f"x-receiver: {envelope.recipients[index].address}"]
    if envelope.envelope_id:
        lines.append(f"x-envid: {envelope.envelope_id}")
    if envelope.job_id:
        lines.append(f"x-job: {envelope.job_id}")
    return "".join([line + "\n" for line in lines]).encode("utf-8")


def write_new_file(destination: str, name: str, content: bytes) -> Path:
    """Write a file at `destination`, or, when that is a directory, under `name` in it. Raises OSError."""
    path = Path(destination)
    if destination.endswith("/") or path.is_dir():
        path = path / f"{name}.msg"
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    temporary = path.with_name(f".{name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        target, number = path, 0
        while True:
            try:
                os.link(temporary, target)
                break
            except FileExistsError:
                number += 1
                target = path.with_name(f"{path.name}.{number}")
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)
    return target


def append_to_mailbox(destination: str, sender: str, when: str, content: bytes) -> Path:
    """Add a message to a mailbox file. Raises OSError, and then the mailbox is as it was."""
    path = Path(destination)
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    entry = f"From {sender or 'MAILER-DAEMON'} {when}\n".encode() + _FROM.sub(rb">\1", content)
    entry += b"\n" if entry.endswith(b"\n") else b"\n\n"
    with path.open("ab") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        size = os.fstat(file.fileno()).st_size
        try:
            file.write(entry)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), size)
            raise
    _sync_directory(path.parent)
    return path


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
