"""Group commit: one sync answers everybody who came meanwhile.

Theory of operation. `accept` and `settle` only append to lists. A kick forms a batch of everything that
waits: places the records in files, computes checksums, and collects the parts for one writev per file.
The batch is run (written, synced) in the loop itself when few wait, because a hand-over to a thread costs
as much as a small commit, and in a thread of its own when many wait or the disk is slow. One batch is in
flight at a time; what arrives meanwhile is the next one. So no file is ever touched from two sides, and a
failed batch can be taken back whole.

Outcomes (settle, defer, record) are written with the next batch whatever it is, and synced at most
`settle_delay` after the oldest of them was said: that is the window in which a crash can repeat a delivery.
While the disk has no room for outcomes they wait here; only beyond a bound deferrals and mere records are
dropped (and counted), never a settlement: delivery is not repeated, whatever the disk does.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable

from mta.clock import Clock
from mta.errors import SpoolBroken, SpoolError, SpoolFull
from mta.spool.batch import Accepted, Batch, Chore, Outcome, as_spool_error
from mta.spool.index import Index
from mta.spool.marks import Marks
from mta.spool.pace import Pace, Turnaround, WindowGauge
from mta.spool.record import ACCEPT_OVERHEAD, RecordKind, body_check, encode_accept, encode_end, encode_record
from mta.spool.segment import Segment, SegmentSet

__all__ = ["Committer"]

_ACCEPT, _SETTLE = int(RecordKind.ACCEPT), int(RecordKind.SETTLE)
#: A batch of more than this leaves the rest to the next, so that the first need not wait for the last.
_BATCH_BYTES = 8 << 20
_MANY_OUTCOMES = 4096
_RETRY_WHEN_FULL = 0.25


class Committer:
    """The only writer of a partition's files; all methods are for the loop's thread.

    `settled` is told the outcomes that have become safe, `refused` each message that did not, `committed`
    that a batch is through, `broke` the reason when a write or sync failed for good: from then on everything
    is answered with SpoolBroken.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        accepts: SegmentSet,
        settles: SegmentSet,
        accept_segment: Segment,
        settle_segment: Segment,
        index: Index,
        marks: Marks,
        pace: Pace,
        max_backlog: int,
        settled: Callable[[list[Outcome]], None],
        refused: Callable[[int], None],
        committed: Callable[[], None],
        broke: Callable[[str], None],
    ) -> None:
        self.broken = ""
        self.batches = 0
        self.sync_seconds = 0.0
        self.dropped = 0
        #: bytes of outcomes that are not on disk yet: they grow only while the disk has no room
        self.backlog = 0
        self.window = WindowGauge()
        self.accept_segment = accept_segment
        self.settle_segment = settle_segment
        self._loop, self._clock, self._pace = loop, clock, pace
        self._accepts, self._settles = accepts, settles
        self._index, self._marks, self._max_backlog = index, marks, max_backlog
        self._settled, self._refused, self._committed, self._broke = settled, refused, committed, broke
        self._waiting: list[Accepted] = []
        self._outcomes: list[Outcome] = []
        self._unsynced: list[Outcome] = []
        self._dirty: list[Segment] = []
        self._chores: list[Chore] = []
        self._flushes: list[Callable[[SpoolError | None], None]] = []
        self._new_names = False
        self._is_busy = self._is_kicked = self._is_full = self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False
        self._turnaround = Turnaround()
        self._in_flight: Batch | None = None
        self._jobs: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        state = self.broken or ("busy" if self._is_busy else "idle")
        waiting = f"waiting={len(self._waiting)} outcomes={len(self._outcomes)}"
        return f"<Committer {state} {waiting} batches={self.batches}>"

    @property
    def is_busy(self) -> bool:
        """Whether a batch is in flight, or about to be for other reasons than outcomes."""
        return bool(self._is_busy or self._waiting or self._chores or self._flushes)

    @property
    def is_stalled(self) -> bool:
        """Whether outcomes wait for room on the disk."""
        return self._is_full

    def accept(self, accepted: Accepted) -> None:
        """Write a message with the next batch; its `done` is called after the sync, in order."""
        if self._is_closed:
            self._loop.call_soon(self._answer, accepted, SpoolBroken("the spool is closed"))
            return
        self._waiting.append(accepted)
        if not self._is_kicked and not self._is_busy:
            self._kick_soon()

    def settle(self, kind: int, recipient: int, message: int, head: bytes) -> None:
        """Write an outcome with the next batch, or soon."""
        if self.broken:
            return  # nothing can be written any more; the restart repeats what is not settled
        if self.backlog > self._max_backlog and self._is_full and kind != _SETTLE:
            self.dropped += 1
            return  # each recipient is settled once, but tries could go on for as long as the disk is full
        self._outcomes.append((kind, recipient, message, head, self._clock.now()))
        self.backlog += len(head) + 64
        if self._timer is None:
            self._set_timer()
        if (
            len(self._outcomes) >= _MANY_OUTCOMES
            and not self._is_full
            and not self._is_kicked
            and not self._is_busy
        ):
            self._kick_soon()

    def add_chore(self, chore: Chore) -> None:
        """Run a chore behind one of the next batches."""
        self._chores.append(chore)
        if not self._is_kicked and not self._is_busy:
            self._kick_soon()

    def flush(self, done: Callable[[SpoolError | None], None]) -> None:
        """Commit all that waits now and call `done`."""
        self._flushes.append(done)
        if not self._is_kicked and not self._is_busy:
            self._kick_soon()

    def give_up(self, text: str) -> None:
        """The disk has failed: from now on nothing is acknowledged and nothing noted."""
        if not self.broken:
            self.broken = text
            self._outcomes.clear()
            self._broke(text)

    def close(self) -> None:
        """Wait for the batch in flight and commit the rest, here and now."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
        if self._in_flight is not None:
            self._complete(self._in_flight)
        self._is_full = False
        for _ in range(1000):  # callbacks may bring more, but not for ever
            self._is_due = True
            batch = self._form()
            if batch is None:
                break
            batch.run(self._clock)
            self._complete(batch)

    def _kick_soon(self) -> None:
        if not self._is_closed:
            self._is_kicked = True
            self._loop.call_soon(self._kick)

    def _set_timer(self) -> None:
        """Outcomes get a commit of their own if none of messages comes along in time."""
        wait = self._turnaround.in_time(self._pace.settle_delay)
        self._timer = self._loop.call_later(wait, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self._is_due = True
        self._is_full = False
        if not self._is_kicked and not self._is_busy:
            self._kick()

    def _kick(self) -> None:
        self._is_kicked = False
        if self._is_busy or self._is_closed:
            return
        batch = self._form()
        if batch is None:
            return
        self._is_busy = True
        pace = self._pace
        if (
            len(batch.placed) > pace.inline_limit
            or self._turnaround.messages > pace.crowd
            or self._turnaround.syncs > pace.slow_sync
            or batch.chore is not None
        ):
            self._in_flight = batch
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="spool-commit", daemon=True)
                self._thread.start()
            self._jobs.put(batch)
        else:
            batch.run(self._clock)
            self._complete(batch)

    def _serve(self) -> None:
        """The thread: runs batches, one at a time, until told to stop."""
        while (batch := self._jobs.get()) is not None:
            batch.run(self._clock)
            try:
                self._loop.call_soon_threadsafe(self._landed, batch)
            except RuntimeError:
                return  # the loop is closed; close() completes the batch

    def _landed(self, batch: Batch) -> None:
        if self._in_flight is batch:
            self._complete(batch)

    def _form(self) -> Batch | None:
        """Everything that waits now, placed in files; None when there is nothing to do."""
        batch = Batch(self._clock.now())
        if self._waiting:
            self._place_accepts(batch)
        if self._outcomes and not self._is_full:
            self._place_outcomes(batch)
        if self.broken:  # before or just now, by a file that could not be begun
            self._refuse_placed(batch)
        if self._dirty and self._wants_sync(batch):
            batch.settle_syncs, self._dirty = self._dirty, []
            self._is_due = False
        batch.flushes, self._flushes = self._flushes, []
        if self._chores:
            batch.chore = self._chores.pop(0)
        if self._new_names:
            batch.directories = [self._accepts.directory, self._settles.directory]
            self._new_names = False
        is_empty = not (batch.placed or batch.refused or batch.settles or batch.settle_syncs or batch.flushes)
        return None if is_empty and batch.chore is None else batch

    def _refuse_placed(self, batch: Batch) -> None:
        batch.refused += [(accepted, SpoolBroken(self.broken)) for accepted, _, _, _ in batch.placed]
        batch.placed.clear()
        batch.accept_writes.clear()

    def _wants_sync(self, batch: Batch) -> bool:
        if (
            self._is_due
            or self._flushes
            or not batch.placed
            or len(self._unsynced) + len(batch.settles) > _MANY_OUTCOMES
        ):
            return True
        oldest = self._unsynced[0] if self._unsynced else batch.settles[0] if batch.settles else None
        age = self._turnaround.in_time(self._pace.settle_age)
        return oldest is None or self._clock.now() - oldest[4] >= age

    def _place_accepts(self, batch: Batch) -> None:
        """Hot path: encode the waiting messages into the current segment, turning to a new one when full."""
        waiting, self._waiting = self._waiting, []
        if self.broken:
            batch.refused = [(accepted, SpoolBroken(self.broken)) for accepted in waiting]
            return
        segment = self.accept_segment
        start, parts = segment.end, list[bytes]()
        total = 0
        for count, accepted in enumerate(waiting):
            message, recipients, envelope, body, size, _ = accepted
            length = ACCEPT_OVERHEAD + len(envelope) + size
            if total + length > _BATCH_BYTES and count:
                self._waiting = waiting[count:]
                break
            total += length
            if not segment.has_room(length):
                try:
                    segment_for_it, is_new = self._accepts.obtain(length, message)
                except OSError as error:
                    failed = as_spool_error(error)
                    if isinstance(failed, SpoolBroken):
                        self.give_up(str(failed))
                    batch.refused.append((accepted, failed))
                    continue
                self._new_names |= is_new
                if length * 2 > self._accepts.largest:
                    self._place_alone(batch, segment_for_it, accepted, length)
                    continue
                parts += segment.end_parts()
                if parts:
                    batch.accept_writes.append((segment, start, parts))
                segment = self.accept_segment = segment_for_it
                start, parts = segment.end, []
            header = segment.header
            prefix = encode_accept(
                header.salt, header.number, _ACCEPT, recipients, message, envelope, size, body_check(body)
            )
            parts.append(prefix)
            parts += body
            batch.placed.append((accepted, segment, segment.end, length))
            segment.end += length
        if parts:
            batch.accept_writes.append((segment, start, parts))

    def _place_alone(self, batch: Batch, segment: Segment, accepted: Accepted, length: int) -> None:
        """A message that would fill most of a segment gets one of its own; the current one goes on."""
        message, recipients, envelope, body, size, _ = accepted
        salt, number = segment.header.salt, segment.header.number
        prefix = encode_accept(salt, number, _ACCEPT, recipients, message, envelope, size, body_check(body))
        end = encode_end(salt, number, segment.end + length)
        batch.accept_writes.append((segment, segment.end, [prefix, *body, end]))
        batch.placed.append((accepted, segment, segment.end, length))
        segment.end += length

    def _place_outcomes(self, batch: Batch) -> None:
        """Encode the waiting outcomes into the current settle file, turning to a new one when full."""
        segment = self.settle_segment
        start, parts = segment.end, list[bytes]()
        for count, outcome in enumerate(self._outcomes):
            kind, recipient, message, head, _ = outcome
            header = segment.header
            record = encode_record(header.salt, header.number, kind, recipient, message, head)
            if not segment.has_room(len(record)):
                following = self._next_settle_file(len(record))
                if following is None:
                    batch.settles, self._outcomes = self._outcomes[:count], self._outcomes[count:]
                    break
                parts += segment.end_parts()
                if parts:
                    batch.settle_writes.append((segment, start, parts))
                    self._dirty.append(segment)
                segment = self.settle_segment = following
                start, parts = segment.end, []
                header = segment.header
                record = encode_record(header.salt, header.number, kind, recipient, message, head)
            parts.append(record)
            segment.end += len(record)
        else:
            batch.settles, self._outcomes = self._outcomes, []
        if parts:
            batch.settle_writes.append((segment, start, parts))
        if batch.settle_writes and (not self._dirty or self._dirty[-1] is not segment):
            self._dirty.append(segment)

    def _next_settle_file(self, length: int) -> Segment | None:
        """A settle file with room; None, and a pause, while the disk has none even after giving back ours."""
        for _ in range(2):
            try:
                segment, is_new = self._settles.obtain(length, 0)
            except OSError as error:
                failed = as_spool_error(error)
                if isinstance(failed, SpoolBroken):
                    self.give_up(str(failed))
                    return None
                self._accepts.trim(0)
            else:
                self._new_names |= is_new
                return segment
        self._wait_for_room()
        return None

    def _wait_for_room(self) -> None:
        self._is_full = True
        if self._timer is not None:
            self._timer.cancel()
        if not self._is_closed:
            self._timer = self._loop.call_later(_RETRY_WHEN_FULL, self._time_is_up)

    def _complete(self, batch: Batch) -> None:
        """Take note of how a batch went, and answer everybody."""
        self._in_flight = None
        self._is_busy = False
        self.batches += 1
        self.sync_seconds += batch.seconds
        self._new_names |= bool(batch.directories)
        now = self._clock.now()
        self._turnaround.note(batch.seconds, now - batch.formed, len(batch.placed))
        for error in (batch.accept_error, batch.settle_error, batch.chore_error):
            if isinstance(error, SpoolBroken):
                self.give_up(str(error))
        self._complete_accepts(batch)
        self._complete_outcomes(batch)
        if batch.chore is not None:
            batch.chore.finished(SpoolBroken(self.broken) if self.broken else batch.chore_error)
        verdict = SpoolBroken(self.broken) if self.broken else batch.accept_error or batch.settle_error
        if verdict is None and self._is_full:
            verdict = SpoolFull("no room for outcomes")
        for flushed in batch.flushes:
            self._call(flushed, verdict)
        self._committed()
        is_overdue = self._is_due and (self._outcomes or self._unsynced) and not self._is_full
        if self._is_urgent(now):
            self._kick()
        elif (self._waiting or self._chores or self._flushes or is_overdue) and not self._is_kicked:
            self._kick_soon()
        if (
            (self._outcomes or self._unsynced)
            and self._timer is None
            and not self._is_closed
            and not self.broken
        ):
            self._set_timer()

    def _is_urgent(self, now: float) -> bool:
        """Whether outcomes have waited for the commit that has just landed, and for long enough."""
        if not self._outcomes or self._is_full or self._is_closed:
            return False
        return now - self._outcomes[0][4] >= self._pace.settle_rush

    def _complete_accepts(self, batch: Batch) -> None:
        error = batch.accept_error
        if error is None and batch.placed:
            add = self._index.add
            for (message, recipients, _, _, _, _), segment, at, length in batch.placed:
                add(message, segment.number, at, length, recipients)
                segment.live += length
                if message < segment.first:
                    segment.first = message
                if message > segment.last:
                    segment.last = message
            self._marks.publish_accept(self.accept_segment.number, self.accept_segment.end)
        refused = batch.refused
        if refused:  # rare; ids tell the order in which they came
            answers = [(a, error) for a, _, _, _ in batch.placed] + [(a, why) for a, why in refused]
            for accepted, answer in sorted(answers, key=lambda pair: pair[0][0]):
                self._answer(accepted, answer)
            return
        for accepted, _, _, _ in batch.placed:
            self._answer(accepted, error)

    def _answer(self, accepted: Accepted, error: SpoolError | None) -> None:
        if error is not None:
            self._refused(accepted[0])
        try:
            accepted[5](accepted[0], error)
        except Exception as failure:
            # One caller's bug must not keep the others from their answer.
            self._loop.call_exception_handler(
                {"message": "spool: done callback failed", "exception": failure}
            )

    def _call(self, done: Callable[[SpoolError | None], None], error: SpoolError | None) -> None:
        try:
            done(error)
        except Exception as failure:
            self._loop.call_exception_handler(
                {"message": "spool: flush callback failed", "exception": failure}
            )

    def _complete_outcomes(self, batch: Batch) -> None:
        if self.broken:
            return
        if isinstance(batch.settle_error, SpoolFull):
            # The write was taken back whole: these wait in front of those that came meanwhile.
            self._outcomes = batch.settles + self._outcomes
            self._wait_for_room()
            return
        self._unsynced += batch.settles
        if not batch.settle_syncs:
            return
        synced, self._unsynced = self._unsynced, []
        now, note = self._clock.now(), self.window.note
        for outcome in synced:
            note(now - outcome[4])
            self.backlog -= len(outcome[3]) + 64
        self._marks.publish_settle(self.settle_segment.number, self.settle_segment.end)
        self._marks.publish_safe_until(self._outcomes[0][4] if self._outcomes else now)
        if self._timer is not None and not self._outcomes:
            self._timer.cancel()
            self._timer = None
        self._settled(synced)
