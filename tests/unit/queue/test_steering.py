"""What operators do with source addresses and single messages, past what the limits say."""

from __future__ import annotations

import json
from math import inf

from mta.queue.explain import QUEUE, TOP, VMTA
from mta.queue.queue import QueueMode
from mta.queue.reaction import Measure, MeasureKind, Reaction
from tests.support.scheduling import A, B, Desk, ref

SOURCES = ("192.0.2.1", "192.0.2.2")


def sources_taken(desk: Desk, now: float, count: int) -> list[str]:
    return [slot.source.ip for _ in range(count) for slot in desk.scheduler.take(now)]


# -- source addresses --------------------------------------------------------------------------------------


def test_a_disabled_address_is_not_used_and_the_others_are() -> None:
    desk = Desk(sources=SOURCES, max_smtp_out=4)
    desk.admit(A, *range(1, 100))
    assert desk.scheduler.disable_source("a.example/v1", "192.0.2.1", 0.0, None) == 1

    assert set(sources_taken(desk, 0.0, 4)) == {"192.0.2.2"}
    assert desk.scheduler.disabled_sources(0.0) == [("a.example/v1", "192.0.2.1", inf)]


def test_a_queue_that_comes_later_follows_a_wide_order() -> None:
    desk = Desk()
    assert desk.scheduler.disable_source("*/*", "192.0.2.1", 0.0, 600.0) == 0
    desk.admit(A, 1)

    assert desk.scheduler.take(0.0) == []
    assert desk.scheduler.disabled_sources(0.0) == [("*/*", "192.0.2.1", 600.0)]
    (slot,) = desk.scheduler.take(600.0)
    assert slot.source.ip == "192.0.2.1"
    assert desk.scheduler.disabled_sources(600.0) == []


def test_enabling_ends_what_a_rule_has_disabled_too() -> None:
    desk = Desk()
    desk.admit(A, 1, 2)
    slot = desk.connect()
    desk.scheduler.apply(slot, 0.0, Measure(MeasureKind.DISABLE_SOURCE, 3600.0))
    desk.scheduler.release(slot, 0.0)
    assert desk.scheduler.disabled_sources(0.0) == [("a.example/v1", "192.0.2.1", 3600.0)]

    assert desk.scheduler.enable_source("*/*", "192.0.2.1", 1.0) == 1
    assert len(desk.scheduler.take(1.0)) == 1


def test_an_open_connection_from_a_disabled_address_ends() -> None:
    desk = Desk()
    desk.admit(A, 1, 2)
    slot = desk.connect()
    desk.attempt(slot, 0.0, Reaction.DELIVERED)
    desk.scheduler.disable_source("a.example/v1", "192.0.2.1", 0.0, None)

    assert desk.scheduler.draw(slot, 0.0) == []
    assert slot.is_retired


def test_disabled_addresses_survive_a_restart() -> None:
    desk = Desk()
    desk.scheduler.disable_source("*/v1", "192.0.2.1", 0.0, None)
    desk.scheduler.disable_source("b.example/v1", "192.0.2.2", 0.0, 600.0)
    state = json.loads(json.dumps(desk.scheduler.snapshot_state()))

    other = Desk()
    other.scheduler.restore_state(state)
    assert other.scheduler.disabled_sources(0.0) == [
        ("*/v1", "192.0.2.1", inf),
        ("b.example/v1", "192.0.2.2", 600.0),
    ]


def test_a_rule_that_disables_an_address_for_longer_than_the_operator_survives_a_restart() -> None:
    desk = Desk()
    desk.admit(A, 1)
    slot = desk.connect()
    desk.scheduler.disable_source("*/v1", "192.0.2.1", 0.0, 600.0)
    desk.scheduler.apply(slot, 0.0, Measure(MeasureKind.DISABLE_SOURCE, 3600.0))
    rows = [("*/v1", "192.0.2.1", 600.0), ("a.example/v1", "192.0.2.1", 3600.0)]
    assert desk.scheduler.disabled_sources(0.0) == rows

    other = Desk()
    other.scheduler.restore_state(desk.scheduler.snapshot_state())
    other.admit(A, 1)
    assert other.scheduler.disabled_sources(0.0) == rows
    assert other.scheduler.take(600.0) == []


# -- single messages ---------------------------------------------------------------------------------------


