"""What the files of a partition say, read from the beginning: accepted minus settled.

Accept segments come first: each sound ACCEPT or MOVED record is a row of the index. Then the settle files:
each SETTLE takes one recipient away, of each recipient's deferrals the latest counts. Reading changes
nothing on disk, so it also serves the tools that look at a spool beside a running daemon; the damage that
it meets is listed for the caller to put into quarantine.

A file without an END record was being written when the process stopped: there the bodies are checked as
well, and a record that doesn't check out at its end was never acknowledged, unless the marks say so.
"""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter
from pathlib import Path

from mta.errors import SpoolError
from mta.spool.deferrals import Deferrals
from mta.spool.files import Files
from mta.spool.index import Index
from mta.spool.marks import MarksRead, Position, read_marks
from mta.spool.quarantine import Damage
from mta.spool.record import (
    DATA_START,
    RECORD_SIZE,
    FileHeader,
    FileKind,
    FileState,
    FormatVersionError,
    RecordKind,
    decode_deferral,
    decode_file_header,
    is_sound,
    unpack_record,
)
from mta.spool.scan import HOLE, Found, Scanner
from mta.spool.segment import Segment
from mta.spool.shelf import DiskShelf

__all__ = ["ACCEPT_FOLDER", "SETTLE_FOLDER", "Survey", "open_files", "scan_file", "survey"]

logger = logging.getLogger(__name__)

ACCEPT_FOLDER = "segments"
SETTLE_FOLDER = "settle"
_message_of = itemgetter(3)
#: What the kernel says about things that are no files of ours: links, directories, pipes, or already gone.
_NOT_OURS = frozenset({None, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENOENT, errno.ENODEV})
#: So far behind a damaged header a sound record is looked for.
_SALVAGE_BYTES = 1 << 20
#: So many rows are given to the index in one go, and so many of moved messages: those it must sort.
_MANY, _MANY_MOVED = 1 << 13, 1 << 16


@dataclass
class Survey:
    """What was found. Files are in the order of their numbers; `unsealed` lack an END record."""

    index: Index
    deferrals: Deferrals
    accepts: list[Segment]
    settles: list[Segment]
    unsealed: list[Segment] = field(default_factory=list)
    damage: list[tuple[Segment, Damage]] = field(default_factory=list)
    #: (file, offset): records with a sound head and a damaged body among others, in an unsealed file
    voids: list[tuple[Segment, int]] = field(default_factory=list)
    highest_message: int = 0
    #: files that may be ours and can't be understood: their numbers and ids may be in use
    ignored: int = 0
    #: where what is too much for memory lies
    shelf: DiskShelf | None = None

    def close(self) -> None:
        if self.shelf is not None:
            self.shelf.close()
        _close_all([*self.accepts, *self.settles])


def open_files(files: Files, folder: Path, kind: FileKind, *, write: bool) -> tuple[list[Segment], int]:
    """The spool files in a folder by number, free ones (number as last used) included; and how many are
    left out that may be ours.

    What isn't ours is left alone with a warning. Raises SpoolError for a file of another format version, and
    for one that can't be opened now (no descriptors, no rights): to go on without it could lose its mail.
    """
    found: list[Segment] = []
    ignored = 0
    try:
        for path in _paths(folder):
            segment = _open(files, path, kind, write=write)
            if segment is None:
                continue
            found.append(segment)
            if not _identify(segment, kind):
                logger.error("spool file ignored path=%s why='no sound header and no sound record'", path)
                files.close(found.pop().descriptor)
                ignored += 1
        _put_twins_aside(found, write=write)
    except BaseException:
        _close_all(found)
        raise
    return found, ignored


def _close_all(segments: Iterable[Segment]) -> None:
    for segment in segments:
        segment.files.close(segment.descriptor)


def _paths(folder: Path) -> Iterator[Path]:
    """The files in a folder that have names of ours, in the order of these."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except FileNotFoundError:
        return
    for name in names:
        if name.isdigit():
            yield folder / name
        else:
            logger.warning("spool file ignored path=%s why='not a name of ours'", folder / name)


def _open(files: Files, path: Path, kind: FileKind, *, write: bool) -> Segment | None:
    """A file as if it were free; None for what is none of ours. SpoolError when it can't be opened now."""
    try:
        descriptor = files.open(path, write=write)
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise SpoolError(f"{path}: {error.strerror}") from error
        logger.warning("spool file ignored path=%s why=%r", path, str(error))
        return None
    try:
        size = files.size(descriptor)
    except BaseException:
        files.close(descriptor)
        raise
    return Segment(files, path, descriptor, FileHeader(kind, FileState.FREE, 0, 0, 0, size), size)


