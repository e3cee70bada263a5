"""The events process at work: reads the settle logs of all partitions and feeds the outputs.

A round asks each partition for a batch of events behind the cursor of each output that can write. Outputs
that stand at the same place (all of them, normally) share the reading and decoding; one that was stuck
catches up by itself. Between rounds it sleeps for `POLL` seconds, less than a reader of the file notices; for
`CROWDED_POLL` when there is much to do, and what looking costs is better spent on the mail; and for
`LONGEST_POLL` when nothing has happened for a while: looking must not be what keeps a machine awake.

Nothing here is on the way of the mail: falling behind, or being killed, costs time and no record.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec

from mta.clock import Clock
from mta.config.snapshot import Snapshot
from mta.errors import SpoolError
from mta.events.output import Output
from mta.events.targets import Target, targets_of
from mta.message.event import EVENT_FIELDS, EventValues, decode_event, decode_values, values_of
from mta.spool.settlelog import Cursor, EventReader, read_cursor, write_cursor

__all__ = ["CROWD", "CROWDED_POLL", "IDLE_AFTER", "LONGEST_POLL", "POLL", "EventRunner"]

log = logging.getLogger(__name__)

#: Seconds between two looks at the logs; with the spool's own 40 ms records are 100 ms old. A look costs as
#: much as fifty records: the process has slept, and nothing of it is in the processor's caches any more.
POLL = 0.06
#: The same when the last look found CROWD events: a few large batches cost less than many small ones.
CROWDED_POLL = 0.2
CROWD = 100
#: And when the last IDLE_AFTER seconds had nothing.
LONGEST_POLL = 0.25
IDLE_AFTER = 3.0
#: Events of one batch: some milliseconds of work, so that commands are answered meanwhile.
BATCH = 500
#: Seconds between two looks for new partitions.
PARTITION_INTERVAL = 2.0
#: Seconds that the programs behind pipes get to read the last records when we stop.
PIPE_GRACE = 2.0
#: The cursor that is kept when no output is configured, so that the spool may still delete its logs.
NOBODY = "nobody"
#: File names of cursors that are ours to delete; other readers may keep some of their own.
OURS = ("cursor.acct-", "cursor.reject-", f"cursor.{NOBODY}")

_TIME_LOGGED = EVENT_FIELDS.index("time_logged")
#: The type of an encoded event, as MessagePack has it, behind the head of an array of more than 15 fields.
_type_head = itemgetter(slice(3, 5))


class EventRunner:
    """`run()` is its life; the rest are commands to it. `snapshot` and `partitions` are asked again later."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        partitions: Callable[[], Sequence[Path]],
        clock: Clock,
    ) -> None:
        self._snapshot = snapshot
        self._find_partitions = partitions
        self._clock = clock
        self._readers: dict[Path, EventReader] = {}
        self._outputs: list[Output] = []
        self._nobody: dict[Path, Cursor] = {}
        self._is_stopping = False
        self._pausing: asyncio.Future[None] | None = None
        self._busy_at = 0.0  # there was something new
        self._found = 0  # events since the last pause
        self._look_at = 0.0
        self._spool_problem = ""
        self._undecodable = 0
        self._failing: set[Path] = set()
        self._newest = 0.0  # when the newest event taken was logged

    def __repr__(self) -> str:
        return f"<EventRunner outputs={len(self._outputs)} partitions={len(self._readers)}>"

    async def run(self) -> None:
        """Write records until `stop`; then catch up, commit and close."""
        self._open()
        self._busy_at = self._clock.now()
        try:
            while not self._is_stopping:
                has_more = self._round()
                self._tick()
                if has_more:
                    await asyncio.sleep(0)
                else:
                    await self._pause(self._until_next_look())
            await self.catch_up()
        finally:
            self._close()

    def stop(self) -> None:
        """End `run` once everything known has been written."""
        self._is_stopping = True
        self._wake()

    async def catch_up(self) -> None:
        """Return when every output that works has written all there is and knows it safe.

        Those that did not work are tried once more: it may be the last chance for a while.
        """
        self._look_for_partitions()
        for output in self._outputs:
            output.hurry()
        has_more = True
        while has_more:
            has_more = self._round()
            await asyncio.sleep(0)
        # A pipe's program may need a while to read its last records.
        for _ in range(int(PIPE_GRACE / POLL)):
            for output in self._outputs:
                if not output.problem:
                    with contextlib.suppress(OSError):
                        output.commit(self._clock.now())
            if all(output.is_settled or output.problem for output in self._outputs):
                return
            await asyncio.sleep(POLL)
            self._round()
            self._tick()

    def reload(self) -> None:
        """The configuration has changed: outputs come, go, or change their form."""
        wanted = {target.name: target for target in targets_of(self._snapshot())}
        now = self._clock.now()
        kept = []
        for output in self._outputs:
            if wanted.get(output.target.name) == output.target:
                kept.append(output)
                del wanted[output.target.name]
            else:
                output.close(now, grace=PIPE_GRACE)
        self._outputs = kept + [self._new_output(target) for target in wanted.values()]
        self._forget_others()

    def reopen(self) -> list[str]:
        """SIGUSR1: whoever has moved files away gets new ones; returns the names of the files in use."""
        for output in self._outputs:
            output.look(self._clock.now(), self._clock.wall())
        return [str(output.file.current) for output in self._outputs if output.file and output.file.current]

    def rotate(self, file: str = "") -> list[str]:
        """Finish the files whose configured name contains `file` (all without); returns the finished ones."""
        finished = []
        for output in self._outputs:
            if file in output.target.shown:
                try:
                    path = output.rotate(self._clock.now(), self._clock.wall())
                except OSError as error:
                    log.error("acct-file=%s event=not-rotated error=%s", output.target.shown, error)
                    continue
                if path is not None:
                    finished.append(str(path))
        return finished

    def stats(self) -> dict[str, Any]:
        """For status commands; `blocked` names the outputs that can't write, with the reason."""
        return {
            "records": sum(output.records for output in self._outputs),
            "newest": round(self._newest, 3),
            "damaged": self._undecodable + sum(reader.damaged for reader in self._readers.values()),
            "blocked": {output.target.shown: output.problem for output in self._outputs if output.problem},
        }

    # --- outputs and partitions

    def _open(self) -> None:
        self._look_for_partitions()
        self._outputs = [self._new_output(target) for target in targets_of(self._snapshot())]
        self._forget_others()

    def _new_output(self, target: Target) -> Output:
        output = Output(target)
        output.open(self._readers, self._clock.wall())
        return output

    def _look_for_partitions(self) -> None:
        self._look_at = self._clock.now() + PARTITION_INTERVAL
        try:
            found = self._find_partitions()
        except OSError as error:
            if str(error) != self._spool_problem:
                log.warning("event=no-partitions error=%s", error)
            self._spool_problem = str(error)
            return
        self._spool_problem = ""
        for partition in found:
            if partition not in self._readers:
                self._readers[partition] = EventReader(partition)
                for output in self._outputs:
                    output.add(partition)

    def _forget_others(self) -> None:
        """Cursors of outputs that are configured no more would keep the spool from deleting its logs."""
        mine = {f"cursor.{output.target.name}" for output in self._outputs} or {f"cursor.{NOBODY}"}
        for partition in self._readers:
            for output in self._outputs:
                if read_cursor(partition, output.target.name) == Cursor():
                    # Those of others may only go when ours stands there instead.
                    self._save(partition, output.position[partition], output.target.name)
            if not self._outputs:
                self._save(partition, self._nobody_at(partition), NOBODY)
            for path in partition.glob("cursor.*"):
                if path.name.startswith(OURS) and path.name not in mine:
                    path.unlink(missing_ok=True)

    def _save(self, partition: Path, cursor: Cursor, name: str) -> None:
        try:
            write_cursor(partition, cursor, name)
        except OSError as error:
            log.error("partition=%s event=cursor-not-kept error=%s", partition, error)

    def _nobody_at(self, partition: Path) -> Cursor:
        return self._nobody.get(partition) or read_cursor(partition, NOBODY)

    def _close(self) -> None:
        for output in self._outputs:
            output.close(self._clock.now(), grace=PIPE_GRACE)
        for reader in self._readers.values():
            reader.close()

    # --- a round

    def _round(self) -> bool:
        """One batch of each partition for everybody; True when there is more."""
        now, wall = self._clock.now(), self._clock.wall()
        # At a first start the worker makes its partition while we look on.
        if now >= self._look_at or not self._readers:
            self._look_for_partitions()
        has_more = False
        for partition, reader in self._readers.items():
            by_place: dict[Cursor, list[Output]] = {}
            for output in self._outputs:
                if output.is_ready(now):
                    by_place.setdefault(output.position[partition], []).append(output)
            for place, outputs in by_place.items():
                has_more |= self._feed(partition, reader, place, outputs, now, wall)
            if not self._outputs:
                has_more |= self._skip(partition, reader)
        return has_more

    def _feed(
        self,
        partition: Path,
        reader: EventReader,
        place: Cursor,
        outputs: list[Output],
        now: float,
        wall: float,
    ) -> bool:
        encoded, cursor = self._read(partition, reader, place)
        if cursor == place:
            return False
        self._busy_at = now
        self._found += len(encoded)
        wanted = frozenset().union(*(output.types for output in outputs))
        events = self._decode(encoded, wanted)
        for output in outputs:
            output.take(partition, events, cursor, now, wall)
        return len(encoded) >= BATCH

    def _read(self, partition: Path, reader: EventReader, place: Cursor) -> tuple[list[bytes], Cursor]:
        try:
            found = reader.read(place, BATCH)
        except SpoolError as error:
            if partition not in self._failing:
                self._failing.add(partition)
                log.error("partition=%s event=unreadable error=%s, records wait", partition, error)
            return [], place
        self._failing.discard(partition)
        return found

    def _decode(self, encoded: list[bytes], wanted: frozenset[str]) -> list[EventValues]:
        """The events of the types wanted; one that makes no sense is counted and left out."""
        heads = set(map(_type_head, encoded))
        if unwanted := {head for head in heads if is_letter(head) and chr(head[1]) not in wanted}:
            encoded = [data for data in encoded if _type_head(data) not in unwanted]
        try:
            events = decode_values(encoded)
        except (msgspec.DecodeError, UnicodeDecodeError):
            events = [event for event in map(self._decode_one, encoded) if event is not None]
        if events:
            self._newest = events[-1][_TIME_LOGGED]
        return events

    def _decode_one(self, encoded: bytes) -> EventValues | None:
        """None for one that makes no sense."""
        try:
            return values_of(decode_event(encoded))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._undecodable += 1
            log.error("event=undecodable size=%d error=%s", len(encoded), error)
            return None

    def _skip(self, partition: Path, reader: EventReader) -> bool:
        """Nobody writes records: let the spool delete its logs."""
        place = self._nobody_at(partition)
        encoded, cursor = self._read(partition, reader, place)
        self._nobody[partition] = cursor
        if cursor.number != place.number:
            self._save(partition, cursor, NOBODY)
        return len(encoded) >= BATCH

    def _tick(self) -> None:
        now, wall = self._clock.now(), self._clock.wall()
        for output in self._outputs:
            output.tick(now, wall)

    def _until_next_look(self) -> float:
        """Seconds to sleep after a look at everything."""
        found, self._found = self._found, 0
        if found >= CROWD:
            return CROWDED_POLL
        is_idle = self._clock.now() - self._busy_at > IDLE_AFTER
        return LONGEST_POLL if is_idle else POLL

    async def _pause(self, seconds: float) -> None:
        """Return after so long, or as soon as `stop` is called."""
        loop = asyncio.get_running_loop()
        self._pausing = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await self._pausing
        finally:
            timer.cancel()

    def _wake(self) -> None:
        if self._pausing is not None and not self._pausing.done():
            self._pausing.set_result(None)


def is_letter(head: bytes) -> bool:
    """Whether the type that begins like this is a single letter: such are told apart without decoding."""
    return head[:1] == b"\xa1" and len(head) == 2
