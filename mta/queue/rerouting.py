"""`reroute-to-virtual-mta` and, for queues in backoff, `backoff-reroute-to-virtual-mta`: their mail goes out
through another virtual MTA.

It moves when the queue goes into backoff, or a reload says so, and what arrives from then on goes there at
once. The other queue may send it on; a chain that comes back to where it began is no way out, and the mail
stays. What has moved stays moved when the backoff ends.
"""

from __future__ import annotations

from itertools import chain

from mta.queue.key import QueueKey
from mta.queue.queue import DeliveryQueue
from mta.queue.registry import Registry

__all__ = ["Rerouting", "transfer"]


class Rerouting:
    """Where mail of queues goes that give it away; pools take turns."""

    __slots__ = ("_registry", "_turn")

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._turn = 0

    def destination(self, queue: DeliveryQueue, now: float) -> DeliveryQueue:
        """The queue that takes this one's mail: itself when it gives none away, or in a circle."""
        seen = {queue.key}
        found = queue
        while found.is_rerouting:
            names = found.reroute_names
            self._turn += 1
            key = QueueKey(queue.key.domain, names[self._turn % len(names)])
            if key in seen:
                return queue
            seen.add(key)
            found = self._registry.obtain(key, now)
            self._registry.follow(found)
        return found

    def move(self, queue: DeliveryQueue, now: float) -> DeliveryQueue | None:
        """Move what waits, with its times and attempts; returns where it is now, None when nothing moved."""
        if not queue.waiting():
            return None
        target = self.destination(queue, now)
        if target is queue:
            return None
        transfer(queue, target)
        return target


def transfer(queue: DeliveryQueue, target: DeliveryQueue) -> None:
    """Move all that waits in one queue to another, with its times and attempts."""
    for entry in chain(queue.ready.drain(), queue.deferred.drain()):
        target.add(entry)
