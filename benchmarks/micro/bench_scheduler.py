"""The scheduler: one message through a busy queue, and turns among ten thousand queues."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from mta.config.units import Rate
from mta.queue.key import RECIPIENT_BITS, QueueKey
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.reaction import Reaction
from mta.queue.scheduler import Scheduler

BUSY = QueueKey("busy.example", "v1")
QUEUES = 10_000
NOW = 1_700_000_000.0


def scheduler(policy: QueuePolicy | None = None, *, total: int = 100_000) -> Scheduler:
    chosen = policy or QueuePolicy()
    return Scheduler(policies=lambda key: chosen, vmtas=lambda name: VmtaPolicy(), total_max_smtp_out=total)


def references() -> Callable[[], int]:
    """A new message number each time."""
    count = itertools.count(1)
    return lambda: next(count) << RECIPIENT_BITS


def bench_admit() -> Callable[[], object]:
    """one recipient into a queue that has all its connections"""
    one, ref = scheduler(QueuePolicy(max_smtp_out=1)), references()
    one.admit(BUSY, ref(), NOW, received=NOW)
    one.take(NOW)
    return lambda: one.admit(BUSY, ref(), NOW, received=NOW)


def bench_message() -> Callable[[], object]:
    """admit, draw and settle one message on an open connection"""
    one, ref = scheduler(), references()
    one.admit(BUSY, ref(), NOW, received=NOW)
    (slot,) = one.take(NOW)
    one.settle(slot, NOW, one.draw(slot, NOW)[0], Reaction.DELIVERED)

    def cycle() -> None:
        one.admit(BUSY, ref(), NOW, received=NOW)
        for drawn in one.draw(slot, NOW):
            one.settle(slot, NOW, drawn, Reaction.DELIVERED)

    return cycle


def bench_message_with_rate() -> Callable[[], object]:
    """the same under a message rate that does not bite"""
    one, ref = scheduler(QueuePolicy(max_msg_rate=Rate(1_000_000_000, 3600.0))), references()
    one.admit(BUSY, ref(), NOW, received=NOW)
    (slot,) = one.take(NOW)
    one.settle(slot, NOW, one.draw(slot, NOW)[0], Reaction.DELIVERED)
    ticks = itertools.count()

    def cycle() -> None:
        now = NOW + next(ticks) * 1e-4
        one.admit(BUSY, ref(), now, received=now)
        for drawn in one.draw(slot, now):
            one.settle(slot, now, drawn, Reaction.DELIVERED)

    return cycle


def bench_draw_and_put_back() -> Callable[[], object]:
    """the next message out of a long queue, and back"""
    one, ref = scheduler(), references()
    for _ in range(10_000):
        one.admit(BUSY, ref(), NOW, received=NOW)
    slot = one.take(NOW)[0]
    return lambda: one.put_back(slot, one.draw(slot, NOW))


def bench_defer() -> Callable[[], object]:
    """a recipient deferred by its own 4xx"""
    one, ref = scheduler(), references()
    one.admit(BUSY, ref(), NOW, received=NOW)
    (slot,) = one.take(NOW)
    one.settle(slot, NOW, one.draw(slot, NOW)[0], Reaction.DELIVERED)
    ticks = itertools.count()

    def cycle() -> None:
        now = NOW + next(ticks) * 1e-3
        one.admit(BUSY, ref(), now, received=now)
        for drawn in one.draw(slot, now):
            one.settle(slot, now, drawn, Reaction.RETRY_RECIPIENT)

    return cycle


def bench_turn_among_many() -> Callable[[], object]:
    """open, send one, close: one connection's life while 10,000 queues want one"""
    one, ref = scheduler(total=1), references()
    keys = [QueueKey(f"d{number}.example", f"v{number % 10}") for number in range(QUEUES)]
    for key in keys:
        for _ in range(20):
            one.admit(key, ref(), NOW, received=NOW)

    def turn() -> None:
        for slot in one.take(NOW, 1):
            one.opened(slot, NOW)
            for drawn in one.draw(slot, NOW):
                one.settle(slot, NOW, drawn, Reaction.DELIVERED)
            one.admit(slot.key, ref(), NOW, received=NOW)
            one.release(slot, NOW)

    return turn


def bench_take_while_all_are_limited() -> Callable[[], object]:
    """a look at 10,000 queues whose rate is used up"""
    one, ref = scheduler(QueuePolicy(max_msg_rate=Rate(1, 3600.0))), references()
    for number in range(QUEUES):
        key = QueueKey(f"d{number}.example", "v1")
        one.admit(key, ref(), NOW, received=NOW)
        one.admit(key, ref(), NOW, received=NOW)
    for slot in one.take(NOW, QUEUES):
        one.settle(slot, NOW, one.draw(slot, NOW)[0], Reaction.DELIVERED)
        one.release(slot, NOW)
    for _ in range(100):
        one.take(NOW + 1.0)
    return lambda: one.take(NOW + 1.0)


def bench_queue_in_retry_and_back() -> Callable[[], object]:
    """a refused connection and its retry, among 10,000 queues in retry"""
    one, ref = scheduler(QueuePolicy(retry_after=(600.0,), bounce_after=1e12)), references()
    for number in range(QUEUES):
        one.admit(QueueKey(f"d{number}.example", "v1"), ref(), NOW, received=NOW)
    moments = [NOW]

    def wave() -> None:
        slots = one.take(moments[0], 1)
        if slots:
            one.failed(slots[0], moments[0], "connection refused")
        else:
            moments[0] = one.next_deadline(moments[0]) or moments[0]

    return wave
