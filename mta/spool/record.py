"""How the spool's files look, byte by byte; pure: bytes in, bytes out.

Every file, accept segment or settle file, begins with one page that holds its header twice (a flipped
bit hits one copy), and goes on with records:

    file      0    header      64 bytes
              2048 header      the same again
              4096 record, record, ... END; what follows END, or the last sound record, means nothing

    header    0    8  magic "MTAspool"
              8    2  version           1
              10   1  kind              1 accept segment, 2 settle file
              11   1  state             1 free, 2 in use
              12   4  number            rises with every use of any file of this kind: the generation
              16   4  salt              random, new with every use
              20   4  spare
              24   8  first             no message that came into the file fresh has a lower id
              32   8  size              bytes of the file
              40   4  check             CRC-32 of bytes 0..40

    record    0    4  check             CRC-32 of everything from byte 4 to the end of the head
              4    4  salt              both as in the file's header: a record of an earlier use of the
              8    4  number            file, or one forged inside a body, is never taken for ours
              12   1  kind              ACCEPT, MOVED, SETTLE, DEFER, RECORD, END
              13   1  spare
              14   2  recipient         its index; ACCEPT and MOVED: how many recipients
              16   4  head length       bytes of the head
              20   8  message           its id; 0 where there is none; END: its own offset in the file
              28      head
                        ACCEPT, MOVED   body length (4), CRC-32 of the body (4), envelope
                        SETTLE          event (may be empty)
                        DEFER           sequence (8), due (8, double), attempts (4), event (may be empty)
                        RECORD          event
              ...     body              ACCEPT and MOVED only; covered by the CRC in the head

All numbers are little-endian. MOVED is an ACCEPT that compaction has written a second time. The body has a
checksum of its own so that an envelope can be read, and believed, without its body. `sequence` rises with
every deferral and survives copying: of two deferrals of one recipient the higher sequence counts, in
whatever order they are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import NamedTuple

from mta.spool.checksum import crc32

__all__ = [
    "ACCEPT_OVERHEAD",
    "DATA_START",
    "FORMAT_VERSION",
    "HEADER_COPIES",
    "HEADER_SIZE",
    "LEAST_HEAD",
    "MAX_MESSAGE",
    "RECORD_SIZE",
    "Deferral",
    "FileHeader",
    "FileKind",
    "FileState",
    "FormatVersionError",
    "RecordKind",
    "body_check",
    "decode_accept_head",
    "decode_deferral",
    "decode_file_header",
    "encode_accept",
    "encode_accepts",
    "encode_deferral",
    "encode_end",
    "encode_file_header",
    "encode_record",
    "encode_records",
    "event_of",
    "is_sound",
    "record_mark",
    "sound_events",
    "unpack_accept",
    "unpack_record",
]

FORMAT_VERSION = 1
HEADER_SIZE = 64
HEADER_COPIES = (0, 2048)
DATA_START = 4096
#: Ids are below this, so that a reference (id and recipient index) fits 64 bits.
MAX_MESSAGE = 1 << 48

_MAGIC = b"MTAspool"
_FILE = struct.Struct("<8sHBBIIIQQ")
_CHECK = struct.Struct("<I")
_REST = struct.Struct("<IIBBHIQ")
_RECORD = struct.Struct("<IIIBBHIQ")
_ACCEPT = struct.Struct("<II")
_ACCEPT_REST = struct.Struct("<IIBBHIQII")  # _REST and _ACCEPT
_DEFER = struct.Struct("<QdI")
#: Check; salt, number and kind as they stand there; head length.
_OUTLINE = struct.Struct("<I9s3xI8x")

RECORD_SIZE = _RECORD.size
#: Bytes of an ACCEPT record beside envelope and body.
ACCEPT_OVERHEAD = RECORD_SIZE + _ACCEPT.size

#: Plain names for what is done to every record.
pack_check, pack_rest, pack_accept, ACCEPT_HEAD = _CHECK.pack, _REST.pack, _ACCEPT_REST.pack, _ACCEPT.size

#: (body length, body check) at the start of an ACCEPT or MOVED head.
unpack_accept = _ACCEPT.unpack_from

#: (check, salt, number, kind, spare, recipient, head length, message) of the record at an offset.
unpack_record = _RECORD.unpack_from


class FileKind(IntEnum):
    """What a file holds."""

    ACCEPT = 1
    SETTLE = 2


class FileState(IntEnum):
    """Whether a file's records count."""

    FREE = 1
    IN_USE = 2


