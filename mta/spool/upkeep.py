"""What keeps a partition's files in order: freeing, spares, and the room that outcomes need.

Runs beside the commits, never in their way: files are freed as chores between two batches, new files are
filled in a thread of their own. Outcomes must not starve on a full disk (without them nothing can ever be
removed), so a spare settle file is kept, and mail is refused while the disk could not take another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from pathlib import Path

from mta.errors import SpoolError
from mta.spool.commit import Committer
from mta.spool.index import Index
from mta.spool.options import SpoolOptions
from mta.spool.quarantine import Quarantine
from mta.spool.segment import Segment, SegmentSet

__all__ = ["Upkeep"]

logger = logging.getLogger(__name__)

_PERIOD = 1.0


class FreeFile:
    """Chore: mark an accept segment free on disk, so that its file can be used again."""

    def __init__(self, upkeep: Upkeep, segment: Segment) -> None:
        self._upkeep, self._segment = upkeep, segment
        self._was_empty = False

    def run(self) -> None:
        self._was_empty = not self._segment.live
        if self._was_empty:
            self._segment.write([self._upkeep.accepts.free_header(self._segment)], 0)
            self._segment.sync()

    def finished(self, error: SpoolError | None) -> None:
        self._upkeep.freed(self._segment, error is None and self._was_empty)


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
        quarantine: Quarantine,
    ) -> None:
        self.accepts, self.settles, self.index, self.quarantine = accepts, settles, index, quarantine
        self._directory, self._options, self._loop, self._committer = directory, options, loop, committer
        self._timer: asyncio.TimerHandle | None = None
        self._freeing: set[int] = set()
        self._filler: threading.Thread | None = None
        self._filled: list[tuple[SegmentSet, Segment]] = []
        self._is_full = False
        self._is_stopped = False

    def start(self) -> None:
        """Begin the periodic look."""
        self._timer = self._loop.call_later(_PERIOD, self._look)

    def stop(self) -> None:
        """No more looks; waits for a file that is being filled."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._filler is not None:
            self._filler.join()
        self._take_filled()

    def has_room(self, size: int, free: int) -> bool:
        """Whether a message of `size` fits with `free` bytes on the file system, and its outcomes too."""
        current = self._committer.accept_segment
        reserve = 2 * self.settles.spare_size - self.settles.free_bytes
        return free + self.accepts.free_bytes + current.size - current.end >= size + 8192 + max(0, reserve)

    def emptied(self, segment: Segment) -> None:
        """Nobody needs the messages in this segment: free it, unless it is being written."""
        if segment is not self._committer.accept_segment and segment.number not in self._freeing:
            self._freeing.add(segment.number)
            self._committer.add_chore(FreeFile(self, segment))

    def freed(self, segment: Segment, is_free: bool) -> None:
        """A FreeFile chore is through."""
        self._freeing.discard(segment.number)
        if is_free:
            self.index.drop(segment.number, segment.first, segment.last)
            self.accepts.release(segment, 0 if self._options.delete_files else self.accepts.keep)

    def look_ahead(self) -> None:
        """After each commit: see that a filled file is ready when the current one is full."""
        current = self._committer.accept_segment
        if self._filler is None and not self.accepts.free and current.end * 2 > current.size > 0:
            self._fill(self.accepts)
        elif self._filler is None and not self.settles.free:
            self._fill(self.settles)

    def _look(self) -> None:
        self._timer = self._loop.call_later(_PERIOD, self._look)
        self._is_full = False
        for segment in list(self.accepts.in_use.values()):
            if not segment.live:
                self.emptied(segment)

    def _fill(self, files: SegmentSet) -> None:
        if self._is_stopped or self._is_full or self._committer.broken:
            return
        self._filler = threading.Thread(target=self._create, args=(files,), name="spool-fill", daemon=True)
        self._filler.start()

    def _create(self, files: SegmentSet) -> None:
        """The thread: fills a new file. A full disk is no news here: the commit will say so if it matters."""
        try:
            segment = files.create(0, written=True)
        except OSError as error:
            logger.info("spool has no room for a spare file directory=%s why=%r", files.directory, str(error))
            self._is_full = True
        else:
            self._filled.append((files, segment))
        with contextlib.suppress(RuntimeError):  # the loop is gone: stop() takes what was made
            self._loop.call_soon_threadsafe(self._take_filled)

    def _take_filled(self) -> None:
        self._filler = None
        while self._filled:
            files, segment = self._filled.pop()
            files.free.append(segment)
