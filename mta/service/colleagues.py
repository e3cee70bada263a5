"""The other workers as one worker sees them: a Unix socket to each, over which it offers shares.

`Colleague.offer` never waits and never refuses late: either the share goes out and `done` is called with what
became of it, or there is no telling when it could, and the answer is REFUSED at once. That is so while the
colleague is down, has MAX_WAITING shares or MAX_BYTES of ours in hand, or owes an answer for longer than
DEADLINE; shares that were on their way then are UNKNOWN. Whoever offered keeps the share until it is TAKEN.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

from mta.errors import RemoteProtocolError
from mta.service.share import FrameReader, Kind, Share, Verdict, encode_head, encode_header, numbers_taken

__all__ = ["SOCKET_NAME", "Colleague", "Reachable"]

log = logging.getLogger(__name__)

#: In the partition of the worker that listens there.
SOCKET_NAME = "intake"
#: Our shares that one colleague may have in hand.
MAX_WAITING = 10_000
MAX_BYTES = 64 << 20
#: Seconds for an answer. A sync takes milliseconds; a colleague that needs longer is in trouble, and a client
#: who waits for its 250 should not have to share it.
DEADLINE = 3.0
#: Seconds between two looks at the deadline, and between two tries to connect.
TICK = 0.5
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.25
#: Refusals are counted, and said once in so many seconds.
SILENCE = 60.0
#: sun_path has 108 bytes.
LONGEST_PATH = 100

#: Looking a member up in its class costs more than the rest of some steps.
FRESH = Kind.FRESH

Done = Callable[[Verdict], None]


class Colleague(asyncio.Protocol):
    """The way to one other worker; stays for the life of this one, whatever happens to the other."""

    def __init__(self, number: int, path: Path, *, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        self._path = path
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        #: number of the share → (done, its size, when it was offered); in order of numbers, hence of time.
        self._waiting: dict[int, tuple[Done, int, float]] = {}
        self._bytes = 0
        self._next = 0
        self._is_closed = False
        self._pause = FIRST_PAUSE
        self._timer: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._is_overdue = False
        self._refused, self._silent_until = 0, float("-inf")
        #: Frames of this turn of the loop; they leave together.
        self._outgoing: list[bytes] = []

    def __repr__(self) -> str:
        return f"<Colleague {self.number} {'up' if self.is_up else 'down'} waiting={len(self._waiting)}>"

    @property
    def is_up(self) -> bool:
        """Whether a share offered now has a good chance."""
        return self._transport is not None and not self._is_overdue

    @property
    def waiting(self) -> int:
        """Shares without an answer yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Connect, and connect again whenever the connection is lost."""
        self._connect()

    def close(self) -> None:
        """Hang up; what is on its way becomes UNKNOWN, now."""
        self._is_closed = True
        self._abandon()
        for timer in (self._timer, self._connecting):
            if timer is not None:
                timer.cancel()
        if self._transport is not None:
            self._transport.close()

    def offer(self, share: Share, done: Done, *, again: bool = False) -> None:
        """Send a share to its owner; `done` is called once, perhaps before this returns.

        `again` says that this share may have been offered before. Hot path.
        """
        parts, head, kind = share.body, share.encoded, FRESH
        body = sum(map(len, parts))
        size = len(head) + body
        waiting, octets = self._waiting, self._bytes + size
        if (
            self._transport is None
            or self._is_overdue
            or len(waiting) >= MAX_WAITING
            or (octets > MAX_BYTES and waiting)
        ):
            done(Verdict.REFUSED)
            return
        self._bytes = octets
        self._next = number = self._next + 1
        waiting[number] = (done, size, self._loop.time())
        if again or share.waiting:
            kind, head = Kind.AGAIN, encode_head(share)
        outgoing = self._outgoing
        if not outgoing:
            self._loop.call_soon(self._send)
        outgoing += (encode_header(kind, number, len(head), body), head, *parts)
        if self._timer is None:
            self._timer = self._loop.call_later(TICK, self._look)

    def _send(self) -> None:
        frames, self._outgoing = self._outgoing, []
        if self._transport is not None and frames:
            self._transport.writelines(frames)

    # -- the connection ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._reader = FrameReader()
        self._pause = FIRST_PAUSE

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                # Even a late answer shows that it is alive.
                self._is_overdue = False
                if frame.kind is Kind.TAKEN:
                    self._conclude(numbers_taken(frame.head), Verdict.TAKEN)
                else:
                    self._note_refusal(bytes(frame.head).decode("utf-8", "replace"))
                    self._conclude((frame.number,), Verdict.REFUSED)
        except (RemoteProtocolError, ValueError) as error:
            log.error("colleague=%d event=nonsense error=%s", self.number, error)
            if self._transport is not None:
                self._transport.abort()

    def _note_refusal(self, reason: str) -> None:
        """Whoever is full refuses everything for a while: one line in a minute says how much that was."""
        self._refused += 1
        if self._loop.time() >= self._silent_until:
            log.warning("colleague=%d event=refused shares=%d reason=%r", self.number, self._refused, reason)
            self._refused, self._silent_until = 0, self._loop.time() + SILENCE

    def _conclude(self, numbers: Iterable[int], verdict: Verdict) -> None:
        for number in numbers:
            # Asked for anew each time: whoever is told may give us up.
            found = self._waiting.pop(number, None)
            if found is not None:
                done, size, _ = found
                self._bytes -= size
                done(verdict)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._is_overdue = False
        if not self._is_closed:
            log.info("colleague=%d event=gone waiting=%d", self.number, len(self._waiting))
        self._abandon()
        if not self._is_closed:
            self._loop.call_later(FIRST_PAUSE, self._connect)

    def _abandon(self) -> None:
        lost, self._waiting, self._bytes = list(self._waiting.values()), {}, 0
        self._outgoing.clear()
        for done, _, _ in lost:
            done(Verdict.UNKNOWN)

    def _connect(self) -> None:
        if not self._is_closed and self._transport is None and self._connecting is None:
            self._connecting = self._loop.create_task(self._try())

    async def _try(self) -> None:
        try:
            with Reachable(self._path) as name:
                await self._loop.create_unix_connection(lambda: self, name)
        except OSError:
            self._pause = min(LONGEST_PAUSE, self._pause * 2)
            if not self._is_closed:
                self._loop.call_later(self._pause, self._connect)
        finally:
            self._connecting = None

    # -- deadlines --------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Let go of shares that have waited too long, and offer nothing more until an answer comes."""
        self._timer = None
        limit = self._loop.time() - DEADLINE
        late: list[Done] = []
        for number, (done, size, offered) in list(self._waiting.items())[:MAX_WAITING]:
            if offered > limit:
                break
            # The answer may still come; it is of no use any more.
            del self._waiting[number]
            self._bytes -= size
            late.append(done)
        if late:
            if not self._is_overdue:
                log.warning("colleague=%d event=slow shares=%d", self.number, len(late))
            self._is_overdue = True
        for done in late:
            done(Verdict.UNKNOWN)
        if self._waiting:
            self._timer = self._loop.call_later(TICK, self._look)


class Reachable:
    """The name under which a Unix socket can be bound or reached, however long its path is.

    A path that doesn't fit into an address goes through the directory's descriptor (Linux).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> str:
        name = str(self._path)
        if len(os.fsencode(name)) <= LONGEST_PATH:
            return name
        self._descriptor = os.open(self._path.parent, os.O_PATH | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._descriptor}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
