"""One queue `domain/vmta`: its recipients, its mode and state, and what its limits allow right now.

Pure bookkeeping of a single queue. Which of many queues gets the next connection is scheduler.py's
business, how many connections there may be in all is permits.py's.

Mode and state are two things. The *mode* (normal, backoff) says which numbers hold. The *state* says
whether it may send: `ready`; `paused` by the operator; in `retry`, waiting for `retry_at` after a failure
of the queue as a whole. From the other two a queue only ever goes back to ready.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Set
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING

from mta.message.envelope import NORMAL_PRIORITY
from mta.queue.address import AddressRates
from mta.queue.entries import MOST_ATTEMPTS, DeferredEntries, Entry, ReadyEntries
from mta.queue.key import RECIPIENT_BITS, QueueKey
from mta.queue.levels import LeveledEntries
from mta.queue.limits import has_memory, window_pair
from mta.queue.parked import ParkedDeferred, ParkedReady
from mta.queue.policy import QueuePolicy
from mta.queue.retry import ladder_wait, penalty
from mta.queue.slot import Slot
from mta.queue.timers import NEVER
from mta.queue.vmta import VmtaState
from mta.queue.volume import volume_window_for

if TYPE_CHECKING:
    from mta.queue.hosts import Host

__all__ = ["CONNECTION_PATIENCE", "MESSAGES_PER_CONNECTION", "DeliveryQueue", "QueueMode", "QueueState"]

#: How long (seconds) a short queue's connections may take to get to the waiting messages before another one
#: is opened. Without it every message that arrives while a connection is busy opens its own: with 1,000
#: domains that was 6,300 connections for what 450 could carry.
CONNECTION_PATIENCE = 0.05

#: A queue with this many waiting messages per connection is long: it opens more at once.
MESSAGES_PER_CONNECTION = 10

#: Connections in a row that ended before any of their messages was tried; then the queue waits. A receiver
#: that greets us and hangs up would otherwise be called again at once, for ever.
FRUITLESS_CONNECTIONS = 3

#: What happened, and when, the oldest first. Not in a deque: with one event that takes 800 bytes a queue.
Events = tuple[tuple[float, str], ...]

#: No failure is tried again sooner (seconds), whatever is configured: a wait of 0 would be a busy loop.
SHORTEST_WAIT = 1.0

REMEMBERED_OUTCOMES = 50

#: Deferred entries that are made ready in one go: a million at once would stop everything else for a second.
WAKE_AT_ONCE = 10_000

#: A look for expired entries goes through the whole queue, so a queue is looked through once in
#: (its length / this) seconds: a million every 50 s, a hundred whenever one may have expired.
EXPIRY_SCAN_RATE = 20_000.0


class QueueMode(enum.Enum):
    """Which of a queue's numbers hold."""

    NORMAL = "normal"
    BACKOFF = "backoff"


class QueueState(enum.Enum):
    """Whether a queue may send."""

    READY = "ready"
    PAUSED = "paused"
    RETRY = "retry"


