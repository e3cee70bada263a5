from __future__ import annotations

import pytest

from mta.queue.key import QueueKey
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.registry import Registry
from tests.support.scheduling import A, B


def registry() -> Registry:
    return Registry(lambda key: QueuePolicy(), lambda name: VmtaPolicy())


def test_a_queue_is_made_once_and_shares_its_virtual_mta() -> None:
    queues = registry()
    first = queues.obtain(A, 0.0)

    assert queues.obtain(A, 1.0) is first
    assert queues.obtain(B, 1.0).vmta is first.vmta
    assert (len(queues), list(queues.vmtas)) == (2, ["v1"])


def test_settings_are_asked_for_once_per_epoch() -> None:
    asked: list[QueueKey] = []

    def policy(key: QueueKey) -> QueuePolicy:
        asked.append(key)
        return QueuePolicy(max_smtp_out=len(asked))

    queues = Registry(policy, lambda name: VmtaPolicy(max_smtp_out=queues.epoch))
    queue = queues.obtain(A, 0.0)
    queues.follow(queue)
    assert (asked, queue.active.max_smtp_out) == ([A], 1)

    queues.epoch += 1
    for _ in range(3):
        queues.follow(queue)
        queues.follow_vmta(queue.vmta)

    assert (asked, queue.active.max_smtp_out) == ([A, A], 2)
    assert queue.vmta.policy.max_smtp_out == 2


def test_a_pause_holds_for_queues_to_come_until_it_is_lifted() -> None:
    queues = registry()
    queues.pause("*/v1")
    assert queues.obtain(A, 0.0).is_paused
    assert not queues.obtain(QueueKey("a.example", "v2"), 0.0).is_paused

    assert queues.resume("a.example/v1") == [queues.obtain(A, 0.0)]
    assert queues.obtain(B, 0.0).is_paused, "the wider pause still holds for others"
    assert queues.resume("*/*") == [queues.obtain(B, 0.0)]
    assert queues.paused_names() == []


def test_pausing_twice_stops_nothing_new() -> None:
    queues = registry()
    queues.obtain(A, 0.0)
    assert len(queues.pause("a.example/*")) == 1
    assert queues.pause("*/v1") == []
    assert queues.paused_names() == ["*/v1", "a.example/*"]


def test_pauses_come_back_after_a_restart_and_nonsense_is_skipped() -> None:
    queues = registry()
    queues.restore(["a.example/v1", "/", ""])
    assert queues.paused_names() == ["a.example/v1"]
    with pytest.raises(ValueError, match="not a queue name"):
        queues.matching("/")


def test_a_forgotten_queue_is_gone() -> None:
    queues = registry()
    queue = queues.obtain(A, 0.0)
    queues.forget(queue)
    assert list(queues) == []
