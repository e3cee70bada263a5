from __future__ import annotations

from mta.config.units import Rate
from mta.queue.key import QueueKey
from mta.queue.queue import CONNECTION_PATIENCE, MESSAGES_PER_CONNECTION
from mta.queue.reaction import Measure, MeasureKind, Reaction
from tests.support.scheduling import A, B, Desk, ref

DELIVERED, FAILED = Reaction.DELIVERED, Reaction.FAILED
RETRY_RECIPIENT, RETRY_QUEUE, RETRY_NOW = Reaction.RETRY_RECIPIENT, Reaction.RETRY_QUEUE, Reaction.RETRY_NOW


# -- how many connections -------------------------------------------------------------------------------


def test_one_message_opens_one_connection() -> None:
    desk = Desk()
    desk.admit(A, 1)

    assert len(desk.scheduler.take(0.0)) == 1
    assert desk.scheduler.take(1000.0) == []


def test_a_short_queue_gives_its_connection_a_moment_before_it_opens_another() -> None:
    desk = Desk()
    desk.admit(A, 1, 2, 3)

    assert len(desk.scheduler.take(0.0)) == 1
    assert desk.scheduler.take(0.01) == []
    assert desk.scheduler.next_deadline(0.01) == CONNECTION_PATIENCE
    assert len(desk.scheduler.take(0.05)) == 1
    assert len(desk.scheduler.take(0.10)) == 1
    assert desk.scheduler.take(0.15) == []


def test_a_connection_that_keeps_up_stays_alone() -> None:
    desk = Desk()
    desk.admit(A, 1)
    slot = desk.connect()
    for step in range(1, 200):
        now = step * 0.01
        desk.admit(A, step + 1, at=now)
        desk.attempt(slot, now, DELIVERED)
        assert desk.scheduler.take(now) == []


def test_a_long_queue_opens_as_many_as_its_length_calls_for() -> None:
    desk = Desk(max_smtp_out=20)
    desk.admit(A, *range(1, 5 * MESSAGES_PER_CONNECTION + 1))
    assert len(desk.scheduler.take(0.0)) == 5

    desk.admit(B, *range(1000, 3000))
    assert len(desk.scheduler.take(0.0)) == 20


def test_recipients_of_one_message_share_a_connection_and_a_transaction() -> None:
    desk = Desk()
    desk.admit(A, 1, recipients=200)

    slot = desk.connect()

    assert desk.scheduler.draw(slot, 0.0) == [ref(1, recipient) for recipient in range(200)]
    assert desk.scheduler.take(10.0) == []


def test_ramp_up_waits_between_connections() -> None:
    desk = Desk(smtp_out_rampup_interval=30.0)
    desk.admit(A, *range(1, 1000))

    assert [len(desk.scheduler.take(now)) for now in (0.0, 29.9, 30.0, 59.0, 60.0)] == [1, 0, 1, 0, 1]


# -- limits ---------------------------------------------------------------------------------------------


def test_a_queue_keeps_to_max_smtp_out() -> None:
    desk = Desk(max_smtp_out=2)
    desk.admit(A, *range(1, 100))

    first, _ = desk.scheduler.take(0.0)
    assert desk.scheduler.take(100.0) == []
    desk.scheduler.release(first, 100.0)
    assert len(desk.scheduler.take(100.0)) == 1


def test_a_virtual_mta_keeps_to_its_own_limit_over_all_queues() -> None:
    desk = Desk(vmta={"max_smtp_out": 3})
    for number in range(10):
        desk.admit(QueueKey(f"d{number}.example", "v1"), number + 1)
        desk.admit(QueueKey(f"d{number}.example", "v2"), number + 1)

    slots = desk.scheduler.take(0.0)

    assert sorted(slot.key.vmta for slot in slots) == ["v1"] * 3 + ["v2"] * 3
    desk.scheduler.release(slots[0], 1.0)
    assert len(desk.scheduler.take(1.0)) == 1


def test_the_total_limit_holds_over_everything() -> None:
    desk = Desk(total=4)
    for number in range(10):
        desk.admit(QueueKey(f"d{number}.example", f"v{number}"), number + 1)

    slots = desk.scheduler.take(0.0)

    assert len(slots) == 4
    assert desk.scheduler.next_deadline(0.0) is not None
    assert desk.scheduler.next_deadline(0.0) != 0.0
    desk.scheduler.release(slots[0], 0.0)
    assert len(desk.scheduler.take(0.0)) == 1


