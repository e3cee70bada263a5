"""What a million waiting recipients cost."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from mta.queue.key import RECIPIENT_BITS, QueueKey
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.reaction import Reaction
from mta.queue.scheduler import Scheduler

NOW = 1_700_000_000.0
MILLION = 1_000_000


def desk(queues: int) -> tuple[Scheduler, list[QueueKey]]:
    """A scheduler, and the keys of so many queues to be."""
    scheduler = Scheduler(
        policies=lambda key: QueuePolicy(), vmtas=lambda name: VmtaPolicy(), total_max_smtp_out=100
    )
    return scheduler, [QueueKey(f"d{number}.example", "v1") for number in range(queues)]


@pytest.mark.slow
@pytest.mark.parametrize(("wait", "queues"), [(None, 1000), (600.0, 1000), (None, 1)])
def test_a_million_recipients_cost_at_most_twenty_bytes_each(wait: float | None, queues: int) -> None:
    """All ready; all deferred over an hour; all in one queue. Queues themselves are counted apart."""
    scheduler, keys = desk(queues)
    # Deferred ones lie in the buckets of one hour, as `retry-recipients-after` leaves them.
    for number, key in enumerate(keys * 2):
        due = None if wait is None else NOW + wait * (1 + number % 2)
        scheduler.admit(key, number << RECIPIENT_BITS, NOW, received=NOW, due=due)
    gc.collect()
    tracemalloc.start()
    for number in range(MILLION):
        due = None if wait is None else NOW + wait + number % 600
        scheduler.admit(keys[number % queues], number << RECIPIENT_BITS, NOW, received=NOW, due=due)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert used / MILLION <= 20


def test_a_queue_itself_is_small() -> None:
    scheduler, keys = desk(2000)
    gc.collect()
    tracemalloc.start()
    for number, key in enumerate(keys):
        scheduler.admit(key, number << RECIPIENT_BITS, NOW, received=NOW)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert used / len(keys) <= 3000


def test_a_queue_whose_recipients_wait_after_an_attempt_is_hardly_larger() -> None:
    """Their connection leaves a reply, and no room of what was in it."""
    scheduler, keys = desk(150)
    gc.collect()
    tracemalloc.start()
    for number, key in enumerate(keys):
        for message in range(40):
            scheduler.admit(key, number * 40 + message << RECIPIENT_BITS, NOW, received=NOW)
        for slot in scheduler.take(NOW):
            while refs := scheduler.draw(slot, NOW):
                scheduler.settle(slot, NOW, refs[0], Reaction.RETRY_RECIPIENT, f"450 {key.domain} is busy")
            scheduler.release(slot, NOW)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert used / len(keys) - 40 * 16 <= 3500
