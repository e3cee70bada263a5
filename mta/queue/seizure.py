"""One message at once, past every limit: what `mta trace` sends.

An operator who asks what a receiver says wants to hear it now, although the queue is paused, waits for its
retry time, or has used up its rate. So a seized message gets a connection of its own that no limit is asked
for; it is counted all the same, so that the queue waits the longer for it afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

from mta.config.snapshot import EgressSource
from mta.message.envelope import NORMAL_PRIORITY
from mta.queue.charges import charge
from mta.queue.entries import PRIORITY_AT
from mta.queue.permits import Permits, pick_source
from mta.queue.queue import DeliveryQueue
from mta.queue.slot import Slot, SlotState

__all__ = ["Seized", "seize"]


class Seized(NamedTuple):
    """A connection's permit with one message in flight on it; `due` is when its recipient was to be tried."""

    slot: Slot
    refs: list[int]
    due: float = 0.0


def seize(
    queue: DeliveryQueue, permits: Permits, now: float, *, with_deferred: bool, source_ip: str
) -> Seized | None:
    """The message at the front, or the first deferred recipient; None when nothing of that kind waits.

    From `source_ip`, which need not be one of the virtual MTA's; "" takes the next one of those.
    """
    if not queue.ready.runs and not (with_deferred and len(queue.deferred)):
        return None
    source = source_of(queue, source_ip, now)
    slot = permits.grant(queue, queue.vmta, source, now)
    slot.state = SlotState.BUSY
    queue.opening -= 1
    due = 0.0
    if queue.ready.runs:
        refs = queue.ready.take_message(queue.active.max_rcpt_per_message, slot.in_flight)
    else:
        entry = queue.deferred.take_due(queue.deferred.next_due() or now, 1)[0]
        rank = (entry.priority ^ NORMAL_PRIORITY) << PRIORITY_AT
        slot.in_flight[entry.ref] = rank | entry.attempts << 32 | entry.received
        refs, due = [entry.ref], float(entry.due)
    charge(slot, refs, now)
    queue.in_flight += len(refs)
    queue.last_used_at = now
    slot.messages = 1
    return Seized(slot, refs, due)


def source_of(queue: DeliveryQueue, ip: str, now: float) -> EgressSource:
    """Where the connection comes from."""
    sources = queue.vmta.policy.sources
    if ip:
        return next((source for source in sources if source.ip == ip), EgressSource(ip, ""))
    return pick_source(queue, queue.vmta, now) or sources[0]
