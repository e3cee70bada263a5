"""Taking single recipients out of a queue, and what a queue remembers."""

from __future__ import annotations

from mta.queue.key import QueueKey
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.scheduler import Scheduler

KEY = QueueKey("example.com", "v1")
NOW = 1_000_000.0


def scheduler() -> Scheduler:
    return Scheduler(
        policies=lambda key: QueuePolicy(), vmtas=lambda name: VmtaPolicy(), total_max_smtp_out=100
    )


def message(number: int) -> int:
    return number << 16


def test_removed_recipients_are_gone_and_the_others_keep_their_order() -> None:
    queues = scheduler()
    for number in range(1, 6):
        queues.admit(KEY, message(number), NOW, received=NOW)
    queues.admit(KEY, message(6), NOW, received=NOW, attempts=2, due=NOW + 60)

    removed = queues.remove(KEY, {message(2), message(4), message(6), message(99)})

    assert removed == [message(2), message(4), message(6)]
    assert [entry.ref for entry in queues.entries(KEY)] == [message(1), message(3), message(5)]
    (slot,) = queues.take(NOW, 1)
    assert queues.draw(slot, NOW) == [message(1)]


def test_a_deferred_one_keeps_its_attempts_and_due_time_when_another_goes() -> None:
    queues = scheduler()
    queues.admit(KEY, message(1), NOW, received=NOW, attempts=3, due=NOW + 60)
    queues.admit(KEY, message(2), NOW, received=NOW, attempts=1, due=NOW + 90)

    queues.remove(KEY, {message(2)})

    (entry,) = queues.entries(KEY)
    assert (entry.ref, entry.attempts, entry.due) == (message(1), 3, NOW + 60)


def test_what_is_in_flight_is_past_removal() -> None:
    queues = scheduler()
    queues.admit(KEY, message(1), NOW, received=NOW)
    (slot,) = queues.take(NOW, 1)
    queues.draw(slot, NOW)

    assert queues.remove(KEY, {message(1)}) == []


def test_recent_names_the_last_failure_first() -> None:
    queues = scheduler()
    queues.admit(KEY, message(1), NOW, received=NOW)
    (slot,) = queues.take(NOW, 1)
    queues.failed(slot, NOW, "connection refused")

    assert queues.recent(KEY)[0] == (NOW, "error", "connection refused")
    assert queues.recent(QueueKey("other.example", "v1")) == []


def test_idle_connections_are_not_called_while_enough_are_being_opened() -> None:
    """Calling them again and again for the same messages was an endless loop."""
    queues = scheduler()
    queues.admit(KEY, message(1), NOW, received=NOW)
    (first,) = queues.take(NOW, 1)
    queues.draw(first, NOW)
    queues.admit(KEY, message(2), NOW, received=NOW)
    (second,) = queues.take(NOW + 1, 1)
    queues.draw(first, NOW + 1)
    assert queues.draw(first, NOW + 1) == []
    queues.admit(KEY, message(3), NOW + 1, received=NOW)

    recalled = queues.recall(NOW + 1)

    assert len(recalled) <= 1
    assert second not in recalled
