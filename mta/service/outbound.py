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
from mta.routing.precache import Precache
from mta.routing.router import Router
from mta.service.inbound import Inbound
from mta.service.inforce import InForce
from mta.service.jobs import JobBook, JobStore
from mta.service.rollup import Rollups
from mta.service.routes import QueueRoutes, make_resolver
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
        sent: Callable[[int, int], None],
        spare_processors: int,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Reads the keys of DKIM: raises ConfigError. `sent(recipients, size)` counts transactions.

        `spare_processors` are the processors that this worker may use beside its own.
        """
        self._in_force = in_force
        self._clock = clock
        snapshot = in_force.snapshot
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
        self.resolver = make_resolver(snapshot, clock)
        self.precache = Precache(self.resolver, lambda: in_force.snapshot.dns, clock=clock)
        self.router = Router(
            self.resolver,
            clock=clock,
            own_names=snapshot.top.texts("host-name"),
            own_addresses=[
                (listener.host, listener.port) for listener in snapshot.listeners if not listener.is_dummy
            ],
        )
        self.signer = Signer(snapshot, clock, loop, spare=spare_processors)
        self.rollups = self._make_rollups()
        self.routes = QueueRoutes(self.router, in_force.route, lambda: self.rollups)
        self.dialer = Dialer(clock=clock)
        store = JobStore(partition, jobs, schedules.check)
        opener = Opener(
            scheduler=scheduler,
            store=store,
            routes=self.routes,
            dialer=self.dialer,
            settlement=self.settlement,
            rules=in_force.rules,
            policies=in_force.delivery,
            host_name=in_force.host_name,
            clock=clock,
        )
        spf = SpfGate(self.resolver, host_name=in_force.host_name, clock=clock)
        self.dispatcher = Dispatcher(
            scheduler=scheduler,
            store=store,
            opener=opener,
            settlement=self.settlement,
            signer=self.signer,
            policies=in_force.delivery,
            clock=clock,
            spf=spf,
        )
        self.tracer = Tracer(
            scheduler=scheduler,
            store=partition,
            routes=self.routes,
            dialer=self.dialer,
            settlement=self.settlement,
            signer=self.signer,
            policies=in_force.delivery,
            host_name=in_force.host_name,
            fatal=self.dispatcher.contradiction,
            clock=clock,
            spf=spf,
        )

    def __repr__(self) -> str:
        return f"<Outbound {self.dispatcher!r}>"

    def follow(self) -> None:
        """Another configuration is in force: forget what came of the old one."""
        self.router.flush()
        self.precache.follow()
        self.rollups = self._make_rollups()

    def _make_rollups(self) -> Rollups | None:
        """The roll-ups of the configuration in force, None where it has none."""
        snapshot = self._in_force.snapshot
        if not snapshot.rollups:
            return None
        return Rollups(
            snapshot,
            resolver=self.resolver,
            router=self.router,
            policies=self._in_force.route,
            clock=self._clock,
        )
