"""One group commit: what is written and synced together, and how it went.

A batch is formed on the event loop, run wherever the committer likes (it touches nothing but files), in one
go or in steps (`write`, `synced` for each file, `finish`), and completed on the loop again. It never retries
a sync: after a failed one the kernel may have dropped the very pages that it reported, so the only safe
answer is to stop acknowledging (PostgreSQL's fsync lesson).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from mta.clock import Clock
from mta.errors import SpoolBroken, SpoolError, SpoolFull
from mta.spool.files import Files
from mta.spool.segment import Segment
from mta.spool.stored import Stored

__all__ = [
    "Accepted",
    "Answer",
    "Batch",
    "Chore",
    "Done",
    "Filled",
    "Outcome",
    "Write",
    "add_write",
    "as_spool_error",
    "take_back",
]

Done = Callable[[int, SpoolError | None], None]

#: (message, recipients, envelope, body, body length, body check, record length, done, what is kept of it in
#: memory, if it is), waiting for a commit.
Accepted = tuple[int, int, bytes, "list[bytes]", int, int, int, Done, "Stored | None"]

#: What a message is told.
Answer = tuple[Accepted, "SpoolError | None"]

#: (kind, recipient, message, head, when it was said), waiting for a commit.
Outcome = tuple[int, int, int, bytes, float]

#: (file, offset, parts).
Write = tuple[Segment, int, "list[bytes]"]

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def as_spool_error(error: OSError) -> SpoolError:
    """SpoolFull for what passes when there is room again, SpoolBroken for the rest."""
    text = error.strerror or str(error)
    return SpoolFull(text) if error.errno in _NO_ROOM else SpoolBroken(text)


def _failed_sync(error: Exception) -> SpoolBroken:
    text = error.strerror or str(error) if isinstance(error, OSError) else repr(error)
    return SpoolBroken(f"sync failed: {text}")


def add_write(writes: list[Write], segment: Segment, at: int, parts: list[bytes]) -> None:
    """Have `parts` written at `at`: behind what is written to that file anyway, in one write with it."""
    for written, _, earlier in writes:
        if written is segment:
            earlier += parts
            return
    if parts:
        writes.append((segment, at, parts))


def take_back(writes: list[Write]) -> SpoolError | None:
    """Cut off what a full disk let us write: never acknowledged, those records must not return.

    The files end there from now on. SpoolBroken when even that fails.
    """
    try:
        for segment, at, _ in writes:
            segment.files.truncate(segment.descriptor, at)
            segment.end = segment.size = at
    except OSError as error:
        return SpoolBroken(f"cannot take back a failed write: {error.strerror}")
    return None


class Filled(NamedTuple):
    """Messages that lie side by side in one file: columns of them, in the order of their ids."""

    segment: Segment
    places: Sequence[int]  # offsets, and behind them that of the end
    messages: Sequence[int]
    recipients: Sequence[int]
    envelopes: Sequence[bytes]
    sizes: Sequence[int]  # of bodies
    lengths: Sequence[int]  # of records
    young: Sequence[Stored | None]

    @property
    def octets(self) -> int:
        """How much of the file they take."""
        return self.places[-1] - self.places[0]

    def note(self) -> None:
        """They are on disk: the file has them."""
        segment = self.segment
        segment.live += self.octets
        segment.first = min(segment.first, self.messages[0])
        segment.last = max(segment.last, self.messages[-1])


def fill(segment: Segment, accepted: Sequence[Accepted], places: Sequence[int]) -> Filled:
    """These messages lie in the file at these offsets; the last of `places` is where they end."""
    messages, recipients, envelopes, _, sizes, _, lengths, _, young = zip(*accepted, strict=True)
    return Filled(segment, places, messages, recipients, envelopes, sizes, lengths, young)


class Chore(Protocol):
    """Work on files that must not meet a commit in flight: freeing a file, moving survivors."""

    def run(self) -> None:
        """Do it, in whatever thread; OSError when it can't be done."""
        ...

    def finished(self, error: SpoolError | None) -> None:
        """Take note of it, on the loop."""
        ...


