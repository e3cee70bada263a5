"""A scheduler on borrowed permits: nothing without a lease, no more than it, and back when it shrinks."""

from __future__ import annotations

from typing import Any

from mta.config.units import Rate
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.reaction import Reaction
from mta.service.leasedscheduler import Demand, LeasedScheduler
from mta.service.sharedqueue import part_of
from tests.support.scheduling import A, B, ref


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
