"""How mail comes into one worker: from clients, from the pickup directory, and from ourselves.

listener → reception → acceptance → partition (or its owner's) → admission
pickup, copies, notices, returns ──────▲
"""

from __future__ import annotations

import asyncio
import platform
import socket

from mta.clock import Clock
from mta.config.snapshot import Snapshot
from mta.ingress.accept import Acceptance
from mta.ingress.cold import ColdQuota
from mta.ingress.copies import Copies
from mta.ingress.dummy import DummyAcceptance, DummyRules
from mta.ingress.listener import Listener
from mta.ingress.pickup import Pickup
from mta.ingress.queueid import QueueIds
from mta.ingress.reception import Reception
from mta.ingress.reject import Rejects
from mta.ingress.returns import Returns
from mta.service.admission import Admission
from mta.service.crew import Crew
from mta.service.inforce import InForce
from mta.service.layout import Layout
from mta.service.notices import Notices
from mta.service.operatorstate import OperatorState
from mta.spool.partition import Partition

__all__ = ["Inbound", "listening"]


class Inbound:
    """The ways in, all of which end in `acceptance`."""

    def __init__(
        self,
        in_force: InForce,
        *,
        crew: Crew,
        partition: Partition,
        admission: Admission,
        state: OperatorState,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Reads the listener's keys later, in `start`."""
        self._in_force = in_force
        self._crew = crew
        host_name = platform.node()
        queue_ids = QueueIds(clock, crew.number)
        part = own_part(crew.layout, crew.number)

        def snapshot() -> Snapshot:
            return in_force.snapshot

        self.acceptance = Acceptance(
            snapshot=snapshot,
            partition=crew.spool,
            clock=clock,
            queue_ids=queue_ids,
            # Where there are colleagues, each share is admitted by its owner.
            admitted=admission.stored if crew.is_alone else admission.handed_in,
            host_name=host_name,
            cold=ColdQuota(state, clock, part=part, parts=listening(crew.layout)),
        )
        accept = self.acceptance.accept
        self.pickup = Pickup(snapshot=snapshot, accept=accept, clock=clock)
        # One worker looks after the directory, so that no file is taken twice.
        self.picks_up = crew.post.listens and part == 0
        self.reception = Reception(
            snapshot=snapshot,
            acceptance=self.acceptance,
            rejects=Rejects(
                partition.record if in_force.snapshot.reject_files else None,
                clock=clock,
                queue_ids=queue_ids,
            ),
            clock=clock,
            loop=loop,
            host_name=host_name,
        )
        dummy = Reception(
            snapshot=snapshot,
            acceptance=DummyAcceptance(snapshot, taken=admission.dropped, loop=loop),
            rejects=Rejects(None, clock=clock, queue_ids=queue_ids),
            clock=clock,
            loop=loop,
            host_name=host_name,
            make_rules=DummyRules,
        )
        self.listener = Listener(self.reception, dummy)
        self.notices = Notices(
            accept=accept, snapshot=snapshot, queue_ids=queue_ids, clock=clock, host_name=host_name
        )
        self.returns = Returns(
            accept=accept,
            load=lambda message: partition.load(message).body,
            snapshot=snapshot,
            queue_ids=queue_ids,
            clock=clock,
            loop=loop,
            host_name=host_name,
        )
        self.copies = Copies(accept=accept, load=lambda message: partition.load(message).body)

    def __repr__(self) -> str:
        return f"<Inbound {self.listener!r} {self.notices!r}>"

    async def start(self, sockets: list[socket.socket]) -> None:
        """Open the doors, unless this worker only delivers. Raises ConfigError for keys."""
        if self._crew.post.listens:
            await self.listener.start(self._in_force.snapshot, sockets)


def listening(layout: Layout, below: int | None = None) -> int:
    """How many workers take mail in; only those with smaller numbers when `below` is given."""
    return sum(post.listens for post in layout.posts[:below])


def own_part(layout: Layout, number: int) -> int:
    """Which of the workers that take mail in this one is, from 0."""
    return listening(layout, number)
