"""Permission for one connection, and what is in flight on it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from mta.config.snapshot import EgressSource
from mta.queue.key import QueueKey
from mta.queue.policy import QueuePolicy

if TYPE_CHECKING:
    from mta.queue.hosts import Host, Target
    from mta.queue.queue import DeliveryQueue

__all__ = ["BUSY", "CLOSED", "IDLE", "OPENING", "Load", "Slot", "SlotState"]


class SlotState(enum.Enum):
    """Where a connection stands, as far as permits are concerned."""

    OPENING = "opening"  # granted, or called back from idleness: it will draw soon
    BUSY = "busy"  # has drawn a message
    IDLE = "idle"  # open, but there was nothing to draw
    CLOSED = "closed"  # given back


#: Plain names: looking a member up in its class costs more than the rest of some steps.
OPENING, BUSY, IDLE, CLOSED = SlotState


class Load:
    """Octets that one transaction took out of volume windows (0: settled), and its recipients in flight."""

    __slots__ = ("recipients", "size")

    def __init__(self, size: int, recipients: int) -> None:
        self.size = size
        self.recipients = recipients


class Slot:
    """One connection's permit: who for, from where, and the recipients it has in hand.

    `is_retired` says that the connection should be closed as soon as what is in flight has ended: it has
    carried `max-msg-per-connection` or seen `max-errors-per-connection`, its queue has stopped, or another
    queue needs the permit. Then `draw` gives nothing any more. `is_interrupted` says that what is in flight
    should be broken off as well: a queue of higher priority waits.
    """

    __slots__ = (
        "errors",
        "has_settled",
        "hosts",
        "in_flight",
        "is_interrupted",
        "is_retired",
        "is_wanted",
        "key",
        "loads",
        "messages",
        "opened_at",
        "policy",
        "queue",
        "refused_by",
        "returned",
        "source",
        "state",
        "taken_at",
    )

    def __init__(self, queue: DeliveryQueue, source: EgressSource, now: float) -> None:
        self.queue = queue
        self.key: QueueKey = queue.key
        self.source = source
        self.policy: QueuePolicy = queue.active
        self.taken_at = now
        self.opened_at = 0.0
        self.messages = 0
        self.errors = 0  # recipients refused on this connection
        self.state = OPENING
        self.is_retired = False
        self.is_interrupted = False
        #: reference → its word, as `ready.take_message` gives it
        self.in_flight: dict[int, int] = {}
        self.has_settled = False
        self.is_wanted = False  # other queues wait for its place at a host
        self.hosts: tuple[Host, ...] = ()  # where it counts against a limit
        self.refused_by: tuple[Target, ...] = ()  # where there was no room for it
        self.returned = 0
        #: reference → octets that volume windows keep for its transaction; empty where there are none
        self.loads: dict[int, Load] = {}

    def __repr__(self) -> str:
        source = self.source.ip or "any source"
        return f"<Slot {self.key} from {source}, {self.state.value}, {self.messages} messages>"