def test_a_seized_message_is_in_flight_until_it_is_settled() -> None:
    desk = Desk(max_smtp_out=1)
    desk.admit(A, 1, 2)
    busy = desk.connect()
    desk.scheduler.draw(busy, 0.0)

    seized = desk.scheduler.seize(A, 0.0)
    assert seized is not None
    assert seized.refs == [ref(2)]
    desk.scheduler.settle(seized.slot, 0.0, ref(2), Reaction.DELIVERED)
    desk.scheduler.release(seized.slot, 0.0)
    (row,) = desk.scheduler.queues(0.0)
    assert (row.connections, row.in_flight, row.ready) == (1, 1, 0)


def test_a_seized_message_may_leave_from_any_address() -> None:
    desk = Desk(sources=SOURCES)
    desk.admit(A, 1)
    seized = desk.scheduler.seize(A, 0.0, source_ip="198.51.100.9")
    assert seized is not None
    assert seized.slot.source.ip == "198.51.100.9"


def test_surrender_leaves_everything_as_it_was() -> None:
    desk = Desk()
    desk.admit(A, 1, recipients=3)
    before = desk.scheduler.entries(A)
    for _ in range(5):
        seized = desk.scheduler.seize(A, 0.0)
        assert seized is not None
        assert len(seized.refs) == 3
        desk.scheduler.surrender(seized, 0.0)

    assert desk.scheduler.entries(A) == before
    assert len(desk.scheduler.take(0.0)) == 1


def test_a_deferred_recipient_waits_on_after_a_surrender() -> None:
    desk = Desk()
    desk.scheduler.admit(A, ref(1), 0.0, received=0.0, attempts=2, due=500.0)
    assert desk.scheduler.seize(A, 0.0) is None

    seized = desk.scheduler.seize(A, 0.0, with_deferred=True)
    assert seized is not None
    desk.scheduler.surrender(seized, 1.0)
    (entry,) = desk.scheduler.entries(A)
    assert (entry.attempts, entry.due) == (2, 500)


def test_what_is_let_go_of_is_nowhere_any_more() -> None:
    desk = Desk()
    desk.admit(A, 1, recipients=2)
    slot = desk.connect()
    refs = desk.scheduler.draw(slot, 0.0)

    kept = desk.scheduler.let_go(slot, refs)
    assert [entry.ref for entry in kept] == refs
    desk.scheduler.release(slot, 0.0)
    (row,) = desk.scheduler.queues(0.0)
    assert row.waiting == 0
    assert row.failed == 0


# -- reasons -----------------------------------------------------------------------------------------------


def test_reasons_name_the_directive_and_where_to_look_for_it() -> None:
    desk = Desk(max_smtp_out=1, total=5)
    desk.admit(A, 1, 2)
    desk.connect()
    assert desk.scheduler.reason(A, 0.0)[1:] == ("max-smtp-out", QUEUE)

    desk = Desk(max_smtp_out=5, backoff_max_smtp_out=1)
    desk.admit(A, 1, 2)
    desk.connect()
    desk.scheduler.set_mode("*/*", QueueMode.BACKOFF, 0.0)
    assert desk.scheduler.reason(A, 0.0)[1:] == ("backoff-max-smtp-out", QUEUE)

    desk = Desk(vmta={"max_smtp_out": 1})
    desk.admit(A, 1)
    desk.admit(B, 2)
    desk.scheduler.take(0.0)
    assert desk.scheduler.reason(B, 0.0)[1:] == ("max-smtp-out", VMTA)

    desk = Desk(total=1)
    desk.admit(A, 1)
    desk.admit(B, 2)
    desk.scheduler.take(0.0)
    assert desk.scheduler.reason(B, 0.0)[1:] == ("total-max-smtp-out", TOP)


def test_queues_with_recipients_are_counted_with_those_in_flight() -> None:
    desk = Desk()
    desk.admit(A, 1)
    desk.admit(B, 2)
    slot = next(slot for slot in desk.scheduler.take(0.0) if slot.key == A)
    desk.scheduler.draw(slot, 0.0)
    assert desk.scheduler.waiting_queues() == 2

    desk.scheduler.settle(slot, 0.0, ref(1), Reaction.DELIVERED)
    assert desk.scheduler.waiting_queues() == 1
