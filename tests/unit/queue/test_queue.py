from __future__ import annotations

from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.queue import DeliveryQueue, QueueMode, QueueState
from mta.queue.timers import NEVER
from mta.queue.vmta import VmtaState
from tests.support.scheduling import A, ref


def queue_of(policy: QueuePolicy | None = None) -> DeliveryQueue:
    return DeliveryQueue(A, policy or QueuePolicy(), VmtaState("v1", VmtaPolicy(), 1), 1)


def test_state_and_mode_are_two_things() -> None:
    queue = queue_of()
    queue.enter_backoff(0.0, None)
    assert (queue.mode, queue.state(0.0)) == (QueueMode.BACKOFF, QueueState.READY)

    queue.fail(0.0, "refused")
    assert queue.state(1.0) is QueueState.RETRY
    queue.is_paused = True
    assert queue.state(1.0) is QueueState.PAUSED
    queue.is_paused = False
    assert queue.state(queue.retry_at) is QueueState.READY


def test_a_second_backoff_lasts_as_long_as_the_longer_one() -> None:
    queue = queue_of()
    queue.enter_backoff(0.0, 600.0)
    queue.enter_backoff(100.0, 100.0)
    assert queue.backoff_until == 600.0
    queue.enter_backoff(100.0, None)
    assert queue.backoff_until == NEVER
    queue.leave_backoff(200.0)
    assert (queue.mode, queue.mode_since) == (QueueMode.NORMAL, 200.0)


def test_errors_are_remembered_but_not_for_ever_and_not_twice_in_a_row() -> None:
    queue = queue_of()
    for number in range(50):
        queue.note_error(number, f"error {number // 2}")
        queue.note_reply(number, "450 busy")
    assert queue.errors is not None
    assert queue.replies is not None
    assert len(queue.errors) == len(queue.replies) == 10
    assert queue.errors[-1] == (48, "error 24")


def test_a_queue_is_kept_while_forgetting_it_would_lose_something() -> None:
    queue = queue_of()
    assert queue.is_forgettable(0.0)
    queue.fail(0.0, "refused")
    assert not queue.is_forgettable(599.0)
    assert queue.is_forgettable(600.0)
    queue.enter_backoff(600.0, 60.0)
    assert not queue.is_forgettable(600.0)


def test_hurrying_makes_everything_ready_and_forgets_the_wait() -> None:
    queue = queue_of()
    queue.defer(ref(1), 0, 1, 5000.0)
    queue.fail(0.0, "refused")

    queue.hurry(10.0)

    assert (len(queue.ready), len(queue.deferred), queue.state(10.0)) == (1, 0, QueueState.READY)
    assert [entry.attempts for entry in queue.entries()] == [1]


def test_deferral_is_rounded_up_to_the_second_and_never_past_the_end() -> None:
    queue = queue_of(QueuePolicy(bounce_after=1000.0))
    assert queue.defer(ref(1), 0, 1, 600.2) == 601
    assert queue.defer(ref(2), 0, 1, 5000.0) == 1000


def test_the_status_line() -> None:
    queue = queue_of()
    queue.add_ready(ref(1), 0, 0)
    queue.is_paused = True
    assert (
        repr(queue)
        == "<DeliveryQueue a.example/v1 normal paused: 1 ready, 0 deferred, 0 in flight, 0 connections>"
    )
    assert repr(queue.vmta) == "<VmtaState v1: 0 connections, 0 queues want one>"
