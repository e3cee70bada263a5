"""A scheduler beside a log of everything it allowed: every limit is counted again from it, by brute force.

The model calls the scheduler as a worker would, notes each connection, recipient and delivery, and checks
at each one that no limit in force forbids it. It knows nothing of windows, rings or deadlines. What it takes
from the scheduler is the mode of a queue, since modes only choose among numbers.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import replace
from math import inf
from typing import NamedTuple

from mta.config.domainpattern import DomainPattern
from mta.config.networks import parse_network
from mta.config.snapshot import EgressSource
from mta.config.units import Rate
from mta.config.values import NetworkLimit, PatternLimit
from mta.message.envelope import NORMAL_PRIORITY
from mta.queue.address import limit_of
from mta.queue.hosts import HostLimits
from mta.queue.key import RECIPIENT_BITS, QueueKey
from mta.queue.parking import Park
from mta.queue.policy import UNLIMITED, QueuePolicy, VmtaPolicy
from mta.queue.queue import QueueMode
from mta.queue.reaction import Measure, MeasureKind, Reaction
from mta.queue.rings import LOWER_TURN
from mta.queue.scheduler import FAIR_TURN, Scheduler
from mta.queue.slot import Slot
from mta.service.leasedscheduler import LeasedScheduler, part_of
from tests.support.memory_shelf import MemoryShelf

__all__ = ["DOMAINS", "KEYS", "SOURCES", "VMTAS", "HostCaps", "SchedulerModel", "size_of"]

DOMAINS = ("d0.example", "d1.example", "d2.example", "d3.example")
VMTAS = ("v1", "v2")
KEYS = [QueueKey(domain, vmta) for domain in DOMAINS for vmta in VMTAS]
SOURCES = (EgressSource("192.0.2.1", "a"), EgressSource("192.0.2.2", "b"))
WORKERS = 2
#: Where the mail of each domain goes, best first: two share hosts, one shares the name of one host and the
#: address of another.
TARGETS = {
    "d0.example": (("mx1.big.example", "10.0.0.1"), ("mx2.big.example", "10.0.0.2")),
    "d1.example": (("mx1.big.example", "10.0.0.1"), ("mx2.big.example", "10.0.0.2")),
    "d2.example": (("mx2.big.example", "10.0.0.2"),),
    "d3.example": (("mx1.big.example", "10.1.0.1"), ("mx.small.example", "10.0.0.2")),
}
FINAL = (Reaction.DELIVERED, Reaction.FAILED)


def size_of(message: int) -> int:
    """Octets of a message."""
    return 100 * (message % 7)


class Log:
    """Events of one thing that is limited, and from which of them on each of its limits holds."""

    def __init__(self) -> None:
        self.events: list[tuple[float, int]] = []
        self.since: dict[str, tuple[Rate | None, int]] = {}

    def add(self, now: float, weight: int = 1) -> None:
        self.events.append((now, weight))

    def follow(self, mode: str, rate: Rate | None) -> None:
        """A limit is in force; if it is not the one before, it counts from now on."""
        if mode not in self.since or self.since[mode][0] != rate:
            self.since[mode] = (rate, len(self.events))

    def check(self, mode: str, now: float, *, may_be_one: bool = False) -> None:
        """No window that ends now holds more than its limit."""
        rate, start = self.since[mode]
        if rate is None:
            return
        inside = [weight for time, weight in self.events[start:] if time + rate.per > now and weight]
        assert sum(inside) <= rate.count or (may_be_one and len(inside) == 1), f"{rate} is exceeded: {inside}"


class HostCaps(NamedTuple):
    """Limits of hosts in plain numbers; None for none."""

    big: int | None = None  # *.big.example
    first: int | None = None  # mx1.big.example
    network: int | None = None  # 10.0.0.0/24

    def limits(self) -> HostLimits:
        names = (("*.big.example", self.big), ("mx1.big.example", self.first))
        return HostLimits(
            tuple(PatternLimit(DomainPattern.parse(text), cap) for text, cap in names if cap is not None),
            () if self.network is None else (NetworkLimit(parse_network("10.0.0.0/24"), self.network),),
        )

    def of_name(self, host: str) -> int | None:
        if host == "mx1.big.example" and self.first is not None:
            return self.first
        return self.big if host.endswith("big.example") else None

    def of_address(self, ip: str) -> int | None:
        return self.network if ip.startswith("10.0.0.") else None


class SchedulerModel:
    """The scheduler, what it has been given, and what it has done."""

    def __init__(
        self,
        policies: dict[str, QueuePolicy],
        vmtas: dict[str, VmtaPolicy],
        total: int,
        *,
        is_leased: bool,
        caps: HostCaps,
        most_in_memory: int = 0,
        now: float = 1000.0,
    ) -> None:
        self.most_in_memory = most_in_memory
        self.caps = caps
        self.places: dict[Slot, tuple[str, str, str]] = {}  # source address, host, address
        self.policies, self.vmtas, self.total, self.is_leased = dict(policies), dict(vmtas), total, is_leased
        self.now = now
        self.lent = dict.fromkeys(VMTAS, 0)
        self.slots: list[Slot] = []
        self.waiting: dict[int, QueueKey] = {}
        self.in_flight: dict[int, Slot] = {}
        self.received: dict[int, int] = {}
        self.attempts: Counter[int] = Counter()
        self.priority: dict[int, int] = {}
        self.since_lower: Counter[QueueKey] = Counter()  # messages that went before less important ones
        self.in_a_row: dict[QueueKey, tuple[object, int]] = {}  # the same, while the queue kept its entries
        self.paused: set[QueueKey] = set()
        self.disabled: dict[tuple[QueueKey, str], float] = {}
        self.bans: dict[str, dict[str, float]] = defaultdict(dict)
        self.last_opened: dict[QueueKey, float] = {}
        self.drawn: Counter[Slot] = Counter()
        self.errors: Counter[Slot] = Counter()
        self.transactions: dict[int, list[bool]] = {}
        self.modes: dict[int, str] = {}  # of the queue, when it was drawn
        self.passed: Counter[QueueKey] = Counter()  # grants to others while it stood in the ring
        self.logs: dict[object, Log] = defaultdict(Log)
        self.messages = 0
        self.steps = 0
        self.scheduler = self.made()

    def made(self) -> Scheduler:
        # A new one at each start, as for a worker; now and then its disk is full.
        self.shelf = MemoryShelf(refuses=7)
        park = Park(
            self.shelf,
            lambda: self.most_in_memory,
            lambda: len(self.waiting) + len(self.in_flight),
            least=1,
        )
        if self.is_leased:
            leased = LeasedScheduler(
                policies=lambda key: self.policies[key.domain],
                vmtas=self.vmtas.__getitem__,
                wanting=lambda: None,
                parts=WORKERS,
                sizes=size_of,
                hosts=lambda: self.caps.limits(),
                park=park,
            )
            self.lease(leased)
            return leased
        return Scheduler(
            policies=lambda key: self.policies[key.domain],
            vmtas=self.vmtas.__getitem__,
            total_max_smtp_out=self.total,
            sizes=size_of,
            hosts=lambda: self.caps.limits(),
            park=park,
        )

    # -- what is in force -----------------------------------------------------------------------------

    def mode(self, key: QueueKey) -> str:
        queue = self.scheduler._registry.by_key.get(key)
        return "backoff" if queue is not None and queue.mode is QueueMode.BACKOFF else "normal"

    def active(self, key: QueueKey) -> QueuePolicy:
        policy = self.policies[key.domain]
        return policy.in_backoff() if self.mode(key) == "backoff" else policy

    def vmta_connections(self, name: str) -> int:
        limit = self.vmtas[name].max_smtp_out
        return min(limit, self.lent[name]) if self.is_leased and limit < UNLIMITED else limit

    def cap(self, cap: int | None) -> int | None:
        return -(-cap // WORKERS) if self.is_leased and cap is not None else cap

    def part(self, rate: Rate | None) -> Rate | None:
        return part_of(rate, WORKERS) if self.is_leased and rate is not None else rate

    def follow(self) -> None:
        """Let every log know the limits that hold."""
        for key in KEYS:
            normal = self.policies[key.domain]
            for mode, policy in (("normal", normal), ("backoff", normal.in_backoff())):
                self.logs[key, "messages"].follow(mode, policy.max_msg_rate)
                self.logs[key, "connects"].follow(mode, policy.max_connect_rate)
                self.logs[key, "octets"].follow(mode, policy.max_data_volume_rate)
            for source in SOURCES:
                for kind, limits in (
                    ("messages", normal.source_ip_max_msg_rate),
                    ("connects", normal.source_ip_max_connect_rate),
                    ("octets", normal.source_ip_max_data_volume_rate),
                ):
                    rate = limit_of(source.ip, limits)
                    assert rate is None or isinstance(rate, Rate)
                    self.logs[key, source.ip, kind].follow("any", rate)
        for name, vmta in self.vmtas.items():
            self.logs[name, "messages"].follow("any", self.part(vmta.max_smtp_msg_rate))
            self.logs[name, "octets"].follow("any", self.part(vmta.max_smtp_data_volume_rate))

    # -- what a worker does ---------------------------------------------------------------------------

    def admit(
        self,
        key: QueueKey,
        messages: int,
        recipients: int,
        due: float | None = None,
        priority: int = NORMAL_PRIORITY,
    ) -> None:
        numbers = range(self.messages + 1, self.messages + messages + 1)
        self.messages += messages
        refs = [number << RECIPIENT_BITS | index for number in numbers for index in range(recipients)]
        fresh = dict.fromkeys(refs, int(self.now))
        self.received |= fresh
        self.waiting |= dict.fromkeys(refs, key)
        self.priority |= dict.fromkeys(refs, priority)
        if messages > 1 and due is None and priority == NORMAL_PRIORITY:
            self.scheduler.admit_fresh(key, fresh, self.now)
            return
        at = None if due is None else self.now + due
        for ref in fresh:
            self.scheduler.admit(key, ref, self.now, received=self.now, due=at, priority=priority)

    def take(self, limit: int = 64) -> list[Slot]:
        self.lend_places()
        slots = self.scheduler.take(self.now, limit)
        assert len(slots) <= limit
        for slot in slots:
            self.note_opening(slot)
        for slot in slots:
            self.dial(slot)
        for queue in self.scheduler._registry:
            if not queue.in_ring:
                self.passed[queue.key] = 0
        return slots

    def dial(self, slot: Slot) -> None:
        """Connect to the first host that has room; without one the queue waits."""
        for host, ip in TARGETS[slot.key.domain]:
            if self.scheduler.enter(slot, host, ip):
                self.places[slot] = slot.source.ip, host, ip
                by_name, by_address = self.free_places(slot.source.ip, host, ip)
                assert by_name >= 0
                assert by_address >= 0
                return
        self.slots.remove(slot)
        self.scheduler.crowded(slot, self.now)
        for name in ((slot.key, "connects"), (slot.key, slot.source.ip, "connects")):
            self.logs[name].events.remove((self.now, 1))

    def free_places(self, source: str, host: str, ip: str) -> tuple[float, float]:
        """How many more connections from a source address a host and its address may have."""
        taken = [place for slot, place in self.places.items() if slot in self.slots]
        here = [place for place in taken if place[0] == source]
        by_name, by_address = self.cap(self.caps.of_name(host)), self.cap(self.caps.of_address(ip))
        return (
            inf if by_name is None else by_name - sum(place[1] == host for place in here),
            inf if by_address is None else by_address - sum(place[2] == ip for place in here),
        )

    def check_lines(self) -> None:
        """Who stands in line at hosts could not connect, unless the place is kept for one who can."""
        for queue in self.scheduler._registry:
            for host in queue.crowded_at:
                for target in host.waiting[queue]:
                    if min(self.free_places(*target)) > 0:
                        places = self.scheduler._hosts._places(queue, target)
                        called = [one for place in places for one in place.called]
                        assert called, f"{queue} waits for free places"
                        assert not any(one.crowded_at for one in called), f"{called} block {queue}"

    def note_opening(self, slot: Slot) -> None:
        key, ip, now = slot.key, slot.source.ip, self.now
        active = self.active(key)
        mine = [other for other in self.slots if other.key == key]
        assert key not in self.paused
        assert now >= self.disabled.get((key, ip), 0.0), "a disabled address is used"
        assert len(self.slots) < self.total
        assert len(mine) < active.max_smtp_out
        assert sum(other.key.vmta == key.vmta for other in self.slots) < self.vmta_connections(key.vmta)
        cap = limit_of(ip, active.source_ip_max_smtp_out)
        assert not isinstance(cap, int) or sum(other.source.ip == ip for other in mine) < cap
        if mine:
            assert now >= self.last_opened[key] + active.smtp_out_rampup_interval
        self.last_opened[key] = now
        self.slots.append(slot)
        self.note((key, "connects"), self.mode(key))
        self.note((key, ip, "connects"), "any")
        self.passed[key] = 0
        for queue in self.scheduler._registry:
            if queue.key != key and queue.key.vmta == key.vmta and queue.in_ring:
                self.passed[queue.key] += 1
                assert self.passed[queue.key] <= LOWER_TURN * len(DOMAINS) ** 2, f"{queue} starves"

    def note(self, name: object, mode: str, weight: int = 1, *, may_be_one: bool = False) -> None:
        log = self.logs[name]
        log.add(self.now, weight)
        log.check(mode, self.now, may_be_one=may_be_one)

    def recall(self) -> None:
        for slot in self.scheduler.recall(self.now):
            assert slot in self.slots
            if slot.is_interrupted:
                assert self.policies[slot.key.domain].allow_priority_interruption_during_transfer
                self.put_back(slot)
            if slot.is_retired:
                self.close(slot)
            else:
                self.draw(slot)

    def draw(self, slot: Slot) -> list[int]:
        key, ip, now = slot.key, slot.source.ip, self.now
        refs = self.scheduler.draw(slot, now)
        if not refs:
            return refs
        self.check_order(slot, refs)
        active = self.active(key)
        self.drawn[slot] += 1
        assert not slot.is_retired
        assert key not in self.paused
        assert now >= self.disabled.get((key, ip), 0.0)
        assert len(refs) <= active.max_rcpt_per_message
        assert len({ref >> RECIPIENT_BITS for ref in refs}) == 1
        assert not active.max_msg_per_connection or self.drawn[slot] <= active.max_msg_per_connection
        assert not active.max_errors_per_connection or self.errors[slot] < active.max_errors_per_connection
        transaction = [False]
        for ref in refs:
            assert self.waiting.pop(ref) == key, "drawn twice, or from another queue"
            assert now < self.received[ref] + active.bounce_after, "too old to be tried"
            self.in_flight[ref] = slot
            self.transactions[ref] = transaction
            self.modes[ref] = self.mode(key)
            self.note((key, "messages"), self.mode(key))
            self.note((key, ip, "messages"), "any")
            self.note((key.vmta, "messages"), "any")
        return refs

    def check_order(self, slot: Slot, refs: list[int]) -> None:
        """Higher priorities go first, but for one message in so many, and then a lower one has its turn."""
        key, ready = slot.key, slot.queue.ready
        levels = {self.priority[ref] for ref in refs}
        assert len(levels) == 1, "one transaction with recipients of several priorities"
        drawn, others = levels.pop(), {self.priority[entry.ref] for entry in ready}
        if drawn < max(others, default=drawn):
            assert self.since_lower[key] >= LOWER_TURN - 1, f"{key}: {drawn} goes before {others}"
            self.since_lower[key] = 0
            self.in_a_row[key] = ready, 0
        elif drawn > min(others, default=drawn):
            self.since_lower[key] += 1
            known, count = self.in_a_row.get(key, (ready, 0))
            self.in_a_row[key] = ready, count + 1 if known is ready else 1
            assert self.in_a_row[key][1] < LOWER_TURN, f"{key}: lower priorities starve"

    def settle(self, ref: int, reaction: Reaction) -> None:
        slot = self.in_flight.pop(ref)
        mode = self.mode(slot.key)
        settled = self.scheduler.settle(slot, self.now, ref, reaction, "450 busy")
        self.attempts[ref] += 1
        assert settled.attempts >= self.attempts[ref]
        if reaction is not Reaction.DELIVERED:
            self.errors[slot] += 1
        elif not self.transactions[ref][0]:
            self.transactions[ref][0] = True
            size = size_of(ref >> RECIPIENT_BITS)
            if self.modes[ref] == mode:  # else another mode has allowed it
                self.note((slot.key, "octets"), mode, size, may_be_one=True)
            self.note((slot.key, slot.source.ip, "octets"), "any", size, may_be_one=True)
            self.note((slot.key.vmta, "octets"), "any", size, may_be_one=True)
        if reaction not in FINAL and not settled.is_expired:
            assert settled.due >= self.now
            self.waiting[ref] = slot.key

    def put_back(self, slot: Slot) -> None:
        self.scheduler.put_back(slot, list(slot.in_flight))
        self.forget_in_flight(slot)

    def close(self, slot: Slot, *, is_failed: bool = False) -> None:
        self.slots.remove(slot)
        self.places.pop(slot, None)
        if is_failed:
            self.scheduler.failed(slot, self.now, "connection refused")
        else:
            self.scheduler.release(slot, self.now)
        self.forget_in_flight(slot)

    def forget_in_flight(self, slot: Slot) -> None:
        for ref in [ref for ref, holder in self.in_flight.items() if holder is slot]:
            del self.in_flight[ref]
            self.waiting[ref] = slot.key

    def expire(self) -> None:
        for key, ref in self.scheduler.expired(self.now):
            assert self.waiting.pop(ref) == key

    # -- what rules and operators do ------------------------------------------------------------------

    def pause(self, pattern: str) -> None:
        self.scheduler.pause(pattern, self.now)
        self.paused |= {key for key in KEYS if matches(pattern, key)}

    def resume(self, pattern: str) -> None:
        self.scheduler.resume(pattern, self.now)
        self.paused -= {key for key in KEYS if matches(pattern, key)}

    def prioritize(self, key: QueueKey, priority: int, *, part: int) -> None:
        refs = {ref for ref, place in self.waiting.items() if place == key and ref >> RECIPIENT_BITS & part}
        gone = {ref for _, ref in self.scheduler._turns.expired}
        meant = {ref for ref in refs - gone if self.priority[ref] != priority}
        assert self.scheduler.prioritize(key, refs, priority, self.now) == len(meant)
        self.priority.update(dict.fromkeys(meant, priority))

    def delete(self, pattern: str) -> None:
        for key, ref in self.scheduler.delete(pattern, self.now):
            assert self.waiting.pop(ref) == key

    def apply(self, slot: Slot, measure: Measure) -> None:
        lasting = measure.lasting
        for ref in self.scheduler.apply(slot, self.now, measure):
            assert self.waiting.pop(ref) == slot.key
        if measure.kind is MeasureKind.DISABLE_SOURCE and lasting is not None:
            place = slot.key, slot.source.ip
            self.disabled[place] = max(self.disabled.get(place, 0.0), self.now + lasting)

    def disable_source(self, key: QueueKey, ip: str, lasting: float) -> None:
        self.scheduler.disable_source(str(key), ip, self.now, lasting)
        self.disabled[key, ip] = self.now + lasting

    def enable_source(self, key: QueueKey, ip: str) -> None:
        self.scheduler.enable_source(str(key), ip, self.now)
        self.disabled.pop((key, ip), None)

    def reconfigure(
        self, domain: str, policy: QueuePolicy, vmta: str, vmta_policy: VmtaPolicy, caps: HostCaps
    ) -> None:
        """A reload. What was begun under the old limits ends: volumes on their way were allowed by those."""
        for slot in list(self.slots):
            self.close(slot)
        self.policies[domain] = policy
        self.vmtas[vmta] = vmta_policy
        self.caps = caps
        self.scheduler.reconfigure(self.now)
        self.lease(self.scheduler)

    def recap(self, caps: HostCaps) -> None:
        """A reload that changes the limits of hosts alone: what is open stays open, and counts."""
        self.caps = caps
        self.scheduler.reconfigure(self.now)
        self.lease(self.scheduler)

    def lend(self, total: int, parts: dict[str, int]) -> None:
        """Another lease; connections over it are closed by and by, and only must not become more."""
        if self.is_leased:
            self.total, self.lent = total, parts
            self.lease(self.scheduler)

    def lend_places(self, size: int = 1) -> None:
        """What is asked of limits that are smaller than the number of workers, and `size` of each."""
        if isinstance(self.scheduler, LeasedScheduler):
            places = dict.fromkeys(self.scheduler.place_demands(), size)
            self.scheduler.lend_places(places, self.now)

    def lease(self, scheduler: Scheduler) -> None:
        if isinstance(scheduler, LeasedScheduler):
            for name in VMTAS:
                state = scheduler._registry.obtain_vmta(name)
                scheduler._registry.follow_vmta(state)
            scheduler.lend(self.total, self.lent)

    def restart(self) -> None:
        """An end in good order and a new beginning: what counted goes on counting."""
        for slot in list(self.slots):
            self.close(slot)
        self.expire()
        entries = [(key, entry) for key in KEYS for entry in self.scheduler.entries(key)]
        state = json.loads(json.dumps(self.scheduler.snapshot_state(with_rates=True)))
        self.scheduler = self.made()
        self.scheduler.restore_state(state, self.now)
        self.lease(self.scheduler)
        for key, entry in entries:
            due = float(entry.due) if entry.due else None
            self.scheduler.admit(
                key,
                entry.ref,
                self.now,
                received=float(entry.received),
                attempts=entry.attempts,
                due=due,
                priority=self.priority[entry.ref],
            )
            # Whoever would have expired meanwhile gets one more try.
            self.received[entry.ref] = max(
                entry.received, int(self.now - self.policies[key.domain].bounce_after) + 600
            )

    # -- what always holds ----------------------------------------------------------------------------

    def check(self) -> None:
        """Everybody is in exactly one place."""
        entries = [entry for key in KEYS for entry in self.scheduler.entries(key)]
        assert all(entry.priority == self.priority[entry.ref] for entry in entries)
        held = [entry.ref for entry in entries]
        held += [ref for _, ref in self.scheduler._turns.expired]
        assert sorted(held) == sorted(self.waiting)
        flying = sorted(ref for slot in self.slots for ref in slot.in_flight)
        assert flying == sorted(self.in_flight)
        standing: Counter[int] = Counter()
        for vmta in self.scheduler._registry.vmtas.values():
            standing.update(dict(vmta.ring.counts()) if vmta.place is not None else {})
        assert self.scheduler._turns._standing == standing

    def settle_down(self) -> None:
        """The deadline lies ahead when nothing can be had now: nobody waits busily, nobody is forgotten, and
        nobody for a place that is free."""
        for _ in range(3):
            self.take(1000)
            self.recall()
            self.expire()
        deadline = self.scheduler.next_deadline(self.now)
        assert deadline is None or deadline > self.now, "there is work, and nothing to be had"
        if not self.is_leased:
            self.check_lines()  # a place that is lent is kept until the other one comes

    def drain(self) -> None:
        """With willing receivers and time everything goes out: nobody is stuck."""
        self.resume("*/*")
        # Nobody is to escape by being too old.
        while self.scheduler._turns.expired:
            self.expire()
        self.policies = {
            domain: replace(policy, bounce_after=1e8, max_retries=0)
            for domain, policy in self.policies.items()
        }
        # Nor is one message in forty minutes to go out past queues that try again every five seconds.
        for name, vmta in self.vmtas.items():
            self.vmtas[name] = replace(
                vmta,
                max_smtp_msg_rate=hurried(vmta.max_smtp_msg_rate),
                max_smtp_data_volume_rate=hurried(vmta.max_smtp_data_volume_rate),
            )
        self.scheduler.reconfigure(self.now)
        self.follow()
        self.lease(self.scheduler)
        if self.is_leased:
            self.lend(max(1, self.total), dict.fromkeys(VMTAS, max(1, *self.lent.values())))
        for _ in range(20_000):
            assert not self.scheduler.expired(self.now), "somebody waited to the end"
            self.take()
            self.recall()
            for slot in list(self.slots):
                self.serve(slot)
            if not self.waiting and not self.in_flight:
                return
            if any(slot.in_flight for slot in self.slots):
                continue  # they have had a fair turn only: no time passes before the next
            self.lend_places()
            deadline = self.scheduler.next_deadline(self.now)
            assert deadline is not None, f"stuck: {list(self.scheduler.queues(self.now))} {self.slots}"
            self.now = max(self.now, deadline)
        raise AssertionError(f"{len(self.waiting)} still wait: {list(self.scheduler.queues(self.now))}")

    def serve(self, slot: Slot) -> None:
        """What a connection does until it rests: a bounded number of messages, then it makes room."""
        for _ in range(FAIR_TURN + 1):
            for ref in list(slot.in_flight):
                self.settle(ref, Reaction.DELIVERED)
            if not self.is_worth_drawing(slot) or not self.draw(slot):
                break
        if slot.is_retired and slot in self.slots and not slot.in_flight:
            self.close(slot)

    def is_worth_drawing(self, slot: Slot) -> bool:
        return slot.state.value != "idle"


def hurried(rate: Rate | None) -> Rate | None:
    """The same number in a minute at most."""
    return None if rate is None else rate._replace(per=min(rate.per, 60.0))


def matches(pattern: str, key: QueueKey) -> bool:
    domain, vmta = pattern.split("/")
    return domain in ("*", key.domain) and vmta in ("*", key.vmta)
