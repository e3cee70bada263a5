"""A scheduler whose total limits are borrowed (`leases.py`): they grow and shrink while connections are open.

When a lease has become smaller than what is open, connections are retired like those that are in the way of
another queue: idle ones at once, busy ones after their fair turn.

A rate that spans workers (max-smtp-msg-rate, max-smtp-data-volume-rate of a virtual MTA) is not lent: each
worker has an equal part, so that it holds in sum, and a worker with little mail leaves some of it unused.
So are the limits of a roll-up's queue (`sharedqueue.py`) and of hosts, as far as there is one for each
worker; smaller ones are places that are lent (`places.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from mta.queue.hosts import HostLimits, Place, PlaceDemand
from mta.queue.key import QueueKey
from mta.queue.notice import Noticed
from mta.queue.parking import Park
from mta.queue.policy import UNLIMITED, QueuePolicy, VmtaPolicy
from mta.queue.scheduler import Scheduler
from mta.queue.slot import Slot
from mta.service.sharedqueue import is_shared, own_policy, part_of

__all__ = ["Demand", "LeasedScheduler"]


class Demand(NamedTuple):
    """Connections that may be open or are, whichever is more, and those that are wanted."""

    holding: int
    wanted: int


class LeasedScheduler(Scheduler):
    """Begins with nothing; `lend` brings permits. `wanting()` is called when more are needed."""

    def __init__(
        self,
        *,
        policies: Callable[[QueueKey], QueuePolicy],
        vmtas: Callable[[str], VmtaPolicy],
        wanting: Callable[[], None],
        parts: int,
        part: int = 0,
        sizes: Callable[[int], int] = lambda message: 0,
        noticed: Noticed = lambda notice: None,
        hosts: Callable[[], HostLimits] = HostLimits,
        park: Park | None = None,
    ) -> None:
        """`parts` is the number of workers that deliver, of which this is number `part`; `sizes` gives the
        octets of a message."""
        super().__init__(
            policies=self._divided,
            vmtas=self._leased,
            total_max_smtp_out=0,
            sizes=sizes,
            noticed=noticed,
            hosts=lambda: replace(hosts(), parts=parts, part=part),
            park=park,
        )
        self._undivided = policies
        self._unleased = vmtas
        self._wanting = wanting
        self._parts = parts
        self._part = part
        self._lent: dict[str, int] = {}

    def _divided(self, key: QueueKey) -> QueuePolicy:
        policy = self._undivided(key)
        return own_policy(policy, self._parts, self._part) if is_shared(key) else policy

    def _leased(self, name: str) -> VmtaPolicy:
        policy = self._unleased(name)
        if policy.max_smtp_msg_rate is not None:
            policy = replace(policy, max_smtp_msg_rate=part_of(policy.max_smtp_msg_rate, self._parts))
        if policy.max_smtp_data_volume_rate is not None:
            part = part_of(policy.max_smtp_data_volume_rate, self._parts)
            policy = replace(policy, max_smtp_data_volume_rate=part)
        if policy.max_smtp_out >= UNLIMITED:
            self._lent.pop(name, None)
            return policy
        if name not in self._lent:
            self._lent[name] = 0
            self._wanting()
        return replace(policy, max_smtp_out=min(policy.max_smtp_out, self._lent[name]))

    def lend(self, total: int, vmtas: Mapping[str, int]) -> None:
        """So many connections may be open now, in all and for virtual MTAs with a limit of their own."""
        self._permits.total_max = total
        for name, most in vmtas.items():
            state = self._registry.vmtas.get(name)
            if name in self._lent and state is not None:
                self._lent[name] = most
                # A lease from before a reload may be more than what holds now.
                most = min(most, self._unleased(name).max_smtp_out)
                state.policy = replace(state.policy, max_smtp_out=most)
        for state in self._registry.vmtas.values():
            self._turns.activate(state)

    def demand(self) -> Demand:
        """What is needed in all."""
        permits = self._permits
        waiting = sum(len(state.ring) for state in self._registry.vmtas.values())
        return demand_of(permits.open, permits.total_max, waiting)

    def vmta_demands(self) -> dict[str, Demand]:
        """What the virtual MTAs with a limit of their own need."""
        states = ((name, self._registry.vmtas.get(name)) for name in self._lent)
        return {
            name: demand_of(state.slots, state.policy.max_smtp_out, len(state.ring))
            for name, state in states
            if state is not None
        }

    def place_demands(self) -> dict[Place, PlaceDemand]:
        """What is needed of limits that are smaller than the number of workers; ask with it at once, for what
        nobody needs any more is given back and not named again."""
        return self._hosts.demands()

    def lend_places(self, places: Mapping[Place, int], now: float) -> None:
        """Whether a connection may be open at each of them."""
        for place, size in places.items():
            host = self._hosts.lend(place, size)
            if host is not None:
                self._turns.see_to(host, now)

    def take(self, now: float, limit: int = 64) -> list[Slot]:
        """As always; asks for more when permits run out, and retires what is too much."""
        slots = super().take(now, limit)
        permits = self._permits
        surplus = permits.open - permits.total_max - permits.retired
        if surplus > permits.claims:
            permits.claims = surplus
        is_short = not permits.has_permit() and any(s.ring for s in self._registry.vmtas.values())
        for name in self._lent:
            state = self._registry.vmtas.get(name)
            if state is None:
                continue
            is_short = is_short or (bool(state.ring) and not state.has_permit())
            surplus = state.slots - state.policy.max_smtp_out - state.retired
            if surplus > state.claims:
                state.claims = surplus
        if is_short or self._hosts.is_short:
            self._hosts.is_short = False
            self._wanting()
        return slots

    def reconfigure(self, now: float, total_max_smtp_out: int | None = None) -> None:
        """The settings have changed; the new total comes with the next lease."""
        super().reconfigure(now)


def demand_of(in_use: int, most: int, waiting: int) -> Demand:
    """Who is at its limit wants as much again, so that leases grow fast; others what they have queues for."""
    more = max(waiting, in_use) if waiting and in_use >= most else waiting
    return Demand(max(most, in_use), in_use + more)
