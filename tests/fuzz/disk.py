"""What is read back from the disk or from a colleague: damage must cost what it hits, and nothing else."""

from __future__ import annotations

import atexit
import contextlib
import shutil
import struct
import tempfile
from collections.abc import Hashable
from functools import cache
from pathlib import Path

from mta.errors import RemoteProtocolError, SpoolCorrupt, SpoolError
from mta.message.envelope import decode_envelope, encode_envelope
from mta.message.event import Event, decode_event, encode_event
from mta.service.share import FrameReader, decode_head, encode_answer, encode_header
from mta.spool.inspect import Inspection
from mta.spool.record import (
    DATA_START,
    Deferral,
    FileHeader,
    FormatVersionError,
    RecordKind,
    decode_file_header,
    encode_accept,
    encode_deferral,
    encode_file_header,
    encode_record,
    event_of,
)
from mta.spool.scan import HOLE, Scanner
from mta.spool.settlelog import Cursor, EventReader, read_cursor
from tests.fuzz.target import Target, pieces
from tests.support.spool import Spool, envelope

__all__ = ["TARGETS"]

_PATCH = struct.Struct("<HH")
SALT, NUMBER = 77, 3


@cache
def workplace() -> Path:
    """A directory of this process, in memory where there is one."""
    shared = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(prefix="mta-fuzz-", dir=shared if shared.is_dir() else None))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


@cache
def original() -> dict[str, bytes]:
    """The files of a small spool whose process was killed, by their names below it."""
    directory = workplace() / "original"
    spool = Spool(directory, segment_size=8 << 10, settle_size=8 << 10)
    for number in range(4):
        spool.put(f"body {number}\r\n".encode() * 20, name=f"m{number}", recipients=1 + number % 2)
    first, second = spool.answers[0][0], spool.answers[1][0]
    spool.settle(first, event=encode_event(Event("d", "e1", 1.0)))
    spool.partition.defer(second, 1, attempts=3, due=777.0, event=encode_event(Event("t", "e2", 1.0)))
    spool.flush()
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def patched(data: bytes) -> dict[str, bytes]:
    """The spool with pieces of the input written over it: file and offset, length, octets, and again."""
    files = {name: bytearray(content) for name, content in original().items()}
    names = list(files)
    position = 0
    while position + _PATCH.size <= len(data):
        where, length = _PATCH.unpack_from(data, position)
        position += _PATCH.size
        content = files[names[where % len(names)]]
        # Most of a file is header page and empty room: the records are where things happen.
        offset = where // len(names) % 2048
        offset = DATA_START + offset if length & 0x8000 and len(content) > DATA_START else offset
        piece = data[position : position + length % 64]
        position += len(piece)
        if length & 0x4000:
            del content[offset + len(piece) :]
        content[offset : offset + len(piece)] = piece
    return {name: bytes(content) for name, content in files.items()}


def run_recovery(data: bytes) -> Hashable:
    """A partition opens on any damage, or says why not, and gives out no message that was changed."""
    directory = workplace() / "patched"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    for name, content in patched(data).items():
        path = directory / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(content)
    reader = EventReader(directory)
    try:
        events, _ = reader.read(Cursor(), 100)
        for event in events:
            decode_event(event)
    except (SpoolError, ValueError):
        pass
    finally:
        reader.close()
    read_cursor(directory)
    try:
        spool = Spool(directory, segment_size=8 << 10, settle_size=8 << 10, memory_pool=0)
    except SpoolError as error:
        return str(type(error))
    found = []
    try:
        for one in spool.partition.recovered():
            try:
                stored = spool.partition.load(one.message)
            except SpoolCorrupt:
                continue
            number = one.envelope.queue_id[1:]
            assert stored.body == f"body {number}\r\n".encode() * 20, one
            found.append(one.envelope.queue_id)
        spool.put(b"one more\r\n", name="more")
        assert spool.flush() is None
    finally:
        spool.partition.close()
    with Inspection(directory) as inspection:
        list(inspection.messages())
        inspection.verify()
    assert len(set(found)) == len(found)
    return tuple(found)


HEADER = FileHeader(1, 2, NUMBER, SALT, 1, 1 << 14)


