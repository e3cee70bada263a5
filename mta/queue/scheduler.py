"""Which queue gets the next connection, and which message goes down it.

Theory of operation
-------------------
The scheduler is told what happens (`admit`, `admit_fresh`, `opened`, `settle`, `failed`, `release`, the
operator's verbs) and is asked three questions: which connections to open (`take`), which idle ones to use
again (`recall`), and what to send on this one (`draw`). Every answer obeys every limit; nobody else keeps
any. It never waits, never does I/O and never asks for the time: `now` comes in and must not run backwards.

*Rings.* A queue that could use one more connection right now stands once in the ring of its virtual MTA;
virtual MTAs with such queues and with permits left stand in the ring of the scheduler. `take` goes round
both: one connection for a queue, then back to the end. So a turn costs the same with ten queues or ten
thousand, every queue in a ring gets its turn within one round, and a virtual MTA (or a whole server) that
has used up its connections costs nothing until one is given back.

*Arrivals.* What comes in only waits at first. Which queues got something is noted, and each of them is
considered once for all of it, before the next question is answered: connections that a commit of fifty
messages calls for are counted once, not fifty times.

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
So the dispatcher's rule is short: `draw` on every slot of `take` (once it is connected) and of `recall`;
nothing drawn means idle, or, when retired, close and `release`.

*Priorities.* Rings have levels (rings.py): a queue of higher `queue-priority` gets its connection first, and
one turn in ten goes to a lower level, so that nobody starves. While a queue of higher priority waits for a
permit, connections of lower ones give theirs up after the message they carry (`Permits.gives_way`), or
in the midst of it where they allow that (`slot.is_interrupted`). Recipients of one queue have priorities of
their own, which say who is drawn first (levels.py).

*Failures.* A failure of the queue (no connection, 4xx to MAIL, 421) makes it wait for `retry-after`; a
failed opening beside connections that work only stops further openings. A recipient's own temporary
refusal makes that recipient wait. What is out of time or attempts is handed out by `expired`.

Nobody is lost: each admitted reference is in exactly one place: ready, deferred, in flight on one slot, or
in the list of expired ones, until `settle`, `expired`, `delete` or `empty` hands it out for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import ceil
from typing import NamedTuple

from mta.errors import Contradiction
from mta.message.envelope import NORMAL_PRIORITY
from mta.queue.charges import allowance, charge, conclude, give_all_back
from mta.queue.entries import ATTEMPTS_MASK, RECEIVED_MASK, Entry, entry_of, priority_of
from mta.queue.hosts import HostLimits, Hosts
from mta.queue.key import QueueKey
from mta.queue.modes import Modes
from mta.queue.notice import Noticed
from mta.queue.operator import OperatorVerbs
from mta.queue.parking import Park, Parking
from mta.queue.permits import Permits
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.queue import FRUITLESS_CONNECTIONS, DeliveryQueue, QueueMode
from mta.queue.reaction import Measure, MeasureKind, Reaction
from mta.queue.registry import Registry
from mta.queue.rerouting import Rerouting, transfer
from mta.queue.retry import after_restart
from mta.queue.seizure import Seized, seize
from mta.queue.slot import BUSY, CLOSED, IDLE, OPENING, Slot
from mta.queue.timers import NEVER
from mta.queue.turns import MOMENT, Turns

__all__ = ["Scheduler", "Settled"]

#: Plain names: looking a member up in its class costs more than the rest of some steps.
DELIVERED, FAILED, RETRY_RECIPIENT, RETRY_QUEUE, _ = Reaction
BACKOFF = QueueMode.BACKOFF

#: A connection keeps its permit for at least so many messages, even when others wait for one.
FAIR_TURN = 50
#: Mail received so many seconds ago is not new: it was here before a restart, or its sender was slow.
OLD = 60.0


class Settled(NamedTuple):
    """What became of a recipient: `due` for the next attempt, or `is_expired`: there is none."""

    attempts: int
    due: float = 0.0
    is_expired: bool = False


#: What nearly everybody is told.
SETTLED_AT_ONCE = Settled(1)


class Scheduler(OperatorVerbs):
    """All queues of one worker; see the theory of operation above."""

    def __init__(
        self,
        *,
        policies: Callable[[QueueKey], QueuePolicy],
        vmtas: Callable[[str], VmtaPolicy],
        total_max_smtp_out: int,
        sizes: Callable[[int], int] = lambda message: 0,
        noticed: Noticed = lambda notice: None,
        hosts: Callable[[], HostLimits] = HostLimits,
        park: Park | None = None,
    ) -> None:
        """`sizes` gives the octets of a message; asked only where a volume rate is configured. `hosts` gives
        the limits of hosts in force, `park` where entries wait that are too many for memory.

        `noticed` is told of changes of mode and of disabled source addresses, in the midst of a call.
        """
        self._registry = Registry(policies, vmtas, sizes)
        self._permits = Permits(total_max_smtp_out)
        self._modes = Modes(self._registry, noticed)
        self._rerouting = Rerouting(self._registry)
        self._host_limits = hosts
        self._hosts = Hosts(hosts())
        self._turns = Turns(self._registry, self._permits, self._modes, self._rerouting, self._hosts)
        self._parking = None if park is None else Parking(self._registry, park)

    @property
    def changes(self) -> int:
        """Counts changes of what `snapshot_state` gives, so that it need not be kept when there are none."""
        return self._modes.changes

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
        expires: float | None = None,
        priority: int = NORMAL_PRIORITY,
    ) -> None:
        """Add one recipient; with `due` it was here before a restart, and waits until then. Hot path.

        With `due` and `expires` it is a schedule that says when it may go, and until when, instead of
        `bounce-after`.
        """
        queue = self._registry.by_key.get(key)
        if queue is None:
            queue = self._registry.obtain(key, now)
        if queue.is_rerouting:
            queue = self._rerouting.destination(queue, now)
        if expires is not None:
            # An entry knows one time alone: as if it had come so long before it ends.
            received = max(1.0, ceil(expires) - queue.policy.bounce_after)
        elif due is not None or not 0.0 <= now - received <= OLD:
            policy = queue.policy
            received, due = after_restart(
                now, received, due or now, bounce_after=policy.bounce_after, longest=policy.longest_wait()
            )
        second = int(received) if received > 0.0 else 0
        if due is not None and due > now:
            self._turns.wake_at(queue, float(queue.defer(ref, second, attempts, due, priority)))
            return
        queue.add_ready(ref, second, attempts, priority)
        self._note_arrival(queue, now)

    def admit_fresh(self, key: QueueKey, fresh: Mapping[int, int], now: float) -> None:
        """Add recipients of normal priority that have just come in: by reference, the second when they did.

        Hot path: all that a commit has for a queue comes in one call.
        """
        queue = self._registry.by_key.get(key)
        if queue is None:
            queue = self._registry.obtain(key, now)
        oldest = min(fresh.values())
        if queue.is_rerouting or max(fresh.values()) > now or oldest < now - OLD:
            for ref, received in fresh.items():
                self.admit(key, ref, now, received=received)
            return
        queue.add_fresh(fresh, oldest)
        self._note_arrival(queue, now)

    # -- connections ------------------------------------------------------------------------------------

    def take(self, now: float, limit: int = 64) -> list[Slot]:
        """Connections that should be opened now; each must end in `release` or `failed`."""
        if self._parking is not None:
            self._parking.look(now)
        self._turns.advance(now)
        return self._turns.take(now, limit)

    def recall(self, now: float, limit: int = 64) -> list[Slot]:
        """Idle connections that should `draw` now, because their queue has something again or (retired ones,
        which draw nothing and are to be closed) because another queue needs their permit; and busy ones that
        are to be broken off (`slot.is_interrupted`)."""
        self._turns.advance(now)
        return self._turns.recall(now, limit)

    def opened(self, slot: Slot, now: float) -> None:
        """The connection stands; `draw` may follow."""
        slot.opened_at = now

    def failed(self, slot: Slot, now: float, text: str, *, retry_after: float | None = None) -> float:
        """The connection could not be opened, or the greeting refused it; the slot is released.

        `retry_after` replaces the queue's list (for DNS errors). Returns when the queue tries again.
        """
        queue = slot.queue
        if slot.state is not CLOSED:
            self._give_back(slot, now)
            if queue.slots > queue.opening:
                queue.fail_opening(now, text, retry_after)
            else:
                self._fail(queue, now, text, retry_after)
            self._turns.consider(queue, now)
            self._turns.arm(queue, now)
        return max(queue.retry_at, queue.open_after)

    def enter(self, slot: Slot, host: str, ip: str) -> bool:
        """Whether `slot` may try to connect to that address of an MX host; if so it counts there from now on,
        and no longer where it tried before."""
        may_enter = self._hosts.enter(slot, host, ip)
        if self._hosts.to_revisit:
            self._turns.revisit()
        return may_enter

    def crowded(self, slot: Slot, now: float) -> None:
        """No host had room for the connection (`enter`): its queue waits for one; the slot is released."""
        queue = slot.queue
        self._hosts.crowd(slot)
        for host in queue.crowded_at:
            queue.note_error(now, f"{host.directive} {host.stated} of {host.name} is used up")
        self._turns.revisit()
        self._permits.take_back_opening(slot)
        self._give_back(slot, now)
        self._turns.consider(queue, now)
        self._turns.arm(queue, now)

    def release(self, slot: Slot, now: float) -> None:
        """The connection is closed. What is still in flight on it goes back, not attempted."""
        if slot.state is CLOSED:
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
        self._turns.consider(queue, now)
        self._turns.arm(queue, now)

    def hand_over(self, slot: Slot, key: QueueKey, now: float) -> None:
        """What waits in the slot's queue belongs into the queue `key`; the slot is released."""
        target = self._registry.obtain(key, now)
        transfer(slot.queue, target)
        self.release(slot, now)
        self._turns.refresh(target, now)

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
        policy, vmta = queue.active, queue.vmta
        if (
            queue.is_paused
            or now < queue.retry_at
            or (policy.max_msg_per_connection and slot.messages >= policy.max_msg_per_connection)
            or queue.epoch != self._registry.epoch
            or vmta.claims > 0
            or self._permits.claims > 0
            or slot.is_wanted
            or queue.disabled_sources
            or queue.oldest + policy.bounce_after <= now
        ):
            if not self._may_draw(slot, now):
                return self._rest(slot, now)
            policy = queue.active
        limit = policy.max_rcpt_per_message
        if queue.is_metered or vmta.is_metered:
            limit = min(limit, allowance(slot, now))
            if limit <= 0:
                return self._rest(slot, now)
            refs = ready.take_message(limit, slot.in_flight)
            charge(slot, refs, now)
        else:
            refs = ready.take_message(limit, slot.in_flight)
        if slot.state is not BUSY:
            self._begin(slot)
        queue.in_flight += len(refs)
        queue.last_used_at = now
        slot.messages += 1
        return refs

    def settle(self, slot: Slot, now: float, ref: int, reaction: Reaction, text: str = "") -> Settled:
        """What became of one reference in flight; `text` is the reply, for the operator, when it failed.

        Raises Contradiction when the reference isn't in flight on the slot.
        """
        word = slot.in_flight.pop(ref, None)
        if word is None:
            raise Contradiction(f"reference {ref:#x} of {slot.key} was settled but is not in flight")
        queue = slot.queue
        queue.in_flight -= 1
        slot.has_settled = True
        if slot.loads and conclude(slot, ref, now, is_delivered=reaction is DELIVERED):
            self._turns.octets_freed(queue, now)
        tries = word >> 32 & ATTEMPTS_MASK
        if reaction is DELIVERED:
            queue.delivered += 1
            if queue.policy.track_recipient_events:
                queue.note_outcome(now, "delivered")
            if queue.retry_step:
                queue.retry_step = 0
                self._modes.changes += 1
            if queue.mode is BACKOFF and queue.policy.backoff_to_normal_after_delivery:
                self._modes.leave_backoff(queue, now, "backoff-to-normal-after-delivery")
                self._turns.wake_at(queue, now)
            return Settled(tries + 1) if tries else SETTLED_AT_ONCE
        attempts = tries + 1
        if text:
            queue.note_reply(now, text)
        if queue.policy.track_recipient_events:
            queue.note_outcome(now, f"{'bounced' if reaction is FAILED else 'deferred'}: {text}")
        slot.errors += 1
        if slot.errors == queue.active.max_errors_per_connection and not slot.is_retired:
            self._permits.retire(slot)
        if reaction is FAILED:
            queue.failed += 1
            return Settled(attempts)
        return self._retry(slot, now, ref, word, attempts, reaction)

    def put_back(self, slot: Slot, refs: Iterable[int]) -> None:
        """These were drawn but never tried: they go back to the front, without an attempt."""
        queue = slot.queue
        for ref in reversed(list(refs)):
            word = slot.in_flight.pop(ref, None)
            if word is None:
                raise Contradiction(f"reference {ref:#x} of {slot.key} was put back but is not in flight")
            queue.in_flight -= 1
            slot.returned += 1
            if slot.loads and conclude(slot, ref, queue.last_used_at, is_delivered=False):
                self._turns.octets_freed(queue, queue.last_used_at)
            queue.return_ready(ref, word & RECEIVED_MASK, word >> 32 & ATTEMPTS_MASK, priority_of(word))

    def expired(self, now: float, limit: int = 256) -> list[tuple[QueueKey, int]]:
        """Recipients out of time or attempts; they are the caller's now."""
        self._turns.advance(now)
        expired = self._turns.expired
        return [expired.popleft() for _ in range(min(limit, len(expired)))]

    def next_deadline(self, now: float) -> float | None:
        """When `take`, `recall` or `expired` may have something new without an event; `now` = right away."""
        self._turns.see_to_arrived()
        if self._turns.has_work():
            return now
        when = self._turns.next_deadline()
        if self._parking is not None and self._parking.is_behind:
            return now + MOMENT if when is None else min(when, now + MOMENT)
        return when

    # -- what rules and operators do --------------------------------------------------------------------

    def apply(self, slot: Slot, now: float, measure: Measure, reason: str = "") -> list[int]:
        """Do to the queue what a reply rule says; returns recipients that have to fail (bounce-queue)."""
        queue, policy = slot.queue, slot.queue.policy
        kind, lasting = measure
        removed: list[int] = []
        if kind is MeasureKind.BACKOFF:
            lasting = policy.backoff_to_normal_after if lasting is None else lasting
            self._modes.enter_backoff(queue, now, reason, lasting)
        elif kind is MeasureKind.NORMAL:
            self._modes.leave_backoff(queue, now, reason)
        elif kind is MeasureKind.BOUNCE_QUEUE:
            removed = queue.empty()
        elif kind is MeasureKind.DISABLE_SOURCE:
            lasting = policy.reenable_source_ip_after if lasting is None else lasting
            self._modes.disable_source(queue, slot.source.ip, now, reason, lasting)
        self._turns.refresh(queue, now)
        return removed

    def seize(
        self, key: QueueKey, now: float, *, with_deferred: bool = False, source_ip: str = ""
    ) -> Seized | None:
        """One message and a connection for it now, past every limit; ends in `release` or `surrender`."""
        queue = self._registry.by_key.get(key)
        if queue is None:
            return None
        self._registry.follow(queue)
        return seize(queue, self._permits, now, with_deferred=with_deferred, source_ip=source_ip)

    def surrender(self, seized: Seized, now: float) -> None:
        """Nothing came of it: its recipients wait where they waited, uncounted, and nobody is to blame."""
        slot = seized.slot
        if seized.due > now:
            for ref, word in slot.in_flight.items():
                slot.queue.add(entry_of(ref, word)._replace(due=ceil(seized.due)))
            slot.queue.in_flight -= len(slot.in_flight)
            slot.in_flight.clear()
        self.put_back(slot, list(slot.in_flight))
        slot.returned = 0
        self.release(slot, now)

    def let_go(self, slot: Slot, refs: Iterable[int]) -> list[Entry]:
        """Forget these although they were drawn: nothing became of them, and the caller keeps them now."""
        entries = [entry_of(ref, slot.in_flight.pop(ref)) for ref in refs]
        slot.queue.in_flight -= len(entries)
        return entries

    def reconfigure(self, now: float, total_max_smtp_out: int | None = None) -> None:
        """The settings have changed: every queue asks for its policy again."""
        self._registry.epoch += 1
        if total_max_smtp_out is not None:
            self._permits.total_max = total_max_smtp_out
        for host in self._hosts.configure(self._host_limits(), self._registry.follow):
            self._turns.see_to(host, now)
        self._turns.wake_all(now)

    @property
    def parked(self) -> int:
        """Entries that wait on the shelf, outside of memory."""
        return 0 if self._parking is None else self._parking.parked

    def __repr__(self) -> str:
        return f"<Scheduler {len(self._registry)} queues, {self._permits.open} connections>"

    # -- inside -----------------------------------------------------------------------------------------

    def _note_arrival(self, queue: DeliveryQueue, now: float) -> None:
        """A queue has got something that may go out: it is considered before the next question."""
        if now < queue.retry_at and queue.policy.retry_upon_new_mail:
            queue.retry_at = queue.open_after = now
        self._turns.arrived[queue] = now
        if queue.wake_at == NEVER:
            self._turns.wake_at(queue, queue.expires_at())

    def _retry(
        self, slot: Slot, now: float, ref: int, word: int, attempts: int, reaction: Reaction
    ) -> Settled:
        queue, received, priority = slot.queue, word & RECEIVED_MASK, priority_of(word)
        queue.temporary += 1
        if reaction is RETRY_QUEUE:
            text = queue.replies[-1][1] if queue.replies else "temporary failure of the queue"
            self._fail(queue, now, text)
        if queue.is_spent(received, attempts, now):
            return Settled(attempts, is_expired=True)
        if reaction is RETRY_RECIPIENT:
            wait = queue.recipient_wait(attempts)
            due = float(queue.defer(ref, received, attempts, now + wait, priority))
            self._turns.wake_at(queue, due)
            return Settled(attempts, due)
        queue.return_ready(ref, received, attempts, priority)
        if queue.is_rerouting:
            self._turns.wake_at(queue, now)
        self._turns.consider(queue, now)
        self._turns.wake_at(queue, queue.expires_at())
        return Settled(attempts, float(ceil(max(now, queue.retry_at))))

    def _fail(self, queue: DeliveryQueue, now: float, text: str, wait: float | None = None) -> None:
        self._modes.changes += 1
        self._turns.expire(queue, queue.fail(now, text, wait))
        self._turns.wake_at(queue, queue.retry_at)

    def _give_back(self, slot: Slot, now: float) -> None:
        if slot.in_flight:
            self.put_back(slot, list(slot.in_flight))
        give_all_back(slot)
        self._permits.give_back(slot, slot.queue.vmta)
        slot.queue.last_used_at = now
        for host in self._hosts.leave(slot):
            self._turns.see_to(host, now)
        self._turns.activate(slot.queue.vmta)

    def _begin(self, slot: Slot) -> None:
        """A connection has something to do."""
        if slot.state is OPENING:
            slot.queue.opening -= 1
        elif slot.state is IDLE:
            self._permits.pick_up(slot)
        else:
            raise Contradiction(f"a closed connection of {slot.key} draws")
        slot.state = BUSY

    def _rest(self, slot: Slot, now: float) -> list[int]:
        """A connection has nothing to do."""
        queue, permits = slot.queue, self._permits
        if slot.state is CLOSED:
            raise Contradiction(f"a closed connection of {slot.key} draws")
        if slot.state is OPENING:
            queue.opening -= 1
        slot.state = IDLE
        if not slot.is_retired and (permits.claims > 0 or queue.vmta.claims > 0 or self._is_wanted(slot)):
            permits.retire(slot)
        if slot.is_retired:
            permits.pick_up(slot)
        else:
            permits.lay_down(slot)
            self._turns.consider(queue, now)  # sets what calls it back
        return []

    def _is_wanted(self, slot: Slot) -> bool:
        """Whether somebody waits for the connection's place at a host."""
        return slot.is_wanted and any(host.wants_back() > 0 for host in slot.hosts)

    def _may_draw(self, slot: Slot, now: float) -> bool:
        """The rare reasons why a connection may not draw although its queue has something ready."""
        queue = slot.queue
        self._registry.follow(queue)
        self._turns.expire(queue, queue.expire(now))
        if not queue.ready.runs:
            return False
        most = queue.active.max_msg_per_connection
        if (
            queue.is_paused
            or now < queue.retry_at
            or (most > 0 and slot.messages >= most)
            or now < queue.disabled_sources.get(slot.source.ip, 0.0)
            or (slot.messages >= FAIR_TURN and (self._permits.claims > 0 or queue.vmta.claims > 0))
            or (slot.messages >= FAIR_TURN and self._is_wanted(slot))
            or (slot.messages and self._permits.gives_way(slot))
        ):
            self._permits.retire(slot)
        return not slot.is_retired
