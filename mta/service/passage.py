"""Bringing recipients that wait in one partition to the workers that own their queues.

They got there because the owner could not take them when they came in, because the owner has changed since,
or because the partition's own worker is gone (`adoption.py`). Each is offered until it is TAKEN, and settled
here only then, without a record: to the world nothing has happened. Whoever is killed in between offers it
again; the owner recognises it by its name.

Bounded: WINDOW messages on their way to each owner; what waits takes eight bytes a recipient, more only
for those that were tried before.
"""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import Callable, Iterable
from functools import partial

from mta.errors import SpoolCorrupt, SpoolError
from mta.message.envelope import Envelope, encode_envelope
from mta.queue.key import RECIPIENT_BITS, RECIPIENT_MASK
from mta.service.layout import Layout
from mta.service.share import Share, Verdict, share_of
from mta.spool.partition import Partition
from mta.spool.stored import Waiting

__all__ = ["Passage"]

log = logging.getLogger(__name__)

#: Messages on their way to one owner at a time.
WINDOW = 64
#: Messages looked at in one turn of the loop.
SLICE = 64
#: Seconds until the next try with an owner that could not take the last one.
PAUSE = 0.25
#: Taken references that may stay at the front of an array before it is cut.
SLACK = 4096

#: Offers a share to its owner.
Offer = Callable[[int, Share, Callable[[Verdict], None]], None]
#: Enters these recipients of a message into our own queues.
AtHome = Callable[[Envelope, int, Iterable[Waiting]], None]


