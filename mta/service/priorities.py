"""Priorities that the operator has given to waiting recipients (`mta set priority`), over restarts.

What a message came in with is in its envelope, which is never changed. So an order is kept as what it said:
whom it meant, and until when they had to have come in. A restart finds its recipients by that again, as does
a worker that takes them over from another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mta.message.envelope import Envelope
from mta.queue.key import QueueKey
from mta.queue.pattern import QueuePattern
from mta.service.filters import FILTERS, is_match, youngest

__all__ = ["MOST_ORDERS", "Priorities"]

#: Orders that are remembered; those before them are forgotten by a restart.
MOST_ORDERS = 50


@dataclass(frozen=True, slots=True)
class Order:
    """Everybody in these queues whom the filters fit and who came in until then has this priority."""

    priority: int
    until: float
    queues: QueuePattern
    filters: Mapping[str, str]

    def means(self, key: QueueKey, envelope: Envelope, recipient: int) -> bool:
        return (
            envelope.received <= self.until
            and self.queues.matches(key)
            and is_match(envelope, envelope.recipients[recipient], self.filters)
        )


class Priorities:
    """The orders of one worker, the last one first."""

    def __init__(self) -> None:
        self._orders: list[Order] = []

    def __repr__(self) -> str:
        return f"<Priorities by {len(self._orders)} orders>"

    def note(self, priority: int, queue: str, filters: Mapping[str, str], now: float) -> None:
        """Remember an order; the same filters given again replace the order before."""
        named = {name: value for name, value in filters.items() if name != "olderThan"}
        order = Order(priority, youngest(filters, now), QueuePattern.parse(queue), named)
        others = [
            other
            for other in self._orders
            if other.until > order.until or (other.queues, other.filters) != (order.queues, order.filters)
        ]
        self._orders = [order, *others][:MOST_ORDERS]

    def of(self, key: QueueKey, envelope: Envelope, recipient: int) -> int:
        """The priority of a recipient that enters its queue: by the latest order, else its envelope's."""
        for order in self._orders:
            if order.means(key, envelope, recipient):
                return order.priority
        return envelope.priority_of(recipient)

    def snapshot_state(self) -> dict[str, Any]:
        """What an operator would hate to lose, as JSON."""
        return {
            "orders": [
                [order.priority, order.until, str(order.queues), dict(order.filters)]
                for order in self._orders
            ]
        }

    def restore_state(self, state: dict[str, Any]) -> None:
        """Take over what `snapshot_state` gave; what can't be read is left out."""
        for row in state.get("orders", ()):
            try:
                priority, until, queues, filters = row
                named = {name: str(value) for name, value in filters.items() if name in FILTERS}
                self._orders.append(Order(int(priority), float(until), QueuePattern.parse(queues), named))
            except (AttributeError, TypeError, ValueError):
                continue