def run_scan(data: bytes) -> Hashable:
    """Records with right checksums and any content, mixed with what is none, read forward once."""
    content = bytearray(DATA_START)
    sound = 0
    position = 0
    while position + 2 <= len(data):
        what, size = data[position], data[position + 1]
        piece = data[position + 2 : position + 2 + size]
        position += 2 + size
        if what & 0x80:
            content += piece
            continue
        sound += 1
        content += encode_record(SALT, NUMBER, what % 8, what, int.from_bytes(piece[:6], "big"), piece)
    whole = bytes(content) + bytes(64)
    at = DATA_START
    records = 0
    for bodies in (False, True):
        at = DATA_START
        scanner = Scanner(lambda length, at: whole[at : at + length], HEADER, len(whole), bodies=bodies)
        for kind, begins, _recipient, _message, head, follow in scanner:
            assert begins >= at
            assert at < follow <= len(whole)
            at = follow
            records += kind != HOLE
            event_of(kind, bytes(head))
            if kind == RecordKind.ACCEPT:
                assert len(head) >= 8 or kind
        assert scanner.end <= len(whole)
    with contextlib.suppress(FormatVersionError):
        decode_file_header(data[:4096])
    return records, sound


def run_envelope(data: bytes) -> Hashable:
    try:
        found = decode_envelope(data)
    except ValueError as error:
        return str(error)[:24]
    assert encode_envelope(found) == encode_envelope(decode_envelope(encode_envelope(found)))
    return len(found.recipients)


def run_event(data: bytes) -> Hashable:
    try:
        found = decode_event(data)
    except ValueError as error:
        return str(error)[:24]
    assert encode_event(found) == encode_event(decode_event(encode_event(found)))
    return found.type


def run_share(data: bytes) -> Hashable:
    """Frames between workers, in any pieces."""
    runs = []
    for segments in ([data], list(pieces(data))):
        reader = FrameReader()
        frames = []
        broken = False
        for segment in segments:
            try:
                frames += list(reader.feed(segment))
            except RemoteProtocolError:
                broken = True
                break
        for frame in frames:
            try:
                decode_head(frame.head)
            except ValueError:
                continue
        runs.append((len(frames), broken))
    assert runs[0][1] == runs[1][1]
    assert runs[0][1] or runs[0] == runs[1]
    return runs[0]


ENVELOPE = envelope("m", 2)
EVENT = encode_event(Event("d", "e1", 1.0, dsn_diag="smtp;250 ok", captured={"subject": "x"}))
ACCEPT = encode_accept(SALT, NUMBER, RecordKind.ACCEPT, 1, 9, ENVELOPE, 4, 0)
DEFER = encode_deferral(Deferral(1, 2.0, 3), EVENT)


TARGETS = (
    Target(
        "recovery",
        run_recovery,
        (
            _PATCH.pack(0, 0x8005) + b"\xff" * 5,
            _PATCH.pack(1, 0x4002) + b"ab",
            _PATCH.pack(7, 0x8010) + b"\0" * 16,
        ),
        (b"MTAspool", b"\0\0\0\0", b"\xff\xff\xff\xff"),
        400,
    ),
    Target(
        "records",
        run_scan,
        (
            b"\x01\x10" + b"x" * 16 + b"\x83\x04abcd" + b"\x05\x00",
            b"\x04" + bytes([len(DEFER[:200])]) + DEFER[:200],
            bytes([0x81, min(len(ACCEPT), 255)]) + ACCEPT[:255],
            encode_file_header(HEADER),
        ),
        (struct.pack("<II", SALT, NUMBER), b"MTAspool"),
        1500,
    ),
    Target(
        "envelope-decode", run_envelope, (ENVELOPE, envelope("q", 1, 30)), (b"\x93", b"\xcb", b"\xa0"), 600
    ),
    Target("event-decode", run_event, (EVENT,), (b"\xa1d", b"\xcb", b"\xde"), 600),
    Target(
        "shares",
        run_share,
        (encode_answer(2, 1, "x") * 3, encode_header(1, 7, 5, 4) + b"\x92\xc4\x01a\x90" + b"body"),  # type: ignore[arg-type]
        (encode_header(1, 1, 0, 0),),  # type: ignore[arg-type]
        1200,
    ),
)