def _identify(segment: Segment, kind: FileKind) -> bool:
    """Give a file its header; False when it has none, and may hold something for all that.

    Raises SpoolError for another format version.
    """
    try:
        header = decode_file_header(segment.read_past_damage(DATA_START, 0))
    except FormatVersionError as error:
        raise SpoolError(f"{segment.path}: {error}; it is left as it is") from error
    if header is None:
        header = _header_of_a_record(segment, kind)
    if header is None:
        return _is_blank(segment)
    if header.kind == kind:
        segment.header = header
    return header.kind == kind


def _put_twins_aside(found: list[Segment], *, write: bool) -> None:
    """Sort files by number; of those in one and the same use (somebody has copied one) the soundest stays."""
    found.sort(key=lambda segment: (segment.header.number, -segment.size, segment.path))
    uses = Counter(segment.header[:3] for segment in found if segment.header.state == FileState.IN_USE)
    if any(count > 1 for count in uses.values()):
        found.sort(key=lambda segment: (segment.header.number, -_sound_records(segment)))
    for before, segment in pairwise(tuple(found)):
        if segment.header.state != FileState.IN_USE or before.header[:3] != segment.header[:3]:
            continue
        logger.error("spool file ignored path=%s why='a copy of %s'", segment.path, before.path.name)
        found.remove(segment)
        segment.files.close(segment.descriptor)
        if write:
            os.rename(segment.path, segment.path.with_name(f"{segment.path.name}.copy"))


def _sound_records(segment: Segment) -> int:
    scanner = Scanner(segment.read_past_damage, segment.header, segment.size, bodies=True)
    return sum(record[0] != HOLE for record in scanner)


def scan_file(segment: Segment, found: Survey, known: Position | None) -> list[Found]:
    """All records of a file, holes among them, with `segment.end` set behind them.

    Damage, and the file itself when it has no END, is added to `found`. `known` is how far the series of
    files is known to have been on disk.
    """

    def scan(*, bodies: bool) -> Scanner:
        return Scanner(segment.read_past_damage, segment.header, segment.size, bodies=bodies, heads=False)

    scanner = scan(bodies=False)
    records = list(scanner)
    if not scanner.is_sealed:
        scanner = scan(bodies=True)
        records = list(scanner)
        found.unsealed.append(segment)
    elif _is_suspect(records):
        # Parts of the file may have strayed to another place in it: only whole messages count.
        records = list(scan(bodies=True))
    segment.end = scanner.end
    if not scanner.is_sealed and records and records[-1][0] == HOLE:
        segment.end = records[-1][1]
    here = segment.number
    for kind, at, _, _, head, follow in records:
        if kind == HOLE and head and at < segment.end:
            found.voids.append((segment, at))
        # Torn by the crash, never acknowledged: nothing to keep.
        is_torn = not scanner.is_sealed and known is not None and Position(here, at) >= known
        if kind == HOLE and not is_torn:
            found.damage.append((segment, Damage(segment.path, here, at, follow, "checksum does not match")))
    if not scanner.is_sealed and known is not None and here == known.number and scanner.end < known.at:
        text = "records that had been acknowledged are missing"
        found.damage.append((segment, Damage(segment.path, here, scanner.end, known.at, text)))
    elif not scanner.is_sealed and known is None and scanner.begins_record(scanner.end):
        text = "the last record is incomplete"
        found.damage.append((segment, Damage(segment.path, here, scanner.end, segment.size, text)))
    return records


def _is_suspect(records: list[Found]) -> bool:
    """Whether there is damage, or a message stands twice in one file, which nothing of ours does."""
    kinds = [record[0] for record in records]
    if HOLE in kinds:
        return True
    moved = int(RecordKind.MOVED)
    messages = [record[3] for record in records if record[0] <= moved]
    return len(set(messages)) < len(messages)


