"""Who may open one more connection: in all, per virtual MTA, and from which source address.

`Permits` counts connections against `total-max-smtp-out`, each `VmtaState` against its own `max-smtp-out`,
and each queue against its own. A connection counts from the moment it is granted until it is given back.
"""

from __future__ import annotations

from mta.config.snapshot import EgressSource
from mta.config.values import NetworkLimit
from mta.queue.address import limit_of
from mta.queue.queue import DeliveryQueue
from mta.queue.slot import BUSY, CLOSED, OPENING, Slot
from mta.queue.timers import NEVER
from mta.queue.vmta import VmtaState

__all__ = ["Permits", "source_free_at", "usable_sources"]


class Permits:
    """The connections there are, against the connections there may be."""

    __slots__ = ("breakable", "claims", "idle", "level", "open", "retired", "total_max", "urgent")

    def __init__(self, total_max: int) -> None:
        self.total_max = total_max
        self.open = 0
        self.retired = 0  # connections that have been told to close
        self.claims = 0  # how many more of them have to, so that other queues get theirs
        self.urgent = 0  # those of the claims whose queues have the priority `level`, the highest of all
        self.level = -1
        self.idle: dict[Slot, None] = {}  # all idle connections, the longest idle first
        self.breakable: dict[Slot, None] = {}  # those that may be interrupted in the midst of a message

    def has_permit(self) -> bool:
        return self.open < self.total_max

    def acquire(self, queue: DeliveryQueue, vmta: VmtaState, now: float) -> Slot | None:
        """A slot for the queue, or None when no source address is free; the caller asked all other limits."""
        source = pick_source(queue, vmta, now)
        return None if source is None else self.grant(queue, vmta, source, now)

    def grant(self, queue: DeliveryQueue, vmta: VmtaState, source: EgressSource, now: float) -> Slot:
        """A slot from that source, whatever the limits say; it counts against all of them."""
        slot = Slot(queue, source, now)
        self.open += 1
        vmta.slots += 1
        queue.slots += 1
        queue.opening += 1
        queue.sources_open[source.ip] = queue.sources_open.get(source.ip, 0) + 1
        queue.last_grant_at = now
        if queue.active.allow_priority_interruption_during_transfer:
            self.breakable[slot] = None
        if queue.connect_window is not None:
            queue.connect_window.add(1, now)
        if queue.limits_addresses:
            window = queue.rates_of(source.ip).connect_window
            if window is not None:
                window.add(1, now)
        return slot

    def take_back_opening(self, slot: Slot) -> None:
        """Nothing was opened after all: it doesn't count against rates of connections."""
        queue = slot.queue
        windows = [queue.connect_window]
        if queue.limits_addresses:
            windows.append(queue.rates_of(slot.source.ip).connect_window)
        for window in windows:
            if window is not None:
                window.take_back(slot.taken_at)

    def to_interrupt(self) -> list[Slot]:
        """Busy connections that may be broken off for waiting queues of higher priority, the lowest first."""
        if not self.breakable:
            return []
        found = [
            slot
            for slot in self.breakable
            if slot.state is BUSY and not slot.is_retired and self.gives_way(slot)
        ]
        return sorted(found, key=lambda slot: slot.queue.active.queue_priority)

    def lay_down(self, slot: Slot) -> None:
        """The connection is idle."""
        self.idle[slot] = slot.queue.idle[slot] = slot.queue.vmta.idle[slot] = None

    def pick_up(self, slot: Slot) -> None:
        """The connection is not, or no longer, idle."""
        self.idle.pop(slot, None)
        slot.queue.idle.pop(slot, None)
        slot.queue.vmta.idle.pop(slot, None)

    def retire(self, slot: Slot) -> None:
        """The connection has to close; its permit is for others."""
        vmta = slot.queue.vmta
        slot.is_retired = True
        self.retired += 1
        self.claims -= 1
        self.urgent -= 1
        vmta.retired += 1
        vmta.claims -= 1
        vmta.urgent -= 1

    def gives_way(self, slot: Slot) -> bool:
        """Whether a queue of higher priority waits for the connection's permit and may have it."""
        queue = slot.queue
        vmta, active = queue.vmta, queue.active
        return active.allow_priority_interruption and (
            (self.urgent > 0 and self.level > active.queue_priority)
            or (vmta.urgent > 0 and vmta.ring.top > active.queue_priority)
        )

    def give_back(self, slot: Slot, vmta: VmtaState) -> None:
        """The connection is gone."""
        queue = slot.queue
        if slot.state is OPENING:
            queue.opening -= 1
        self.pick_up(slot)
        slot.state = CLOSED
        self.breakable.pop(slot, None)
        if slot.is_retired:
            self.retired -= 1
            vmta.retired -= 1
        queue.slots -= 1
        vmta.slots -= 1
        self.open -= 1
        left = queue.sources_open[slot.source.ip] - 1
        if left:
            queue.sources_open[slot.source.ip] = left
        elif queue.slots:
            del queue.sources_open[slot.source.ip]
        else:
            queue.rest()

    def __repr__(self) -> str:
        return f"<Permits {self.open}/{self.total_max}>"


def pick_source(queue: DeliveryQueue, vmta: VmtaState, now: float) -> EgressSource | None:
    """The next source address of the virtual MTA, in turn, that this queue may use."""
    sources = vmta.policy.sources
    if queue.source_turn == 0:
        vmta.next_turn += 1  # queues begin at different addresses
        queue.source_turn = vmta.next_turn
    for step in range(len(sources)):
        source = sources[(queue.source_turn + step - 1) % len(sources)]
        if may_use(queue, source, now):
            queue.source_turn += step + 1
            return source
    return None


def may_use(queue: DeliveryQueue, source: EgressSource, now: float) -> bool:
    """Whether an address is neither disabled for the queue nor used up."""
    return opens_at(queue, source, now) <= now


def opens_at(queue: DeliveryQueue, source: EgressSource, now: float) -> float:
    """When the queue may open a connection from an address; NEVER when another one has to end first."""
    at = now
    if queue.disabled_sources:
        at = max(at, queue.disabled_sources.get(source.ip, 0.0))
    caps = queue.active.source_ip_max_smtp_out
    if caps and queue.sources_open.get(source.ip, 0) >= cap_of(source.ip, caps):
        return NEVER
    if queue.limits_addresses:
        at = max(at, queue.rates_of(source.ip).opens_at(now, queue.next_size()))
    return at


def cap_of(ip: str, caps: tuple[NetworkLimit, ...]) -> float:
    """The connections an address may have: the number of the longest network around it."""
    limit = limit_of(ip, caps)
    return limit if isinstance(limit, int) else NEVER


def usable_sources(queue: DeliveryQueue, vmta: VmtaState, now: float) -> list[EgressSource]:
    """The source addresses that the queue may use at this moment."""
    return [source for source in vmta.policy.sources if may_use(queue, source, now)]


def source_free_at(queue: DeliveryQueue, vmta: VmtaState, now: float) -> float:
    """When the first address may be used; NEVER when a connection has to close, or mail to arrive, first."""
    return min((opens_at(queue, source, now) for source in vmta.policy.sources), default=NEVER)
