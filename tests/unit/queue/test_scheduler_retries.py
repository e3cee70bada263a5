"""What happens after an attempt: retries, expiry, backoff, and what the operator does about it."""

from __future__ import annotations

import pytest

from mta.config.units import Rate
from mta.errors import Contradiction
from mta.queue.key import QueueKey
from mta.queue.queue import QueueMode
from mta.queue.reaction import Measure, MeasureKind, Reaction
from mta.queue.scheduler import Settled
from tests.support.scheduling import A, B, Desk, ref

DELIVERED, FAILED = Reaction.DELIVERED, Reaction.FAILED
RETRY_RECIPIENT, RETRY_QUEUE, RETRY_NOW = Reaction.RETRY_RECIPIENT, Reaction.RETRY_QUEUE, Reaction.RETRY_NOW


# -- retries --------------------------------------------------------------------------------------------


def test_retry_after_is_followed_to_the_second_and_starts_again_after_a_delivery() -> None:
    desk = Desk(retry_after=(600.0, 3600.0))
    desk.admit(A, 1)

    assert desk.scheduler.failed(desk.connect(0.0), 0.0, "refused") == 600.0
    assert desk.scheduler.take(599.9) == []
    assert desk.scheduler.failed(desk.connect(600.0), 600.0, "refused") == 4200.0
    assert desk.scheduler.failed(desk.connect(4200.0), 4200.0, "refused") == 7800.0
    slot = desk.connect(7800.0)
    desk.attempt(slot, 7800.0, DELIVERED)
    desk.scheduler.release(slot, 7800.0)
    desk.admit(A, 2, at=8000.0)
    assert desk.scheduler.failed(desk.connect(8000.0), 8000.0, "refused") == 8600.0


def test_a_dns_error_waits_for_its_own_time_and_leaves_the_list_alone() -> None:
    desk = Desk(retry_after=(600.0, 3600.0))
    desk.admit(A, 1)

    assert desk.scheduler.failed(desk.connect(0.0), 0.0, "SERVFAIL", retry_after=60.0) == 60.0
    assert desk.scheduler.failed(desk.connect(60.0), 60.0, "refused") == 660.0


def test_a_wait_of_nothing_is_a_second() -> None:
    desk = Desk(retry_after=(0.0,), retry_recipients_after=0.0)
    desk.admit(A, 1)

    assert desk.scheduler.failed(desk.connect(10.0), 10.0, "refused") == 11.0
    assert desk.attempt(desk.connect(11.0), 11.0, RETRY_RECIPIENT) == [Settled(2, 12.0)]


def test_failures_at_the_same_time_are_one() -> None:
    desk = Desk(retry_after=(600.0, 3600.0))
    desk.admit(A, *range(1, 31))
    slots = desk.scheduler.take(0.0)

    assert [desk.scheduler.failed(slot, 1.0, "refused") for slot in slots] == [601.0] * 3
    assert desk.scheduler.take(601.0)[0].key == A


def test_a_refused_opening_beside_working_connections_only_stops_openings() -> None:
    desk = Desk()
    desk.admit(A, *range(1, 31))
    works, fails, _ = desk.scheduler.take(0.0)
    desk.attempt(works, 0.0, DELIVERED)

    desk.scheduler.failed(fails, 1.0, "421 too many connections")

    assert desk.scheduler.take(2.0) == []
    assert len(desk.scheduler.draw(works, 2.0)) == 1
    assert "too many connections" in desk.scheduler.explain(A, 2.0)


def test_a_recipient_with_its_own_refusal_waits_alone() -> None:
    desk = Desk(retry_recipients_after=600.0)
    desk.admit(A, 1, 2)
    slot = desk.connect()

    assert desk.attempt(slot, 0.0, RETRY_RECIPIENT) == [Settled(1, 600.0)]
    assert desk.scheduler.draw(slot, 0.0) == [ref(2)]
    assert desk.scheduler.draw(slot, 599.0) == []
    assert desk.scheduler.recall(600.0) == [slot]
    assert desk.attempt(slot, 600.0, RETRY_RECIPIENT) == [Settled(2, 1200.0)]


def test_a_penalty_doubles_for_each_attempt_of_a_recipient() -> None:
    desk = Desk(initial_pts=30.0, max_pts=100.0)
    desk.admit(A, 1)
    now, waits = 0.0, []
    for _ in range(4):
        slot = desk.connect(now)
        (settled,) = desk.attempt(slot, now, RETRY_RECIPIENT)
        desk.scheduler.release(slot, now)
        waits.append(settled.due - now)
        now = settled.due

    assert waits == [30.0, 60.0, 100.0, 100.0]


