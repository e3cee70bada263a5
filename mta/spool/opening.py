"""How a partition is opened: locked, read, and its files put in order before anybody relies on them.

Each step trusts only what the one before it has made safe: damage is copied to quarantine before anything
is written, files that were being written are sealed, everything that was found is synced, and only then are
files without anybody's mail free again and new ones begun. A process that is killed anywhere in between
leaves what the next one can open in the same way.
"""

from __future__ import annotations

import logging
import os
import stat
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mta.errors import SpoolBroken, SpoolError
from mta.spool.batch import as_spool_error
from mta.spool.files import Files
from mta.spool.lock import SpoolLock
from mta.spool.marks import Marks
from mta.spool.options import SpoolOptions
from mta.spool.quarantine import Quarantine
from mta.spool.record import DATA_START, RECORD_SIZE, FileKind
from mta.spool.recovery import ACCEPT_FOLDER, SETTLE_FOLDER, Survey, survey
from mta.spool.segment import Segment, SegmentSet, no_segment, size_range
from mta.spool.shelf import DiskShelf

__all__ = ["Opened", "make_ready"]

logger = logging.getLogger(__name__)

#: Ids given out but not yet on disk when a process died must not come again; far more than one batch holds.
_ID_GAP = 1 << 16
#: The same for ids and file numbers in files that can't be understood.
_WIDE_ID_GAP, _NUMBER_GAP = 1 << 26, 1 << 16


@dataclass(frozen=True, slots=True)
class Opened:
    """The files of a locked partition in good order, and what stands in them.

    `next_message` is the first id that may be given out. The current segments have no room while the disk
    has none.
    """

    lock: SpoolLock
    found: Survey
    quarantine: Quarantine
    marks: Marks
    accepts: SegmentSet
    settles: SegmentSet
    accept_segment: Segment
    settle_segment: Segment
    next_message: int


def make_ready(directory: Path, options: SpoolOptions) -> Opened:
    """Lock a partition, creating it if need be, read it and put its files in order.

    Damage goes to quarantine and doesn't stop it. Raises SpoolError when the partition is in use, is of
    another format version, or can't be read at all.
    """
    try:
        for path in (directory, directory / ACCEPT_FOLDER, directory / SETTLE_FOLDER):
            _make_private(path)
        lock = SpoolLock(directory)
        try:
            return _read(directory, options, lock)
        except BaseException:
            lock.close()
            raise
    except OSError as error:
        raise SpoolError(f"spool {directory}: {error.strerror or error}") from error


def _read(directory: Path, options: SpoolOptions, lock: SpoolLock) -> Opened:
    """When it fails, everything that it has opened is closed again."""
    files = options.files
    found = survey(
        files, directory, write=True, limit=options.most_in_memory, shelf=DiskShelf(directory, files)
    )
    with ExitStack() as opened:
        opened.callback(found.close)
        quarantine = Quarantine(directory)
        _secure(found, quarantine)
        accepts = _no_files(FileKind.ACCEPT, directory / ACCEPT_FOLDER, options.segment_size, files)
        settles = _no_files(FileKind.SETTLE, directory / SETTLE_FOLDER, options.settle_size, files)
        _adopt(found, accepts, settles)
        # From here on the files are theirs: some are closed and removed, others are made.
        opened.pop_all()
        for owner in (accepts, settles, found.shelf):
            if owner is not None:
                opened.callback(owner.close)
        _free_empty(found, accepts)
        next_message = _first_message(found)
        marks = Marks(directory)
        opened.callback(marks.close)
        accept_segment = _first_file(accepts, next_message)
        settle_segment = _first_file(settles, next_message)
        files.sync_directory(accepts.directory)
        files.sync_directory(settles.directory)
        _publish(marks, accept_segment, settle_segment)
        opened.pop_all()
    return Opened(
        lock, found, quarantine, marks, accepts, settles, accept_segment, settle_segment, next_message
    )


def _secure(found: Survey, quarantine: Quarantine) -> None:
    """Keep what is damaged for a person, and see that what is sound is on disk."""
    for segment, damage in found.damage:
        quarantine.keep(segment, damage)
    for segment, at in found.voids:
        # Once sealed, a file's bodies are not checked at a start: the head must not count any more.
        segment.write([bytes(RECORD_SIZE)], at)
    for segment in found.unsealed:
        segment.seal()
    for segment in [*found.accepts, *found.settles]:
        # A process that was killed leaves data in the kernel's hands: on disk before anybody trusts it.
        segment.sync()


def _no_files(kind: FileKind, directory: Path, size: int, files: Files) -> SegmentSet:
    """A set to adopt what was found; new files will be of `size`, or as the file system is large."""
    sizes = (size, size) if size else size_range(kind, files.room(directory).total)
    return SegmentSet(files, directory, kind, sizes)


def _adopt(found: Survey, accepts: SegmentSet, settles: SegmentSet) -> None:
    """Take over all files."""
    accepts.adopt(found.accepts)
    settles.adopt(found.settles)
    if found.ignored:
        accepts.next_number += _NUMBER_GAP
        settles.next_number += _NUMBER_GAP


def _free_empty(found: Survey, accepts: SegmentSet) -> None:
    """Accept files in which nobody's mail waits are free again."""
    for segment in [segment for segment in accepts.in_use.values() if not segment.live]:
        segment.write([accepts.free_header(segment)], 0)
        segment.sync()
        found.index.drop(segment.number, segment.first, segment.last)
        accepts.release(segment, accepts.keep)


def _first_message(found: Survey) -> int:
    """The first id that nobody can have been given."""
    gap = _WIDE_ID_GAP if found.ignored else _ID_GAP if found.highest_message else 0
    return found.highest_message + 1 + gap


def _first_file(files: SegmentSet, first: int) -> Segment:
    """A file to begin with, its blocks written; while the disk is full, one that has no room."""
    try:
        if not files.free:
            files.free.append(files.create(0, written=True))
        return files.obtain(0, first)[0]
    except OSError as error:
        failed = as_spool_error(error)
        if isinstance(failed, SpoolBroken):
            raise
        logger.warning("spool has no room directory=%s why=%r", files.directory, str(failed))
        return no_segment(files.files, files.kind)


def _publish(marks: Marks, accept_segment: Segment, settle_segment: Segment) -> None:
    """Whatever the files before these hold is on disk: they were synced when they were sealed."""
    if settle_segment.number:
        marks.publish_settle(settle_segment.number, DATA_START)
    if accept_segment.number:
        marks.publish_accept(accept_segment.number, DATA_START)


def _make_private(directory: Path) -> None:
    """A directory that only its owner may enter; an open one is closed, with a warning."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode):
        raise SpoolError(f"{directory} is not a directory")
    if found.st_uid != os.geteuid() and os.geteuid() != 0:
        raise SpoolError(f"{directory} belongs to user {found.st_uid}, not to us ({os.geteuid()})")
    if stat.S_IMODE(found.st_mode) & 0o077:
        logger.warning(
            "spool directory was open to others path=%s mode=%o", directory, stat.S_IMODE(found.st_mode)
        )
        os.chmod(directory, 0o700)
