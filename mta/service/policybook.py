"""The settings of queues and virtual MTAs as each part of delivery wants them, worked out once.

A snapshot gives the same `Settings` object to all queues that the same blocks hold for, so policies are kept
by that object: a million domains that no block names share one policy of each kind. A reload makes another.
"""

from __future__ import annotations

from dataclasses import replace

from mta.config.snapshot import Snapshot
from mta.config.values import NetworkLimit, PatternLimit
from mta.delivery.policy import DeliveryPolicy
from mta.queue.hosts import HostLimits
from mta.queue.key import QueueKey
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.reaction import ReplyRules
from mta.routing.policy import RoutePolicy

__all__ = ["PolicyBook"]


class PolicyBook:
    """Looks policies up for one snapshot; every method is a dictionary look-up after the first time."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._queues: dict[int, QueuePolicy] = {}
        self._deliveries: dict[int, DeliveryPolicy] = {}
        self._routes: dict[tuple[int, str], RoutePolicy] = {}
        self._rules: dict[int, ReplyRules] = {}

    def queue(self, key: QueueKey) -> QueuePolicy:
        """How much, how fast, how often again."""
        settings = self.snapshot.effective(key.domain, key.vmta)
        found = self._queues.get(id(settings))
        if found is None:
            found = QueuePolicy.from_settings(settings)
            found = replace(
                found,
                backoff_reroute_to=self._members(found.backoff_reroute_to),
                reroute_to=self._members(found.reroute_to),
            )
            self._queues[id(settings)] = found
        return found

    def _members(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The virtual MTAs that are meant: those of a pool where one is named."""
        pools = self.snapshot.pools
        return tuple(
            member for name in names for member in (pools[name].members if name in pools else (name,))
        )

    def delivery(self, key: QueueKey) -> DeliveryPolicy:
        """How to speak to the receivers."""
        settings = self.snapshot.effective(key.domain, key.vmta)
        found = self._deliveries.get(id(settings))
        if found is None:
            found = self._deliveries[id(settings)] = DeliveryPolicy.from_settings(settings)
        return found

    def route(self, key: QueueKey) -> RoutePolicy:
        """Where the mail goes."""
        settings = self.snapshot.effective(key.domain, key.vmta)
        place = (id(settings), key.vmta)
        found = self._routes.get(place)
        if found is None:
            ips = [source.ip for source in self.vmta(key.vmta).sources if source.ip]
            found = self._routes[place] = RoutePolicy.from_settings(settings, ips)
        return found

    def rules(self, key: QueueKey) -> ReplyRules:
        """What replies mean."""
        settings = self.snapshot.effective(key.domain, key.vmta)
        found = self._rules.get(id(settings))
        if found is None:
            policy = self.queue(key)
            patterns = self.snapshot.reply_patterns(policy.smtp_pattern_list)
            found = self._rules[id(settings)] = ReplyRules(policy, patterns, self.snapshot.bounce_rules)
        return found

    def hosts(self) -> HostLimits:
        """How many connections single hosts may have."""
        top = self.snapshot.top
        names, networks = top.limits("mx-connection-limit"), top.limits("ip-connection-limit")
        return HostLimits(
            tuple(line for line in names if isinstance(line, PatternLimit)),
            tuple(line for line in networks if isinstance(line, NetworkLimit)),
        )

    def vmta(self, name: str) -> VmtaPolicy:
        """The sources and limits of a virtual MTA; one that a reload took away keeps the general ones."""
        member = self.snapshot.vmtas.get(name)
        return VmtaPolicy() if member is None else VmtaPolicy.from_vmta(member)