def survey(
    files: Files, directory: Path, *, write: bool = False, limit: int = 0, shelf: DiskShelf | None = None
) -> Survey:
    """Read a whole partition. SpoolError when it can't be read at all.

    `limit` is how many rows of the index may be in memory, 0 for all, when there is a shelf for the others.
    """
    marks = read_marks(directory)
    accepts, ignored = open_files(files, directory / ACCEPT_FOLDER, FileKind.ACCEPT, write=write)
    try:
        settles, more = open_files(files, directory / SETTLE_FOLDER, FileKind.SETTLE, write=write)
    except BaseException:
        _close_all(accepts)
        raise
    index = Index(shelf, limit)
    result = Survey(index, Deferrals(index), accepts, settles, ignored=ignored + more, shelf=shelf)
    try:
        _read_accepts(result, marks)
        result.deferrals = Deferrals(index, shelf)
        _read_settles(result, marks)
        live = index.live_bytes()
    except BaseException:
        result.close()
        raise
    for segment in accepts:
        segment.live = live.get(segment.number, 0) if segment.header.state == FileState.IN_USE else 0
        result.highest_message = max(result.highest_message, segment.header.first)
    result.highest_message = max(result.highest_message, index.last)
    return result


def _read_accepts(result: Survey, marks: MarksRead) -> None:
    index, late = result.index, list[tuple[int, int, int, int, int]]()
    accept_kind = int(RecordKind.ACCEPT)
    for segment in result.accepts:
        if segment.header.state != FileState.IN_USE:
            continue
        number, last = segment.number, index.last
        lowest, highest = segment.first, segment.last
        rows: list[tuple[int, int, int, int, int]] = []
        for kind, at, recipients, message, _, follow in scan_file(segment, result, marks.accept):
            if kind == HOLE:
                continue
            if kind == accept_kind and message > last:
                rows.append((message, number, at, follow - at, recipients))
                last = message
                if len(rows) == _MANY:
                    index.extend(rows)
                    rows.clear()
            else:
                late.append((message, number, at, follow - at, recipients))
            if message < lowest:
                lowest = message
            if message > highest:
                highest = message
        segment.first, segment.last = lowest, highest
        index.extend(rows)
        if len(late) > _MANY_MOVED:
            index.merge(late)
            late = []
        index.age()
    index.merge(late)
    index.age()


def _read_settles(result: Survey, marks: MarksRead) -> None:
    index, deferrals, highest = result.index, result.deferrals, 0
    settle_kind, defer_kind = int(RecordKind.SETTLE), int(RecordKind.DEFER)
    for segment in result.settles:
        if segment.header.state != FileState.IN_USE:
            continue
        records = scan_file(segment, result, marks.settle)
        if index.paged:
            # Each page is read once a file. The order of what is said makes no difference.
            records.sort(key=_message_of)
        for kind, _, recipient, message, head, _ in records:
            if kind == settle_kind:
                index.settle(message, recipient)
            elif kind == defer_kind:
                deferrals.note(message, recipient, decode_deferral(head))
            if message > highest:
                highest = message
    result.highest_message = highest


def _header_of_a_record(segment: Segment, kind: FileKind) -> FileHeader | None:
    """A header made up from the file's first sound record, when both copies of its own are damaged."""
    start = segment.read_past_damage(min(segment.size, _SALVAGE_BYTES), 0)
    if start.count(0) == len(start):
        return None
    for at in range(DATA_START, len(start) - RECORD_SIZE + 1):
        if not 1 <= start[at + 12] <= RecordKind.END or start[at + 13]:
            continue  # most offsets are no record, and this is the quick way to see it
        check, salt, number, _, _, _, length, message = unpack_record(start, at)
        if at + RECORD_SIZE + length > segment.size:
            continue
        end = at + RECORD_SIZE + length
        record = start[at:end] if end <= len(start) else segment.read_past_damage(end - at, at)
        if is_sound(record, 0, check, len(record)):
            return FileHeader(kind, FileState.IN_USE, number, salt, message, segment.size)
    return None


def _is_blank(segment: Segment) -> bool:
    """Whether there is nothing in a file, as far as it can be read: it was being made."""
    for at in range(0, segment.size, _SALVAGE_BYTES):
        try:
            part = segment.read(min(_SALVAGE_BYTES, segment.size - at), at)
        except OSError:
            return False
        if part.count(0) != len(part):
            return False
    return True
