"""How mail leaves one worker: permits become connections, connections outcomes.

scheduler → dispatcher → opener → router, dialer → session → settlement → settle log, returns, copies
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mta.clock import Clock
from mta.delivery.dialer import Dialer
from mta.delivery.dispatcher import Dispatcher
from mta.delivery.opener import Opener
from mta.delivery.settlement import Settlement
from mta.delivery.signing import Signer
from mta.delivery.spfgate import SpfGate
from mta.delivery.trace import Tracer
from mta.queue.scheduler import Scheduler
from mta.service.directions import Directions
from mta.service.inbound import Inbound
from mta.service.inforce import InForce
from mta.service.jobs import JobBook, JobStore
from mta.service.schedules import Schedules
from mta.spool.partition import Partition

__all__ = ["Outbound"]


class Outbound:
    """The ways out, and those who note what became of each recipient."""

    def __init__(
        self,
        in_force: InForce,
        *,
        name: str,
        scheduler: Scheduler,
        partition: Partition,
        jobs: JobBook,
        schedules: Schedules,
        inbound: Inbound,
        sent: Callable[[float, int, int, int], None],
        spare_processors: int,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Reads the keys of DKIM: raises ConfigError. `sent(now, recipients, messages, size)` counts.

        `spare_processors` are the processors that this worker may use beside its own.
        """
        self._in_force = in_force
        self._scheduler = scheduler
        self._clock = clock
        self.directions = Directions(in_force, clock)
        self.settlement = Settlement(
            scheduler=scheduler,
            store=partition,
            categories=lambda: in_force.classifier,
            rules=in_force.rules,
            policies=in_force.delivery,
            returns=inbound.returns,
            clock=clock,
            name=name,
            sent=sent,
            ended=jobs.ended,
            copies=inbound.copies,
        )
        self.signer = Signer(in_force.snapshot, clock, loop, spare=spare_processors)
        self.dialer = Dialer(clock=clock)
        self._spf = SpfGate(self.directions.resolver, host_name=in_force.host_name, clock=clock)
        self.dispatcher = self._make_dispatcher(JobStore(partition, jobs, schedules.check))
        self.tracer = self._make_tracer(partition)

    def __repr__(self) -> str:
        return f"<Outbound {self.dispatcher!r}>"

    def _make_dispatcher(self, store: JobStore) -> Dispatcher:
        """Works the permits off; `store` keeps back what belongs to paused jobs."""
        opener = Opener(
            scheduler=self._scheduler,
            store=store,
            routes=self.directions.routes,
            dialer=self.dialer,
            settlement=self.settlement,
            rules=self._in_force.rules,
            policies=self._in_force.delivery,
            host_name=self._in_force.host_name,
            clock=self._clock,
        )
        return Dispatcher(
            scheduler=self._scheduler,
            store=store,
            opener=opener,
            settlement=self.settlement,
            signer=self.signer,
            policies=self._in_force.delivery,
            clock=self._clock,
            spf=self._spf,
        )

    def _make_tracer(self, partition: Partition) -> Tracer:
        """Delivers single messages past every limit and every pause."""
        return Tracer(
            scheduler=self._scheduler,
            store=partition,
            routes=self.directions.routes,
            dialer=self.dialer,
            settlement=self.settlement,
            signer=self.signer,
            policies=self._in_force.delivery,
            host_name=self._in_force.host_name,
            fatal=self.dispatcher.contradiction,
            clock=self._clock,
            spf=self._spf,
        )