def test_a_failure_of_the_queue_stops_it_and_its_open_connections() -> None:
    desk = Desk(retry_after=(600.0,))
    desk.admit(A, 1, 2)
    slot = desk.connect()

    assert desk.attempt(slot, 0.0, RETRY_QUEUE) == [Settled(1, 600.0)]
    assert desk.scheduler.draw(slot, 1.0) == []
    assert slot.is_retired
    desk.scheduler.release(slot, 1.0)
    assert desk.scheduler.take(599.0) == []
    assert desk.scheduler.draw(desk.connect(600.0), 600.0) == [ref(1)]


def test_retry_now_goes_first_and_counts() -> None:
    desk = Desk(max_retries=2)
    desk.admit(A, 1, 2)
    slot = desk.connect()

    assert desk.attempt(slot, 5.0, RETRY_NOW) == [Settled(1, 5.0)]
    assert desk.scheduler.draw(slot, 5.0) == [ref(1)]
    assert desk.scheduler.settle(slot, 5.0, ref(1), RETRY_NOW) == Settled(2, is_expired=True)


def test_new_mail_wakes_a_queue_in_retry_where_that_is_wanted() -> None:
    desk = Desk(retry_upon_new_mail=True)
    desk.admit(A, 1)
    desk.scheduler.failed(desk.connect(), 0.0, "refused")
    assert desk.scheduler.take(10.0) == []

    desk.admit(A, 2, at=20.0)

    assert len(desk.scheduler.take(20.0)) == 1


def test_new_mail_that_comes_together_wakes_a_queue_in_retry_as_well() -> None:
    desk = Desk(retry_upon_new_mail=True)
    desk.scheduler.admit_fresh(A, {ref(1): 0, ref(2): 0}, 0.5)
    desk.scheduler.failed(desk.connect(1.0), 1.0, "refused")
    assert desk.scheduler.take(10.0) == []

    desk.scheduler.admit_fresh(A, {ref(3): 20}, 20.5)

    assert desk.attempt(desk.connect(20.5), 20.5, Reaction.DELIVERED) == [Settled(2)]
    assert [entry.attempts for entry in desk.scheduler.entries(A)] == [1, 0]


def test_mail_whose_commit_took_so_long_that_it_is_out_of_time_is_tried_once_all_the_same() -> None:
    desk = Desk(bounce_after=100.0)

    desk.scheduler.admit_fresh(A, {ref(1): 1000, ref(2): 1150}, 1150.5)

    assert desk.scheduler.expired(1150.5) == []
    assert desk.scheduler.draw(desk.connect(1150.5), 1150.5) == [ref(1)]


def test_connections_that_never_try_anything_count_as_a_failure_in_the_end() -> None:
    desk = Desk(retry_after=(600.0,))
    desk.admit(A, 1)
    for _ in range(3):
        slot = desk.connect(0.0)
        desk.scheduler.put_back(slot, desk.scheduler.draw(slot, 0.0))
        desk.scheduler.release(slot, 0.0)

    assert desk.scheduler.take(1.0) == []
    assert "before a message can be tried" in desk.scheduler.explain(A, 1.0)
    assert len(desk.scheduler.take(600.0)) == 1


def test_what_is_in_flight_on_a_lost_connection_comes_back_uncounted() -> None:
    desk = Desk()
    desk.admit(A, 1)
    slot = desk.connect()
    desk.scheduler.draw(slot, 0.0)

    desk.scheduler.release(slot, 0.0)

    assert [entry.attempts for entry in desk.scheduler.entries(A)] == [0]


def test_results_of_unknown_recipients_are_contradictions() -> None:
    desk = Desk()
    desk.admit(A, 1)
    slot = desk.connect()

    with pytest.raises(Contradiction):
        desk.scheduler.settle(slot, 0.0, ref(1), DELIVERED)
    with pytest.raises(Contradiction):
        desk.scheduler.put_back(slot, [ref(1)])
    desk.scheduler.release(slot, 0.0)
    with pytest.raises(Contradiction):
        desk.scheduler.draw(slot, 0.0)


# -- the end of patience --------------------------------------------------------------------------------


