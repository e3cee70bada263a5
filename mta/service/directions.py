"""Where the mail of one worker goes: what it asks the DNS, what it remembers, what the configuration says."""

from __future__ import annotations

from mta.clock import Clock
from mta.routing.precache import Precache
from mta.routing.router import Router
from mta.service.inforce import InForce
from mta.service.rollup import Rollups
from mta.service.routes import QueueRoutes, make_resolver

__all__ = ["Directions"]


class Directions:
    """Resolver, router and routes of queues, joined to the configuration in force."""

    def __init__(self, in_force: InForce, clock: Clock) -> None:
        self._in_force = in_force
        self._clock = clock
        snapshot = in_force.snapshot
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
        self.rollups = self._make_rollups(None)
        self.routes = QueueRoutes(self.router, in_force.route, lambda: self.rollups)

    def __repr__(self) -> str:
        return f"<Directions {self.resolver!r}>"

    def follow(self) -> None:
        """Another configuration is in force: forget what came of the old one, but for the ways of mail that
        waits under the name of a roll-up."""
        self.router.flush()
        self.precache.follow()
        self.rollups = self._make_rollups(self.rollups)

    def _make_rollups(self, former: Rollups | None) -> Rollups | None:
        """The roll-ups of the configuration in force, None where it has none and had none before."""
        snapshot = self._in_force.snapshot
        if not snapshot.rollups and former is None:
            return None
        return Rollups(
            snapshot,
            resolver=self.resolver,
            router=self.router,
            policies=self._in_force.route,
            clock=self._clock,
            former=former,
        )
