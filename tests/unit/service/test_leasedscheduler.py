"""A scheduler on borrowed permits: nothing without a lease, no more than it, and back when it shrinks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mta.config.domainpattern import DomainPattern
from mta.config.networks import parse_network
from mta.config.units import Rate
from mta.config.values import NetworkLimit, PatternLimit
from mta.queue.hosts import CALL_LASTS, HostLimits, Place, PlaceDemand
from mta.queue.key import QueueKey
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.queue import QueueMode
from mta.queue.reaction import Reaction
from mta.queue.scheduler import FAIR_TURN
from mta.queue.slot import Slot
from mta.service.leasedscheduler import Demand, LeasedScheduler
from mta.service.sharedqueue import part_of
from tests.support.scheduling import A, B, deliver_all, open_at, ref


class Lessee:
    """A leased scheduler with much mail."""

    def __init__(self, **vmta: Any) -> None:
        self.asked = 0
        self.scheduler = LeasedScheduler(
            policies=lambda key: QueuePolicy(max_smtp_out=100),
            vmtas=lambda name: VmtaPolicy(**vmta),
            wanting=self.ask,
            parts=2,
        )
        for message in range(1, 3000):
            self.scheduler.admit(A if message % 2 else B, ref(message), 0.0, received=0.0)

    def ask(self) -> None:
        self.asked += 1


def test_nothing_is_opened_before_the_first_lease_but_it_is_asked_for() -> None:
    lessee = Lessee()

    assert lessee.scheduler.take(0.0) == []
    assert lessee.asked
    assert lessee.scheduler.demand() == Demand(0, 2)


def test_a_lease_is_used_up_and_more_is_wanted() -> None:
    lessee = Lessee()
    lessee.scheduler.lend(6, {})

    assert len(lessee.scheduler.take(0.0)) == 6
    assert lessee.scheduler.demand() == Demand(6, 12)


def test_connections_beyond_a_smaller_lease_are_retired_after_their_turn() -> None:
    lessee = Lessee()
    scheduler = lessee.scheduler
    scheduler.lend(6, {})
    slots = scheduler.take(0.0)
    for slot in slots:
        scheduler.opened(slot, 0.0)
    scheduler.lend(2, {})

    for _ in range(120):
        new = scheduler.take(1.0)
        assert not new or len(slots) + len(new) <= 2
        slots += new
        for slot in list(slots):
            for one in scheduler.draw(slot, 1.0):
                scheduler.settle(slot, 1.0, one, Reaction.DELIVERED)
            if slot.is_retired:
                scheduler.release(slot, 1.0)
                slots.remove(slot)
    assert len(slots) <= 2
    assert scheduler.demand().holding == 2


def test_a_virtual_mta_with_a_limit_of_its_own_has_a_lease_of_its_own() -> None:
    lessee = Lessee(max_smtp_out=10)
    scheduler = lessee.scheduler
    scheduler.lend(50, {})
    assert scheduler.take(0.0) == []
    assert scheduler.vmta_demands() == {"v1": Demand(0, 2)}

    scheduler.lend(50, {"v1": 4})
    assert len(scheduler.take(0.0)) == 4
    scheduler.reconfigure(1.0)
    assert scheduler.take(1.0) == []
    assert scheduler.vmta_demands()["v1"].holding == 4


def test_a_rate_is_divided_so_that_it_holds_in_sum() -> None:
    assert part_of(Rate(100, 60.0), 3) == Rate(33, 60.0)
    assert part_of(Rate(1, 60.0), 3) == Rate(1, 180.0)
    assert part_of(Rate(2, 10.0), 4) == Rate(1, 20.0)


def test_a_lease_from_before_a_reload_gives_no_more_than_the_new_limit() -> None:
    lessee = Lessee(max_smtp_out=10)
    scheduler = lessee.scheduler
    lessee.scheduler.take(0.0)
    scheduler.lend(50, {"v1": 4})
    scheduler._unleased = lambda name: VmtaPolicy(max_smtp_out=1)
    scheduler.reconfigure(1.0)

    assert len(scheduler.take(1.0)) == 1
    scheduler.lend(50, {"v1": 4})
    assert scheduler.take(1.0) == []


ROLLUP = QueueKey("big.rollup", "v1")
MX: Place = ("mx-connection-limit", "", "mx.example")
SHARED: Place = ("max-smtp-out", "", "big.rollup/v1")


class Tenant:
    """One of three workers with mail for one host, and for a roll-up; neither allows a connection each."""

    def __init__(self, **settings: Any) -> None:
        self.limits = HostLimits((PatternLimit(DomainPattern.parse("*"), 1),))
        self.policy = QueuePolicy(**settings)
        self.asked = 0
        self.scheduler = LeasedScheduler(
            policies=lambda key: self.policy if key == ROLLUP else QueuePolicy(max_smtp_out=9),
            vmtas=lambda name: VmtaPolicy(),
            wanting=self.ask,
            parts=3,
            hosts=lambda: self.limits,
        )
        self.scheduler.lend(100, {})

    def ask(self) -> None:
        self.asked += 1

    def admit(self, key: QueueKey, messages: int = 1) -> None:
        for message in range(1, messages + 1):
            self.scheduler.admit(key, ref(message), 0.0, received=0.0)

    def open(self, host: str = "mx.example", now: float = 0.0) -> list[Slot]:
        return open_at(self.scheduler, host, now)

    def deliver_all(self, slot: Slot, now: float = 0.0) -> int:
        """Returns how many messages that were."""
        return deliver_all(self.scheduler, slot, now)


def test_a_host_that_allows_less_than_a_connection_each_is_entered_with_a_place() -> None:
    tenant = Tenant()
    tenant.admit(A, 100)
    assert tenant.open() == []
    tenant.scheduler.take(0.0)
    assert tenant.asked
    assert tenant.scheduler.place_demands() == {MX: PlaceDemand(0, 1, 1)}
    assert "mx-connection-limit 1: all" in tenant.scheduler.explain(A, 0.0)

    tenant.scheduler.lend_places({MX: 1}, 0.0)
    assert [slot.key for slot in tenant.open()] == [A]
    assert tenant.scheduler.place_demands() == {MX: PlaceDemand(1, 1, 1)}


def test_a_place_that_is_asked_back_is_given_up_after_a_fair_turn() -> None:
    tenant = Tenant()
    tenant.admit(A, 100)
    tenant.open()
    tenant.scheduler.lend_places({MX: 1}, 0.0)
    (slot,) = tenant.open()
    tenant.scheduler.lend_places({MX: 0}, 0.0)

    assert tenant.scheduler.place_demands() == {MX: PlaceDemand(1, 1, 1)}
    assert tenant.deliver_all(slot) == FAIR_TURN
    tenant.scheduler.release(slot, 1.0)
    assert tenant.open(now=1.0) == []
    assert tenant.scheduler.place_demands() == {MX: PlaceDemand(0, 1, 1)}


def test_a_connection_that_rests_is_given_up_at_once_and_the_place_with_it() -> None:
    tenant = Tenant()
    tenant.admit(A)
    tenant.open()
    tenant.scheduler.lend_places({MX: 1}, 0.0)
    (slot,) = tenant.open()
    tenant.deliver_all(slot)
    tenant.scheduler.lend_places({MX: 0}, 0.0)

    assert tenant.scheduler.recall(0.0) == [slot]
    tenant.scheduler.release(slot, 1.0)
    assert tenant.scheduler.place_demands() == {MX: PlaceDemand(0, 0, 1)}
    assert tenant.scheduler.place_demands() == {}


def test_a_roll_up_that_allows_less_than_a_connection_each_is_entered_with_a_place() -> None:
    tenant = Tenant(max_smtp_out=2)
    tenant.limits = HostLimits()
    tenant.scheduler.reconfigure(0.0)
    tenant.admit(ROLLUP, 500)
    assert tenant.open() == []
    assert tenant.scheduler.place_demands() == {SHARED: PlaceDemand(0, 1, 2)}

    tenant.scheduler.lend_places({SHARED: 1}, 0.0)
    assert [slot.key for slot in tenant.open()] == [ROLLUP]
    assert tenant.open(now=60.0) == []


def test_a_reload_across_the_number_of_workers_keeps_what_is_open() -> None:
    tenant = Tenant(max_smtp_out=3)
    tenant.limits = HostLimits()
    tenant.scheduler.reconfigure(0.0)
    tenant.admit(ROLLUP, 500)
    (slot,) = tenant.open()
    tenant.policy = replace(tenant.policy, max_smtp_out=1)
    tenant.scheduler.reconfigure(1.0)
    assert tenant.scheduler.place_demands() == {SHARED: PlaceDemand(1, 1, 1)}
    tenant.scheduler.lend_places({SHARED: 0}, 1.0)
    assert tenant.deliver_all(slot, 1.0) == FAIR_TURN
    tenant.scheduler.release(slot, 1.0)

    assert tenant.open(now=2.0) == []
    assert tenant.scheduler.place_demands() == {SHARED: PlaceDemand(0, 1, 1)}
    tenant.policy = replace(tenant.policy, max_smtp_out=3)
    tenant.scheduler.reconfigure(3.0)
    assert [slot.key for slot in tenant.open(now=3.0)] == [ROLLUP]
    assert tenant.scheduler.place_demands() == {}


def test_two_places_that_are_lent_are_asked_for_in_their_order_and_the_first_is_kept_meanwhile() -> None:
    tenant = Tenant()
    address: Place = ("ip-connection-limit", "", "10.0.0.1")
    tenant.limits = replace(tenant.limits, networks=(NetworkLimit(parse_network("10.0.0.1"), 1),))
    tenant.scheduler.reconfigure(0.0)
    tenant.admit(A)
    assert tenant.open() == []
    assert tenant.scheduler.place_demands()[MX] == PlaceDemand(0, 1, 1)

    tenant.scheduler.lend_places({MX: 1}, 0.0)
    assert tenant.open() == []
    assert tenant.scheduler.place_demands() == {MX: PlaceDemand(1, 1, 1), address: PlaceDemand(0, 1, 1)}
    tenant.scheduler.lend_places({MX: 1, address: 1}, 0.0)
    assert [slot.key for slot in tenant.open()] == [A]


def test_a_place_that_is_lent_goes_back_when_the_other_one_does_not_come() -> None:
    tenant = Tenant()
    tenant.limits = replace(tenant.limits, networks=(NetworkLimit(parse_network("10.0.0.1"), 1),))
    tenant.scheduler.reconfigure(0.0)
    tenant.admit(A)
    tenant.open()
    tenant.scheduler.lend_places({MX: 1}, 0.0)
    assert tenant.open(now=CALL_LASTS) == []

    assert tenant.scheduler.place_demands()[MX] == PlaceDemand(0, 0, 1)


def rolled_up(**settings: Any) -> Tenant:
    """A worker with mail for a roll-up, and no host with a limit."""
    tenant = Tenant(**settings)
    tenant.limits = HostLimits()
    tenant.scheduler.reconfigure(0.0)
    tenant.admit(ROLLUP, 500)
    return tenant


def test_a_roll_up_back_to_normal_does_not_wait_for_the_place_that_it_needed_in_backoff() -> None:
    tenant = rolled_up(max_smtp_out=9, backoff_max_smtp_out=1)
    tenant.scheduler.set_mode("big.rollup/v1", QueueMode.BACKOFF, 0.0)
    assert tenant.open() == []
    assert tenant.scheduler.place_demands() == {SHARED: PlaceDemand(0, 1, 1)}

    tenant.scheduler.set_mode("big.rollup/v1", QueueMode.NORMAL, 1.0)

    assert [slot.key for slot in tenant.open(now=1.0)] == [ROLLUP] * 3


def test_a_roll_up_that_a_delivery_takes_back_to_normal_opens_more_at_once() -> None:
    tenant = rolled_up(max_smtp_out=9, backoff_max_smtp_out=1, backoff_to_normal_after_delivery=True)
    tenant.scheduler.set_mode("big.rollup/v1", QueueMode.BACKOFF, 0.0)
    tenant.open()
    tenant.scheduler.lend_places({SHARED: 1}, 0.0)
    (slot,) = tenant.open()
    assert tenant.open(now=1.0) == []

    (one,) = tenant.scheduler.draw(slot, 1.0)
    tenant.scheduler.settle(slot, 1.0, one, Reaction.DELIVERED)

    assert len(tenant.open(now=1.0)) == 2


def test_a_roll_up_in_backoff_keeps_what_is_open_until_the_place_is_asked_back() -> None:
    tenant = rolled_up(max_smtp_out=9, backoff_max_smtp_out=1)
    slots = tenant.open()
    asked = tenant.asked
    tenant.scheduler.set_mode("big.rollup/v1", QueueMode.BACKOFF, 1.0)
    tenant.scheduler.take(1.0)

    assert tenant.asked > asked
    assert tenant.scheduler.place_demands() == {SHARED: PlaceDemand(3, 1, 1)}
    assert [tenant.deliver_all(slot, 1.0) for slot in slots[:2]] == [FAIR_TURN, FAIR_TURN]
