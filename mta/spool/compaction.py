"""Giving disk space back: survivors move out of nearly empty segments, old settle files are condensed.

Survivors. A segment most of whose bytes nobody waits for any more is held only by a few deferred messages.
They are written again, as MOVED records, into a segment for such survivors (apart from fresh mail, so that
the old don't hold up the young), and once that is on disk the source is free. A crash in between leaves two
copies, which a restart recognises by the id.

Settle files. What they say about messages whose bytes are still on disk must survive: without it a restart
would deliver those again. The oldest file, once every reader of events has passed it, is read; what is still
needed is said again, without events, at the end of the log; then the file is free. The order of deferrals is
in their sequence, not in their place, so copies may come late.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from itertools import islice
from operator import itemgetter
from pathlib import Path

from mta.errors import SpoolBroken, SpoolCorrupt, SpoolError
from mta.spool.background import Background
from mta.spool.batch import as_spool_error, take_back
from mta.spool.checksum import crc32
from mta.spool.commit import Committer
from mta.spool.heads import check_head
from mta.spool.index import Index, Place
from mta.spool.record import (
    RECORD_SIZE,
    RecordKind,
    decode_accept_head,
    decode_deferral,
    encode_accept,
    encode_deferral,
    encode_end,
    unpack_record,
)
from mta.spool.scan import Scanner
from mta.spool.segment import Segment, SegmentSet
from mta.spool.settlelog import read_cursors

__all__ = ["Compaction", "Fact", "MoveRecords", "condense"]

logger = logging.getLogger(__name__)

#: What is moved in one go: it holds up commits for the milliseconds of one more sync.
_STEP_BYTES = 1 << 20
#: A segment is worth compacting when less than this share of it is needed (or, on a full disk, the second).
_WORTH, _WORTH_WHEN_FULL = 0.25, 0.6
#: Facts filtered per turn of the loop.
_FACTS_PER_TURN = 1000
_SETTLE, _DEFER = int(RecordKind.SETTLE), int(RecordKind.DEFER)

#: (kind, recipient, message, head without event)
Fact = tuple[int, int, int, bytes]


def condense(segment: Segment) -> list[Fact]:
    """What a settle file says about recipients, each once: the settlement, or else the latest deferral."""
    facts: dict[tuple[int, int], Fact] = {}
    for kind, _, recipient, message, head, _ in Scanner(
        segment.read_past_damage, segment.header, segment.size
    ):
        if kind == _SETTLE:
            facts[message, recipient] = (kind, recipient, message, b"")
        elif kind == _DEFER:
            deferral = decode_deferral(head)
            known = facts.get((message, recipient))
            if known is None or (
                known[0] == _DEFER and decode_deferral(known[3]).sequence < deferral.sequence
            ):
                facts[message, recipient] = (kind, recipient, message, encode_deferral(deferral, b""))
    # In the order of the ids, as the index is asked about them: then it reads each of its pages once.
    return sorted(facts.values(), key=itemgetter(2))


class MoveRecords:
    """Chore: write some messages of `source` again, behind the end of `target`, and sync."""

    def __init__(
        self,
        source: Segment,
        target: Segment,
        rows: list[tuple[int, Place]],
        directory: Path,
        finished: Callable[[MoveRecords, SpoolError | None], None],
    ) -> None:
        self.source, self.target, self.rows = source, target, rows
        self.moved: list[tuple[int, int, int]] = []  # message, offset, length
        self.damaged: list[int] = []
        self._directory, self._finished = directory, finished

    def run(self) -> None:
        header, start = self.target.header, self.target.end
        at, parts = start, list[bytes]()
        for message, place in self.rows:
            data = self.source.read_past_damage(place.length, place.at)
            try:
                end = check_head(data, 0, self.source, message)
            except SpoolCorrupt:
                self.damaged.append(message)
                continue
            size, check, envelope = decode_accept_head(data[RECORD_SIZE:end])
            if len(data) - end != size or crc32(data[end:]) != check:
                self.damaged.append(message)
                continue
            kind, recipients = RecordKind.MOVED, unpack_record(data, 0)[5]
            parts += (
                encode_accept(header.salt, header.number, kind, recipients, message, envelope, size, check),
                data[end:],
            )
            self.moved.append((message, at, place.length))
            at += place.length
        try:
            # An END after every step: the file is always sealed, and the next step overwrites it.
            self.target.write([*parts, encode_end(header.salt, header.number, at)], start)
            self.target.end = at
        except OSError:
            take_back([(self.target, start, parts)])
            raise
        self.target.sync()
        self.target.files.sync_directory(self._directory)

    def finished(self, error: SpoolError | None) -> None:
        self._finished(self, error)


class Compaction:
    """Decides what to compact, a little at every look; lives on the loop's thread.

    `free` is called with a file of which nothing is needed any more.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        directory: Path,
        committer: Committer,
        accepts: SegmentSet,
        settles: SegmentSet,
        index: Index,
        background: Background,
        free: Callable[[SegmentSet, Segment], None],
    ) -> None:
        self.target: Segment | None = None
        self.moved_messages = 0
        self.condensed_files = 0
        self._loop, self._directory, self._committer = loop, directory, committer
        self._accepts, self._settles, self._index = accepts, settles, index
        self._background, self._free = background, free
        self._is_moving = self._is_condensing = False
        self._stuck: set[int] = set()
        self._is_stopped = False

    def stop(self) -> None:
        """Finish the step in hand and begin no other."""
        self._is_stopped = True

    def look(self, *, is_full: bool) -> None:
        """Start what is worth doing; `is_full` when the disk is short of room."""
        if self._committer.broken or self._is_stopped:
            return
        if not self._is_moving:
            source = self._worth_moving(_WORTH_WHEN_FULL if is_full else _WORTH)
            if source is not None:
                self._is_moving = True
                self._move_some(source)
        if not self._is_condensing and not self._background.is_busy:
            oldest = self._worth_condensing(is_full=is_full)
            if oldest is not None:
                self._is_condensing = True
                self._background.run(lambda: self._read_facts(oldest))

    def _worth_moving(self, share: float) -> Segment | None:
        current = self._committer.accept_segment
        for segment in self._accepts.in_use.values():
            if segment in (current, self.target) or segment.number in self._stuck:
                continue
            if 0 < segment.live < share * segment.size:
                return segment
        return None

    def _move_some(self, source: Segment) -> None:
        rows, total = list[tuple[int, Place]](), 0
        for message in self._index.ids(source.number, source.first, source.last):
            place = self._index.place(message)
            if place is None:
                continue
            target = self.target
            if target is None or not target.has_room(total + place.length):
                if rows:
                    break
                target = self._next_target(place.length)
                if target is None:
                    self._is_moving = False
                    return
            rows.append((message, place))
            total += place.length
            if total >= _STEP_BYTES:
                break
        if not rows or self.target is None:
            self._is_moving = False
            return
        self._committer.add_chore(
            MoveRecords(source, self.target, rows, self._accepts.directory, self._have_moved)
        )

    def _next_target(self, length: int) -> Segment | None:
        """A file for survivors with room for a record of `length`; None while the disk has none."""
        try:
            self.target = self._accepts.obtain(length, 0)[0]
        except OSError as error:
            failed = as_spool_error(error)
            if isinstance(failed, SpoolBroken):
                self._committer.give_up(str(failed))
            logger.info("spool cannot compact directory=%s why=%r", self._directory, str(error))
            return None
        return self.target

    def _have_moved(self, chore: MoveRecords, error: SpoolError | None) -> None:
        source, target = chore.source, chore.target
        if error is not None:
            self._is_moving = False
            return
        for message, at, length in chore.moved:
            waits = self._index.waiting(message) > 0
            if self._index.move(message, source.number, target.number, at, length) and waits:
                source.live -= length
                target.live += length
            target.first = min(target.first, message)
            target.last = max(target.last, message)
        self.moved_messages += len(chore.moved)
        if chore.damaged:
            # They stay where they are; whoever loads one puts it into quarantine.
            self._stuck.add(source.number)
        if not source.live:
            self._free(self._accepts, source)
        if source.live and source.number not in self._stuck and not self._is_stopped:
            self._move_some(source)
        else:
            self._is_moving = False

    def _worth_condensing(self, *, is_full: bool) -> Segment | None:
        """The oldest settle file, when all readers have passed it and the log is longer than need be."""
        files = self._settles
        oldest = next(iter(files.in_use.values()), None)
        if oldest is None or oldest is self._committer.settle_segment:
            return None
        needed = 48 * self._index.recipients + 32 * len(self._index)
        total = sum(segment.size for segment in files.in_use.values())
        if total <= max((1 if is_full else 4) * files.largest, 3 * needed):
            return None
        try:
            cursors = read_cursors(self._directory)
        except OSError:
            return None  # no descriptors, or a disk that will say so itself: the next look asks again
        is_passed = cursors and min(cursors) >= (oldest.number, oldest.end)
        return oldest if is_passed else None

    def _read_facts(self, segment: Segment) -> Callable[[], None]:
        """In the background thread: read a settle file, which nobody writes any more."""
        facts = condense(segment)
        return lambda: self._say_again(segment, iter(facts))

    def _say_again(self, segment: Segment, facts: Iterator[Fact]) -> None:
        """On the loop, a piece per turn: write what is still needed at the end of the log."""
        if self._committer.broken or self._is_stopped:
            return
        index, some = self._index, list(islice(facts, _FACTS_PER_TURN))
        for kind, recipient, message, head in some:
            is_needed = index.row(message) >= 0 if kind == _SETTLE else index.is_waiting(message, recipient)
            if is_needed:
                self._committer.settle(message, recipient, head, kind)
        if some:
            self._loop.call_soon(self._say_again, segment, facts)
        else:
            self._committer.flush(lambda error: self._have_said(segment, error))

    def _have_said(self, segment: Segment, error: SpoolError | None) -> None:
        self._is_condensing = False
        if error is None:
            self.condensed_files += 1
            self._free(self._settles, segment)