def test_message_rate_counts_attempts_whatever_becomes_of_them() -> None:
    desk = Desk(max_msg_rate=Rate(2, 60.0))
    desk.admit(A, 1, 2, 3)
    slot = desk.connect()

    desk.attempt(slot, 0.0, FAILED)
    desk.attempt(slot, 10.0, DELIVERED)
    assert desk.scheduler.draw(slot, 10.0) == []
    assert not slot.is_retired
    assert desk.scheduler.take(10.0) == []
    assert desk.scheduler.next_deadline(10.0) == 60.0
    assert desk.scheduler.recall(59.9) == []
    assert desk.scheduler.recall(60.0) == [slot]
    assert desk.scheduler.draw(slot, 60.0) == [ref(3)]


def test_a_message_is_split_where_the_rate_ends() -> None:
    desk = Desk(max_msg_rate=Rate(2, 60.0))
    desk.admit(A, 1, recipients=3)
    slot = desk.connect()

    assert desk.scheduler.draw(slot, 0.0) == [ref(1, 0), ref(1, 1)]
    assert desk.scheduler.draw(slot, 0.0) == []
    assert desk.scheduler.draw(slot, 60.0) == [ref(1, 2)]


def test_connect_rate_limits_openings_in_any_window() -> None:
    desk = Desk(max_connect_rate=Rate(2, 10.0))
    desk.admit(A, *range(1, 1000))

    opened = [len(desk.scheduler.take(now)) for now in (0.0, 9.9, 10.0, 10.1, 20.0)]

    assert opened == [2, 0, 2, 0, 2]


def test_the_rate_of_a_virtual_mta_spans_its_queues() -> None:
    desk = Desk(vmta={"max_smtp_msg_rate": Rate(2, 60.0)})
    desk.admit(A, 1, 2)
    desk.admit(B, 3, 4)
    first, second = desk.scheduler.take(0.0)

    assert len(desk.scheduler.draw(first, 0.0)) == len(desk.scheduler.draw(second, 0.0)) == 1
    assert desk.scheduler.draw(first, 1.0) == desk.scheduler.draw(second, 1.0) == []
    assert desk.scheduler.take(1.0) == []
    assert desk.scheduler.next_deadline(1.0) == 60.0
    assert set(desk.scheduler.recall(60.0)) == {first, second}


def test_max_msg_per_connection_retires_the_connection() -> None:
    desk = Desk(max_msg_per_connection=2)
    desk.admit(A, 1, 2, 3)
    slot = desk.connect()

    desk.attempt(slot, 0.0, DELIVERED)
    desk.attempt(slot, 0.0, DELIVERED)

    assert desk.scheduler.draw(slot, 0.0) == []
    assert slot.is_retired
    desk.scheduler.release(slot, 0.0)
    assert desk.scheduler.draw(desk.connect(0.0), 0.0) == [ref(3)]


def test_max_errors_per_connection_retires_the_connection() -> None:
    desk = Desk(max_errors_per_connection=2)
    desk.admit(A, 1, 2, 3, 4)
    slot = desk.connect()

    desk.attempt(slot, 0.0, FAILED)
    desk.attempt(slot, 0.0, DELIVERED)
    assert not slot.is_retired
    desk.attempt(slot, 0.0, RETRY_RECIPIENT)

    assert slot.is_retired
    assert desk.scheduler.draw(slot, 0.0) == []


def test_max_rcpt_per_message_splits_the_envelope() -> None:
    desk = Desk(max_rcpt_per_message=2)
    desk.admit(A, 1, recipients=5)
    slot = desk.connect()

    assert [len(desk.scheduler.draw(slot, 0.0)) for _ in range(4)] == [2, 2, 1, 0]


# -- sources --------------------------------------------------------------------------------------------


