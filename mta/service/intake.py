"""Where shares from other workers come in: stored like any other mail, then entered into our queues.

A share is answered TAKEN when it is on our disk. One that comes again is recognised by its name and answered
TAKEN without being stored a second time: names of what we took lately, and of what was found waiting on disk
at the start, are remembered (`sharenames.py`), over an end in good order and over a kill as well. Until the
start has read the whole disk, unknown shares that come again are refused; fresh ones are new to everybody and
welcome.

Whoever is told TAKEN throws its copy away, so a name alone is not enough. What waits here is read before it
counts: a damaged message gives way to the copy that comes. And a share that we have just offered to another
worker ourselves is refused until that one has answered: two workers that each think the other is the owner
(a reload has reached one of them) would otherwise take it from each other, and nobody would have it.

What remains: a share that we stored, delivered and settled, and that a colleague offers again after the
machine went down, or after our log of names could not be kept or believed, is delivered twice. An answer
leaves in the same turn of the loop as the delivery begins, so this takes a colleague that heard none (it was
too slow for `colleagues.DEADLINE`, or killed itself) and has not come to offer the share again before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

from mta.clock import Clock
from mta.errors import RemoteProtocolError, SpoolCorrupt, SpoolError
from mta.message.envelope import Envelope, decode_envelope
from mta.service.colleagues import Reachable
from mta.service.namelog import NameLog, boot_id
from mta.service.share import (
    Frame,
    FrameReader,
    Kind,
    Share,
    Verdict,
    decode_head,
    encode_answer,
    encode_taken,
    name_of,
)
from mta.service.sharenames import ShareNames
from mta.spool.partition import Partition
from mta.spool.stored import Waiting

__all__ = ["Intake"]

log = logging.getLogger(__name__)

BACKLOG = 64
#: Looking a member up in its class costs more than the rest of some steps.
AGAIN, TAKEN = Kind.AGAIN, Verdict.TAKEN

#: Enters recipients of a stored message into the queues; the list speaks of those tried before.
Admit = Callable[[Envelope, int, tuple[Waiting, ...]], None]
Done = Callable[[Verdict], None]


class Intake:
    """Stores shares for one worker. Raises OSError when what the last life has left can't be taken away."""

    def __init__(
        self,
        *,
        partition: Partition,
        admit: Admit,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        is_alone: bool = False,
    ) -> None:
        """`is_alone` says that nobody will bring shares: then their names need not outlive us."""
        self._partition = partition
        self.names = ShareNames.taken(partition.directory)
        if is_alone:
            NameLog.remove(partition.directory)
        else:
            is_whole = not partition.found_damage
            self.names.follow(NameLog(partition.directory, loop=loop, boot=boot_id(), is_whole=is_whole))
        partition.on_damaged = self.names.discard_message
        self._admit = admit
        self._clock = clock
        self.loop = loop
        #: Who is told what becomes of a share, by its name.
        self._under_way: dict[str, Done] = {}
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self.visitors: set[Visitor] = set()
        self.is_closed = False
        #: Whether everything on our disk has been read, so that we know what we have.
        self.knows_all = False
        self.taken = 0
        self.recognised = 0

    def __repr__(self) -> str:
        return f"<Intake taken={self.taken} recognised={self.recognised} visitors={len(self.visitors)}>"

    async def open(self, path: Path) -> None:
        """Listen at `path`, which is ours alone. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with Reachable(path) as name:
            self._server = await self.loop.create_unix_server(lambda: Visitor(self), name, backlog=BACKLOG)
            os.chmod(name, 0o600)
        self._path = path

    def close(self) -> None:
        """Take nothing more."""
        self.is_closed = True
        if self._server is not None:
            self._server.close()
        for visitor in tuple(self.visitors):
            visitor.hang_up()
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def remember(self, envelope: Envelope, message: int) -> None:
        """This message was found on disk."""
        self.names.remember(name_of(envelope), message)

    def keep_names(self) -> None:
        """Leave to the next life what the disk will not say: which shares all have got."""
        names = self.names.over(self._partition.waits)
        if self._partition.stats().broken:
            self.names.lose()  # what it says may be wrong, and the end is not in good order
            return
        try:
            self.names.keep(names, self._partition.directory)
        except OSError as error:
            log.error("event=share-names-not-kept error=%r", str(error))
        self.names.lose()

    def has_room(self, octets: int) -> bool:
        """Whether so much can be stored now."""
        return self._partition.refusal(octets) is None

    def take(self, share: Share, done: Done, *, again: bool) -> None:
        """Store a share; `done` is called with TAKEN or REFUSED, perhaps before this returns."""
        verdict = self._known(share.name) if again else None
        if verdict is not None:
            done(verdict)
        elif share.name in self._under_way or self.has_room(share.size):
            self.store(share, done)
        else:
            done(Verdict.REFUSED)

    def store(self, share: Share, done: Done) -> None:
        """Store a share that is new here, as is known, and for which there is room. Hot path."""
        envelope = share.envelope
        name = name_of(envelope)
        under_way = self._under_way
        earlier = under_way.get(name)
        if earlier is not None:
            under_way[name] = partial(tell_both, earlier, done)
            return
        under_way[name] = done
        self._partition.accept(share.encoded, share.body, partial(self._stored, name, share), envelope)

    def _known(self, name: str) -> Verdict | None:
        """The answer to a share that may have been here before; None: it is to be stored."""
        names = self.names
        if names.is_leaving(name):
            return Verdict.REFUSED
        if name not in names:
            return None if self.knows_all else Verdict.REFUSED
        message = names.message(name)
        if message and self._partition.waits(message):
            try:
                has_it = name_of(self._partition.load(message).envelope) == name
            except SpoolCorrupt:
                has_it = False
            except SpoolError:
                return Verdict.REFUSED
            if not has_it:
                names.discard(name)
                return None if self.knows_all else Verdict.REFUSED
        self.recognised += 1
        return Verdict.TAKEN

    def _stored(self, name: str, share: Share, message: int, error: SpoolError | None) -> None:
        tell = self._under_way.pop(name)
        if error is not None:
            log.warning("queue-id=%s event=share-not-stored error=%s", share.envelope.queue_id, error)
            tell(Verdict.REFUSED)
            return
        self.taken += 1
        self.names.add(name, message)
        waiting = share.waiting
        if waiting:
            for recipient, attempts, due in waiting:
                self._partition.defer(message, recipient, attempts=attempts, due=due, event=None)
        self._admit(share.envelope, message, waiting)
        tell(TAKEN)


class Visitor(asyncio.Protocol):
    """One colleague's connection to us."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        #: Answers of this turn of the loop (those of one commit, as a rule); they leave together.
        self._refusals: list[bytes] = []
        self._taken: list[int] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._intake.visitors.add(self)
        if self._intake.is_closed:
            self.hang_up()  # it had knocked before

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._intake.visitors.discard(self)

    def data_received(self, data: bytes) -> None:
        try:
            intake, reader = self._intake, self._reader
            # Asked once for all that have come together.
            has_room = intake.has_room(reader.held + len(data))
            for frame in reader.feed(data):
                if frame.kind is AGAIN:
                    self._take_again(frame)
                elif has_room:
                    intake.store(share_in(frame, frame.head), partial(self._answer, frame.number))
                else:
                    self._answer(frame.number, Verdict.REFUSED)
        except (RemoteProtocolError, ValueError) as error:
            log.error("event=nonsense-from-colleague error=%s", error)
            self.hang_up()

    def hang_up(self) -> None:
        self._say()
        if self._transport is not None:
            self._transport.close()

    def _take_again(self, frame: Frame) -> None:
        encoded, waiting = decode_head(frame.head)
        self._intake.take(share_in(frame, encoded, waiting), partial(self._answer, frame.number), again=True)

    def _answer(self, number: int, verdict: Verdict) -> None:
        if not (self._taken or self._refusals):
            self._intake.loop.call_soon(self._say)
        if verdict is TAKEN:
            self._taken.append(number)
        else:
            self._refusals.append(encode_answer(Kind.REFUSED, number, "can't be stored now"))

    def _say(self) -> None:
        taken, self._taken = self._taken, []
        answers, self._refusals = self._refusals, []
        if taken:
            answers.append(encode_taken(taken))
        if self._transport is not None and answers:
            self._transport.write(b"".join(answers))


def tell_both(one: Done, other: Done, verdict: Verdict) -> None:
    """A share was offered twice while it was being stored."""
    one(verdict)
    other(verdict)


def share_in(frame: Frame, encoded: bytes, waiting: tuple[Waiting, ...] = ()) -> Share:
    """The share that a frame brings. Raises ValueError when the envelope is none."""
    body = frame.body
    return Share(decode_envelope(encoded), encoded, [body] if body else [], waiting)
