"""The router and its resolver as one worker uses them."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from mta.clock import Clock
from mta.config.snapshot import Snapshot
from mta.config.values import parse_host_port
from mta.errors import RouteError
from mta.ingress.suppression import INVALID_QUEUE, SUPPRESSED_QUEUE
from mta.queue.key import QueueKey
from mta.routing.policy import RoutePolicy
from mta.routing.resolver import Resolver, system_nameservers
from mta.routing.router import Router, Target
from mta.service.rollup import Rollups

__all__ = ["DNS_PORT", "QueueRoutes", "make_resolver"]

DNS_PORT = 53

#: Queues of recipients that came in only to be bounced (accept-invalid-recipients).
_NOWHERE = MappingProxyType(
    {
        INVALID_QUEUE: RouteError("bad recipient address syntax", temporary=False, status="5.1.3"),
        SUPPRESSED_QUEUE: RouteError("recipient is on a suppression list", temporary=False, status="5.7.1"),
    }
)


class QueueRoutes:
    """The router, asked with the policy of the queue."""

    def __init__(
        self,
        router: Router,
        policies: Callable[[QueueKey], RoutePolicy],
        rollups: Callable[[], Rollups | None] = lambda: None,
    ) -> None:
        self._router = router
        self._policies = policies
        self._rollups = rollups

    def cached(self, key: QueueKey) -> tuple[Target, ...] | None:
        """The targets if they are known."""
        key, policy = self._way(key)
        return self._router.cached(key, policy)

    async def route(self, key: QueueKey) -> tuple[Target, ...]:
        """The targets, best first. Raises RouteError; RolledUp where the queue's mail belongs elsewhere."""
        if key.domain in _NOWHERE:
            raise _NOWHERE[key.domain]
        rollups = self._rollups()
        if rollups is not None:
            await rollups.check(key)
            if rollups.is_lost(key):
                # The name of a roll-up is no domain: that the DNS doesn't know it says nothing of the mail.
                raise RouteError(f"no domain of {key.domain} is known yet", temporary=True, status="4.4.4")
        key, policy = self._way(key)
        return await self._router.route(key, policy)

    def _way(self, key: QueueKey) -> tuple[QueueKey, RoutePolicy]:
        """Whose MX to follow, and how."""
        rollups = self._rollups()
        if rollups is None:
            return key, self._policies(key)
        policy = rollups.policy(key)
        return (key, policy) if policy.levels else (way := rollups.way(key), rollups.policy(way))

    def no_mx_age(self, key: QueueKey) -> float | None:
        """How old mail may get, because the domain has no MX; None when that doesn't matter."""
        return self._router.no_mx_age(key, self._policies(key))


def make_resolver(
    snapshot: Snapshot | None,
    clock: Clock,
    *,
    server: tuple[str, int] | None = None,
    over_tcp: bool = False,
    heard: Callable[[str], None] | None = None,
) -> Resolver:
    """Asks this server, else the `name-server`s of the configuration, else those of the machine; `over_tcp`
    and `heard` are the resolver's."""
    texts = () if snapshot is None else snapshot.top.texts("name-server")
    written = [parse_host_port(text) for text in texts]
    servers = [(found.host, found.port or DNS_PORT) for found in written] if server is None else [server]
    return Resolver(servers or system_nameservers(), clock=clock, over_tcp=over_tcp, heard=heard)
