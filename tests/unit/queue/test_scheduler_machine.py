"""The scheduler against a model, with every operation in any order (models of limits kept beside it)."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mta.config.networks import parse_network
from mta.config.snapshot import EgressSource
from mta.config.units import Rate
from mta.config.values import NetworkLimit
from mta.queue.address import rate_of
from mta.queue.key import RECIPIENT_BITS, QueueKey
from mta.queue.policy import UNLIMITED, QueuePolicy, VmtaPolicy
from mta.queue.queue import QueueMode
from mta.queue.reaction import Measure, MeasureKind, Reaction
from mta.queue.scheduler import Scheduler
from mta.queue.slot import Slot

KEYS = [QueueKey(f"d{number}.example", vmta) for number in range(4) for vmta in ("v1", "v2")]
SOURCES = (EgressSource("192.0.2.1", "a"), EgressSource("192.0.2.2", "b"))

rates = st.none() | st.builds(Rate, st.integers(1, 5), st.sampled_from([1.0, 10.0, 60.0]))
volume_rates = st.none() | st.builds(Rate, st.integers(1, 3000), st.sampled_from([1.0, 10.0, 60.0]))


def by_address(rate: Rate | None) -> tuple[NetworkLimit, ...]:
    """The same rate for every local address."""
    return (NetworkLimit(parse_network("0/0"), rate),)


def size_of(message: int) -> int:
    return 100 * (message % 7)


address_rates = st.just(()) | rates.map(by_address)
queue_policies = st.builds(
    QueuePolicy,
    max_smtp_out=st.integers(1, 4),
    max_msg_rate=rates,
    max_connect_rate=rates,
    max_rcpt_per_message=st.integers(1, 3),
    max_msg_per_connection=st.integers(0, 3),
    smtp_out_rampup_interval=st.sampled_from([0.0, 0.0, 5.0]),
    retry_after=st.sampled_from([(10.0,), (5.0, 60.0)]),
    retry_recipients_after=st.sampled_from([1.0, 20.0, 600.0]),
    retry_upon_new_mail=st.booleans(),
    bounce_after=st.sampled_from([30.0, 1000.0, 100_000.0]),
    max_retries=st.sampled_from([0, 0, 1, 3]),
    backoff_max_smtp_out=st.integers(1, 2),
    backoff_max_msg_rate=rates,
    backoff_to_normal_after=st.none() | st.just(30.0),
    max_data_volume_rate=volume_rates,
    backoff_max_data_volume_rate=volume_rates,
    source_ip_max_msg_rate=address_rates,
    source_ip_max_connect_rate=address_rates,
    source_ip_max_data_volume_rate=st.just(()) | volume_rates.map(lambda rate: by_address(rate)),
)
vmta_policies = st.builds(
    VmtaPolicy,
    sources=st.sampled_from([SOURCES, SOURCES[:1]]),
    max_smtp_out=st.sampled_from([1, 3, UNLIMITED]),
    max_smtp_msg_rate=rates,
    max_smtp_data_volume_rate=volume_rates,
)


class SchedulerMachine(RuleBasedStateMachine):
    """Everything a worker and an operator may do."""

    @initialize(
        queue_policy=queue_policies, vmta_policy=vmta_policies, total=st.integers(1, 6), now=st.just(1000.0)
    )
    def start(self, queue_policy: QueuePolicy, vmta_policy: VmtaPolicy, total: int, now: float) -> None:
        self.policy, self.vmta_policy, self.total, self.now = queue_policy, vmta_policy, total, now
        self.scheduler = Scheduler(
            policies=lambda key: self.policy,
            vmtas=lambda name: self.vmta_policy,
            total_max_smtp_out=total,
            sizes=size_of,
        )
        self.slots: list[Slot] = []
        self.waiting: dict[int, QueueKey] = {}
        self.in_flight: dict[int, Slot] = {}
        self.messages = 0
        self.attempts: dict[object, list[float]] = defaultdict(list)
        self.openings: dict[object, list[float]] = defaultdict(list)
        self.octets: dict[object, list[tuple[float, int]]] = defaultdict(list)
        self.transactions: dict[tuple[Slot, int], list[bool]] = {}
        self.rates_changed_at = now

    # -- what happens ---------------------------------------------------------------------------------

    @rule(
        key=st.sampled_from(KEYS), recipients=st.integers(1, 4), due=st.sampled_from([None, None, 3.0, 700.0])
    )
    def admit(self, key: QueueKey, recipients: int, due: float | None) -> None:
        self.messages += 1
        for recipient in range(recipients):
            ref = self.messages << RECIPIENT_BITS | recipient
            self.waiting[ref] = key
            at = None if due is None else self.now + due
            self.scheduler.admit(key, ref, self.now, received=self.now, due=at)

    @rule(limit=st.integers(1, 5))
    def take(self, limit: int) -> None:
        slots = self.scheduler.take(self.now, limit)
        assert len(slots) <= limit
        self.slots += slots
        self.note_openings(slots)

    def note_openings(self, slots: list[Slot]) -> None:
        for slot in slots:
            self.openings[slot.key].append(self.now)
            self.openings[slot.key, slot.source.ip].append(self.now)

    @rule()
    def recall(self) -> None:
        for slot in self.scheduler.recall(self.now):
            self.draw_on(slot)

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def draw(self, data: st.DataObject) -> None:
        self.draw_on(data.draw(st.sampled_from(self.slots)))

    def draw_on(self, slot: Slot) -> None:
        refs = self.scheduler.draw(slot, self.now)
        assert len(refs) <= self.policy.max_rcpt_per_message
        assert len({ref >> RECIPIENT_BITS for ref in refs}) <= 1
        for ref in refs:
            assert self.waiting.pop(ref) == slot.key, "drawn twice, or from another queue"
            self.in_flight[ref] = slot
            self.attempts[slot.key].append(self.now)
            self.attempts[slot.key.vmta].append(self.now)
            self.attempts[slot.key, slot.source.ip].append(self.now)
        transaction = [False]
        for ref in refs:
            self.transactions[slot, ref] = transaction

    def note_delivery(self, slot: Slot, ref: int) -> None:
        """A transaction counts once in the volume, with its first delivery."""
        transaction = self.transactions[slot, ref]
        if not transaction[0]:
            transaction[0] = True
            event = (self.now, size_of(ref >> RECIPIENT_BITS))
            for name in (slot.key, slot.key.vmta, (slot.key, slot.source.ip)):
                self.octets[name].append(event)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), reaction=st.sampled_from(list(Reaction)))
    def settle(self, data: st.DataObject, reaction: Reaction) -> None:
        ref = data.draw(st.sampled_from(sorted(self.in_flight)))
        slot = self.in_flight.pop(ref)
        settled = self.scheduler.settle(slot, self.now, ref, reaction, "450 busy")
        is_final = reaction in (Reaction.DELIVERED, Reaction.FAILED) or settled.is_expired
        if reaction is Reaction.DELIVERED:
            self.note_delivery(slot, ref)
        if not is_final:
            assert settled.due >= self.now
            self.waiting[ref] = slot.key

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(self.slots))
        refs = list(slot.in_flight)
        self.scheduler.put_back(slot, refs)
        self.forget_in_flight(slot)

    @precondition(lambda self: self.slots)
    @rule(data=st.data(), is_failed=st.booleans())
    def close(self, data: st.DataObject, is_failed: bool) -> None:
        slot = data.draw(st.sampled_from(self.slots))
        self.slots.remove(slot)
        if is_failed:
            self.scheduler.failed(slot, self.now, "connection refused")
        else:
            self.scheduler.release(slot, self.now)
        self.forget_in_flight(slot)

    def forget_in_flight(self, slot: Slot) -> None:
        for ref in [ref for ref, holder in self.in_flight.items() if holder is slot]:
            del self.in_flight[ref]
            self.waiting[ref] = slot.key

    @rule(wait=st.sampled_from([0.01, 0.05, 1.0, 10.0, 60.0, 700.0, 5000.0]))
    def wait(self, wait: float) -> None:
        self.now += wait

    @rule()
    def expire(self) -> None:
        for key, ref in self.scheduler.expired(self.now):
            assert self.waiting.pop(ref) == key

    @rule(pattern=st.sampled_from(["*/*", "d1.example/*", "*/v1", "d0.example/v2"]), what=st.integers(0, 5))
    def operate(self, pattern: str, what: int) -> None:
        if what == 0:
            self.scheduler.pause(pattern, self.now)
        elif what == 1:
            self.scheduler.resume(pattern, self.now)
        elif what == 2:
            self.scheduler.schedule_now(pattern, self.now)
        elif what == 3:
            self.change_rates()
            self.scheduler.set_mode(pattern, QueueMode.BACKOFF, self.now)
        elif what == 4:
            self.change_rates()
            self.scheduler.set_mode(pattern, QueueMode.NORMAL, self.now)
        else:
            for key, ref in self.scheduler.delete(pattern, self.now):
                assert self.waiting.pop(ref) == key

    @precondition(lambda self: self.slots)
    @rule(data=st.data(), kind=st.sampled_from(list(MeasureKind)))
    def apply(self, data: st.DataObject, kind: MeasureKind) -> None:
        slot = data.draw(st.sampled_from(self.slots))
        self.change_rates()
        for ref in self.scheduler.apply(slot, self.now, Measure(kind, 20.0)):
            assert self.waiting.pop(ref) == slot.key

    @rule(queue_policy=queue_policies, vmta_policy=vmta_policies)
    def reconfigure(self, queue_policy: QueuePolicy, vmta_policy: VmtaPolicy) -> None:
        self.policy, self.vmta_policy = queue_policy, vmta_policy
        self.change_rates()
        self.scheduler.reconfigure(self.now)
        # What stands from before may be over the new limit; it only must not grow.
        for slot in list(self.slots):
            self.slots.remove(slot)
            self.scheduler.release(slot, self.now)
            self.forget_in_flight(slot)

    def change_rates(self) -> None:
        self.attempts.clear()
        self.openings.clear()
        self.octets.clear()

    # -- what always holds ----------------------------------------------------------------------------

    @invariant()
    def connections_stay_within_every_limit(self) -> None:
        assert len(self.slots) <= self.total
        for vmta in ("v1", "v2"):
            assert sum(slot.key.vmta == vmta for slot in self.slots) <= self.vmta_policy.max_smtp_out
        for key in KEYS:
            most = max(self.policy.max_smtp_out, self.policy.backoff_max_smtp_out)
            assert sum(slot.key == key for slot in self.slots) <= most

    @invariant()
    def rates_hold_in_every_window(self) -> None:
        backoff, normal = self.policy.backoff_max_msg_rate, self.policy.max_msg_rate
        for key in KEYS:
            if backoff == normal:
                within(normal, self.attempts[key])
            if self.policy.backoff_max_connect_rate == self.policy.max_connect_rate:
                within(self.policy.max_connect_rate, self.openings[key])
            if self.policy.backoff_max_data_volume_rate == self.policy.max_data_volume_rate:
                octets_within(self.policy.max_data_volume_rate, self.octets[key])
            for source in SOURCES:
                name = (key, source.ip)
                within(rate_of(source.ip, self.policy.source_ip_max_msg_rate), self.attempts[name])
                within(rate_of(source.ip, self.policy.source_ip_max_connect_rate), self.openings[name])
                octets = rate_of(source.ip, self.policy.source_ip_max_data_volume_rate)
                octets_within(octets, self.octets[name])
        for vmta in ("v1", "v2"):
            within(self.vmta_policy.max_smtp_msg_rate, self.attempts[vmta])
            octets_within(self.vmta_policy.max_smtp_data_volume_rate, self.octets[vmta])

    @invariant()
    def nobody_is_lost_and_nobody_is_twice(self) -> None:
        held = [entry.ref for key in KEYS for entry in self.scheduler.entries(key)]
        held += [ref for _, ref in self.scheduler._turns.expired]
        assert sorted(held) == sorted(self.waiting)
        flying = sorted(ref for slot in self.slots for ref in slot.in_flight)
        assert flying == sorted(self.in_flight)

    @rule()
    def the_deadline_lies_ahead_when_nothing_can_be_had(self) -> None:
        for _ in range(3):
            slots = self.scheduler.take(self.now, 1000)
            self.slots += slots
            self.note_openings(slots)
            for slot in self.scheduler.recall(self.now, 1000):
                self.draw_on(slot)
            for key, ref in self.scheduler.expired(self.now, 1000):
                assert self.waiting.pop(ref) == key
        deadline = self.scheduler.next_deadline(self.now)
        assert deadline is None or deadline > self.now

    @invariant()
    def every_queue_can_be_explained(self) -> None:
        for row in self.scheduler.queues(self.now):
            assert row.explanation.endswith(".")

    def teardown(self) -> None:
        """With a willing receiver and time everything goes out: no queue is ever stuck."""
        if not hasattr(self, "scheduler"):
            return
        self.scheduler.resume("*/*", self.now)
        for _ in range(4000):
            self.expire()
            slots = self.scheduler.take(self.now)
            self.slots += slots
            for slot in [*slots, *self.scheduler.recall(self.now)]:
                self.serve(slot)
            for slot in [slot for slot in self.slots if slot.in_flight or slot.is_retired]:
                self.serve(slot)
            if not self.waiting and not self.in_flight:
                break
            deadline = self.scheduler.next_deadline(self.now)
            assert deadline is not None, f"stuck: {list(self.scheduler.queues(self.now))} {self.slots}"
            self.now = max(self.now, deadline)
        assert not self.waiting
        assert not self.in_flight

    def serve(self, slot: Slot) -> None:
        for ref in list(slot.in_flight):
            self.scheduler.settle(slot, self.now, ref, Reaction.DELIVERED)
            self.note_delivery(slot, ref)
            del self.in_flight[ref]
        self.draw_on(slot)
        if slot.is_retired and slot in self.slots:
            self.slots.remove(slot)
            self.scheduler.release(slot, self.now)


def within(rate: Rate | None, times: list[float]) -> None:
    """No half-open window of `per` seconds holds more than `count`; every worst one begins at an event."""
    if rate is None:
        return
    for first, start in enumerate(times):
        inside = [time for time in times[first:] if time < start + rate.per]
        assert len(inside) <= rate.count


def octets_within(rate: Rate | None, deliveries: list[tuple[float, int]]) -> None:
    """No window holds more octets than allowed, unless a single message does."""
    if rate is None:
        return
    for first, (start, _) in enumerate(deliveries):
        inside = [size for time, size in deliveries[first:] if time < start + rate.per and size]
        assert sum(inside) <= rate.count or len(inside) == 1


SchedulerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestScheduler = SchedulerMachine.TestCase
