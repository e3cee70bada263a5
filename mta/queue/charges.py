"""What a drawn message takes out of windows: messages and octets, of queues, virtual MTAs and addresses.

Called from the hot path only where such a limit is configured.
"""

from __future__ import annotations

from typing import Protocol

from mta.queue.key import RECIPIENT_BITS
from mta.queue.limits import SlidingWindow
from mta.queue.policy import UNLIMITED
from mta.queue.slot import Load, Slot
from mta.queue.volume import VolumeWindow

__all__ = ["allowance", "charge", "conclude", "give_all_back"]


class _Rated(Protocol):
    """What may have rates of its own; None where it has not."""

    @property
    def message_window(self) -> SlidingWindow | None: ...

    @property
    def volume_window(self) -> VolumeWindow | None: ...


def allowance(slot: Slot, now: float) -> int:
    """How many recipients of the message at the front these limits let `slot` draw; 0 for none now."""
    most = UNLIMITED
    for window in windows_of(slot):
        most = min(most, window.available(now))
    volumes = volumes_of(slot)
    if volumes and most > 0:
        size = slot.queue.next_size()
        if any(volume.lifts_at(now, size) > now for volume in volumes):
            return 0
    return most


def charge(slot: Slot, refs: list[int], now: float) -> None:
    """The slot has drawn a message."""
    for window in windows_of(slot):
        window.add(len(refs), now)
    volumes = volumes_of(slot)
    if volumes:
        load = Load(slot.queue.vmta.sizes(refs[0] >> RECIPIENT_BITS), len(refs))
        for ref in refs:
            slot.loads[ref] = load
        for volume in volumes:
            volume.reserve(load.size)


def conclude(slot: Slot, ref: int, now: float, *, is_delivered: bool) -> bool:
    """One recipient of a message has its result; returns whether the message's octets were paid or freed."""
    load = slot.loads.pop(ref, None)
    if load is None:
        return False
    load.recipients -= 1
    if not load.size or (load.recipients and not is_delivered):
        return False  # settled before, or another recipient may still be delivered
    for volume in volumes_of(slot):
        if is_delivered:
            volume.pay(load.size, now)
        else:
            volume.give_back(load.size)
    load.size = 0
    return True


def give_all_back(slot: Slot) -> None:
    """The connection is gone."""
    for ref in list(slot.loads):
        conclude(slot, ref, 0.0, is_delivered=False)


def windows_of(slot: Slot) -> list[SlidingWindow]:
    """The windows that a recipient on this connection counts in."""
    return [one.message_window for one in _rated(slot) if one.message_window is not None]


def volumes_of(slot: Slot) -> list[VolumeWindow]:
    """The volume windows that a message on this connection counts in."""
    return [one.volume_window for one in _rated(slot) if one.volume_window is not None]


def _rated(slot: Slot) -> tuple[_Rated, ...]:
    """Whose rates a connection has to keep: its queue's, its virtual MTA's and its source address's."""
    queue = slot.queue
    if queue.limits_addresses:
        return queue, queue.vmta, queue.rates_of(slot.source.ip)
    return queue, queue.vmta