def test_bounce_after_ends_what_waits_wherever_it_waits() -> None:
    desk = Desk(bounce_after=1000.0, retry_recipients_after=600.0, retry_after=(10_000.0,))
    desk.admit(A, 1, 2, at=0.0)
    slot = desk.connect(0.0)
    desk.attempt(slot, 0.0, RETRY_RECIPIENT)
    desk.scheduler.release(slot, 0.0)
    desk.admit(B, 3, at=500.0)
    desk.scheduler.failed(next(s for s in desk.scheduler.take(500.0) if s.key == B), 500.0, "refused")

    assert desk.scheduler.expired(999.0) == []
    assert sorted(desk.scheduler.expired(1000.0)) == [(A, ref(1)), (A, ref(2))]
    assert desk.scheduler.take(1000.0) == []
    assert desk.scheduler.next_deadline(1000.0) == 1500.0
    assert desk.scheduler.expired(1500.0) == [(B, ref(3))]


def test_no_retry_is_planned_for_after_the_end() -> None:
    desk = Desk(bounce_after=1000.0, retry_recipients_after=600.0)
    desk.admit(A, 1, at=0.0)
    slot = desk.connect(500.0)
    assert desk.attempt(slot, 500.0, RETRY_RECIPIENT) == [Settled(1, 1000.0)]
    assert desk.scheduler.expired(1000.0) == [(A, ref(1))]


def test_an_expired_message_is_not_drawn() -> None:
    desk = Desk(bounce_after=1000.0)
    desk.admit(A, 1, at=0.0)
    desk.admit(A, 2, at=900.0)
    slot = desk.connect(900.0)

    assert desk.scheduler.draw(slot, 1000.0) == [ref(2)]
    assert desk.scheduler.expired(1000.0) == [(A, ref(1))]


def test_max_retries_counts_failures_of_the_recipient_and_of_the_queue() -> None:
    desk = Desk(max_retries=3, retry_after=(60.0,), retry_recipients_after=60.0)
    desk.admit(A, 1)
    slot = desk.connect(0.0)
    assert desk.attempt(slot, 0.0, RETRY_RECIPIENT) == [Settled(1, 60.0)]
    desk.scheduler.release(slot, 0.0)
    desk.scheduler.failed(desk.connect(60.0), 60.0, "refused")
    assert desk.scheduler.expired(60.0) == []

    desk.scheduler.failed(desk.connect(120.0), 120.0, "refused")

    assert desk.scheduler.expired(120.0) == [(A, ref(1))]


def test_attempts_and_due_times_survive_a_restart() -> None:
    desk = Desk(max_retries=5, retry_recipients_after=60.0)
    desk.scheduler.admit(A, ref(1), 1000.0, received=100.0, attempts=4, due=1500.0)

    assert desk.scheduler.take(1499.0) == []
    slot = desk.connect(1500.0)
    assert desk.attempt(slot, 1500.0, RETRY_RECIPIENT) == [Settled(5, is_expired=True)]


def test_a_wave_of_deferred_recipients_becomes_ready_bit_by_bit() -> None:
    desk = Desk()
    for message in range(1, 25_001):
        desk.scheduler.admit(A, ref(message), 0.0, received=0.0, due=600.0)

    ready = []
    for _ in range(3):
        now = desk.scheduler.next_deadline(600.0) or 0.0
        desk.scheduler.take(now)
        ready.append(next(desk.scheduler.queues(now)).ready)

    assert ready == [10_000, 20_000, 25_000]


