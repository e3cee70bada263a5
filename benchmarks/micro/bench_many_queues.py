"""Ten thousand queues with limits of every kind and 200,000 recipients: what a permit costs, and a look."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from benchmarks.micro.harness import Work
from mta.config.networks import parse_network
from mta.config.snapshot import EgressSource
from mta.config.units import Rate
from mta.config.values import NetworkLimit
from mta.queue.key import RECIPIENT_BITS, QueueKey
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.reaction import Reaction
from mta.queue.scheduler import Scheduler

QUEUES = 10_000
RECIPIENTS = 200_000
VMTAS = 10
NOW = 1_700_000_000.0

EVERYBODY = parse_network("0/0")
SOURCES = tuple(EgressSource(f"192.0.2.{number}", "mail.example") for number in range(1, 5))
#: What real configurations limit, in turn over the queues.
POLICIES = (
    QueuePolicy(max_smtp_out=2),
    QueuePolicy(max_msg_rate=Rate(100, 3600.0)),
    QueuePolicy(max_msg_rate=Rate(1, 60.0), backoff_max_msg_rate=Rate(1, 3600.0)),
    QueuePolicy(max_connect_rate=Rate(3, 60.0), max_msg_per_connection=10),
    QueuePolicy(max_data_volume_rate=Rate(1_000_000, 60.0)),
    QueuePolicy(source_ip_max_msg_rate=(NetworkLimit(EVERYBODY, Rate(10, 60.0)),)),
    QueuePolicy(smtp_out_rampup_interval=10.0, queue_priority=80),
    QueuePolicy(source_ip_max_smtp_out=(NetworkLimit(EVERYBODY, 1),), queue_priority=20),
)
VMTA_POLICIES = (VmtaPolicy(sources=SOURCES), VmtaPolicy(sources=SOURCES, max_smtp_msg_rate=Rate(5000, 60.0)))


def full_scheduler(total: int) -> Scheduler:
    """The queues with their mail, each with one of the policies."""
    policies = dict(enumerate(POLICIES))
    scheduler = Scheduler(
        policies=lambda key: policies[int(key.domain[1:-8]) % len(POLICIES)],
        vmtas=lambda name: VMTA_POLICIES[int(name[1:]) % len(VMTA_POLICIES)],
        total_max_smtp_out=total,
        sizes=lambda message: 10_000,
    )
    keys = [QueueKey(f"d{number}.example", f"v{number % VMTAS}") for number in range(QUEUES)]
    for message, key in zip(range(1, RECIPIENTS + 1), itertools.cycle(keys), strict=False):
        scheduler.admit(key, message << RECIPIENT_BITS, NOW, received=NOW)
    return scheduler


def bench_permits_among_limited_queues() -> Work:
    """a permit among 10,000 queues with mixed limits, for a connection that sends one message"""
    scheduler, ticks, count = full_scheduler(500), itertools.count(1), itertools.count(RECIPIENTS + 1)

    def wave() -> None:
        now = NOW + next(ticks) * 0.05
        for slot in scheduler.take(now, 64):
            refs = scheduler.draw(slot, now)
            for ref in refs:
                scheduler.settle(slot, now, ref, Reaction.DELIVERED)
                scheduler.admit(slot.key, next(count) << RECIPIENT_BITS, now, received=now)
            scheduler.release(slot, now)

    return Work(wave, 64)


def bench_look_while_all_wait() -> Callable[[], object]:
    """take, recall and expired while 10,000 queues with 200,000 recipients wait for their retry time"""
    scheduler = full_scheduler(100_000)
    while slots := scheduler.take(NOW, 1000):
        for slot in slots:
            scheduler.failed(slot, NOW, "connection refused")
    for _ in range(100):
        scheduler.take(NOW + 1.0)

    def look() -> None:
        scheduler.expired(NOW + 1.0)
        scheduler.recall(NOW + 1.0)
        scheduler.take(NOW + 1.0)

    return look


def bench_look_while_permits_are_short() -> Callable[[], object]:
    """take and recall while 10,000 queues of 1,000 virtual MTAs wait for a permit"""
    scheduler = Scheduler(
        policies=lambda key: POLICIES[0], vmtas=lambda name: VMTA_POLICIES[0], total_max_smtp_out=100
    )
    for number in range(QUEUES):
        key = QueueKey(f"d{number}.example", f"v{number % 1000}")
        scheduler.admit(key, number + 1 << RECIPIENT_BITS, NOW, received=NOW)
    scheduler.take(NOW, 1000)

    def look() -> None:
        scheduler.recall(NOW)
        scheduler.take(NOW)

    return look