class RecordKind(IntEnum):
    """What a record says; 0 is none of them, so zero filling never reads as a record."""

    ACCEPT = 1
    MOVED = 2
    SETTLE = 3
    DEFER = 4
    RECORD = 5
    END = 6


#: Octets that the head of a record has at least, for the kinds whose head begins with a structure.
LEAST_HEAD: Mapping[RecordKind, int] = MappingProxyType(
    {
        RecordKind.ACCEPT: _ACCEPT.size,
        RecordKind.MOVED: _ACCEPT.size,
        RecordKind.DEFER: _DEFER.size,
    }
)


class FileHeader(NamedTuple):
    """The header of one file."""

    kind: int
    state: int
    number: int
    salt: int
    first: int
    size: int


class Deferral(NamedTuple):
    """When one recipient is tried again; of two, the higher sequence counts. `due` is epoch seconds."""

    sequence: int
    due: float
    attempts: int


class FormatVersionError(ValueError):
    """The file was written by another, probably newer, version of this program."""


def encode_file_header(header: FileHeader) -> bytes:
    """One copy of a file's header, `HEADER_SIZE` bytes."""
    fixed = _FILE.pack(
        _MAGIC,
        FORMAT_VERSION,
        header.kind,
        header.state,
        header.number,
        header.salt,
        0,
        header.first,
        header.size,
    )
    return (fixed + _CHECK.pack(crc32(fixed))).ljust(HEADER_SIZE, b"\0")


def decode_file_header(page: bytes) -> FileHeader | None:
    """The header in a file's first page; None when neither copy is sound.

    When the copies differ (the machine stopped between them) the higher number counts, and of one number
    the free one: only then is nothing in the file needed any more.

    Raises FormatVersionError for a sound header of another version.
    """
    best: FileHeader | None = None
    for at in HEADER_COPIES:
        copy = page[at : at + HEADER_SIZE]
        if len(copy) < HEADER_SIZE or copy[:8] != _MAGIC:
            continue
        fixed = copy[: _FILE.size]
        if _CHECK.unpack_from(copy, _FILE.size)[0] != crc32(fixed):
            continue
        _, version, kind, state, number, salt, _, first, size = _FILE.unpack(fixed)
        if version != FORMAT_VERSION:
            raise FormatVersionError(f"format version {version}, this program reads {FORMAT_VERSION}")
        found = FileHeader(kind, state, number, salt, first, size)
        if best is None or (found.number, -found.state) > (best.number, -best.state):
            best = found
    return best


def record_mark(header: FileHeader) -> bytes:
    """The bytes 4..12 of every record of this use of the file: what to look for behind damage."""
    return struct.pack("<II", header.salt, header.number)


def encode_record(salt: int, number: int, kind: int, recipient: int, message: int, head: bytes) -> bytes:
    """A whole record without a body."""
    covered = pack_rest(salt, number, kind, 0, recipient, len(head), message) + head
    return pack_check(crc32(covered)) + covered


def encode_accept(
    salt: int, number: int, kind: int, recipients: int, message: int, envelope: bytes, size: int, check: int
) -> bytes:
    """An ACCEPT or MOVED record up to its body, which follows as it is.

    `size` and `check` are the body's length and `body_check`.
    """
    head = ACCEPT_HEAD + len(envelope)
    covered = pack_accept(salt, number, kind, 0, recipients, head, message, size, check) + envelope
    return pack_check(crc32(covered)) + covered