def test_a_long_queue_is_not_searched_for_expired_mail_every_second() -> None:
    desk = Desk(bounce_after=1000.0)
    desk.scheduler.pause("*/*", 0.0)
    for message in range(40_000):
        desk.admit(A, message + 1, at=float(message // 4000))

    gone = [len(desk.scheduler.expired(1000.0 + second, 100_000)) for second in range(10)]

    assert sum(gone) > 35_000
    assert gone.count(0) >= 3


# -- backoff --------------------------------------------------------------------------------------------


def test_backoff_uses_its_own_numbers_and_ends_by_itself() -> None:
    desk = Desk(
        max_smtp_out=20,
        backoff_max_smtp_out=1,
        backoff_max_msg_rate=Rate(1, 60.0),
        backoff_retry_after=(7200.0,),
        backoff_to_normal_after=1800.0,
    )
    desk.admit(A, *range(1, 1001))
    slot, *others = desk.scheduler.take(0.0)
    desk.scheduler.apply(slot, 0.0, Measure(MeasureKind.BACKOFF))
    for other in others:
        desk.scheduler.release(other, 0.0)

    assert desk.scheduler.take(0.0) == []
    assert [len(desk.attempt(slot, now, DELIVERED)) for now in (0.0, 59.0, 60.0)] == [1, 0, 1]
    desk.scheduler.release(slot, 60.0)
    assert "backoff-max-msg-rate 1/m is used up" in desk.scheduler.explain(A, 61.0)
    assert desk.scheduler.failed(desk.connect(120.0), 120.0, "refused") == 7320.0
    desk.scheduler.take(1800.0)
    (row,) = desk.scheduler.queues(1800.0)
    assert row.mode == "normal"


def test_one_delivery_ends_backoff_where_that_is_wanted() -> None:
    desk = Desk(backoff_to_normal_after_delivery=True)
    desk.admit(A, 1)
    slot = desk.connect()
    desk.scheduler.set_mode("a.example/*", QueueMode.BACKOFF, 0.0)

    desk.attempt(slot, 0.0, DELIVERED)

    assert next(desk.scheduler.queues(0.0)).mode == "normal"


def test_bounce_queue_hands_out_everything_that_waits() -> None:
    desk = Desk()
    desk.admit(A, 1, 2, 3)
    slot = desk.connect()
    desk.scheduler.draw(slot, 0.0)

    removed = desk.scheduler.apply(slot, 0.0, Measure(MeasureKind.BOUNCE_QUEUE))

    assert removed == [ref(2), ref(3)]
    assert desk.scheduler.entries(A) == []


def test_mode_normal_ends_backoff() -> None:
    desk = Desk()
    desk.admit(A, 1)
    slot = desk.connect()
    desk.scheduler.apply(slot, 0.0, Measure(MeasureKind.BACKOFF, 600.0))
    desk.scheduler.apply(slot, 0.0, Measure(MeasureKind.NORMAL))
    assert next(desk.scheduler.queues(0.0)).mode == "normal"


# -- the operator ---------------------------------------------------------------------------------------


def test_paused_queues_send_nothing_and_finish_what_is_in_flight() -> None:
    desk = Desk()
    desk.admit(A, 1, 2)
    slot = desk.connect()
    desk.scheduler.draw(slot, 0.0)

    assert desk.scheduler.pause("*/v1", 0.0) == 1
    desk.scheduler.settle(slot, 0.0, ref(1), DELIVERED)
    assert desk.scheduler.draw(slot, 0.0) == []
    desk.scheduler.release(slot, 0.0)
    desk.admit(B, 3)
    assert desk.scheduler.take(100.0) == [], "a queue that comes later is paused as well"

    assert desk.scheduler.resume("*/v1", 100.0) == 2
    assert len(desk.scheduler.take(100.0)) == 2


def test_pauses_survive_a_restart() -> None:
    desk = Desk()
    desk.admit(A, 1)
    desk.scheduler.pause("a.example/v1", 0.0)
    desk.scheduler.pause("*/v7", 0.0)
    state = desk.scheduler.snapshot_state()

    other = Desk()
    other.scheduler.restore_state(state)
    other.admit(A, 1)
    other.admit(B, 2)

    assert state == {"paused": ["*/v7", "a.example/v1"]}
    assert [slot.key for slot in other.scheduler.take(0.0)] == [B]


def desk_that_waits() -> Desk:
    """Recipient 1 of A waits by itself, and so does the whole queue."""
    desk = Desk()
    desk.admit(A, 1, 2)
    slot = desk.connect()
    desk.attempt(slot, 0.0, RETRY_RECIPIENT)
    desk.attempt(slot, 0.0, RETRY_QUEUE)
    desk.scheduler.release(slot, 0.0)
    return desk


def test_schedule_now_ends_every_wait() -> None:
    desk = desk_that_waits()
    assert desk.scheduler.take(1.0) == []

    assert desk.scheduler.schedule_now("a.example/v1", 1.0) == 1

    slot = desk.connect(1.0)
    assert {*desk.scheduler.draw(slot, 1.0), *desk.scheduler.draw(slot, 1.0)} == {ref(1), ref(2)}


def test_schedule_now_leaves_recipients_to_their_own_waits_unless_they_are_meant() -> None:
    desk = desk_that_waits()

    assert desk.scheduler.schedule_now("a.example/v1", 1.0, with_deferred=False) == 1
    assert desk.scheduler.schedule_now("a.example/v1", 1.0, with_deferred=False) == 0

    slot = desk.connect(1.0)
    assert desk.scheduler.draw(slot, 1.0) == [ref(2)]
    assert desk.scheduler.draw(slot, 1.0) == []


def test_delete_hands_out_what_waits_and_leaves_what_is_in_flight() -> None:
    desk = Desk()
    desk.admit(A, 1, 2)
    desk.admit(B, 3)
    slot = next(slot for slot in desk.scheduler.take(0.0) if slot.key == A)
    desk.scheduler.draw(slot, 0.0)

    assert desk.scheduler.delete("a.example/*", 0.0) == [(A, ref(2))]
    assert desk.scheduler.settle(slot, 0.0, ref(1), DELIVERED) == Settled(1)
    assert desk.scheduler.empty(B) == [ref(3)]
    assert desk.scheduler.empty(QueueKey("unknown.example", "v1")) == []


def test_a_reload_changes_limits_of_queues_at_work() -> None:
    desk = Desk(max_smtp_out=1, max_msg_rate=Rate(1, 3600.0))
    desk.admit(A, *range(1, 101))
    slot = desk.connect()
    desk.attempt(slot, 0.0, DELIVERED)
    assert desk.scheduler.draw(slot, 0.0) == []

    desk.configure(10.0, max_smtp_out=3, max_msg_rate=None)

    assert len(desk.scheduler.take(10.0)) == 2
    assert desk.scheduler.recall(10.0) == [slot]
    assert len(desk.scheduler.draw(slot, 10.0)) == 1


def test_a_reload_can_change_the_total() -> None:
    desk = Desk(total=1)
    desk.admit(A, *range(1, 101))
    assert len(desk.scheduler.take(0.0)) == 1
    desk.scheduler.reconfigure(0.0, total_max_smtp_out=5)
    assert len(desk.scheduler.take(0.0)) == 4


def test_queues_that_nobody_uses_are_forgotten() -> None:
    desk = Desk()
    desk.admit(A, 1)
    slot = desk.connect()
    desk.attempt(slot, 0.0, DELIVERED)
    desk.scheduler.release(slot, 0.0)

    desk.scheduler.take(599.0)
    assert len(list(desk.scheduler.queues(599.0))) == 1
    desk.scheduler.take(600.0)
    assert list(desk.scheduler.queues(600.0)) == []
    assert desk.scheduler.next_deadline(600.0) is None


def test_rows_show_what_an_operator_asks_for() -> None:
    desk = Desk()
    desk.admit(A, 1, 2, 3)
    slot = desk.connect()
    (first,) = desk.scheduler.draw(slot, 0.0)
    desk.scheduler.settle(slot, 0.0, first, RETRY_RECIPIENT, "450 4.2.1 busy")

    (row,) = desk.scheduler.queues(0.0, "a.example/*")

    assert (row.ready, row.deferred, row.in_flight, row.connections, row.waiting) == (2, 1, 0, 1, 3)
    assert (row.temporary, row.next_due, row.last_reply) == (1, 600.0, "450 4.2.1 busy")
    assert list(desk.scheduler.queues(0.0, "other.example/*")) == []
    assert repr(desk.scheduler) == "<Scheduler 1 queues, 1 connections>"


def test_names_of_no_queue_are_refused() -> None:
    with pytest.raises(ValueError, match="not a queue name"):
        Desk().scheduler.pause("/v1", 0.0)


def test_mail_that_expired_while_nobody_was_there_gets_another_try() -> None:
    desk = Desk(bounce_after=3600.0)
    later = 40 * 86_400.0
    for number, due in ((1, 1800.0), (2, None)):
        desk.scheduler.admit(A, ref(number), later, received=0.0, attempts=1, due=due)

    assert desk.scheduler.expired(later) == []
    assert desk.scheduler.take(later)


def test_mail_of_a_clock_that_was_ahead_is_due_within_the_longest_wait() -> None:
    desk = Desk(retry_after=(600.0,), backoff_retry_after=(600.0,), retry_recipients_after=60.0, max_pts=60.0)
    desk.scheduler.admit(A, ref(1), 1000.0, received=9e8, attempts=1, due=9e8 + 600)

    assert desk.scheduler.take(1000.0) == []
    assert desk.scheduler.take(1601.0)
