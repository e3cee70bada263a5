"""Hosts with limits of connections to their name and to their address, and limits that a reload brings."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from mta.config.domainpattern import DomainPattern
from mta.config.networks import parse_network
from mta.config.values import NetworkLimit, PatternLimit
from mta.queue.hosts import CALL_LASTS, LOOKS_AT_ONCE, HostLimits
from mta.queue.key import QueueKey
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.reaction import Reaction
from mta.queue.scheduler import FAIR_TURN, Scheduler
from mta.queue.slot import Slot
from mta.queue.turns import MOMENT
from tests.support.scheduling import A, B, ref

C = QueueKey("c.example", "v1")
D = QueueKey("d.example", "v1")
E = QueueKey("e.example", "v1")
#: One connection to mx.example, and one to 10.0.0.1.
NAME = PatternLimit(DomainPattern.parse("mx.example"), 1)
ADDRESS = NetworkLimit(parse_network("10.0.0.1"), 1)
#: A and B need both, the others only one of them.
BOTH = ("mx.example", "10.0.0.1")
TARGETS = {
    A: [BOTH],
    B: [BOTH],
    C: [("mx.example", "10.0.0.9")],
    D: [("mx.other.example", "10.0.0.1")],
    E: [("mx.example", "10.0.0.8")],
}


class Street:
    """A scheduler, and where the mail of each queue goes."""

    def __init__(self, *names: PatternLimit, networks: tuple[NetworkLimit, ...] = (), most: int = 1) -> None:
        self.limits = HostLimits(names, networks)
        self.targets = dict(TARGETS)
        self.scheduler = Scheduler(
            policies=lambda key: QueuePolicy(max_smtp_out=most),
            vmtas=lambda name: VmtaPolicy(),
            total_max_smtp_out=100,
            hosts=lambda: self.limits,
        )
        self.messages = 0

    def admit(self, key: QueueKey, messages: int = 1, now: float = 0.0) -> None:
        for _ in range(messages):
            self.messages += 1
            self.scheduler.admit(key, ref(self.messages), now, received=now)

    def open(self, now: float = 0.0) -> list[Slot]:
        """The connections that come about, until nothing more does."""
        opened: list[Slot] = []
        while slots := self.scheduler.take(now):
            for slot in slots:
                if any(self.scheduler.enter(slot, *target) for target in self.targets[slot.key]):
                    opened.append(slot)
                else:
                    self.scheduler.crowded(slot, now)
        return opened

    def start(self, key: QueueKey, now: float = 0.0) -> list[QueueKey]:
        """One message for a queue; whose connections came about then."""
        self.admit(key, now=now)
        return [slot.key for slot in self.open(now)]

    def send(self, slot: Slot, now: float = 0.0) -> None:
        """Let a connection deliver everything until it rests."""
        while refs := self.scheduler.draw(slot, now):
            for one in refs:
                self.scheduler.settle(slot, now, one, Reaction.DELIVERED)

    def finish(self, slot: Slot, now: float) -> None:
        """Let it deliver everything and close."""
        self.send(slot, now)
        self.scheduler.release(slot, now)

    def crowd(self) -> tuple[Slot, Slot]:
        """B waits while the address is full, A while both are; returns who has the name and the address."""
        self.admit(D)
        (at_address,) = self.open()
        assert self.start(B) == []
        self.admit(C)
        (at_name,) = self.open()
        assert self.start(A) == []
        return at_name, at_address


def both_full() -> Street:
    return Street(NAME, networks=(ADDRESS,))


def test_two_queues_that_need_two_places_never_keep_one_each_from_one_another() -> None:
    street = both_full()
    at_name, at_address = street.crowd()
    street.finish(at_name, 1.0)
    assert street.open(1.0) == []
    street.finish(at_address, 1.0)

    (slot,) = street.open(1.0)
    street.finish(slot, 1.0)
    (other,) = street.open(1.0)
    assert {slot.key, other.key} == {A, B}


def test_a_place_is_not_kept_for_a_queue_that_lacks_another_one() -> None:
    street = both_full()
    at_name, _ = street.crowd()
    assert street.start(E) == []
    street.finish(at_name, 1.0)

    assert [slot.key for slot in street.open(1.0)] == [E]
    assert "ip-connection-limit 1: all connections to 10.0.0.1" in street.scheduler.explain(A, 1.0)


def test_a_place_stays_open_to_newcomers_while_those_in_line_lack_another_one() -> None:
    street = both_full()
    at_name, _ = street.crowd()
    street.finish(at_name, 1.0)

    assert street.start(E, 1.0) == [E]


def test_who_was_called_to_one_host_and_enters_another_leaves_the_place_to_the_next() -> None:
    street = Street(NAME, PatternLimit(DomainPattern.parse("mx2.example"), 1))
    street.targets |= {A: [("mx.example", "10.0.0.7"), ("mx2.example", "10.0.0.2")]}
    street.targets |= {D: [("mx2.example", "10.0.0.2")], B: [("mx2.example", "10.0.0.2")]}
    for key in (C, D):
        street.admit(key)
    at_first, at_second = street.open()
    assert street.start(A) == street.start(B) == []
    street.finish(at_second, 1.0)
    street.limits = HostLimits(street.limits.names[1:])
    street.scheduler.reconfigure(1.0)

    assert [slot.key for slot in street.open(1.0)] == [A, B]
    assert at_first.key == C


def test_a_call_to_two_places_that_nobody_follows_ends_at_both() -> None:
    street = both_full()
    at_name, at_address = street.crowd()
    for slot in (at_name, at_address):
        street.finish(slot, 1.0)
    for pattern in ("a.example/*", "b.example/*"):
        street.scheduler.pause(pattern, 1.0)

    later = 1.0 + 3 * CALL_LASTS
    assert street.open(1.0) == street.open(1.0 + CALL_LASTS) == []
    street.admit(D, now=later)
    street.admit(E, now=later)
    assert {slot.key for slot in street.open(later)} == {D, E}


def test_connections_from_before_a_reload_count_against_the_limit_that_it_brings() -> None:
    street = Street(most=9)
    street.admit(C, 2 * FAIR_TURN)
    before = street.open()
    assert len(before) > 1
    street.limits = HostLimits((NAME._replace(limit=len(before)),))
    street.scheduler.reconfigure(1.0)

    assert street.start(E, 1.0) == []
    assert "mx-connection-limit" in street.scheduler.explain(E, 1.0)
    street.scheduler.release(before.pop(), 2.0)
    assert [slot.key for slot in street.open(2.0)] == [E]


def test_connections_beyond_the_limit_that_a_reload_brings_end_when_they_rest() -> None:
    street = Street()
    for key in (C, E):
        street.admit(key)
    slots = street.open()
    for slot in slots:
        street.send(slot)
    street.limits = HostLimits((NAME,))
    street.scheduler.reconfigure(1.0)

    (parting,) = street.scheduler.recall(1.0)
    assert parting in slots
    assert parting.is_retired


def test_a_connection_that_was_open_in_two_reloads_counts_once() -> None:
    street = Street()
    street.admit(C)
    (slot,) = street.open()
    street.limits = HostLimits((NAME._replace(limit=2),))
    for now in (1.0, 2.0):
        street.scheduler.reconfigure(now)

    assert street.start(E, 2.0) == [E]
    street.finish(slot, 3.0)
    assert street.start(C, 3.0) == [C]


def test_a_long_line_that_lacks_another_place_is_passed_by_in_steps() -> None:
    street = both_full()
    at_name, _ = street.crowd()
    for number in range(2 * LOOKS_AT_ONCE):
        key = QueueKey(f"{number}.example", "v1")
        street.targets[key] = [BOTH]
        street.admit(key)
    assert street.open() == []
    assert street.start(E) == []
    street.finish(at_name, 1.0)

    assert street.open(1.0) == []
    assert street.scheduler.next_deadline(1.0) == 1.0 + MOMENT
    street.open(1.0 + MOMENT)
    assert [slot.key for slot in street.open(1.0 + 2 * MOMENT)] == [E]


def test_an_idle_connection_is_given_up_for_who_comes_into_its_line_from_another_one() -> None:
    street = both_full()
    for key in (C, D):
        street.admit(key)
    slots = {slot.key: slot for slot in street.open()}
    street.send(slots[D])
    assert street.start(A) == []
    street.finish(slots[C], 1.0)

    assert street.scheduler.recall(1.0) == [slots[D]]
    assert slots[D].is_retired
    street.scheduler.release(slots[D], 1.0)
    assert [slot.key for slot in street.open(1.0)] == [A]


def rounds_until_served(street: Street, needy: set[QueueKey], draw: Random, most: int) -> dict[QueueKey, int]:
    """Everybody always has mail, and each round all connections deliver it and close, in any order; in which
    round the needy ones had their first connection."""
    for key in street.targets:
        street.admit(key)
    served: dict[QueueKey, int] = {}
    opened = street.open()
    for now in range(1, most + 1):
        if len(served) == len(needy):
            break
        draw.shuffle(opened)
        staying: list[Slot] = []
        for slot in opened:
            if slot.key in needy:
                served.setdefault(slot.key, now)
            street.finish(slot, now)
            street.admit(slot.key, now=now)
            staying += street.open(now)
        opened = staying
    return served


def test_a_queue_that_needs_two_places_is_not_passed_over_for_ever() -> None:
    street = both_full()
    street.targets = {}
    for number in range(4):
        street.targets[QueueKey(f"c{number}.example", "v1")] = TARGETS[C]
        street.targets[QueueKey(f"d{number}.example", "v1")] = TARGETS[D]

    street.targets[A] = [BOTH]

    assert rounds_until_served(street, {A}, Random(1), 20).keys() == {A}


@given(
    st.tuples(*[st.integers(1, 3)] * 4),
    st.lists(st.sampled_from([(0, 2), (1, 3), (0, 3), (0, 2, 1)]), min_size=1, max_size=5),
    st.lists(st.integers(0, 3), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_everybody_gets_the_places_that_it_needs_in_a_bounded_time(
    limits: tuple[int, ...], pairs: list[tuple[int, ...]], singles: list[int], draw: Random
) -> None:
    """Places 0 and 1 are names of hosts, 2 and 3 addresses; the numbers say what a queue needs."""
    names, addresses = ("mx0.example", "mx1.example"), ("10.0.0.2", "10.0.0.3")
    street = Street(
        *(PatternLimit(DomainPattern.parse(name), limits[place]) for place, name in enumerate(names)),
        networks=tuple(
            NetworkLimit(parse_network(ip), limits[place]) for place, ip in enumerate(addresses, 2)
        ),
    )
    street.targets = {}
    for number, place in enumerate(singles):
        target = (names[place], "10.9.9.9") if place < 2 else ("other.example", addresses[place - 2])
        street.targets[QueueKey(f"s{number}.example", "v1")] = [target]
    needy = {QueueKey(f"n{number}.example", "v1"): pair for number, pair in enumerate(pairs)}
    for key, (name, ip, *more) in needy.items():
        street.targets[key] = [(names[one], addresses[ip - 2]) for one in (name, *more)]

    # Two turns in each line, and then at most all that are owed something before it.
    most = 4 * len(street.targets) + 4 * len(needy) + 8
    assert rounds_until_served(street, set(street.targets), draw, most).keys() == street.targets.keys()
