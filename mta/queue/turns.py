"""Whose turn it is: the rings of queues that want a connection, and the deadlines of those that wait.

The scheduler's theory of operation (scheduler.py) explains both. Everything here costs the same however
many queues there are: a queue is looked at when something happened to it or its deadline has come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

from mta.queue.hosts import Host, Hosts
from mta.queue.key import QueueKey
from mta.queue.modes import Modes
from mta.queue.permits import Permits, source_free_at
from mta.queue.queue import DeliveryQueue
from mta.queue.registry import Registry
from mta.queue.rerouting import Rerouting
from mta.queue.rings import Ring
from mta.queue.slot import CLOSED, IDLE, OPENING, Slot
from mta.queue.timers import NEVER, Deadlines
from mta.queue.vmta import Place, VmtaState

__all__ = ["MOMENT", "Turns"]

#: A queue that nobody used for so long is forgotten (its counters with it).
FORGET_AFTER = 600.0

#: When there is more to do than is done in one go, the rest comes so much later (seconds).
MOMENT = 0.001

#: Deadlines looked at in one call, so that ten thousand of them at once don't hold up the event loop.
DEADLINES_AT_ONCE = 500


class Turns:
    """Rings, deadlines, and what they have turned up."""

    __slots__ = (
        "_active",
        "_capped",
        "_deadlines",
        "_hosts",
        "_modes",
        "_parting",
        "_recalled",
        "_rerouting",
        "_standing",
        "arrived",
        "expired",
        "permits",
        "registry",
    )

    def __init__(
        self, registry: Registry, permits: Permits, modes: Modes, rerouting: Rerouting, hosts: Hosts
    ) -> None:
        self._hosts = hosts
        self._modes = modes
        self._rerouting = rerouting
        self.registry = registry
        self.permits = permits
        self.expired: deque[tuple[QueueKey, int]] = deque()
        #: Queues that got something new, and when: each is considered once before anything is given out.
        self.arrived: dict[DeliveryQueue, float] = {}
        self._active: Ring[Place] = Ring()
        self._standing: dict[int, int] = {}  # queues of the virtual MTAs in that ring, by priority
        self._deadlines = Deadlines()
        self._capped: dict[VmtaState, None] = {}  # connections of theirs are in the way of others
        self._recalled: deque[DeliveryQueue] = deque()
        self._parting: list[Slot] = []  # idle connections whose place at a host others need

    # -- giving -----------------------------------------------------------------------------------------

    def take(self, now: float, limit: int) -> list[Slot]:
        """One connection for each queue in turn, as long as there are permits."""
        slots: list[Slot] = []
        active, permits = self._active, self.permits
        while active and len(slots) < limit:
            if not permits.has_permit():
                self._claim()
                return slots
            place = active.take()
            vmta = place.vmta
            if place is not vmta.place:
                continue  # it stands on a higher level by now
            vmta.place = None
            self._stand(vmta, -1)
            slot = None
            while slot is None and vmta.ring and self._may_open(vmta, now):
                slot = self._grant(vmta, now)
            if slot is not None:
                slots.append(slot)
                self.activate(vmta)
        permits.claims = permits.urgent = 0
        return slots

    def _stand(self, vmta: VmtaState, sign: int) -> None:
        """Count the queues of a virtual MTA among those that wait for a permit, or no longer."""
        standing = self._standing
        for level, count in vmta.ring.counts():
            left = standing.get(level, 0) + sign * count
            if left:
                standing[level] = left
            else:
                del standing[level]

    def _claim(self) -> None:
        """No permit is left: so many connections have to end before every queue has one."""
        permits = self.permits
        standing = self._standing
        level = max(standing, default=-1)
        waiting, urgent = sum(standing.values()), standing.get(level, 0)
        permits.claims = waiting - permits.retired
        permits.urgent, permits.level = urgent - permits.retired, level

    def recall(self, now: float, limit: int) -> list[Slot]:
        """Idle connections whose queue has something again, and retired ones whose permit others need."""
        parting, self._parting = self._parting[:limit], self._parting[limit:]
        slots = [slot for slot in parting if slot.state is not CLOSED]
        while self._recalled and len(slots) < limit:
            queue = self._recalled[0]
            wanted = queue.ready.runs - queue.opening
            if wanted > 0 and queue.unblocks_at(now) <= now:
                slots += self._call_back(queue.to_call_back(min(wanted, limit - len(slots)), now))
            if len(slots) < limit:
                self._recalled.popleft()
                queue.is_recalled = False
                self.consider(queue, now)
        return slots + self._surplus(limit - len(slots))

    def _call_back(self, slots: list[Slot]) -> list[Slot]:
        """These idle connections are about to draw again; returns them."""
        for slot in slots:
            self.permits.pick_up(slot)
            slot.state = OPENING
            slot.queue.opening += 1
        return slots

    def has_work(self) -> bool:
        """Whether `take` or `recall` may have something right now."""
        if self._recalled or self.expired or self._capped or self._parting:
            return True
        if not self._active:
            return False
        if self.permits.has_permit():
            return True
        return self.permits.claims > 0 and bool(self.permits.idle or self.permits.to_interrupt())

    def next_deadline(self) -> float | None:
        """The first of all deadlines."""
        return self._deadlines.first()

    def _surplus(self, limit: int) -> list[Slot]:
        """Idle connections that have to close so that queues without one get theirs."""
        slots: list[Slot] = []
        if self.permits.claims > 0:
            slots += self._retire_idle(self.permits.idle, min(limit, self.permits.claims))
        for vmta in list(self._capped):
            slots += self._retire_idle(vmta.idle, min(limit - len(slots), vmta.claims))
            if vmta.claims <= 0 or not vmta.idle:
                del self._capped[vmta]
        return slots + self._interrupted(limit - len(slots))

    def _interrupted(self, limit: int) -> list[Slot]:
        """Connections that are broken off in the midst of a message so that queues of higher priority get
        theirs."""
        slots: list[Slot] = []
        for slot in self.permits.to_interrupt()[: max(0, limit)]:
            if self.permits.gives_way(slot):
                self.permits.retire(slot)
                slot.is_interrupted = True
                slots.append(slot)
        return slots

    def _retire_idle(self, idle: dict[Slot, None], wanted: int) -> list[Slot]:
        slots = list(islice(idle, max(0, wanted)))
        for slot in slots:
            self.permits.pick_up(slot)
            self.permits.retire(slot)
        return slots

    def _may_open(self, vmta: VmtaState, now: float) -> bool:
        """Whether a virtual MTA has a permit and its rate allows a message; if not, something wakes it."""
        self.registry.follow_vmta(vmta)
        lifts_at = vmta.rate_lifts_at(now)
        if lifts_at > now:
            self._deadlines.sooner(vmta, lifts_at)
            return False
        if vmta.has_permit():
            vmta.claims = vmta.urgent = 0
            return True
        vmta.claims = len(vmta.ring) - vmta.retired
        vmta.urgent = vmta.ring.at_top() - vmta.retired
        if vmta.claims > 0 and (vmta.idle or self.permits.to_interrupt()):
            self._capped[vmta] = None
        return False

    def _grant(self, vmta: VmtaState, now: float) -> Slot | None:
        """One connection for the queue at the head of the ring, unless it has no use for it any more."""
        queue = vmta.ring.take()
        queue.in_ring = False
        self.registry.follow(queue)
        when = queue.wants_connection_at(now)
        if when > now:
            self._deadlines.sooner(queue, when)
            return None
        slot = self.permits.acquire(queue, vmta, now)
        if slot is None:
            if queue.disabled_sources:
                queue.note_error(now, "no source address may be used")
            self._deadlines.sooner(queue, source_free_at(queue, vmta, now))
            return None
        queue.restart_patience(now)
        self.consider(queue, now)
        return slot

    # -- changes ----------------------------------------------------------------------------------------

    def consider(self, queue: DeliveryQueue, now: float) -> None:
        """Something changed: put the queue in its ring, call its idle connections, or set its deadline."""
        if not queue.ready.runs:
            return
        if queue.idle:
            # Those that are being opened come to draw by themselves: calling for them too would never end.
            unserved = queue.ready.runs - queue.opening
            if unserved > 0 and not queue.is_recalled:
                self._call(queue, now)
            if queue.is_recalled and unserved <= len(queue.idle):
                return  # they get to all of it, or it is considered again when they are called
        if queue.in_ring or queue.is_patient(now):
            return
        when = queue.wants_connection_at(now)
        if when <= now:
            queue.in_ring = True
            level = queue.active.queue_priority
            queue.vmta.ring.append(queue, level)
            if queue.vmta.place is not None:
                self._standing[level] = self._standing.get(level, 0) + 1
            self.activate(queue.vmta)
        elif when < queue.wake_at:
            self._deadlines.set(queue, when)
        elif when == NEVER and queue.vmta.volume_window is not None:
            queue.vmta.throttled[queue] = None

    def octets_freed(self, queue: DeliveryQueue, now: float) -> None:
        """A message is off its way: what waited for its octets may go on."""
        self.consider(queue, now)
        if queue.vmta.throttled or queue.vmta.ring:
            self._deadlines.sooner(queue.vmta, now)

    def _call(self, queue: DeliveryQueue, now: float) -> None:
        """Have the queue's idle connections called back, now or as soon as they may draw."""
        lifts_at = queue.shared_lifts_at(now)
        when = queue.unblocks_at(now)
        if lifts_at > now:
            queue.vmta.throttled[queue] = None
            self._deadlines.sooner(queue.vmta, lifts_at)
        elif when > now:
            self._deadlines.sooner(queue, when)
        else:
            queue.is_recalled = True
            self._recalled.append(queue)

    def activate(self, vmta: VmtaState) -> None:
        """The virtual MTA may have a permit again, or a queue that wants one."""
        level = vmta.ring.top
        if vmta.ring and (vmta.place is None or level > vmta.place.level):
            if vmta.place is None:
                self._stand(vmta, 1)
            vmta.place = Place(vmta, level)
            self._active.append(vmta.place, level)

    def wake_at(self, queue: DeliveryQueue, when: float) -> None:
        """Look at the queue at `when`, or before."""
        if when < queue.wake_at:
            self._deadlines.set(queue, when)

    def wake_all(self, now: float) -> None:
        """Look at everything again: the settings have changed."""
        self.see_to_arrived()
        for queue in self.registry:
            self._deadlines.sooner(queue, now)
        self._active = Ring()
        self._standing.clear()
        for vmta in self.registry.vmtas.values():
            self._deadlines.sooner(vmta, now)
            waiting, vmta.ring, vmta.place = list(vmta.ring), Ring(), None
            for queue in waiting:
                self.registry.follow(queue)
                vmta.ring.append(queue, queue.active.queue_priority)
            self.activate(vmta)

    def expire(self, queue: DeliveryQueue, refs: Iterable[int]) -> None:
        """These are out of time or attempts."""
        self.expired.extend((queue.key, ref) for ref in refs)

    # -- deadlines --------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Look at everything that has got something new, and whose deadline has come."""
        self.see_to_arrived()
        for _ in range(DEADLINES_AT_ONCE):
            owner = self._deadlines.pop_due(now)
            if owner is None:
                return
            if isinstance(owner, DeliveryQueue):
                self.refresh(owner, now)
            elif isinstance(owner, VmtaState):
                self._refresh_vmta(owner, now)
            elif isinstance(owner, Host):
                self.see_to(owner, now)

    def see_to_arrived(self) -> None:
        """Consider each queue that got something new, however much that was, as of the time it came."""
        if self.arrived:
            arrived, self.arrived = self.arrived, {}
            for queue, when in arrived.items():
                self.consider(queue, when)

    def see_to(self, host: Host, now: float) -> None:
        """Somebody came to a host or left it: call whose turn it is, ask for places that are wanted."""
        for queue in self._hosts.call(host, now):
            self.consider(queue, now)
            for kept in queue.called_at:
                self._deadlines.sooner(kept, kept.called[queue])
        self.revisit()
        if host.first_in_line() is not None:
            self._deadlines.sooner(host, now + MOMENT)  # a long line
        if host.called:
            self._deadlines.sooner(host, min(host.called.values()))
        wanted = host.wants_back()
        host.is_wanted = wanted > 0
        for slot in host.slots:
            # Its name may have room and its address none, or the other way round.
            slot.is_wanted = host.is_wanted or any(one.is_wanted for one in slot.hosts)
            if wanted > 0 and slot.state is IDLE and not slot.is_retired:
                wanted -= 1
                self.permits.pick_up(slot)
                self.permits.retire(slot)
                self._parting.append(slot)
        self._hosts.forget(host)

    def revisit(self) -> None:
        """Hosts that somebody has left for another one, or come to: see to them next time."""
        while self._hosts.to_revisit:
            self._deadlines.sooner(self._hosts.to_revisit.pop(), 0.0)

    def refresh(self, queue: DeliveryQueue, now: float) -> None:
        """See to everything in a queue that may be due, then set its next deadline."""
        self.registry.follow(queue)
        self._modes.refresh(queue, now)
        self._hosts.follow(queue)
        self.revisit()
        if queue.is_rerouting:
            target = self._rerouting.move(queue, now)
            if target is not None:
                self.consider(target, now)
                self.arm(target, now)
        self.expire(queue, queue.wake_due(now))
        self.expire(queue, queue.expire(now))
        self.consider(queue, now)
        self.arm(queue, now)

    def arm(self, queue: DeliveryQueue, now: float) -> None:
        """Set the queue's deadline to the earliest thing it waits for; forget it when that is nothing."""
        when = min(queue.backoff_until, queue.expires_at())
        if queue.disabled_sources:
            when = min(when, *queue.disabled_sources.values())
        due = queue.deferred.next_due()
        if due is not None and due < when:
            when = due if due > now else now + MOMENT
        if when == NEVER and not queue.slots:
            if now >= queue.last_used_at + FORGET_AFTER and queue.is_forgettable(now):
                self._deadlines.set(queue, NEVER)
                self.registry.forget(queue)
                return
            when = max(now, queue.last_used_at) + FORGET_AFTER
        self._deadlines.sooner(queue, when)

    def _refresh_vmta(self, vmta: VmtaState, now: float) -> None:
        """The rate of a virtual MTA allows messages again, or its settings have changed."""
        self.registry.follow_vmta(vmta)
        throttled = list(vmta.throttled)
        vmta.throttled.clear()
        for queue in throttled:
            self.consider(queue, now)
        self.activate(vmta)
