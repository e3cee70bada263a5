"""One accounting file, reject log or pipe: takes events in order, and knows what of them is safe.

Theory of operation. `position` is the cursor behind the last event taken, partition by partition;
`committed` the one behind the last event that is safe. Between the two lie `marks`: what was taken, and at
which octet of the stream it ends. `commit` makes the stream safe (a file by fsync; a pipe is safe as far as
its program has read), moves `committed`, and keeps it on disk.

An output that can't write keeps its position: it takes nothing until a while later, and misses nothing. A
pipe whose program died goes back to `committed`. Other outputs don't notice.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mta.events.accounting import Format
from mta.events.files import Resting, RotatingFile
from mta.events.pipe import CommandPipe, PipeBroken
from mta.events.position import read_position, write_position
from mta.events.targets import Target
from mta.message.event import EventValues
from mta.spool.settlelog import Cursor, read_cursor, read_cursors, write_cursor

__all__ = ["Output"]

log = logging.getLogger(__name__)

#: Seconds between two commits; what is written meanwhile is read and written again after a crash.
COMMIT_INTERVAL = 1.0
#: The same when only events for others went by: nothing but disk space depends on it.
IDLE_COMMIT_INTERVAL = 5.0
#: Seconds after which a file that could not be written is tried again.
FILE_RETRY = 5.0


#: Seconds between two looks whether the file is due, or gone.
LOOK_INTERVAL = 1.0


class Mark(NamedTuple):
    """Events of a partition up to `cursor` end at this octet of the stream."""

    end: int
    partition: Path
    cursor: Cursor


class Output:
    """One target of the configuration. Times are steady epoch seconds (`now`) and wall time (`wall`)."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.format = Format(target.format)
        self.file = RotatingFile(target.file, self.format.header) if target.file else None
        self.pipe = CommandPipe(target.pipe, self.format.header) if target.pipe else None
        self.records = 0
        self.problem = ""
        self.position: dict[Path, Cursor] = {}
        self._committed: dict[Path, Cursor] = {}
        self._marks: deque[Mark] = deque()
        self._unsaved: set[Path] = set()
        self._retry_at = 0.0
        self._commit_at = 0.0
        self._look_at = 0.0
        self._has_written = False
        for column in self.format.unknown:
            log.warning("acct-file=%s column=%s event=unknown-field, it stays empty", target.shown, column)

    def __repr__(self) -> str:
        state = f"blocked: {self.problem}" if self.problem else "ok"
        return f"<Output {self.target.name} records={self.records} {state}>"

    @property
    def types(self) -> frozenset[str]:
        """Event types it wants."""
        return self.format.types

    # --- a partition comes

    def open(self, partitions: Iterable[Path], wall: float) -> None:
        """Take up where an earlier process stopped."""
        kept = read_position(self._position_path) if self.file else None
        is_exact = kept is not None
        for partition in partitions:
            start = self._start_of(partition, kept.cursors if kept else {})
            is_exact = is_exact and kept is not None and kept.cursors.get(str(partition)) == start
            self.position[partition] = self._committed[partition] = start
        if self.file and kept and kept.resting:
            if is_exact:
                self.file.resume(kept.resting, wall)
            self.file.tidy(wall)

    def add(self, partition: Path) -> None:
        """One more partition, found while running."""
        if partition not in self.position:
            kept = read_position(self._position_path).cursors if self.file else {}
            self.position[partition] = self._committed[partition] = self._start_of(partition, kept)

    def _start_of(self, partition: Path, kept: Mapping[str, Cursor]) -> Cursor:
        """The cursor to begin with.

        The partition's own copy is the proof that it is still the partition that we knew. An output that is
        new here begins where the slowest other one is, so that renaming a file loses nothing.
        """
        copy = read_cursor(partition, self.target.name)
        if copy == Cursor():
            others = read_cursors(partition)
            return min(others) if others else Cursor()
        return max(copy, kept.get(str(partition), Cursor()))

    @property
    def _position_path(self) -> Path:
        assert self.file is not None
        return self.file.directory / f".{self.file.options.path.name}.position"

    # --- events come

    def is_ready(self, now: float) -> bool:
        """Whether it takes events now."""
        if now < self._retry_at:
            return False
        return self.pipe is None or self.pipe.is_idle

    def take(
        self, partition: Path, events: Sequence[EventValues], cursor: Cursor, now: float, wall: float
    ) -> bool:
        """Write the events' lines; False when that is not possible now. Hot path."""
        lines = self.format.lines(events)
        if lines:
            data = self.format.text(lines).encode("utf-8", "replace")
            try:
                self._write(data, now, wall)
            except (OSError, PipeBroken) as error:
                self._block(error, now)
                return False
            self.records += len(lines)
            self._has_written = True
        self.position[partition] = cursor
        self._marks.append(Mark(self._written, partition, cursor))
        if self.problem:
            log.warning("acct-file=%s event=resumed", self.target.shown)
            self.problem = ""
        return True

    def _write(self, data: bytes, now: float, wall: float) -> None:
        if self.pipe is not None:
            self.pipe.write(data, now)
        elif self.file is not None:
            if self.file.is_due(wall, len(data)):
                self._rotate(now, wall)
            if not self.file.is_open:
                self._begin(wall)
            self.file.write(data, wall)

    def _begin(self, wall: float) -> None:
        """Begin a file and note that at once: whoever takes over after a crash must know it is ours."""
        assert self.file is not None
        self.file.begin(wall)
        try:
            self._save_position(self.file.sync())
        except OSError:
            self.file.discard()
            raise

    def _save_position(self, resting: Resting | None) -> None:
        cursors = {str(partition): cursor for partition, cursor in self._committed.items()}
        write_position(self._position_path, cursors, resting)

    @property
    def _written(self) -> int:
        if self.pipe is not None:
            return self.pipe.written
        return self.file.written if self.file is not None else 0

    def _block(self, error: Exception, now: float) -> None:
        """Say so once, wait, and try again."""
        text = getattr(error, "strerror", "") or str(error)
        if text != self.problem:
            log.error("acct-file=%s event=blocked error=%s, records wait", self.target.shown, text)
        self.problem = text
        if self.pipe is not None:
            self._rewind()
            self._retry_at = now + self.pipe.options.retry_interval
        else:
            self._retry_at = now + FILE_RETRY

    def _rewind(self) -> None:
        """The program has died: what it didn't read is written again to the next one."""
        assert self.pipe is not None
        self._pass_marks(self.pipe.consumed())
        self.pipe.stop()
        self._marks.clear()
        self.position.update(self._committed)

    # --- time passes

    def tick(self, now: float, wall: float) -> None:
        """Everything that is due without an event; cheap when nothing is."""
        try:
            if self.pipe is not None:
                self.pipe.flush(now)
            elif self.file is not None and now >= max(self._retry_at, self._look_at):
                self._look_at = now + LOOK_INTERVAL
                self._look_after(now, wall)
            if not self.is_settled and now >= max(self._commit_at, self._retry_at):
                self.commit(now)
        except (OSError, PipeBroken) as error:
            self._block(error, now)

    def _look_after(self, now: float, wall: float) -> None:
        assert self.file is not None
        if self.file.is_due(wall):
            self._rotate(now, wall)
        elif self.file.is_gone():
            log.info("acct-file=%s event=taken-away, a new file is begun", self.target.shown)
            self.commit(now)
            self.file.close()

    def commit(self, now: float) -> None:
        """Make safe what was taken, and remember how far that is. OSError when the disk refuses."""
        resting = self._sync() if self.file is not None else None
        self._pass_marks(self.pipe.consumed() if self.pipe is not None else self._written)
        if self._unsaved:
            if self.file is not None:
                self._save_position(resting)
            for partition in self._unsaved:
                write_cursor(partition, self._committed[partition], self.target.name)
            self._unsaved.clear()
        wants_sync = self.file is not None and self.file.options.sync
        interval = COMMIT_INTERVAL if self._has_written else IDLE_COMMIT_INTERVAL
        self._commit_at = now if wants_sync else now + interval
        self._has_written = bool(self._marks)

    @property
    def is_settled(self) -> bool:
        """Whether everything taken is safe and known to be."""
        return not self._marks and not self._unsaved

    def _sync(self) -> Resting | None:
        assert self.file is not None
        try:
            return self.file.sync()
        except OSError:
            # What the system could not write it may have forgotten; asking again would only say "done"
            # (the failure is reported once). So everything since the last commit goes into a new file.
            self.file.close()
            self._marks.clear()
            self.position.update(self._committed)
            raise

    def _pass_marks(self, end: int) -> None:
        """Move `committed` over everything that ends at `end` or before."""
        while self._marks and self._marks[0].end <= end:
            mark = self._marks.popleft()
            self._committed[mark.partition] = mark.cursor
            self._unsaved.add(mark.partition)

    # --- the operator

    def look(self, now: float, wall: float) -> None:
        """Notice at once when the file was taken away or is due."""
        self._look_at = 0.0
        self.tick(now, wall)

    def hurry(self) -> None:
        """Don't wait before the next try if the disk had no room; a program has its `retry-interval`."""
        if self.file is not None:
            self._retry_at = 0.0

    def rotate(self, now: float, wall: float) -> Path | None:
        """Finish the present file; returns where it lies, None when there was none. OSError when it can't."""
        if self.file is None or not self.file.is_open:
            return None
        return self._rotate(now, wall)

    def _rotate(self, now: float, wall: float) -> Path | None:
        assert self.file is not None
        # What is in the finished file must never be written again into the next one.
        self.commit(now)
        return self.file.finish(wall, now)

    def close(self, now: float, *, grace: float = 0.0) -> None:
        """Commit and let go; a pipe's program gets `grace` seconds to read what it has."""
        try:
            if not self.is_settled:
                self.commit(now)
        except OSError as error:
            self._block(error, now)
        if self.file is not None:
            self.file.close()
        if self.pipe is not None:
            self.pipe.stop(grace)
