"""Bringing recipients that wait in one partition to the workers that own their queues.

They got there because the owner could not take them when they came in, because the owner has changed since,
or because the partition's own worker is gone (`adoption.py`). Each is offered until it is TAKEN, and settled
here only then, without a record: to the world nothing has happened. Whoever is killed in between offers it
again; the owner recognises it by its name.

Bounded: what waits takes eight bytes a recipient, more only for those that were tried before; what is on its
way to an owner is a window. An answer comes when the owner has synced, and that takes as long as its loop is
busy: so the window decides how fast mail moves. It grows while answers come quickly and shrinks when they
don't, because what clients hand over waits behind it. Turns of the loop are shared with everything else.
"""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Set
from functools import partial
from itertools import islice

from mta.errors import SpoolCorrupt, SpoolError
from mta.message.envelope import Envelope, encode_envelope
from mta.queue.key import RECIPIENT_BITS, RECIPIENT_MASK
from mta.service.layout import Layout
from mta.service.share import Share, Verdict, share_of
from mta.service.sharenames import ShareNames
from mta.service.turns import Turn
from mta.spool.partition import Partition
from mta.spool.stored import Waiting

__all__ = ["Passage"]

log = logging.getLogger(__name__)

#: Messages on their way to one owner at a time, at least and at most, and their bytes.
LEAST_WINDOW, WINDOW = 64, 2000
WINDOW_BYTES = 8 << 20
#: Answers that come so soon (seconds) behind twice the quickest let the window grow; those that take so long
#: in all let it shrink, far from the time at which a colleague is taken to be in trouble.
QUICK, SLOW = 0.1, 1.0
#: How fast the quickest answer is forgotten.
FORGETTING = 0.001
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
    everybody else's. `names` are those by which we recognise shares, and hear of those that leave.
    """

    def __init__(
        self,
        number: int,
        *,
        partition: Partition,
        layout: Callable[[], Layout],
        offer: Offer,
        at_home: AtHome | None,
        names: ShareNames | None = None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._number = number
        self._partition = partition
        self._layout = layout
        self._offer = offer
        self._at_home = at_home
        self._names = ShareNames() if names is None else names
        self._loop = loop
        self._backlogs: dict[int, _Backlog] = {}
        self._tried: dict[int, tuple[int, float]] = {}
        self._on_the_way = 0
        self._is_woken = False
        self._is_closed = self._is_resting = False
        self._turn = Turn(loop.time)
        self._is_low = asyncio.Event()
        self._low = 0
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
        self._wake()

    def held(self) -> Iterator[tuple[int, int, float]]:
        """Reference, attempts and due time of those that wait here, as of now; nothing that is on its way."""
        waiting = [ref for backlog in self._backlogs.values() for ref in backlog]
        for ref in waiting:
            yield ref, *self._tried.get(ref, (0, 0.0))

    def remove(self, refs: Set[int]) -> list[int]:
        """Take these out, as far as they wait here; what is on its way is its owner's."""
        removed = [ref for backlog in self._backlogs.values() for ref in backlog.remove(refs)]
        for ref in removed:
            self._tried.pop(ref, None)
        return removed

    def wait_with(self, owner: int) -> None:
        """Offer this owner nothing for a moment: it may not know yet what it owns."""
        backlog, now = self._backlog(owner), self._loop.time()
        if backlog.rests_until <= now:
            backlog.rests_until = now + PAUSE
            self._loop.call_later(PAUSE * 1.01, self._wake)

    async def emptied(self, low: int = 0) -> None:
        """Wait until no more than `low` recipients are left. For one caller at a time."""
        self._low = low
        while self.waiting > low:
            self._is_low.clear()
            await self._is_low.wait()

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
        self._turn.begin()
        ready = [backlog for backlog in self._backlogs.values() if backlog.is_ready(now)]
        while ready and not self._turn.is_over():
            for backlog in ready:
                self._pass_on(backlog.next_message())
            ready = [backlog for backlog in ready if backlog.is_ready(now)]
        self._turn.end()
        if ready:
            self._wake()
        if self.waiting <= self._low:
            self._is_low.set()

    def _pass_on(self, refs: list[int]) -> None:
        """Offer some recipients of one message to whoever owns them now."""
        message = refs[0] >> RECIPIENT_BITS
        try:
            stored = self._partition.load(message)
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
        envelope = stored.envelope
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
            share = share_of(envelope, encoded, [stored.body], [ref & RECIPIENT_MASK for ref in part], tried)
            self._backlog(owner).sent(share.size)
            self._on_the_way += len(part)
            name = share.name
            self._names.leave(name)
            answered = partial(self._answered, owner, part, name, share.size, self._loop.time())
            self._offer(owner, share, answered)

    def _answered(
        self, owner: int, refs: list[int], name: str, size: int, offered_at: float, verdict: Verdict
    ) -> None:
        self._backlog(owner).answered(size, self._loop.time() - offered_at)
        self._on_the_way -= len(refs)
        if self._is_closed:
            return
        if verdict is not Verdict.TAKEN:
            self._names.stay(name)
            self._again(owner, refs)
            return
        self.carried += len(refs)
        self._names.go(name)
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

    __slots__ = ("_head", "_open", "_open_bytes", "_quickest", "_refs", "_window", "rests_until")

    def __init__(self) -> None:
        self._refs = array("Q")
        self._head = 0
        self._open = 0
        self._open_bytes = 0
        self._window = LEAST_WINDOW
        self._quickest = 0.0
        self.rests_until = 0.0

    def is_ready(self, now: float) -> bool:
        """Whether something more may be offered."""
        has_room = self._open < self._window and self._open_bytes < WINDOW_BYTES
        return has_room and len(self) > 0 and now >= self.rests_until

    def sent(self, size: int) -> None:
        """A share of that size is on its way."""
        self._open += 1
        self._open_bytes += size

    def answered(self, size: int, seconds: float) -> None:
        """It is not any more; the answer took so long."""
        self._open -= 1
        self._open_bytes -= size
        quickest = self._quickest or seconds
        self._quickest = min(seconds, quickest + FORGETTING * (seconds - quickest))
        if seconds < 2 * self._quickest + QUICK and seconds < SLOW:
            self._window = min(WINDOW, self._window + 1)
        elif seconds > SLOW:
            self._window = max(LEAST_WINDOW, self._window - (self._window >> 4))

    def add(self, ref: int) -> None:
        self._refs.append(ref)

    def remove(self, unwanted: Set[int]) -> list[int]:
        """Take these out, as far as they are here; returns the references."""
        removed = [ref for ref in self if ref in unwanted]
        if removed:
            self._refs = array("Q", [ref for ref in self if ref not in unwanted])
            self._head = 0
        return removed

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

    def __iter__(self) -> Iterator[int]:
        return islice(self._refs, self._head, None)
