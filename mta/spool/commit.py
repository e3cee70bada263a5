"""Group commit: one sync answers everybody who came meanwhile.

Theory of operation. `accept` and `settle` only append to lists. A kick forms a batch of everything that
waits: places the records in files, computes checksums, and collects the parts for one writev per file.
The batch is run (written, synced) in the loop itself when few wait, because a hand-over to a thread costs
as much as a small commit, and beside it (runner.py) when many wait or the disk is slow. One batch is in
flight at a time; what arrives meanwhile is the next one. So no file is ever touched from two sides, and a
failed batch can be taken back whole.

Outcomes (settle, defer, record) are written with the next batch whatever it is, and synced at most
`settle_delay` after the oldest of them was said: that is the window in which a crash can repeat a delivery.
While the disk has no room for outcomes they wait here; only beyond a bound deferrals and mere records are
dropped (and counted), never a settlement: delivery is not repeated, whatever the disk does.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate, repeat
from operator import itemgetter, sub

from mta.clock import Clock
from mta.errors import SpoolBroken, SpoolError, SpoolFull
from mta.spool.batch import Accepted, Answer, Batch, Chore, Filled, Outcome, add_write, as_spool_error
from mta.spool.index import Index
from mta.spool.marks import Marks
from mta.spool.pace import Pace, Turnaround, WindowGauge
from mta.spool.record import (
    RECORD_SIZE,
    RecordKind,
    encode_accepts,
    encode_end,
    encode_records,
)
from mta.spool.runner import Runner
from mta.spool.segment import Segment, SegmentSet

__all__ = ["Committer"]

_SETTLE = int(RecordKind.SETTLE)
#: A batch of more than this leaves the rest to the next, so that the first need not wait for the last.
_BATCH_BYTES = 8 << 20
_MANY_OUTCOMES = 4096
_RETRY_WHEN_FULL = 0.25
#: What an outcome takes in memory beside its head.
_TUPLE = 64
#: Of a message that is accepted: the length of its record, and whom to tell what.
_length, _whom_to_tell = itemgetter(6), itemgetter(0, 7)
#: Of an outcome: its head, and when it was said.
_head, _said = itemgetter(3), itemgetter(4)


class Committer:
    """The only writer of a partition's files; all methods are for the loop's thread.

    `settled` is told the outcomes that have become safe, `stored` the messages, before who waits for them is,
    `committed` that a batch is through, `broke` the reason when a write or sync failed for good: from then on
    everything is answered with SpoolBroken.
    """

    # More than thirty attributes: without slots look-ups would go through a dictionary of each one's own.
    # fmt: off
    __slots__ = (
        "_accepts", "_broke", "_chores", "_clock", "_committed", "_dirty", "_flushes", "_in_flight",
        "_index", "_is_busy", "_is_closed", "_is_due", "_is_full", "_is_kicked", "_loop", "_marks",
        "_max_backlog", "_new_names", "_now", "_outcomes", "_pace", "_runner", "_settled", "_settles",
        "_stored", "_timer", "_turnaround", "_turns_left", "_unsynced", "_waiting", "accept_segment",
        "backlog", "batches", "broken", "dropped", "settle_segment", "sync_seconds", "window",
    )
    # fmt: on

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
        stored: Callable[[Filled], None],
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
        self._loop, self._clock, self._now, self._pace = loop, clock, clock.now, pace
        self._accepts, self._settles = accepts, settles
        self._index, self._marks, self._max_backlog = index, marks, max_backlog
        self._settled, self._stored, self._committed, self._broke = settled, stored, committed, broke
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
        self._turns_left = 0
        self._in_flight: Batch | None = None
        self._runner = Runner(loop, clock, accepts.files, self._landed)

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

    def settle(self, message: int, recipient: int, head: bytes, kind: int = _SETTLE) -> None:
        """Write an outcome, or another record of the settle log, with the next batch, or soon."""
        if self.broken:
            return  # nothing can be written any more; the restart repeats what is not settled
        if self._is_full and self.backlog > self._max_backlog and kind != _SETTLE:
            self.dropped += 1
            return  # each recipient is settled once, but tries could go on for as long as the disk is full
        outcomes = self._outcomes
        outcomes.append((kind, recipient, message, head, self._now()))
        self.backlog += len(head) + _TUPLE
        if self._timer is None:
            self._set_timer()
        if (
            len(outcomes) >= _MANY_OUTCOMES
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
        self._runner.close()
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
            pace = self._pace
            is_shared = self._turnaround.messages > pace.company and self._is_quick()
            self._turns_left = pace.turns_to_gather if is_shared else 0
            self._loop.call_soon(self._turn_is_over)

    def _turn_is_over(self) -> None:
        """Commit, or see what the next turn of the loop brings."""
        if self._turns_left:
            self._turns_left -= 1
            self._loop.call_soon(self._turn_is_over)
        else:
            self._kick()

    def _is_quick(self) -> bool:
        """Whether commits are better made in the loop than handed to the thread."""
        pace, usual = self._pace, self._turnaround
        return usual.messages <= pace.crowd and usual.syncs <= pace.slow_sync

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
        if len(batch.placed) > self._pace.inline_limit or batch.chore is not None or not self._is_quick():
            self._in_flight = batch
            self._runner.run(batch, is_slow=self._turnaround.syncs > self._pace.stalling_sync)
        else:
            batch.run(self._clock)
            self._complete(batch)

    def _landed(self, batch: Batch) -> None:
        if self._in_flight is batch:
            self._complete(batch)

    def _form(self) -> Batch | None:
        """Everything that waits now, placed in files; None when there is nothing to do."""
        batch = Batch(self._accepts.files, self._clock.now())
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
        is_empty = not (batch.placed or batch.refused or batch.settles or batch.settle_syncs or batch.flushes)
        if is_empty and batch.chore is None:
            return None
        if self._new_names:
            batch.directories = [self._accepts.directory, self._settles.directory]
            self._new_names = False
        return batch

    def _refuse_placed(self, batch: Batch) -> None:
        batch.refused += [(accepted, SpoolBroken(self.broken)) for accepted in batch.placed]
        batch.placed.clear()
        batch.filled.clear()
        batch.accept_writes.clear()

    def _wants_sync(self, batch: Batch) -> bool:
        if (
            self._is_due
            or self._is_full  # the timer is set for when there may be room
            or self._flushes
            or not batch.placed
            or len(self._unsynced) + len(batch.settles) > _MANY_OUTCOMES
        ):
            return True
        oldest = self._unsynced[0] if self._unsynced else batch.settles[0] if batch.settles else None
        age = self._turnaround.in_time(self._pace.settle_age)
        return oldest is None or batch.formed - oldest[4] >= age

    def _place_accepts(self, batch: Batch) -> None:
        """Place the waiting messages in segments, up to what one batch carries."""
        waiting, self._waiting = self._waiting, []
        if self.broken:
            batch.refused = [(accepted, SpoolBroken(self.broken)) for accepted in waiting]
            return
        left = _BATCH_BYTES
        while waiting:
            length = waiting[0][6]
            if length > left and batch.placed:
                self._waiting = waiting
                return
            if not self.accept_segment.has_room(length) and not self._turn_segment(batch, waiting[0], length):
                waiting = waiting[1:]
                continue
            count, octets = self._fill_segment(batch, waiting, max(left, length))
            left -= octets
            waiting = waiting[count:]

    def _fill_segment(self, batch: Batch, waiting: list[Accepted], most: int) -> tuple[int, int]:
        """Hot path: encode messages into the current segment, as far as it has room and not more than `most`
        octets; returns how many of both. The first one fits."""
        segment = self.accept_segment
        salt, number = segment.header.salt, segment.number
        start = segment.end
        places = list(accumulate(map(_length, waiting), initial=start))
        count = bisect_right(places, min(segment.limit, start + most)) - 1
        fitting, places = waiting[:count], places[: count + 1]
        batch.note_accepts(segment, fitting, places, encode_accepts(salt, number, fitting))
        return count, places[-1] - start

    def _turn_segment(self, batch: Batch, accepted: Accepted, length: int) -> bool:
        """Begin a segment for a message that has no room in the current one. False when the message is seen
        to: refused, or, where it would fill most of a segment, in one of its own beside the current one."""
        try:
            segment, is_new = self._accepts.obtain(length, accepted[0])
        except OSError as error:
            failed = as_spool_error(error)
            if isinstance(failed, SpoolBroken):
                self.give_up(str(failed))
            batch.refused.append((accepted, failed))
            return False
        self._new_names |= is_new
        salt, number, at = segment.header.salt, segment.number, segment.end
        if length * 2 > self._accepts.largest:
            parts = [*encode_accepts(salt, number, [accepted]), encode_end(salt, number, at + length)]
            batch.note_accepts(segment, [accepted], (at, at + length), parts)
            return False
        full, self.accept_segment = self.accept_segment, segment
        add_write(batch.accept_writes, full, full.end, full.end_parts())
        return True

    def _place_outcomes(self, batch: Batch) -> None:
        """Place the waiting outcomes in settle files; while the disk has no room they go on waiting."""
        outcomes, self._outcomes = self._outcomes, []
        while outcomes:
            length = RECORD_SIZE + len(outcomes[0][3])
            if not self.settle_segment.has_room(length):
                following = self._next_settle_file(length)
                if following is None:
                    self._outcomes = [] if self.broken else outcomes
                    return
                self._write_outcomes(batch, self.settle_segment.end_parts())
                self.settle_segment = following
            count = self._fill_settle_file(batch, outcomes)
            batch.settles += outcomes[:count]
            outcomes = outcomes[count:]

    def _fill_settle_file(self, batch: Batch, outcomes: list[Outcome]) -> int:
        """Hot path: encode outcomes into the current settle file, as far as it has room; returns how many."""
        segment = self.settle_segment
        salt, number = segment.header.salt, segment.number
        ends = list(accumulate(map(RECORD_SIZE.__add__, map(len, map(_head, outcomes))), initial=segment.end))
        count = bisect_right(ends, segment.limit) - 1
        self._write_outcomes(batch, encode_records(salt, number, outcomes[:count]))
        segment.end = ends[count]
        return count

    def _write_outcomes(self, batch: Batch, parts: list[bytes]) -> None:
        segment = self.settle_segment
        add_write(batch.settle_writes, segment, segment.end, parts)
        if parts and (not self._dirty or self._dirty[-1] is not segment):
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
        self._complete_outcomes(batch, now)
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
        if error is None and batch.filled:
            for filled in batch.filled:
                self._index.append(filled)
                filled.note()
                self._stored(filled)
            self._marks.publish_accept(self.accept_segment.number, self.accept_segment.end)
        if error is not None or batch.refused:  # rare; ids tell the order in which they came
            answers: list[Answer] = [(accepted, error) for accepted in batch.placed]
            answers += batch.refused
            for accepted, answer in sorted(answers, key=lambda pair: pair[0][0]):
                self._answer(accepted, answer)
            return
        for message, done in map(_whom_to_tell, batch.placed):
            try:
                done(message, None)
            except Exception as failure:
                self._report(failure)

    def _answer(self, accepted: Accepted, error: SpoolError | None) -> None:
        try:
            accepted[7](accepted[0], error)
        except Exception as failure:
            self._report(failure)

    def _report(self, failure: Exception) -> None:
        """One caller's bug must not keep the others from their answer."""
        self._loop.call_exception_handler({"message": "spool: done callback failed", "exception": failure})

    def _call(self, done: Callable[[SpoolError | None], None], error: SpoolError | None) -> None:
        try:
            done(error)
        except Exception as failure:
            self._loop.call_exception_handler(
                {"message": "spool: flush callback failed", "exception": failure}
            )

    def _complete_outcomes(self, batch: Batch, now: float) -> None:
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
        self.window.note(map(sub, repeat(now), map(_said, synced)))
        self.backlog -= sum(map(len, map(_head, synced))) + _TUPLE * len(synced)
        self._marks.publish_settle(self.settle_segment.number, self.settle_segment.end)
        # Replies that have come since may lie unread: a commit in the loop kept it from looking.
        safe = min(batch.formed, self._outcomes[0][4]) if self._outcomes else batch.formed
        self._marks.publish_safe_until(safe)
        if self._timer is not None and not self._outcomes:
            self._timer.cancel()
            self._timer = None
        self._settled(synced)
