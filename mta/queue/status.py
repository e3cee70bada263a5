"""One row about a queue, for the operator."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from mta.queue.explain import Reason, explain
from mta.queue.key import QueueKey
from mta.queue.permits import Permits
from mta.queue.queue import DeliveryQueue

__all__ = ["QueueStatus", "status_of"]


class QueueStatus(NamedTuple):
    """What `show queues` prints; counters run since the queue came into being, times are epoch seconds.

    The explanation is made when it is asked for (of ten thousand queues, twenty are shown), so ask at once.
    """

    key: QueueKey
    mode: str
    state: str
    ready: int
    deferred: int
    in_flight: int
    connections: int
    idle: int
    delivered: int
    failed: int
    temporary: int
    retry_at: float
    next_due: float
    last_error: str
    last_reply: str
    reason: Callable[[], Reason]

    @property
    def explanation(self) -> str:
        """Why it is not sending, or that it is."""
        return self.reason().text

    @property
    def waiting(self) -> int:
        """Recipients in the queue, in flight or not."""
        return self.ready + self.deferred + self.in_flight


def status_of(queue: DeliveryQueue, permits: Permits, now: float) -> QueueStatus:
    """The row of one queue at `now`."""
    return QueueStatus(
        key=queue.key,
        mode=queue.mode.value,
        state=queue.state(now).value,
        ready=len(queue.ready),
        deferred=len(queue.deferred),
        in_flight=queue.in_flight,
        connections=queue.slots,
        idle=len(queue.idle),
        delivered=queue.delivered,
        failed=queue.failed,
        temporary=queue.temporary,
        retry_at=max(queue.retry_at, queue.open_after) if now < queue.retry_at else 0.0,
        next_due=queue.deferred.next_due() or 0.0,
        last_error=queue.errors[-1][1] if queue.errors else "",
        last_reply=queue.replies[-1][1] if queue.replies else "",
        reason=partial(explain, queue, permits, now),
    )
