"""Who is owed places at hosts, because it has been passed over for want of another one.

A queue that needs two places may find one of them free each time the other is taken, and so wait for ever
behind queues that need only one. PATIENCE times that is how it goes: no place stays empty for nothing.
From then on it is *owed* its places: whatever becomes free of them is kept for it until it has all.

Several queues may be owed the same place. It is kept for the one that has been owed for longest, only when
that is first at all its places: two queues for which places are kept have none in common, so they don't wait
for one another, and who has been owed for longest of all waits for nobody that waits. Each connection that
is in the way closes after its fair turn, so that nobody waits longer than for those before it.

Places that are lent to workers in turn are left out: there no worker knows who is first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mta.queue.hosts import Host, Target
    from mta.queue.queue import DeliveryQueue

__all__ = ["Debts"]

#: How often a queue whose turn it is goes on to the line of another place that it lacks.
PATIENCE = 2


class Debt(NamedTuple):
    """What a queue is owed: all places that a connection to the target takes."""

    target: Target
    places: tuple[Host, ...]


class Debts:
    """What is owed at all hosts, the oldest debt first. Costs nothing where nobody is passed over."""

    __slots__ = ("_owed", "_passed", "_to_revisit")

    def __init__(self, to_revisit: list[Host]) -> None:
        """`to_revisit` gets the hosts that somebody else may be first at."""
        self._to_revisit = to_revisit
        self._passed: dict[DeliveryQueue, int] = {}
        self._owed: dict[DeliveryQueue, Debt] = {}

    def pass_over(self, queue: DeliveryQueue, target: Target, places: tuple[Host, ...]) -> None:
        """It was the queue's turn, and one of the places was free, but not all that the target takes."""
        if queue in self._owed or any(one.is_lent for one in places):
            return
        passed = self._passed[queue] = self._passed.get(queue, 0) + 1
        if passed >= PATIENCE:
            self._owed[queue] = Debt(target, places)
            for one in places:
                one.owed[queue] = None

    def settle(self, queue: DeliveryQueue) -> None:
        """It has what it needs, or doesn't want it any more."""
        self._passed.pop(queue, None)
        debt = self._owed.pop(queue, None)
        if debt is None:
            return
        for one in debt.places:
            one.owed.pop(queue, None)
        self._to_revisit += debt.places
        for heir in [next(iter(one.owed)) for one in debt.places if one.owed]:
            self._to_revisit += self._owed[heir].places

    def creditor(self, host: Host, now: float) -> DeliveryQueue | None:
        """For whom a place of the host is kept when one is free; None when the line decides."""
        queue = self._eldest(host, now) if host.owed else None
        if queue is None or any(self._eldest(one, now) is not queue for one in self._owed[queue].places):
            return None
        return queue

    def target(self, queue: DeliveryQueue) -> Target:
        """What a queue that is owed something wants to connect to."""
        return self._owed[queue].target

    def forget(self) -> None:
        """The limits are others: everybody begins anew."""
        for debt in self._owed.values():
            for one in debt.places:
                one.owed.clear()
        self._owed.clear()
        self._passed.clear()

    def _eldest(self, host: Host, now: float) -> DeliveryQueue | None:
        """Who has been owed a place here for longest, of those that would use it."""
        while host.owed:
            queue = next(iter(host.owed))
            if would_connect(queue, now):
                return queue
            self.settle(queue)
        return None

    def __len__(self) -> int:
        return len(self._owed)


def would_connect(queue: DeliveryQueue, now: float) -> bool:
    """Whether nothing but hosts that are full keeps a queue from another connection."""
    is_free = not queue.is_paused and queue.slots < queue.active.max_smtp_out
    return queue.ready.runs > 0 and is_free and queue.retry_at <= now and queue.open_after <= now
