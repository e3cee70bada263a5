"""`queue-priority`: who gets the next connection when they are short, and who has to give one up."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from mta.queue.key import QueueKey
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.reaction import Reaction
from mta.queue.scheduler import FAIR_TURN, Scheduler
from mta.queue.slot import Slot
from tests.support.scheduling import deliver_all, ref

HIGH, USUAL, LOW = (
    QueueKey("high.example", "v1"),
    QueueKey("usual.example", "v1"),
    QueueKey("low.example", "v1"),
)
OTHER = QueueKey("high.example", "v2")
PRIORITIES = {"high.example": 90, "usual.example": 50, "low.example": 10}


class Office:
    """A scheduler with three priorities and few connections."""

    def __init__(self, *, total: int = 1, vmta: VmtaPolicy | None = None, **settings: Any) -> None:
        self.policies = {
            domain: QueuePolicy(queue_priority=priority, **settings)
            for domain, priority in PRIORITIES.items()
        }
        self.scheduler = Scheduler(
            policies=lambda key: self.policies[key.domain],
            vmtas=lambda name: vmta or VmtaPolicy(),
            total_max_smtp_out=total,
        )
        self.messages = 0

    def admit(self, key: QueueKey, messages: int) -> None:
        for _ in range(messages):
            self.messages += 1
            self.scheduler.admit(key, ref(self.messages), 0.0, received=0.0)

    def open(self) -> list[Slot]:
        slots = self.scheduler.take(0.0)
        for slot in slots:
            self.scheduler.opened(slot, 0.0)
        return slots

    def send_one(self, slot: Slot) -> int:
        """One message; returns how many recipients it has."""
        refs = self.scheduler.draw(slot, 0.0)
        for one in refs:
            self.scheduler.settle(slot, 0.0, one, Reaction.DELIVERED)
        return len(refs)

    def carry(self, slot: Slot) -> int:
        """All that the connection takes, then it closes; returns how many messages."""
        count = deliver_all(self.scheduler, slot, 0.0)
        if slot.is_retired:
            self.scheduler.release(slot, 0.0)
        return count


def test_connections_go_to_the_highest_priority_first() -> None:
    office = Office(total=3)
    for key in (LOW, USUAL, HIGH):
        office.admit(key, 1)

    assert [slot.key for slot in office.open()] == [HIGH, USUAL, LOW]


def test_the_highest_priority_goes_first_across_virtual_mtas() -> None:
    office = Office(total=2)
    office.admit(LOW, 1)
    office.admit(USUAL, 1)
    office.admit(OTHER, 1)

    assert [slot.key for slot in office.open()] == [OTHER, USUAL]


def test_a_connection_gives_way_after_the_message_it_carries() -> None:
    office = Office()
    office.admit(LOW, 100)
    (slot,) = office.open()
    assert office.send_one(slot) == 1
    office.admit(HIGH, 1)
    assert office.open() == []

    assert office.carry(slot) == 0
    assert slot.is_retired
    assert [slot.key for slot in office.open()] == [HIGH]


def test_a_connection_carries_one_message_before_it_gives_way() -> None:
    office = Office()
    office.admit(LOW, 100)
    (slot,) = office.open()
    office.admit(HIGH, 1)
    assert office.open() == []

    assert office.carry(slot) == 1


def test_only_as_many_connections_give_way_as_are_wanted() -> None:
    office = Office(total=10)
    office.admit(LOW, 1000)
    slots = office.open()
    assert len(slots) == 10
    for slot in slots:
        office.send_one(slot)
    office.admit(HIGH, 1)
    office.admit(OTHER, 1)
    office.open()

    for slot in slots:
        office.send_one(slot)

    assert sum(slot.is_retired for slot in slots) == 2


@pytest.mark.parametrize("key", [USUAL, LOW])
def test_nobody_gives_way_to_the_same_or_a_lower_priority_before_its_fair_turn(key: QueueKey) -> None:
    office = Office()
    office.policies["low.example"] = replace(office.policies["low.example"], queue_priority=50)
    office.admit(USUAL, 1000)
    (slot,) = office.open()
    office.admit(QueueKey(key.domain, "v2"), 1)
    office.open()

    assert office.carry(slot) == FAIR_TURN


def test_a_queue_that_allows_no_interruption_keeps_its_fair_turn() -> None:
    office = Office(allow_priority_interruption=False)
    office.admit(LOW, 1000)
    (slot,) = office.open()
    office.admit(HIGH, 1)
    office.open()

    assert office.carry(slot) == FAIR_TURN


def test_the_connections_of_a_virtual_mta_give_way_to_its_own_queues() -> None:
    office = Office(total=100, vmta=VmtaPolicy(max_smtp_out=1))
    office.admit(LOW, 100)
    (slot,) = office.open()
    office.send_one(slot)
    office.admit(HIGH, 1)
    assert office.open() == []

    assert office.carry(slot) == 0
    assert [slot.key for slot in office.open()] == [HIGH]


def test_an_idle_connection_gives_way_at_once() -> None:
    office = Office()
    office.admit(HIGH, 1)
    (slot,) = office.open()
    assert office.carry(slot) == 1
    office.admit(LOW, 1)
    assert office.open() == []

    assert office.scheduler.recall(0.0) == [slot]
    assert slot.is_retired


def test_a_message_on_its_way_is_broken_off_only_where_that_is_allowed() -> None:
    for allowed in (False, True):
        office = Office(allow_priority_interruption_during_transfer=allowed)
        office.admit(LOW, 100)
        (slot,) = office.open()
        refs = office.scheduler.draw(slot, 0.0)
        office.admit(HIGH, 1)
        assert office.open() == []

        assert office.scheduler.recall(0.0) == ([slot] if allowed else [])
        assert slot.is_interrupted is allowed
        if allowed:
            office.scheduler.put_back(slot, refs)
            office.scheduler.release(slot, 0.0)
            assert [slot.key for slot in office.open()] == [HIGH]
            assert next(iter(office.scheduler.entries(LOW))).ref == refs[0]


def test_the_lowest_priority_is_broken_off_first() -> None:
    office = Office(total=2, allow_priority_interruption_during_transfer=True)
    office.admit(USUAL, 1)
    office.admit(LOW, 1)
    usual, low = office.open()
    for slot in (usual, low):
        office.scheduler.draw(slot, 0.0)
    office.admit(HIGH, 1)
    office.open()

    assert office.scheduler.recall(0.0) == [low]


def test_a_lower_priority_gets_through_although_a_higher_one_always_wants_more() -> None:
    office = Office(max_msg_per_connection=1)
    for key in (HIGH, USUAL, LOW):
        office.admit(key, 1000)

    turns: Counter[str] = Counter()
    for _ in range(200):
        (slot,) = office.open()
        turns[slot.key.domain] += office.carry(slot)

    assert turns == {"high.example": 180, "usual.example": 10, "low.example": 10}


def test_a_new_priority_holds_after_a_reload() -> None:
    office = Office()
    office.admit(USUAL, 10)
    (slot,) = office.open()
    office.send_one(slot)
    office.admit(LOW, 1)
    office.policies["low.example"] = replace(office.policies["low.example"], queue_priority=100)
    office.scheduler.reconfigure(0.0)
    office.scheduler.release(slot, 0.0)

    assert [slot.key for slot in office.open()] == [LOW]