def encode_records(
    salt: int, number: int, outcomes: Iterable[tuple[int, int, int, bytes, float]]
) -> list[bytes]:
    """`encode_record` for many: (kind, recipient, message, head, when it was said). Hot path."""
    records: list[bytes] = []
    pack, check_of = pack_rest, crc32
    for kind, recipient, message, head, _ in outcomes:
        covered = pack(salt, number, kind, 0, recipient, len(head), message) + head
        records.append(pack_check(check_of(covered)) + covered)
    return records


def encode_accepts(
    salt: int,
    number: int,
    accepted: Iterable[tuple[int, int, bytes, list[bytes], int, int, int, object, object]],
) -> list[bytes]:
    """`encode_accept` for many, each followed by its body: (message, recipients, envelope, parts of the body,
    its length and check, and three things that are not of the record). Hot path."""
    parts: list[bytes] = []
    pack, check_of, kind = pack_accept, crc32, int(RecordKind.ACCEPT)
    for message, recipients, envelope, body, size, check, _, _, _ in accepted:
        head = ACCEPT_HEAD + len(envelope)
        covered = pack(salt, number, kind, 0, recipients, head, message, size, check) + envelope
        parts.append(pack_check(check_of(covered)) + covered)
        parts += body
    return parts


def encode_end(salt: int, number: int, at: int) -> bytes:
    """The record at offset `at` after which nothing counts; a copy of it elsewhere ends nothing."""
    return encode_record(salt, number, RecordKind.END, 0, at, b"")


def encode_deferral(deferral: Deferral, event: bytes) -> bytes:
    """The head of a DEFER record."""
    return _DEFER.pack(*deferral) + event


def decode_deferral(head: bytes | memoryview) -> Deferral:
    """What the head of a DEFER record says."""
    return Deferral(*_DEFER.unpack_from(head))


def event_of(kind: int, head: bytes) -> bytes:
    """The event in the head of a settle file's record; empty when there is none."""
    if kind == RecordKind.DEFER:
        return head[_DEFER.size :]
    return head if kind in (RecordKind.SETTLE, RecordKind.RECORD) else b""


#: What precedes the event in the head of a record that may have one.
_BEFORE_EVENT: Mapping[int, int] = MappingProxyType(
    {int(RecordKind.SETTLE): 0, int(RecordKind.DEFER): _DEFER.size, int(RecordKind.RECORD): 0}
)


def sound_events(buffer: bytes, mark: bytes, most: int) -> tuple[list[bytes], int]:
    """The events in the sound records that `buffer` begins with, and where these records end.

    For at most so many records, of one file whose `record_mark` is `mark`, that follow one another. It stops
    at anything else: damage, the END, a record that goes on behind the buffer. Hot path of accounting.
    """
    events: list[bytes] = []
    # One look tells that the record is of this file, that its kind may have an event, and where that begins.
    beginning_of = {mark + bytes([kind]): RECORD_SIZE + skip for kind, skip in _BEFORE_EVENT.items()}
    unpack, size, at = _OUTLINE.unpack_from, len(buffer), 0
    for _ in range(most):
        if at + RECORD_SIZE > size:
            break
        check, sort, length = unpack(buffer, at)
        end = at + RECORD_SIZE + length
        if sort not in beginning_of or end > size or crc32(buffer[at + 4 : end]) != check:
            break
        beginning = at + beginning_of[sort]
        if beginning < end:
            events.append(buffer[beginning:end])
        elif beginning > end:
            break  # no record of ours, although its checksum fits
        at = end
    return events, at


def decode_accept_head(head: bytes) -> tuple[int, int, bytes]:
    """Body length, body check and envelope."""
    size, check = _ACCEPT.unpack_from(head)
    return size, check, head[_ACCEPT.size :]


def body_check(body: Sequence[bytes | memoryview]) -> int:
    """CRC-32 over the parts of a body."""
    check = 0
    for part in body:
        check = crc32(part, check)
    return check


def is_sound(buffer: bytes | memoryview, at: int, check: int, end: int) -> bool:
    """Whether the record at `at`, whose head ends at `end`, has the checksum `check`."""
    return crc32(memoryview(buffer)[at + _CHECK.size : end]) == check
