"""How mail comes into one worker: from clients, from the pickup directory, and from ourselves.

listener → reception → acceptance → partition (or its owner's) → admission
pickup, copies, notices, returns ──────▲
"""

from __future__ import annotations

import asyncio
import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass

from mta.clock import Clock
from mta.config.snapshot import Snapshot
from mta.ingress.accept import Acceptance
from mta.ingress.cold import ColdQuota
from mta.ingress.copies import Copies
from mta.ingress.dummy import DummyAcceptance, DummyRules
from mta.ingress.listener import Listener
from mta.ingress.pickup import Pickup
from mta.ingress.queueid import QueueIds
from mta.ingress.reception import Accepting, Reception, Rules
from mta.ingress.reject import Rejects
from mta.ingress.returns import Accept, Returns
from mta.service.admission import Admission
from mta.service.crew import Crew
from mta.service.inforce import InForce
from mta.service.layout import Layout
from mta.service.notices import Notices
from mta.service.operatorstate import OperatorState
from mta.spool.partition import Partition

__all__ = ["Inbound", "listening"]


@dataclass(frozen=True, slots=True)
class Fitter:
    """Makes each way in out of what all of them share."""

    in_force: InForce
    partition: Partition
    queue_ids: QueueIds
    host_name: str  #: the machine's, for configurations without one
    clock: Clock
    loop: asyncio.AbstractEventLoop

    def snapshot(self) -> Snapshot:
        """The configuration in force."""
        return self.in_force.snapshot

    def load(self, message: int) -> bytes:
        """A stored message in wire form. Raises SpoolError."""
        return self.partition.load(message).body

    def acceptance(self, crew: Crew, admission: Admission, state: OperatorState) -> Acceptance:
        """Where mail becomes ours; what is stored goes on to `admission`."""
        part, parts = own_part(crew.layout, crew.number), listening(crew.layout)
        return Acceptance(
            snapshot=self.snapshot,
            partition=crew.spool,
            clock=self.clock,
            queue_ids=self.queue_ids,
            # Where there are colleagues, each share is admitted by its owner.
            admitted=admission.stored if crew.is_alone else admission.handed_in,
            host_name=self.host_name,
            cold=ColdQuota(state, self.clock, part=part, parts=parts),
        )

    def reception(
        self,
        acceptance: Accepting,
        *,
        record: Callable[[bytes], None] | None = None,
        make_rules: Callable[[Snapshot, str], Rules] = Rules,
    ) -> Reception:
        """Takes clients to `acceptance`; who is turned away is written down by `record`."""
        return Reception(
            snapshot=self.snapshot,
            acceptance=acceptance,
            rejects=Rejects(record, clock=self.clock, queue_ids=self.queue_ids),
            clock=self.clock,
            loop=self.loop,
            host_name=self.host_name,
            make_rules=make_rules,
        )

    def notices(self, accept: Accept) -> Notices:
        """Mail to operators."""
        return Notices(
            accept=accept,
            snapshot=self.snapshot,
            queue_ids=self.queue_ids,
            clock=self.clock,
            host_name=self.host_name,
        )

    def returns(self, accept: Accept) -> Returns:
        """Our own DSNs."""
        return Returns(
            accept=accept,
            load=self.load,
            snapshot=self.snapshot,
            queue_ids=self.queue_ids,
            clock=self.clock,
            loop=self.loop,
            host_name=self.host_name,
        )


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
        fitter = Fitter(in_force, partition, QueueIds(clock, crew.number), platform.node(), clock, loop)
        self.acceptance = fitter.acceptance(crew, admission, state)
        accept = self.acceptance.accept
        record = partition.record if in_force.snapshot.reject_files else None
        self.reception = fitter.reception(self.acceptance, record=record)
        dummy = DummyAcceptance(fitter.snapshot, taken=admission.dropped, loop=loop)
        self.listener = Listener(self.reception, fitter.reception(dummy, make_rules=DummyRules))
        self.pickup = Pickup(snapshot=fitter.snapshot, accept=accept, clock=clock)
        # One worker looks after the directory, so that no file is taken twice.
        self.picks_up = crew.post.listens and own_part(crew.layout, crew.number) == 0
        self.notices = fitter.notices(accept)
        self.returns = fitter.returns(accept)
        self.copies = Copies(accept=accept, load=fitter.load)

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
