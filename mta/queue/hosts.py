"""How many connections one local address may have to one MX host, or to an address of it, over all queues.

`mx-connection-limit` and `ip-connection-limit` give hosts a limit; of several lines that fit the closest one
holds. A connection is counted from the moment it is tried to the moment it is closed.

Queues that find a host full wait for it, first come, first served. When a place becomes free it is kept for
the first of them for CALL_LASTS seconds, so that nobody who comes later takes it. While somebody waits,
connections to the host are closed after their fair turn (`Scheduler`), and idle ones at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mta.config.domainpattern import Reach, normal_domain
from mta.config.values import NetworkLimit, PatternLimit
from mta.queue.address import limit_of
from mta.queue.policy import UNLIMITED
from mta.queue.timers import NEVER

if TYPE_CHECKING:
    from mta.queue.queue import DeliveryQueue
    from mta.queue.slot import Slot

__all__ = ["Host", "HostLimits", "Hosts"]

#: How long (seconds) a place is kept for the queue whose turn it is.
CALL_LASTS = 5.0


@dataclass(frozen=True, slots=True)
class HostLimits:
    """The lines of both directives; `parts` workers share them, of which this is number `part` (from 0)."""

    names: tuple[PatternLimit, ...] = ()
    networks: tuple[NetworkLimit, ...] = ()
    parts: int = 1
    part: int = 0

    def of_name(self, host: str) -> int | None:
        """The limit of an MX host; None for none."""
        name = normal_domain(host)
        fitting = [line for line in self.names if line.pattern.matches(name)]
        if not fitting:
            return None
        closest = max(fitting, key=lambda line: (line.pattern.reach == Reach.EXACT, len(line.pattern.name)))
        return self._part(closest.limit)

    def of_address(self, ip: str) -> int | None:
        """The limit of one of its addresses; None for none."""
        limit = limit_of(ip, self.networks)
        return self._part(limit) if isinstance(limit, int) else None

    def _part(self, limit: int) -> int:
        return max(1, limit // self.parts + (self.part < limit % self.parts))


class Host:
    """One host, or one address, as seen from one local address."""

    __slots__ = ("called", "directive", "limit", "name", "place", "slots", "waiting", "wake_at")

    def __init__(self, place: tuple[str, str, str], limit: int) -> None:
        self.place = place
        self.directive, _, self.name = place
        self.limit = limit
        self.slots: dict[Slot, None] = {}
        self.waiting: dict[DeliveryQueue, None] = {}
        self.called: dict[DeliveryQueue, float] = {}  # whose turn it is, and until when a place is kept
        self.wake_at = NEVER

    def admits(self, queue: DeliveryQueue) -> bool:
        """Whether a place is free for that queue."""
        if queue in self.called:
            return len(self.slots) < self.limit
        return not self.waiting and len(self.slots) + len(self.called) < self.limit

    def wants_back(self) -> int:
        """How many connections have to close so that everybody who waits gets one."""
        return len(self.waiting) - sum(slot.is_retired for slot in self.slots)

    def call(self, now: float) -> list[DeliveryQueue]:
        """Those who may come now: as many as there are places; calls that nobody followed are over.

        Who waits for a permit or dials already keeps its place.
        """
        for queue in [queue for queue, until in self.called.items() if until <= now]:
            if queue.in_ring or queue.opening:
                self.called[queue] = now + CALL_LASTS
            else:
                del self.called[queue]
        called = []
        while self.waiting and len(self.slots) + len(self.called) < self.limit:
            queue = next(iter(self.waiting))
            del self.waiting[queue]
            if self not in queue.crowded_at:
                continue  # somebody else has called it
            queue.crowded_at = ()
            if queue.ready.runs:
                self.called[queue] = now + CALL_LASTS
            called.append(queue)
        return called

    def is_idle(self) -> bool:
        return not (self.slots or self.waiting or self.called)

    def __repr__(self) -> str:
        return f"<Host {self.name}: {len(self.slots)}/{self.limit}, {len(self.waiting)} queues wait>"


class Hosts:
    """The hosts that have a limit and are in use."""

    __slots__ = ("_known", "limits")

    def __init__(self, limits: HostLimits) -> None:
        self.limits = limits
        self._known: dict[tuple[str, str, str], Host] = {}

    def enter(self, slot: Slot, host: str, ip: str) -> bool:
        """Count the connection at a host and at its address, if both have room; nowhere else any more.

        What has no room is noted, for `crowd`.
        """
        if not (self.limits.names or self.limits.networks):
            return True
        found = list(self._limited(slot.source.ip, host, ip))
        full = [one for one in found if not one.admits(slot.queue)]
        for one in slot.hosts:
            one.slots.pop(slot, None)
        slot.hosts = ()
        if full:
            slot.refused_by += tuple(full)
            return False
        for one in found:
            one.called.pop(slot.queue, None)
            one.slots[slot] = None
        slot.hosts, slot.refused_by = tuple(found), ()
        return True

    def crowd(self, slot: Slot) -> None:
        """No host has room for the connection: let its queue wait for those that refused it."""
        queue = slot.queue
        # A host that refused it may have been forgotten since, and made anew.
        slot.refused_by = tuple(self._known.setdefault(host.place, host) for host in slot.refused_by)
        queue.crowded_at = slot.refused_by
        for host in slot.refused_by:
            host.called.pop(queue, None)
            host.waiting[queue] = None

    def leave(self, slot: Slot) -> list[Host]:
        """The connection is gone; returns the hosts where others may have its place."""
        left = [*slot.hosts, *slot.refused_by]
        for host in slot.hosts:
            host.slots.pop(slot, None)
        slot.hosts = slot.refused_by = ()
        return left

    def forget(self, host: Host) -> None:
        """Drop a host that nobody uses."""
        if host.is_idle() and self._known.get(host.place) is host:
            del self._known[host.place]

    def configure(self, limits: HostLimits) -> list[Host]:
        """Follow other limits; returns the hosts to look at. What stands stays."""
        self.limits = limits
        for host in self._known.values():
            limit = self._limit(host.directive, host.name)
            host.limit = UNLIMITED if limit is None else limit
        return list(self._known.values())

    def _limited(self, source: str, host: str, ip: str) -> Iterable[Host]:
        for directive, name in (("mx-connection-limit", host.lower()), ("ip-connection-limit", ip)):
            place = directive, source, name
            found = self._known.get(place)
            if found is None:
                limit = self._limit(directive, name)
                if limit is None:
                    continue
                found = self._known[place] = Host(place, limit)
            yield found

    def _limit(self, directive: str, name: str) -> int | None:
        limits = self.limits
        return limits.of_address(name) if directive == "ip-connection-limit" else limits.of_name(name)

    def __len__(self) -> int:
        return len(self._known)