class DeliveryQueue:
    """Everything about one queue. Times are steady epoch seconds."""

    __slots__ = (
        "active",
        "address_rates",
        "backoff_until",
        "called_at",
        "connect_window",
        "crowded_at",
        "deferred",
        "delivered",
        "disabled_sources",
        "epoch",
        "errors",
        "expiry_scan_at",
        "failed",
        "fruitless",
        "idle",
        "in_flight",
        "in_ring",
        "is_metered",
        "is_paused",
        "is_recalled",
        "is_rerouting",
        "key",
        "last_grant_at",
        "last_used_at",
        "limits_addresses",
        "message_window",
        "mode",
        "mode_reason",
        "mode_since",
        "oldest",
        "open_after",
        "opening",
        "outcomes",
        "patience_mark",
        "patient_until",
        "policy",
        "ready",
        "replies",
        "retry_at",
        "retry_step",
        "slots",
        "source_turn",
        "sources_open",
        "temporary",
        "vmta",
        "volume_window",
        "wake_at",
    )

    def __init__(self, key: QueueKey, policy: QueuePolicy, vmta: VmtaState, epoch: int) -> None:
        self.key = key
        self.vmta = vmta
        self.epoch = epoch
        self.policy = policy
        self.active = policy
        self.mode = QueueMode.NORMAL
        self.mode_since = 0.0
        self.mode_reason = ""  # of backoff
        self.is_rerouting = bool(self.reroute_names)  # its mail goes through another virtual MTA
        self.is_paused = False
        self.ready: ReadyEntries | ParkedReady | LeveledEntries = ReadyEntries()
        self.deferred: DeferredEntries | ParkedDeferred = DeferredEntries()
        self.message_window = window_pair(policy.max_msg_rate, policy.backoff_max_msg_rate, None)
        self.connect_window = window_pair(policy.max_connect_rate, policy.backoff_max_connect_rate, None)
        self.volume_window = volume_window_for(
            policy.max_data_volume_rate, None, policy.backoff_max_data_volume_rate
        )
        self.limits_addresses = policy.limits_addresses
        self.is_metered = self._has_meters()
        self.address_rates: dict[str, AddressRates] = {}
        self.slots = 0
        self.opening = 0
        self.idle: dict[Slot, None] = {}
        self.in_flight = 0
        self.in_ring = False  # waits for its turn to get a connection
        self.is_recalled = False  # its idle connections are about to be called back
        self.wake_at = NEVER
        self.retry_at = 0.0  # nothing is tried before
        self.open_after = 0.0  # no connection is opened before
        self.retry_step = 0
        self.fruitless = 0
        self.backoff_until = NEVER
        self.expiry_scan_at = 0.0
        self.oldest = 0  # no ready entry was received before
        self.patience_mark = -1
        self.patient_until = 0.0
        self.last_grant_at = -NEVER
        self.last_used_at = 0.0
        self.source_turn = 0
        self.sources_open: dict[str, int] = {}
        self.crowded_at: tuple[Host, ...] = ()  # hosts that had no room; it stands in line there
        self.called_at: tuple[Host, ...] = ()  # where a place is kept for it
        self.disabled_sources: dict[str, float] = {}
        self.delivered = 0
        self.failed = 0
        self.temporary = 0
        self.errors: Events = ()
        self.replies: Events = ()
        self.outcomes: Events = ()

    # -- what the operator sees -------------------------------------------------------------------------

    def state(self, now: float) -> QueueState:
        """Whether it may send at `now`."""
        if self.is_paused:
            return QueueState.PAUSED
        return QueueState.RETRY if now < self.retry_at else QueueState.READY

    def waiting(self) -> int:
        """Recipients that are not in flight."""
        return len(self.ready) + len(self.deferred)

    def is_forgettable(self, now: float) -> bool:
        """Whether nothing would be lost without this object."""
        return not (
            self.waiting()
            or self.slots
            or self.in_flight
            or self.is_paused
            or self.in_ring
            or self.crowded_at
            or self.mode is QueueMode.BACKOFF
            or now < max(self.retry_at, self.open_after)
            or self.disabled_sources
            or has_memory(self.message_window, now)
            or has_memory(self.connect_window, now)
            or (self.volume_window is not None and self.volume_window.has_memory(now))
            or any(rates.has_memory(now) for rates in self.address_rates.values())
        )

    def note_error(self, now: float, text: str) -> None:
        """Remember why it could not send."""
        if not self.errors or self.errors[-1][1] != text:
            self.errors = last((*self.errors, (now, text)), self.policy.max_events_recorded)

    def note_reply(self, now: float, text: str) -> None:
        """Remember what the receiver said."""
        if self.replies and self.replies[-1][1] == text:
            text = self.replies[-1][1]  # the same words are kept once
        self.replies = last((*self.replies, (now, text)), self.policy.max_events_recorded)

    def note_outcome(self, now: float, text: str) -> None:
        """Remember what became of a recipient (track-recipient-events)."""
        self.outcomes = last((*self.outcomes, (now, text)), REMEMBERED_OUTCOMES)

    def __repr__(self) -> str:
        paused = " paused" if self.is_paused else ""
        return (
            f"<DeliveryQueue {self.key} {self.mode.value}{paused}: {len(self.ready)} ready, "
            f"{len(self.deferred)} deferred, {self.in_flight} in flight, {self.slots} connections>"
        )

    # -- settings ---------------------------------------------------------------------------------------

    def configure(self, policy: QueuePolicy, epoch: int) -> None:
        """Follow another policy; what was counted stays counted."""
        self.policy, self.epoch = policy, epoch
        self.errors = last(self.errors, policy.max_events_recorded)
        self.replies = last(self.replies, policy.max_events_recorded)
        self._activate()

    def enter_backoff(self, now: float, lasting: float | None) -> bool:
        """Use the backoff numbers, for `lasting` seconds (None: until somebody says otherwise).

        Returns whether that is new. Called by modes.py only, as `leave_backoff`.
        """
        until = NEVER if lasting is None else now + lasting
        if self.mode is QueueMode.BACKOFF:
            self.backoff_until = max(self.backoff_until, until)
            return False
        self.mode = QueueMode.BACKOFF
        self.mode_since = now
        self.retry_step = 0
        self.backoff_until = until
        self._activate()
        return True

    def leave_backoff(self, now: float) -> bool:
        """Use the normal numbers again; returns whether it did not."""
        self.backoff_until = NEVER
        if self.mode is QueueMode.NORMAL:
            return False
        self.mode = QueueMode.NORMAL
        self.mode_since = now
        self.retry_step = 0
        self._activate()
        return True

    def is_disabled(self, ip: str, now: float) -> bool:
        """Whether a source address is out of use for this queue."""
        return now < self.disabled_sources.get(ip, 0.0)

    @property
    def reroute_names(self) -> tuple[str, ...]:
        """The virtual MTAs that this queue's mail goes through instead of its own, if any."""
        policy = self.policy
        if policy.reroute_to and self.key.vmta not in policy.reroute_to:
            return policy.reroute_to
        return policy.backoff_reroute_to if self.mode is QueueMode.BACKOFF else ()

    def _activate(self) -> None:
        policy = self.policy
        active, resting = policy, policy.in_backoff()
        if self.mode is QueueMode.BACKOFF:
            active, resting = resting, active
        self.active = active
        self.is_rerouting = bool(self.reroute_names)
        self.message_window = window_pair(active.max_msg_rate, resting.max_msg_rate, self.message_window)
        self.connect_window = window_pair(
            active.max_connect_rate, resting.max_connect_rate, self.connect_window
        )
        self.volume_window = volume_window_for(
            active.max_data_volume_rate, self.volume_window, resting.max_data_volume_rate
        )
        self.limits_addresses = active.limits_addresses
        self.is_metered = self._has_meters()
        for rates in self.address_rates.values():
            rates.configure(active)

    def _has_meters(self) -> bool:
        """Whether its messages count against rates."""
        return self.limits_addresses or self.message_window is not None or self.volume_window is not None

    def rates_of(self, ip: str) -> AddressRates:
        """The rates of one local address in this queue."""
        rates = self.address_rates.get(ip)
        if rates is None:
            rates = self.address_rates[ip] = AddressRates(ip, self.active)
        return rates

    # -- entries ----------------------------------------------------------------------------------------

    def add_ready(self, ref: int, received: int, attempts: int, priority: int = NORMAL_PRIORITY) -> None:
        """A recipient that may go out."""
        ready = self.ready
        if not ready.runs or received < self.oldest:
            self.oldest = received
        if priority != ready.level:
            ready = self._ready_for(priority)
        ready.append(ref, received, attempts, priority)

    def add_fresh(self, fresh: Mapping[int, int], oldest: int) -> None:
        """Recipients of normal priority that nobody has tried: by reference, when they were received, the
        first of them at `oldest`."""
        ready = self.ready
        if not ready.runs or oldest < self.oldest:
            self.oldest = oldest
        if ready.level != NORMAL_PRIORITY:
            ready = self._ready_for(NORMAL_PRIORITY)
        if isinstance(ready, ReadyEntries):
            ready.extend(fresh)
        else:
            for ref, received in fresh.items():
                ready.append(ref, received, 0)

    def return_ready(self, ref: int, received: int, attempts: int, priority: int = NORMAL_PRIORITY) -> None:
        """A recipient that was drawn and goes back to the front of its priority."""
        ready = self.ready
        if not ready.runs or received < self.oldest:
            self.oldest = received
        if priority != ready.level:
            ready = self._ready_for(priority)
        ready.push_front(ref, received, attempts, priority)

    def _ready_for(self, priority: int) -> ReadyEntries | ParkedReady | LeveledEntries:
        """Where a recipient of that priority may wait: one level as long as all are of it."""
        ready = self.ready
        if not len(ready):
            self._begin_anew(priority)
        elif not isinstance(ready, LeveledEntries):
            self.ready = LeveledEntries(ready)
        return self.ready

    def _begin_anew(self, priority: int) -> None:
        """Nothing is ready: wait for what comes in the plainest and smallest form."""
        fresh = ReadyEntries(priority)
        fresh.taken = self.ready.taken
        self.ready = fresh

    def defer(
        self, ref: int, received: int, attempts: int, due: float, priority: int = NORMAL_PRIORITY
    ) -> int:
        """Keep a recipient until `due`, at most until it expires; returns the whole second it waits for."""
        second = max(0, ceil(min(due, received + self.policy.bounce_after)))
        self.deferred.add(ref, second, received, min(attempts, MOST_ATTEMPTS), priority)
        return second

    def add(self, entry: Entry) -> None:
        """An entry of this or another queue, as it was there."""
        if entry.due:
            self.defer(entry.ref, entry.received, entry.attempts, entry.due, entry.priority)
        else:
            self.add_ready(entry.ref, entry.received, entry.attempts, entry.priority)

    def wake_due(self, now: float) -> list[int]:
        """Make deferred entries whose time has come ready; returns those that have expired instead."""
        expired: list[int] = []
        life = self.policy.bounce_after
        for entry in self.deferred.take_due(now, WAKE_AT_ONCE):
            if entry.received + life <= now:
                expired.append(entry.ref)
            else:
                self.add_ready(entry.ref, entry.received, entry.attempts, entry.priority)
        return expired

    def hurry(self, now: float, *, with_deferred: bool = True) -> bool:
        """End the queue's wait, and those of its recipients: the operator says so. Returns whether somebody
        had to wait."""
        has_waited = now < max(self.retry_at, self.open_after) and self.waiting() > 0
        self.retry_at = self.open_after = now
        if with_deferred and len(self.deferred):
            has_waited = True
            for entry in self.deferred.drain():
                self.add_ready(entry.ref, entry.received, entry.attempts, entry.priority)
        return has_waited

    def expire(self, now: float) -> list[int]:
        """Take out ready entries that are past `bounce-after`."""
        if not len(self.ready) or now < self.expires_at():
            return []
        self.expiry_scan_at = now + len(self.ready) / EXPIRY_SCAN_RATE
        expired = self.ready.remove_older(now - self.policy.bounce_after + 1e-6)
        if len(self.ready):
            self.oldest = self.ready.oldest()
        return expired

    def expires_at(self) -> float:
        """Before this time no ready entry expires."""
        if not self.ready.runs:
            return NEVER
        return max(self.oldest + self.policy.bounce_after, self.expiry_scan_at)

    def is_spent(self, received: int, attempts: int, now: float) -> bool:
        """Whether a recipient with that many failed attempts gets no further one."""
        policy = self.policy
        return now >= received + policy.bounce_after or bool(
            policy.max_retries and attempts >= policy.max_retries
        )

    def recipient_wait(self, attempts: int) -> float:
        """How long a recipient waits after its own temporary refusal."""
        policy = self.policy
        if policy.initial_pts:
            return max(SHORTEST_WAIT, penalty(policy.initial_pts, policy.max_pts, attempts))
        return max(SHORTEST_WAIT, policy.retry_recipients_after)

    def entries(self) -> list[Entry]:
        """Everything that waits, in order."""
        return [*self.ready, *self.deferred]

    def empty(self) -> list[int]:
        """Take out everything that waits; returns the references."""
        return self.ready.clear() + [entry.ref for entry in self.deferred.clear()]

    def remove(self, refs: Set[int]) -> list[int]:
        """Take these out, as far as they wait; the others keep their order. Returns what was taken."""
        return self.ready.remove(refs) + self.deferred.remove(refs)

    def prioritize(self, refs: Set[int], priority: int) -> int:
        """Give these another priority, as far as they wait; returns how many had another one."""
        changed = [entry for entry in self.entries() if entry.ref in refs and entry.priority != priority]
        if changed:
            self.remove({entry.ref for entry in changed})
            for entry in changed:
                self.add(entry._replace(priority=priority))
        return len(changed)

    # -- failures ---------------------------------------------------------------------------------------

    def fail(self, now: float, text: str, wait: float | None = None) -> list[int]:
        """The queue as a whole failed: nothing is tried until `retry_at`.

        Failures that come in while it waits already belong to the same episode. `wait` replaces the entry of
        `retry-after`. Returns the recipients whose attempts are used up.
        """
        self.note_error(now, text)
        if now < self.retry_at:
            return []
        self._climb(now, wait)
        self.retry_at = self.open_after
        self.ready.count_failure()
        if not self.policy.max_retries:
            return []
        return self.ready.remove_tired(self.policy.max_retries)

    def fail_opening(self, now: float, text: str, wait: float | None = None) -> None:
        """One more connection could not be opened: those that stand go on, no other is opened for now."""
        self.note_error(now, text)
        if now >= self.open_after:
            self._climb(now, wait)

    def _climb(self, now: float, wait: float | None) -> None:
        if wait is None:
            wait = ladder_wait(self.active.retry_after, self.retry_step)
            self.retry_step += 1
        self.open_after = now + max(wait, SHORTEST_WAIT)

    def rest(self) -> None:
        """The last connection is gone: let go of the room that its parts have kept for what was in them."""
        self.idle, self.sources_open = {}, {}
        if not self.ready.runs:
            self._begin_anew(NORMAL_PRIORITY)

    # -- what it may do now -----------------------------------------------------------------------------

    def wants_connection_at(self, now: float) -> float:
        """When it wants one more connection: by `now`, later, or NEVER (something has to happen first)."""
        ready = self.ready
        unserved = ready.runs - self.opening
        if unserved <= 0 or self.is_paused or self.slots >= self.active.max_smtp_out or self.crowded_at:
            return NEVER
        at = self.open_after if self.open_after > self.retry_at else self.retry_at
        if self.slots:
            if self.idle and unserved <= len(self.idle) and self.unblocks_at(now) <= now:
                return NEVER  # they are being called back
            if ready.runs <= self.slots * MESSAGES_PER_CONNECTION:
                if ready.taken >= self.patience_mark:
                    self.restart_patience(now)
                if self.patient_until > at:
                    at = self.patient_until
            ramp = self.last_grant_at + self.active.smtp_out_rampup_interval
            if ramp > at:
                at = ramp
        if self.message_window is not None:
            at = max(at, self.message_window.lifts_at(now))
        if self.connect_window is not None:
            at = max(at, self.connect_window.lifts_at(now))
        if self.volume_window is not None or self.vmta.volume_window is not None:
            at = max(at, self.volume_lifts_at(now), self.shared_lifts_at(now))
        return at

    def unblocks_at(self, now: float) -> float:
        """When an open connection may draw, as far as the queue's own limits go; NEVER while paused."""
        if self.is_paused:
            return NEVER
        lift = now if self.retry_at < now else self.retry_at
        if self.message_window is not None:
            lift = max(lift, self.message_window.lifts_at(now))
        if self.volume_window is not None:
            lift = max(lift, self.volume_lifts_at(now))
        if self.limits_addresses and self.idle:
            size = self.next_size()
            lift = max(lift, min(self.rates_of(slot.source.ip).sends_at(now, size) for slot in self.idle))
        return lift

    def to_call_back(self, most: int, now: float) -> list[Slot]:
        """At most so many idle connections: those that were last in use, of those that may send."""
        last_used = reversed(self.idle)
        if self.limits_addresses:
            size = self.next_size()
            may_send = (
                slot for slot in last_used if self.rates_of(slot.source.ip).sends_at(now, size) <= now
            )
            return list(islice(may_send, most))
        return list(islice(last_used, most))

    def next_size(self) -> int:
        """Octets of the message at the front; 0 when nothing is ready."""
        return self.vmta.sizes(self.ready.first() >> RECIPIENT_BITS) if self.ready.runs else 0

    def volume_lifts_at(self, now: float) -> float:
        """When the queue's volume rate allows the message at the front."""
        return now if self.volume_window is None else self.volume_window.lifts_at(now, self.next_size())

    def shared_lifts_at(self, now: float) -> float:
        """When the rates of the whole virtual MTA allow the message at the front."""
        vmta = self.vmta
        at = vmta.rate_lifts_at(now)
        if vmta.volume_window is not None:
            at = max(at, vmta.volume_window.lifts_at(now, self.next_size()))
        return at

    def restart_patience(self, now: float) -> None:
        """Give the connections a moment to take what waits now."""
        self.patience_mark = self.ready.taken + len(self.ready)
        self.patient_until = now + CONNECTION_PATIENCE

    def is_patient(self, now: float) -> bool:
        """Whether one more entry opens no connection: those that stand still have time to get to what waits,
        and a deadline comes before that is over."""
        return (
            now < self.wake_at <= self.patient_until
            and self.ready.taken < self.patience_mark
            and self.ready.runs <= self.slots * MESSAGES_PER_CONNECTION
        )


def last(events: Events, most: int) -> Events:
    """So many of them at most, the newest."""
    return events[-most:] if most else ()