class Batch:
    """What one commit does. The error fields are None when all went well."""

    __slots__ = (
        "_files",
        "_has_synced",
        "_is_written",
        "_started",
        "accept_error",
        "accept_writes",
        "chore",
        "chore_error",
        "directories",
        "filled",
        "flushes",
        "formed",
        "placed",
        "refused",
        "seconds",
        "settle_error",
        "settle_syncs",
        "settle_writes",
        "settles",
        "unsynced",
    )

    def __init__(self, files: Files, formed: float = 0.0) -> None:
        self._files = files
        self._started = 0.0
        self._is_written = self._has_synced = False
        #: when it was formed, by the loop's clock
        self.formed = formed
        #: in order
        self.placed: list[Accepted] = []
        #: the same, by file
        self.filled: list[Filled] = []
        #: (accepted, why), could not even be placed
        self.refused: list[tuple[Accepted, SpoolError]] = []
        self.accept_writes: list[Write] = []
        self.settles: list[Outcome] = []
        self.settle_writes: list[Write] = []
        self.settle_syncs: list[Segment] = []
        #: files that are written and not yet synced, in the order in which they have to be
        self.unsynced: list[Segment] = []
        #: that have new names in them; what is left here afterwards was not synced
        self.directories: list[Path] = []
        self.flushes: list[Callable[[SpoolError | None], None]] = []
        self.chore: Chore | None = None
        self.accept_error: SpoolError | None = None
        self.settle_error: SpoolError | None = None
        self.chore_error: SpoolError | None = None
        self.seconds = 0.0

    def __repr__(self) -> str:
        return (
            f"<Batch accepts={len(self.placed)} settles={len(self.settles)} syncs={len(self.settle_syncs)}>"
        )

    def note_accepts(
        self, segment: Segment, accepted: Sequence[Accepted], places: Sequence[int], parts: list[bytes]
    ) -> None:
        """The records of these go into a file, at `places`, of which the last is where they end."""
        add_write(self.accept_writes, segment, places[0], parts)
        self.placed += accepted
        self.filled.append(fill(segment, accepted, places))
        segment.end = places[-1]

    @property
    def is_plain(self) -> bool:
        """Whether it only writes, and syncs what it has written."""
        return self.chore is None and not self.directories

    @property
    def octets(self) -> int:
        """How much of messages it writes."""
        return sum(filled.octets for filled in self.filled)

    def run(self, clock: Clock) -> None:
        """Write, unless that is done already, and sync; never raises for what the disk does."""
        if not self._is_written:
            self.write(clock)
        while self.unsynced:
            try:
                self.unsynced[0].sync()
            except Exception as error:  # the disk, or a bug: nothing of it may be acknowledged
                self.synced(error)
            else:
                self.synced(None)
        self.finish(clock)

    def write(self, clock: Clock) -> None:
        """Write, and find out what is to be synced; never raises for what the disk does."""
        self._started, self._is_written = clock.now(), True
        try:
            self._write_all()
        except Exception as error:  # a bug, or no memory: nothing of it may be acknowledged
            self.accept_error = SpoolBroken(f"commit failed: {error!r}")

    def synced(self, error: Exception | None) -> None:
        """The first of what is `unsynced` is on disk, or cannot be: then nothing more is tried."""
        self.unsynced.pop(0)
        self._has_synced = True
        if error is not None:
            self.unsynced.clear()
            self.accept_error = _failed_sync(error)

    def finish(self, clock: Clock) -> None:
        """Do what has to wait for the syncs, and judge; never raises for what the disk does."""
        try:
            self._follow_up()
        except Exception as error:
            self.accept_error = SpoolBroken(f"commit failed: {error!r}")
        self._refuse_what_met_a_broken_disk()
        self.seconds = clock.now() - self._started

    @property
    def _is_broken(self) -> bool:
        return isinstance(self.accept_error, SpoolBroken) or isinstance(self.settle_error, SpoolBroken)

    def _write_all(self) -> None:
        if self.accept_writes:
            self.accept_error = self._write(self.accept_writes)
        if self.settle_writes and not self._is_broken:
            self.settle_error = self._write(self.settle_writes)
        # Outcomes are only ever synced after the mail they speak of, and after a failure not at all.
        if not self._is_broken:
            accepts = [] if self.accept_error else [segment for segment, _, _ in self.accept_writes]
            self.unsynced = accepts + self.settle_syncs

    def _follow_up(self) -> None:
        try:
            while self.directories and self._has_synced and not self._is_broken:
                self._files.sync_directory(self.directories[-1])
                self.directories.pop()
        except OSError as error:
            self.accept_error = _failed_sync(error)
        if self.chore is not None and not self._is_broken:
            try:
                self.chore.run()
            except OSError as error:
                self.chore_error = as_spool_error(error)

    def _refuse_what_met_a_broken_disk(self) -> None:
        """No message is acknowledged by a commit in which anything failed for good, its own sync or another.

        A disk that says of one file that it could not write is not believed about the next.
        """
        for error in (self.accept_error, self.settle_error, self.chore_error):
            if isinstance(error, SpoolBroken):
                self.accept_error = error
                # Not a second try: what we are about to refuse shall not come back at the next start.
                take_back(self.accept_writes)
                return

    def _write(self, writes: list[Write]) -> SpoolError | None:
        try:
            for segment, at, parts in writes:
                segment.write(parts, at)
        except OSError as error:
            return take_back(writes) or as_spool_error(error)
        return None
