"""Senders who want to hear that their mail is late (NOTIFY=DELAY) hear of it, whatever holds it up.

An attempt that is put off is reported where it is settled. Here is watched what no attempt is made at: mail
of a queue that gets no connection or no route, that is paused or has to wait for its turn. Only those who
asked are watched; what is told and how often `ingress.returns` decides (`notify-of-delay-every`). Mail that
waits for a window of its schedule isn't late.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from math import floor
from typing import Protocol

from mta.clock import Clock
from mta.errors import SpoolError
from mta.message.envelope import Envelope
from mta.queue.key import RECIPIENT_BITS, RECIPIENT_MASK

__all__ = ["Delays"]

log = logging.getLogger(__name__)

#: Recipients that are watched at a time; about 120 bytes each.
WATCHED_LIMIT = 200_000
#: Looked at in one turn of the loop, and the longest time between two looks (seconds).
AT_ONCE = 100
LONGEST_SLEEP = 60.0


class Waiting(Protocol):
    """The part of a spool partition that knows who waits."""

    def is_waiting(self, message: int, recipient: int) -> bool: ...
    def envelope(self, message: int) -> Envelope: ...


class Delays:
    """The recipients of one worker whose senders want to know.

    `every(envelope, recipient)` says how often they are told, in seconds, None for never; `remind(envelope,
    reference)` tells them.
    """

    def __init__(
        self,
        *,
        spool: Waiting,
        every: Callable[[Envelope, int], float | None],
        remind: Callable[[Envelope, int], None],
        clock: Clock,
    ) -> None:
        self._spool = spool
        self._every = every
        self._remind = remind
        self._clock = clock
        self._due: list[tuple[float, int]] = []

    def __repr__(self) -> str:
        return f"<Delays {len(self._due)} watched>"

    def watch(self, envelope: Envelope, ref: int) -> None:
        """This recipient waits now. After a restart the time goes on where it was."""
        every = self._every(envelope, ref & RECIPIENT_MASK)
        if not every or not envelope.originator or len(self._due) >= WATCHED_LIMIT:
            return
        passed = max(0.0, self._clock.now() - envelope.received)
        heapq.heappush(self._due, (envelope.received + (floor(passed / every) + 1) * every, ref))

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            looked = self.look()
            wait = self._due[0][0] - self._clock.now() if self._due else LONGEST_SLEEP
            await asyncio.sleep(0 if looked == AT_ONCE else min(max(wait, 1.0), LONGEST_SLEEP))

    def look(self) -> int:
        """Tell whoever is to be told now, as far as there is time; returns how many were looked at."""
        now = self._clock.now()
        looked = 0
        while looked < AT_ONCE and self._due and self._due[0][0] <= now:
            _, ref = heapq.heappop(self._due)
            looked += 1
            message, recipient = ref >> RECIPIENT_BITS, ref & RECIPIENT_MASK
            if not self._spool.is_waiting(message, recipient):
                continue
            try:
                envelope = self._spool.envelope(message)
            except SpoolError as error:
                log.warning("message=%d event=unreadable error=%r", message, str(error))
                continue
            self._remind(envelope, ref)
            every = self._every(envelope, recipient)
            if every:
                heapq.heappush(self._due, (now + every, ref))
        return looked
