"""MX roll-up at work: which queue's mail belongs into which roll-up's queue.

Whether a domain is rolled up is known when its MX is. So the first mail of a domain enters the domain's own
queue; when that queue wants a connection, its MX is looked up, and what waits moves to `NAME.rollup/vmta`.
Until the MX record expires, further mail of the domain enters the roll-up's queue at once.

With `rollup-by-ip` the hosts stay those of the domain that came first, and another domain joins only when
the addresses of its best hosts are the same: it is the same servers under other names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from mta.clock import Clock
from mta.config.rollups import Rollup, match_rollup
from mta.config.snapshot import Snapshot
from mta.delivery.opener import RolledUp
from mta.queue.key import QueueKey
from mta.routing.policy import HostRoute, RoutePolicy
from mta.routing.resolver import Resolver, Status
from mta.routing.router import Router, Target

__all__ = ["Rollups"]

#: Domains remembered; above it the memory starts anew.
MEMORY = 100_000


class Known(NamedTuple):
    """The roll-up of a domain, as long as its MX records hold."""

    name: str
    until: float


class Rollups:
    """One worker's roll-ups, for one configuration."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        resolver: Resolver,
        router: Router,
        policies: Callable[[QueueKey], RoutePolicy],
        clock: Clock,
        former: Rollups | None = None,
    ) -> None:
        """`former` had mail under its names that may wait still: what is known of their ways stays known."""
        self._snapshot = snapshot
        self._rollups = snapshot.rollups
        self._by_name = {rollup.name: rollup for rollup in snapshot.rollups}
        self._resolver = resolver
        self._router = router
        self._policies = policies
        self._clock = clock
        self._known: dict[QueueKey, Known] = {}
        self._first: dict[str, QueueKey] = {}  # rollup-by-ip: the queue whose hosts are the route
        if former is not None:
            self._by_name = former._by_name | self._by_name
            self._first = dict(former._first)

    def __bool__(self) -> bool:
        return bool(self._rollups)

    def key(self, key: QueueKey) -> QueueKey:
        """The queue that mail for `key` enters, as far as that is known now."""
        known = self._known.get(key)
        if known is None or known.until <= self._clock.now():
            return key
        return QueueKey(known.name, key.vmta)

    def policy(self, key: QueueKey) -> RoutePolicy:
        """The way of a queue's mail: a roll-up of named hosts goes there."""
        policy = self._policies(key)
        rollup = self._by_name.get(key.domain)
        if rollup is None or policy.levels or not rollup.hosts:
            return policy
        return replace(policy, levels=(tuple(HostRoute(host) for host in rollup.hosts),))

    async def check(self, key: QueueKey) -> None:
        """Raises RolledUp when the mail of this queue belongs into a roll-up's."""
        if not self._rollups or key.domain in self._by_name or self._policies(key).levels:
            return
        if self._snapshot.effective(*key).boolean("disable-mx-rollup"):
            return
        answer = await self._resolver.mx(key.domain)
        if answer.status is not Status.FOUND or not answer.mx:
            return
        best = min(record.preference for record in answer.mx)
        hosts = [record.host for record in answer.mx if record.preference == best]
        rollup = match_rollup(self._rollups, hosts)
        if rollup is None or not await self._has_way(rollup, key):
            return
        if len(self._known) >= MEMORY:
            self._known.clear()
        self._known[key] = Known(rollup.name, answer.expires_at)
        raise RolledUp(rollup.name)

    def way(self, key: QueueKey) -> QueueKey:
        """Whose MX leads to the hosts of this queue."""
        return self._first.get(key.domain, key) if key.domain in self._by_name else key

    def is_lost(self, key: QueueKey) -> bool:
        """Whether this is a roll-up's queue and nothing tells where its mail goes."""
        return key.domain in self._by_name and key.domain not in self._first and not self.policy(key).levels

    async def _has_way(self, rollup: Rollup, key: QueueKey) -> bool:
        """Whether the roll-up's queue would know where to go with this domain's mail."""
        target = QueueKey(rollup.name, key.vmta)
        if self.policy(target).levels:
            return True
        if not rollup.is_by_ip:
            return False
        mine = await self._best_addresses(key)
        first = self._first.setdefault(rollup.name, key)
        return first == key or mine == await self._best_addresses(first)

    async def _best_addresses(self, key: QueueKey) -> frozenset[str]:
        targets: tuple[Target, ...] = await self._router.route(key, self._policies(key))
        return frozenset(target.ip for target in targets if target.preference == 0)

    def __repr__(self) -> str:
        return f"<Rollups {len(self._rollups)}, {len(self._known)} domains known>"