class Passage:
    """What waits in `partition` and belongs elsewhere.

    `at_home` takes recipients that belong to us after all; None (an adopted partition) offers them like
    everybody else's. `passed(name)` is told of each share that has gone.
    """

    def __init__(
        self,
        number: int,
        *,
        partition: Partition,
        layout: Callable[[], Layout],
        offer: Offer,
        at_home: AtHome | None,
        passed: Callable[[str], None] = lambda name: None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._number = number
        self._partition = partition
        self._layout = layout
        self._offer = offer
        self._at_home = at_home
        self._passed = passed
        self._loop = loop
        self._backlogs: dict[int, _Backlog] = {}
        self._tried: dict[int, tuple[int, float]] = {}
        self._on_the_way = 0
        self._is_woken = False
        self._is_closed = self._is_resting = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.carried = 0

    def __repr__(self) -> str:
        return f"<Passage waiting={self.waiting} carried={self.carried}>"

    @property
    def waiting(self) -> int:
        """Recipients that are not with their owner yet."""
        return self._on_the_way + sum(map(len, self._backlogs.values()))

    def add(self, owner: int, message: int, recipient: int, attempts: int = 0, due: float = 0.0) -> None:
        """This recipient belongs to another worker; `due` is when its next attempt is, 0 at once."""
        self.add_ref(owner, message << RECIPIENT_BITS | recipient, attempts, due)

    def add_ref(self, owner: int, ref: int, attempts: int = 0, due: float = 0.0) -> None:
        """`add` for a reference."""
        if attempts or due:
            self._tried[ref] = attempts, due
        self._backlog(owner).add(ref)
        self._idle.clear()
        self._wake()

    def wait_with(self, owner: int) -> None:
        """Offer this owner nothing for a moment: it may not know yet what it owns."""
        self._backlog(owner).rests_until = self._loop.time() + PAUSE
        self._loop.call_later(PAUSE * 1.01, self._wake)

    async def emptied(self) -> None:
        """Wait until nothing is left."""
        await self._idle.wait()

    def rest(self) -> None:
        """Offer nothing more; answers to what is on its way still count."""
        self._is_resting = True

    def close(self) -> None:
        """Pass nothing on any more, and hear no more answers; the rest waits on disk."""
        self._is_closed = True

    def _backlog(self, owner: int) -> _Backlog:
        found = self._backlogs.get(owner)
        if found is None:
            found = self._backlogs[owner] = _Backlog()
        return found

    def _wake(self) -> None:
        if not self._is_woken and not self._is_closed:
            self._is_woken = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._is_woken = False
        if self._is_closed or self._is_resting:
            return
        now = self._loop.time()
        for backlog in tuple(self._backlogs.values()):
            for _ in range(SLICE):
                if not backlog or backlog.open >= WINDOW or now < backlog.rests_until:
                    break
                self._pass_on(backlog.next_message())
        if any(
            backlog and backlog.open < WINDOW and now >= backlog.rests_until
            for backlog in self._backlogs.values()
        ):
            self._wake()
        elif not self.waiting:
            self._idle.set()

    def _pass_on(self, refs: list[int]) -> None:
        """Offer some recipients of one message to whoever owns them now."""
        message = refs[0] >> RECIPIENT_BITS
        try:
            envelope, body = self._partition.load(message)
        except SpoolCorrupt as error:
            # It is in quarantine, for somebody to look at.
            log.error("message=%d event=damaged error=%r", message, str(error))
            for ref in refs:
                self._tried.pop(ref, None)
            return
        except SpoolError as error:
            log.error("message=%d event=unreadable error=%r", message, str(error))
            self._again(self._number, refs)
            return
        owner_of = self._layout().owner
        parts: dict[int, list[int]] = {}
        for ref in refs:
            parts.setdefault(owner_of(envelope.recipients[ref & RECIPIENT_MASK].queue_domain), []).append(ref)
        encoded = encode_envelope(envelope)
        for owner, part in parts.items():
            tried = [Waiting(ref & RECIPIENT_MASK, *self._tried[ref]) for ref in part if ref in self._tried]
            if owner == self._number and self._at_home is not None:
                for ref in part:
                    self._tried.pop(ref, None)
                known = {waiting.recipient: waiting for waiting in tried}
                self._at_home(
                    envelope,
                    message,
                    [
                        known.get(ref & RECIPIENT_MASK) or Waiting(ref & RECIPIENT_MASK, 0, 0.0)
                        for ref in part
                    ],
                )
                continue
            share = share_of(envelope, encoded, [body], [ref & RECIPIENT_MASK for ref in part], tried)
            self._backlog(owner).open += 1
            self._on_the_way += len(part)
            self._offer(owner, share, partial(self._answered, owner, part, share))

    def _answered(self, owner: int, refs: list[int], share: Share, verdict: Verdict) -> None:
        self._backlog(owner).open -= 1
        self._on_the_way -= len(refs)
        if self._is_closed:
            return
        if verdict is not Verdict.TAKEN:
            self._again(owner, refs)
            return
        self.carried += len(refs)
        self._passed(share.name)
        for ref in refs:
            self._tried.pop(ref, None)
            self._partition.settle(ref >> RECIPIENT_BITS, ref & RECIPIENT_MASK, b"")
        self._wake()

    def _again(self, owner: int, refs: list[int]) -> None:
        """Later: the owner could not take them."""
        backlog = self._backlog(owner)
        for ref in refs:
            backlog.add(ref)
        self.wait_with(owner)


class _Backlog:
    """References that wait for one owner, first in, first out."""

    __slots__ = ("_head", "_refs", "open", "rests_until")

    def __init__(self) -> None:
        self._refs = array("Q")
        self._head = 0
        self.open = 0
        self.rests_until = 0.0

    def add(self, ref: int) -> None:
        self._refs.append(ref)

    def next_message(self) -> list[int]:
        """The references at the front that are of one message."""
        refs, head = self._refs, self._head
        message = refs[head] >> RECIPIENT_BITS
        end = head + 1
        while end < len(refs) and refs[end] >> RECIPIENT_BITS == message:
            end += 1
        found = refs[head:end].tolist()
        self._head = end
        if end > SLACK and end * 2 > len(refs):
            del refs[:end]
            self._head = 0
        return found

    def __len__(self) -> int:
        return len(self._refs) - self._head
