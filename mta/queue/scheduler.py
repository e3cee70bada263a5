"""Which queue gets the next connection, and which message goes down it.

Theory of operation
-------------------
The scheduler is told what happens (`admit`, `opened`, `settle`, `failed`, `release`, the operator's verbs)
and is asked three questions: which connections to open (`take`), which idle ones to use again (`recall`),
and what to send on this one (`draw`). Every answer obeys every limit; nobody else keeps any. It never waits,
never does I/O and never asks for the time: `now` comes in and must not run backwards.

*Rings.* A queue that could use one more connection right now stands once in the ring of its virtual MTA;
virtual MTAs with such queues and with permits left stand in the ring of the scheduler. `take` goes round
both: one connection for a queue, then back to the end. So a turn costs the same with ten queues or ten
thousand, every queue in a ring gets its turn within one round, and a virtual MTA (or a whole server) that
has used up its connections costs nothing until one is given back.

*Deadlines.* A queue that must wait for a time (a rate, retry-after, a deferred recipient, patience,
expiry) stands in no ring but in a heap, with one deadline: the earliest of its reasons. `refresh` then looks
at all of them and sets the next one. Nothing ever scans all queues.

*How many connections.* The first waiting message opens one. A queue with less than
MESSAGES_PER_CONNECTION messages per connection is short: its connections get CONNECTION_PATIENCE to take
what waits before another is opened. A long queue gets one per MESSAGES_PER_CONNECTION messages at once. A
connection that is being opened will take one message, so three messages never open more than three.

*Idleness.* A connection that drew nothing is idle; the dispatcher decides how long it is kept. When its
queue has something again, `recall` names it. When other queues starve because all permits are taken, idle
connections and those that had their share are retired: `draw` gives nothing and sets `slot.is_retired`.

*Failures.* A failure of the queue (no connection, 4xx to MAIL, 421) makes it wait for `retry-after`; a
failed opening beside connections that work only stops further openings. A recipient's own temporary
refusal makes that recipient wait. What is out of time or attempts is handed out by `expired`.

Nobody is lost: each admitted reference is in exactly one place: ready, deferred, in flight on one slot, or
in the list of expired ones, until `settle`, `expired`, `delete` or `empty` hands it out for good.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from math import ceil
from typing import NamedTuple

from mta.errors import Contradiction
from mta.queue.key import QueueKey
from mta.queue.permits import Permits, source_free_at
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.queue import FRUITLESS_CONNECTIONS, DeliveryQueue, QueueMode
from mta.queue.reaction import Reaction
from mta.queue.slot import Slot, SlotState
from mta.queue.timers import NEVER, Deadlines
from mta.queue.vmta import VmtaState

__all__ = ["Scheduler", "Settled"]

#: A queue that nobody used for so long is forgotten (its counters with it).
FORGET_AFTER = 600.0

#: Deadlines looked at in one call, so that ten thousand of them at once don't hold up the event loop.
DEADLINES_AT_ONCE = 500

#: A connection keeps its permit for at least so many messages, even when others wait for one.
FAIR_TURN = 50

RECEIVED_MASK = 0xFFFFFFFF


class Settled(NamedTuple):
    """What became of a recipient: `due` for the next attempt, or `is_expired`: there is none."""

    attempts: int
    due: float = 0.0
    is_expired: bool = False


class Scheduler:
    """All queues of one worker; see the theory of operation above."""

    def __init__(
        self,
        *,
        policies: Callable[[QueueKey], QueuePolicy],
        vmtas: Callable[[str], VmtaPolicy],
        total_max_smtp_out: int,
    ) -> None:
        self._policies = policies
        self._vmta_policies = vmtas
        self.permits = Permits(total_max_smtp_out)
        self.by_key: dict[QueueKey, DeliveryQueue] = {}
        self.vmtas: dict[str, VmtaState] = {}
        self._active: deque[VmtaState] = deque()
        self._deadlines = Deadlines()
        self._recalled: deque[DeliveryQueue] = deque()
        self._expired: deque[tuple[QueueKey, int]] = deque()
        self._epoch = 1
        self._is_starved = False

    # -- in ---------------------------------------------------------------------------------------------

    def admit(
        self,
        key: QueueKey,
        ref: int,
        now: float,
        *,
        received: float,
        attempts: int = 0,
        due: float | None = None,
    ) -> None:
        """Add one recipient; with `due` it waits until then."""
        queue = self.by_key.get(key)
        if queue is None:
            queue = self._create(key, now)
        second = int(received) if received > 0.0 else 0
        if due is not None and due > now:
            self._deadlines.sooner(queue, float(queue.defer(ref, second, attempts, due)))
            return
        queue.add_ready(ref, second, attempts)
        if now < queue.retry_at and queue.policy.retry_upon_new_mail:
            queue.retry_at = queue.open_after = now
        if not queue.in_ring:
            self._consider(queue, now)
        if queue.wake_at == NEVER:
            self._deadlines.set(queue, queue.expires_at())

    # -- connections ------------------------------------------------------------------------------------

    def take(self, now: float, limit: int = 64) -> list[Slot]:
        """Connections that should be opened now; each must end in `release` or `failed`."""
        self._advance(now)
        slots: list[Slot] = []
        active = self._active
        while active and len(slots) < limit:
            if not self.permits.has_permit():
                self._is_starved = True
                break
            vmta = active[0]
            if not (vmta.ring and self._may_open(vmta, now)):
                vmta.is_active = False
                active.popleft()
                continue
            slot = self._grant(vmta, now)
            if slot is not None:
                slots.append(slot)
                active.rotate(-1)
        else:
            self._is_starved = self._is_starved and bool(active)
        return slots

    def recall(self, now: float, limit: int = 64) -> list[Slot]:
        """Idle connections that should `draw` now: their queue has something again."""
        slots: list[Slot] = []
        while self._recalled and len(slots) < limit:
            queue = self._recalled.popleft()
            queue.recalled = False
            while queue.idle and queue.ready.runs > queue.opening and not queue.is_blocked(now):
                slot, _ = queue.idle.popitem()
                slot.state = SlotState.OPENING
                queue.opening += 1
                slots.append(slot)
            self._consider(queue, now)
        return slots

    def opened(self, slot: Slot, now: float) -> None:
        """The connection stands; `draw` may follow."""
        slot.opened_at = now

    def failed(self, slot: Slot, now: float, text: str, *, retry_after: float | None = None) -> float:
        """The connection could not be opened, or the greeting refused it; the slot is released.

        `retry_after` replaces the queue's list (for DNS errors). Returns when the queue tries again.
        """
        queue = slot.queue
        if slot.state is SlotState.CLOSED:
            return max(queue.retry_at, queue.open_after)
        self._give_back(slot, now)
        if queue.slots > queue.opening:
            queue.fail_opening(now, text, retry_after)
        else:
            self._fail(queue, now, text, retry_after)
        self._consider(queue, now)
        self._arm(queue, now)
        return max(queue.retry_at, queue.open_after)

    def release(self, slot: Slot, now: float) -> None:
        """The connection is closed. What is still in flight on it goes back, not attempted."""
        if slot.state is SlotState.CLOSED:
            return
        queue = slot.queue
        self._give_back(slot, now)
        if slot.has_settled:
            queue.fruitless = 0
        elif slot.returned:
            queue.fruitless += 1
            if queue.fruitless >= FRUITLESS_CONNECTIONS:
                queue.fruitless = 0
                self._fail(queue, now, "connections end before a message can be tried")
        self._consider(queue, now)
        self._arm(queue, now)

    # -- messages ---------------------------------------------------------------------------------------

    def draw(self, slot: Slot, now: float) -> list[int]:
        """The next message for this connection: references of one message, in flight afterwards.

        Nothing when nothing may go out now; then the slot is idle, or retired (`slot.is_retired`): close it.
        Hot path.
        """
        queue = slot.queue
        ready = queue.ready
        if slot.is_retired or not ready.runs:
            return self._rest(slot, now)
        policy = queue.active
        most = policy.max_msg_per_connection
        if (
            queue.is_paused
            or now < queue.retry_at
            or (most and slot.messages >= most)
            or queue.epoch != self._epoch
            or self._is_starved
            or ready.received_first() + policy.bounce_after <= now
        ) and not self._may_draw(slot, now):
            return self._rest(slot, now)
        limit = queue.active.max_rcpt_per_message
        window, shared = queue.message_window, queue.vmta.message_window
        if window is not None:
            limit = min(limit, window.available(now))
        if shared is not None:
            limit = min(limit, shared.available(now))
        if limit <= 0:
            return self._rest(slot, now)
        refs = ready.take_message(limit, slot.in_flight)
        count = len(refs)
        if window is not None:
            window.add(count, now)
        if shared is not None:
            shared.add(count, now)
        if slot.state is not SlotState.BUSY:
            self._begin(slot)
        queue.in_flight += count
        queue.last_used_at = now
        slot.messages += 1
        return refs

    def settle(self, slot: Slot, now: float, ref: int, reaction: Reaction) -> Settled:
        """What became of one reference in flight. Raises Contradiction when it isn't."""
        word = slot.in_flight.pop(ref, None)
        if word is None:
            raise Contradiction(f"reference {ref:#x} of {slot.key} was settled but is not in flight")
        queue = slot.queue
        queue.in_flight -= 1
        slot.has_settled = True
        attempts = (word >> 32) + 1
        if reaction is Reaction.DELIVERED:
            queue.delivered += 1
            if queue.retry_step:
                queue.retry_step = 0
            if queue.mode is QueueMode.BACKOFF and queue.policy.backoff_to_normal_after_delivery:
                queue.leave_backoff(now)
            return Settled(attempts)
        if reaction is Reaction.FAILED:
            queue.failed += 1
            return Settled(attempts)
        return self._retry(queue, now, ref, word & RECEIVED_MASK, attempts, reaction)

    def put_back(self, slot: Slot, refs: Iterable[int]) -> None:
        """These were drawn but never tried: they go back to the front, without an attempt."""
        queue = slot.queue
        for ref in reversed(list(refs)):
            word = slot.in_flight.pop(ref, None)
            if word is None:
                raise Contradiction(f"reference {ref:#x} of {slot.key} was put back but is not in flight")
            queue.in_flight -= 1
            slot.returned += 1
            queue.return_ready(ref, word & RECEIVED_MASK, word >> 32)

    def expired(self, now: float, limit: int = 256) -> list[tuple[QueueKey, int]]:
        """Recipients out of time or attempts; they are the caller's now."""
        self._advance(now)
        return [self._expired.popleft() for _ in range(min(limit, len(self._expired)))]

    def next_deadline(self, now: float) -> float | None:
        """When `take`, `recall`, `draw` or `expired` may have something new without an event."""
        if self._expired or self._recalled or (self._active and self.permits.has_permit()):
            return now
        return self._deadlines.first()

    # -- inside -----------------------------------------------------------------------------------------

    def _retry(
        self, queue: DeliveryQueue, now: float, ref: int, received: int, attempts: int, reaction: Reaction
    ) -> Settled:
        queue.temporary += 1
        if reaction is Reaction.RETRY_QUEUE:
            self._fail(queue, now, "temporary failure of the queue")
        if queue.is_spent(received, attempts, now):
            return Settled(attempts, is_expired=True)
        if reaction is Reaction.RETRY_RECIPIENT:
            due = float(queue.defer(ref, received, attempts, now + queue.recipient_wait(attempts)))
            self._deadlines.sooner(queue, due)
            return Settled(attempts, due)
        queue.return_ready(ref, received, attempts)
        self._consider(queue, now)
        self._deadlines.sooner(queue, queue.expires_at())
        due = queue.retry_at if reaction is Reaction.RETRY_QUEUE else now
        return Settled(attempts, float(ceil(due)))

    def _fail(self, queue: DeliveryQueue, now: float, text: str, wait: float | None = None) -> None:
        self._expire(queue, queue.fail(now, text, wait))
        self._deadlines.sooner(queue, queue.retry_at)

    def _create(self, key: QueueKey, now: float) -> DeliveryQueue:
        vmta = self.vmtas.get(key.vmta)
        if vmta is None:
            vmta = self.vmtas[key.vmta] = VmtaState(key.vmta, self._vmta_policies(key.vmta), self._epoch)
        queue = self.by_key[key] = DeliveryQueue(key, self._policies(key), vmta, self._epoch)
        queue.last_used_at = now
        return queue

    def _consider(self, queue: DeliveryQueue, now: float) -> None:
        """Something changed: put the queue in its ring, call its idle connections, or set its deadline."""
        if not queue.ready.runs:
            return
        if queue.idle and not queue.recalled and not queue.is_blocked(now):
            queue.recalled = True
            self._recalled.append(queue)
        if queue.in_ring:
            return
        when = queue.wants_connection_at(now)
        if when <= now:
            queue.in_ring = True
            vmta = queue.vmta
            vmta.ring.append(queue)
            self._activate(vmta)
        elif when < queue.wake_at:
            self._deadlines.set(queue, when)

    def _activate(self, vmta: VmtaState) -> None:
        if not vmta.is_active and vmta.ring:
            vmta.is_active = True
            self._active.append(vmta)

    def _may_open(self, vmta: VmtaState, now: float) -> bool:
        """Whether a virtual MTA has a permit and its rate allows a message; if not, something wakes it."""
        if vmta.epoch != self._epoch:
            vmta.configure(self._vmta_policies(vmta.name), self._epoch)
        lifts_at = vmta.rate_lifts_at(now)
        if lifts_at > now:
            self._deadlines.sooner(vmta, lifts_at)
            return False
        return vmta.has_permit()

    def _grant(self, vmta: VmtaState, now: float) -> Slot | None:
        """One connection for the queue at the head of the ring, unless it has no use for it any more."""
        queue = vmta.ring.popleft()
        queue.in_ring = False
        self._follow(queue)
        when = queue.wants_connection_at(now)
        if when > now:
            self._deadlines.sooner(queue, when)
            return None
        slot = self.permits.acquire(queue, vmta, now)
        if slot is None:
            queue.note_error(now, "no source address may be used")
            self._deadlines.sooner(queue, source_free_at(queue, vmta, now))
            return None
        queue.restart_patience(now)
        self._consider(queue, now)
        return slot

    def _follow(self, queue: DeliveryQueue) -> None:
        if queue.epoch != self._epoch:
            queue.configure(self._policies(queue.key), self._epoch)

    def _give_back(self, slot: Slot, now: float) -> None:
        if slot.in_flight:
            self.put_back(slot, list(slot.in_flight))
        vmta: VmtaState = slot.queue.vmta
        self.permits.give_back(slot, vmta)
        slot.queue.last_used_at = now
        self._activate(vmta)

    def _begin(self, slot: Slot) -> None:
        queue = slot.queue
        if slot.state is SlotState.OPENING:
            queue.opening -= 1
        else:
            queue.idle.pop(slot, None)
        slot.state = SlotState.BUSY

    def _may_draw(self, slot: Slot, now: float) -> bool:
        """The rare reasons why a connection may not draw although its queue has something ready."""
        queue = slot.queue
        self._follow(queue)
        self._expire(queue, queue.expire(now))
        if not queue.ready.runs:
            return False
        most = queue.active.max_msg_per_connection
        slot.is_retired = (
            queue.is_paused
            or now < queue.retry_at
            or (most > 0 and slot.messages >= most)
            or (self._is_starved and slot.messages >= FAIR_TURN and self._has_share(queue))
        )
        return not slot.is_retired

    def _has_share(self, queue: DeliveryQueue) -> bool:
        """Whether a queue has as many connections as each could have, now that some have none."""
        wanting = sum(len(vmta.ring) for vmta in self._active)
        return queue.slots * max(1, wanting) >= self.permits.total_max or queue.slots > 1

    def _rest(self, slot: Slot, now: float) -> list[int]:
        """Nothing to draw: the connection is idle, and something is set to call it back."""
        queue = slot.queue
        if slot.state is SlotState.CLOSED:
            raise Contradiction(f"a closed connection of {slot.key} draws")
        if slot.state is SlotState.OPENING:
            queue.opening -= 1
        slot.state = SlotState.IDLE
        if slot.is_retired:
            queue.idle.pop(slot, None)
            return []
        queue.idle[slot] = None
        if queue.ready.runs:
            when = queue.unblocks_at(now)
            vmta: VmtaState = queue.vmta
            lifts_at = vmta.rate_lifts_at(now)
            if lifts_at > now:
                vmta.throttled[queue] = None
                self._deadlines.sooner(vmta, lifts_at)
            elif when > now:
                self._deadlines.sooner(queue, when)
            else:
                self._consider(queue, now)
        return []

    def _expire(self, queue: DeliveryQueue, refs: Iterable[int]) -> None:
        self._expired.extend((queue.key, ref) for ref in refs)

    def _advance(self, now: float) -> None:
        for _ in range(DEADLINES_AT_ONCE):
            owner = self._deadlines.pop_due(now)
            if owner is None:
                return
            if isinstance(owner, DeliveryQueue):
                self._refresh(owner, now)
            elif isinstance(owner, VmtaState):
                self._resume_vmta(owner, now)

    def _resume_vmta(self, vmta: VmtaState, now: float) -> None:
        """The rate of a virtual MTA allows messages again."""
        throttled = list(vmta.throttled)
        vmta.throttled.clear()
        for queue in throttled:
            self._consider(queue, now)
        self._activate(vmta)

    def _refresh(self, queue: DeliveryQueue, now: float) -> None:
        """A deadline of the queue has come: see to everything that may be due, then set the next."""
        self._follow(queue)
        if queue.backoff_until <= now:
            queue.leave_backoff(now)
        self._expire(queue, queue.wake_due(now))
        self._expire(queue, queue.expire(now))
        self._consider(queue, now)
        self._arm(queue, now)

    def _arm(self, queue: DeliveryQueue, now: float) -> None:
        """Set the queue's deadline to the earliest thing it may wait for."""
        when = min(queue.wake_at, queue.backoff_until, queue.expires_at())
        due = queue.deferred.next_due()
        if due is not None and due < when:
            when = due
        if queue.ready.runs and queue.idle:
            blocked_until = queue.unblocks_at(now)
            if now < blocked_until < when:
                when = blocked_until
        if when == NEVER and not queue.slots:
            if now >= queue.last_used_at + FORGET_AFTER and queue.is_forgettable(now):
                del self.by_key[queue.key]
                return
            when = max(now, queue.last_used_at) + FORGET_AFTER
        self._deadlines.sooner(queue, when)
