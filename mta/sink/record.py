"""What the mock receiver writes down: one CSV line per accepted recipient.

    id,sender,recipient,client,greeting,connection,size,digest,messageId

`digest` is the SHA-256 of the message's body (what follows the empty line), with the dots of the wire taken
out again: it equals that of the body as it was sent, whatever header lines were added on the way.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mta.sink.counters import Delivery

__all__ = ["FIELDS", "Record", "Recorder", "body_digest", "body_of", "read_record"]

FIELDS = ("id", "sender", "recipient", "client", "greeting", "connection", "size", "digest", "messageId")
#: Written lines are handed to the system in pieces of this size, and whenever `flush` is called.
BUFFER = 256 * 1024


class Record(NamedTuple):
    """One line, as read back."""

    id: str
    sender: str
    recipient: str
    client: str
    greeting: str
    connection: int
    size: int
    digest: str
    message_id: str


def body_of(data: bytes) -> bytes:
    """The body of a message in wire form, without the dots that the wire doubles."""
    start = data.find(b"\r\n\r\n")
    body = data[start + 4 :] if start >= 0 else b""
    if body[:2] == b"..":
        body = body[1:]
    return body.replace(b"\r\n..", b"\r\n.")


def body_digest(body: bytes) -> str:
    """What the `digest` column holds for this body (hexadecimal, 16 octets)."""
    return hashlib.sha256(body).hexdigest()[:32]


def message_id_of(data: bytes) -> str:
    """The Message-ID header's value, "" without one."""
    header = b"\r\n" + data[: max(data.find(b"\r\n\r\n"), 0)] + b"\r\n"
    start = header.lower().find(b"\r\nmessage-id:")
    if start < 0:
        return ""
    value = header[start + 14 : header.find(b"\r\n", start + 2)]
    return value.strip().decode("utf-8", "replace")


class Recorder:
    """Writes the lines; give `write` to the receiver as `delivered`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="", buffering=BUFFER)
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(FIELDS)

    def write(self, delivery: Delivery) -> None:
        """Note one message. OSError when the disk is full."""
        digest = body_digest(body_of(delivery.data))
        message_id = message_id_of(delivery.data)
        for recipient in delivery.recipients:
            self._writer.writerow(
                (
                    delivery.id,
                    delivery.sender,
                    recipient,
                    delivery.client,
                    delivery.greeting,
                    delivery.connection,
                    delivery.size,
                    digest,
                    message_id,
                )
            )

    def flush(self) -> None:
        """Make what was written visible to readers."""
        self._file.flush()

    def close(self) -> None:
        """Write the rest and close."""
        self._file.close()


def read_record(path: Path) -> Iterator[Record]:
    """The lines of a record file; a half-written last line is left out."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        next(lines, None)
        for line in lines:
            if len(line) == len(FIELDS):
                id_, sender, recipient, client, greeting, connection, size, digest, message_id = line
                yield Record(
                    id_, sender, recipient, client, greeting, int(connection), int(size), digest, message_id
                )
