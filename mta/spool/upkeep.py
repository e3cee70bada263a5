"""What keeps a partition's files in order: freeing, spares, and the room that outcomes need.

Runs beside the commits, never in their way: files are freed as chores between two batches, new files are
filled in the background. Outcomes must not starve on a full disk (without them nothing can ever be removed),
so a spare settle file is kept, and mail is refused while the disk could not take another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from mta.errors import SpoolBroken, SpoolError
from mta.spool.background import Background
from mta.spool.batch import as_spool_error
from mta.spool.commit import Committer
from mta.spool.compaction import Compaction
from mta.spool.index import Index
from mta.spool.options import SpoolOptions
from mta.spool.record import DATA_START
from mta.spool.segment import Segment, SegmentSet

__all__ = ["Upkeep"]

logger = logging.getLogger(__name__)

_PERIOD = 1.0
#: Bytes of headers and directory entries that a message may cost beside itself.
_SLACK = 16 << 10
#: Bytes that the outcome of a recipient takes in the settle log, its accounting record included.
_OUTCOME = 512


class FreeFile:
    """Chore: mark a file free on disk, so that it can be used again."""

    def __init__(
        self, files: SegmentSet, segment: Segment, freed: Callable[[SegmentSet, Segment, bool], None]
    ) -> None:
        self._files, self._segment, self._freed = files, segment, freed
        self._was_empty = False

    def run(self) -> None:
        # A message that was in flight when this was decided may have landed in the file since.
        self._was_empty = not self._segment.live
        if self._was_empty:
            self._segment.write([self._files.free_header(self._segment)], 0)
            self._segment.sync()

    def finished(self, error: SpoolError | None) -> None:
        self._freed(self._files, self._segment, error is None and self._was_empty)


class Upkeep:
    """The housekeeping of one partition; lives on the loop's thread."""

    def __init__(
        self,
        *,
        directory: Path,
        options: SpoolOptions,
        loop: asyncio.AbstractEventLoop,
        committer: Committer,
        accepts: SegmentSet,
        settles: SegmentSet,
        index: Index,
    ) -> None:
        self._accepts, self._settles, self._index = accepts, settles, index
        self._directory, self._options, self._loop, self._committer = directory, options, loop, committer
        self._background = Background(loop)
        self._timer: asyncio.TimerHandle | None = None
        self._freeing: set[tuple[int, int]] = set()
        self._is_stopped = self._is_full = False
        self.compaction = Compaction(
            loop=loop,
            directory=directory,
            committer=committer,
            accepts=accepts,
            settles=settles,
            index=index,
            background=self._background,
            free=self.free,
        )

    @property
    def is_busy(self) -> bool:
        """Whether something goes on in the background."""
        return self._background.is_busy

    def start(self) -> None:
        """Begin the periodic look."""
        self._timer = self._loop.call_later(_PERIOD, self._look_again)

    def stop(self) -> None:
        """No more looks; waits for what is going on in the background."""
        self._is_stopped = True
        self.compaction.stop()
        if self._timer is not None:
            self._timer.cancel()
        self._background.stop()

    def has_room(self, message: int, free: int) -> bool:
        """Whether a message fits with `free` bytes on the file system, and outcomes after it."""
        accepts, settles = self._accepts, self._settles
        # Mail whose outcomes don't fit beside it would never go away, although it is long delivered.
        size = settles.spare_size
        files = self._index.recipients * _OUTCOME // (size - DATA_START) + 2
        reserve = max(0, files * size - settles.free_bytes)
        if free + accepts.free_bytes < reserve:
            return False
        length = message + _SLACK
        if self._committer.accept_segment.has_room(length) or any(
            segment.size >= length for segment in accepts.free
        ):
            return True
        return free >= reserve + max(accepts.spare_size, length)

    def emptied(self, segment: Segment) -> None:
        """Nobody waits for the messages in this accept segment any more."""
        if segment is not self._committer.accept_segment and segment is not self.compaction.target:
            self.free(self._accepts, segment)

    def free(self, files: SegmentSet, segment: Segment) -> None:
        """Mark a file free and take it out of use; nothing in it is needed."""
        key = files.kind, segment.number
        if key not in self._freeing and segment.number in files.in_use:
            self._freeing.add(key)
            self._committer.add_chore(FreeFile(files, segment, self._freed))

    def look_ahead(self) -> None:
        """After each commit: see that a filled file is ready when the current one is full."""
        if self._background.is_busy or self._is_full or self._is_stopped or self._committer.broken:
            return
        current = self._committer.accept_segment
        if not self._settles.free:
            self._fill(self._settles)
        elif not self._accepts.free and current.end * 2 > current.size > 0:
            self._fill(self._accepts)

    def look(self) -> None:
        """What a second of time asks for: free what is empty, compact what is nearly so."""
        self._is_full = False
        self._index.age()
        for segment in list(self._accepts.in_use.values()):
            if not segment.live:
                self.emptied(segment)
        try:
            room = self._options.files.room(self._directory)
        except OSError:
            return
        self.compaction.look(is_full=not self.has_room(self._accepts.largest, room.free))

    def _look_again(self) -> None:
        self._timer = self._loop.call_later(_PERIOD, self._look_again)
        self.look()

    def _freed(self, files: SegmentSet, segment: Segment, is_free: bool) -> None:
        self._freeing.discard((files.kind, segment.number))
        if is_free:
            if files is self._accepts:
                self._index.drop(segment.number, segment.first, segment.last)
            files.release(segment, 0 if self._options.delete_files else files.keep)

    def _fill(self, files: SegmentSet) -> None:
        self._background.run(lambda: self._create(files))

    def _create(self, files: SegmentSet) -> Callable[[], None]:
        """In the background: a new file. A full disk is no news here: the commit says so if it matters."""
        try:
            segment = files.create(0, written=True)
        except OSError as error:
            failed = as_spool_error(error)
            if isinstance(failed, SpoolBroken):
                return lambda: self._committer.give_up(f"a spare file could not be made: {failed}")
            logger.info("spool has no room for a spare file directory=%s why=%r", files.directory, str(error))
            return self._have_no_room
        return lambda: files.free.append(segment)

    def _have_no_room(self) -> None:
        self._is_full = True