def test_source_addresses_take_turns_within_a_queue() -> None:
    desk = Desk(sources=("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    desk.admit(A, *range(1, 61))

    used = [slot.source.ip for slot in desk.scheduler.take(0.0)]

    assert used == ["192.0.2.1", "192.0.2.2", "192.0.2.3"] * 2


def test_queues_begin_at_different_source_addresses() -> None:
    desk = Desk(sources=("192.0.2.1", "192.0.2.2"))
    for number in range(4):
        desk.admit(QueueKey(f"d{number}.example", "v1"), number + 1)

    used = sorted(slot.source.ip for slot in desk.scheduler.take(0.0))

    assert used == ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2"]


def test_a_disabled_source_rests_for_this_queue_only() -> None:
    desk = Desk(sources=("192.0.2.1", "192.0.2.2"))
    desk.admit(A, *range(1, 31))
    slots = desk.scheduler.take(0.0)
    first = slots[0]

    desk.scheduler.apply(first, 0.0, Measure(MeasureKind.DISABLE_SOURCE, 600.0))

    assert desk.scheduler.draw(first, 0.0) == []
    assert first.is_retired
    for slot in slots:
        desk.scheduler.release(slot, 1.0)
    used = {slot.source.ip for slot in desk.scheduler.take(1.0)}
    assert used == {"192.0.2.1", "192.0.2.2"} - {first.source.ip}


def test_a_queue_whose_sources_are_all_disabled_waits_until_one_is_enabled() -> None:
    desk = Desk()
    desk.admit(A, 1, 2)
    slot = desk.connect()
    desk.scheduler.apply(slot, 0.0, Measure(MeasureKind.DISABLE_SOURCE, 600.0))
    desk.scheduler.release(slot, 0.0)

    assert desk.scheduler.take(1.0) == []
    assert "no source address" in desk.scheduler.explain(A, 1.0)
    assert desk.scheduler.next_deadline(1.0) == 600.0
    assert len(desk.scheduler.take(600.0)) == 1


# -- fairness -------------------------------------------------------------------------------------------


def test_every_queue_gets_a_connection_before_a_long_one_gets_its_second() -> None:
    desk = Desk(total=100)
    desk.admit(A, *range(1, 1001))
    for number in range(50):
        desk.admit(QueueKey(f"d{number}.example", "v1"), 2000 + number)

    slots = desk.scheduler.take(0.0, 51)

    assert len({slot.key for slot in slots}) == 51


def test_a_virtual_mta_with_many_queues_does_not_starve_another() -> None:
    desk = Desk(total=10)
    for number in range(100):
        desk.admit(QueueKey(f"d{number}.example", "v1"), number + 1)
    desk.admit(QueueKey("a.example", "v2"), 1000)

    assert "v2" in {slot.key.vmta for slot in desk.scheduler.take(0.0, 2)}


def test_idle_connections_give_way_when_all_permits_are_taken() -> None:
    desk = Desk(total=1)
    desk.admit(A, 1)
    slot = desk.connect()
    desk.attempt(slot, 0.0, DELIVERED)
    assert desk.scheduler.draw(slot, 0.0) == []

    desk.admit(B, 2)

    assert desk.scheduler.take(1.0) == []
    assert desk.scheduler.recall(1.0) == [slot]
    assert desk.scheduler.draw(slot, 1.0) == []
    assert slot.is_retired
    desk.scheduler.release(slot, 1.0)
    assert desk.connect(1.0).key == B


def test_busy_connections_give_way_after_their_turn() -> None:
    desk = Desk(total=2, max_smtp_out=2)
    desk.admit(A, *range(1, 1001))
    slots = desk.scheduler.take(0.0)
    desk.admit(B, 2000)
    desk.scheduler.take(0.0)

    carried = dict.fromkeys(slots, 0)
    for _ in range(100):
        for slot in slots:
            carried[slot] += len(desk.attempt(slot, 1.0, DELIVERED))

    assert sorted(carried.values()) == [50, 100], "one gives way, the other goes on"
    (retired,) = (slot for slot in slots if slot.is_retired)
    desk.scheduler.release(retired, 1.0)
    assert desk.connect(1.0).key == B


def test_ten_thousand_limited_queues_are_not_looked_at() -> None:
    desk = Desk(max_msg_rate=Rate(1, 3600.0), total=100_000)
    for number in range(10_000):
        desk.admit(QueueKey(f"d{number}.example", "v1"), 2 * number + 1, 2 * number + 2)
    slots = desk.scheduler.take(0.0, 10_000)
    for slot in slots:
        desk.attempt(slot, 0.0, DELIVERED)
        desk.scheduler.release(slot, 0.0)
    while (deadline := desk.scheduler.next_deadline(1.0) or 0.0) <= 1.0:
        assert desk.scheduler.take(1.0) == []

    assert not len(desk.scheduler._turns._active), "no ring holds any of them"
    assert deadline == 3600.0


# -- idle connections -----------------------------------------------------------------------------------


def test_an_idle_connection_is_called_when_its_queue_has_something_again() -> None:
    desk = Desk()
    desk.admit(A, 1)
    slot = desk.connect()
    desk.attempt(slot, 0.0, DELIVERED)
    assert desk.scheduler.draw(slot, 0.0) == []
    assert desk.scheduler.recall(5.0) == []

    desk.admit(A, 2, at=5.0)

    assert desk.scheduler.next_deadline(5.0) == 5.0
    assert desk.scheduler.take(5.0) == []
    assert desk.scheduler.recall(5.0) == [slot]
    assert desk.scheduler.draw(slot, 5.0) == [ref(2)]


def test_an_idle_connection_may_draw_without_being_called() -> None:
    desk = Desk()
    desk.admit(A, 1)
    slot = desk.connect()
    desk.attempt(slot, 0.0, DELIVERED)
    desk.scheduler.draw(slot, 0.0)
    desk.admit(A, 2, at=5.0)

    assert desk.scheduler.draw(slot, 5.0) == [ref(2)]
    assert desk.scheduler.recall(5.0) == []
