"""One virtual MTA as the scheduler sees it: its connections, its rate, and its queues that want one more.

Every virtual MTA keeps the ring of its queues that want a connection, so that one that has used up its
permits costs nothing however many queues it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mta.queue.limits import window_for
from mta.queue.policy import VmtaPolicy
from mta.queue.rings import Ring
from mta.queue.timers import NEVER
from mta.queue.volume import volume_window_for

if TYPE_CHECKING:
    from mta.queue.queue import DeliveryQueue
    from mta.queue.slot import Slot

__all__ = ["Place", "VmtaState"]


class Place:
    """Where a virtual MTA stands in the ring of the scheduler; a place it has left is passed by."""

    __slots__ = ("level", "vmta")

    def __init__(self, vmta: VmtaState, level: int) -> None:
        self.vmta = vmta
        self.level = level


class VmtaState:
    """One virtual MTA: its connections, its rate, and its queues that wait for a connection."""

    __slots__ = (
        "claims",
        "epoch",
        "idle",
        "is_metered",
        "message_window",
        "name",
        "next_turn",
        "place",
        "policy",
        "retired",
        "ring",
        "sizes",
        "slots",
        "throttled",
        "urgent",
        "volume_window",
        "wake_at",
    )

    def __init__(
        self, name: str, policy: VmtaPolicy, epoch: int, sizes: Callable[[int], int] = lambda message: 0
    ) -> None:
        self.name = name
        self.policy = policy
        self.epoch = epoch
        self.sizes = sizes  # octets of a message
        self.slots = 0
        self.message_window = window_for(policy.max_smtp_msg_rate, None)
        self.volume_window = volume_window_for(policy.max_smtp_data_volume_rate, None)
        self.is_metered = self.message_window is not None or self.volume_window is not None
        self.ring: Ring[DeliveryQueue] = Ring()
        self.place: Place | None = None  # in the ring of the scheduler
        self.retired = 0  # connections that have been told to close
        self.claims = 0  # how many more of them have to, so that other queues get theirs
        self.urgent = 0  # those of the claims whose queues stand on the ring's highest level
        self.idle: dict[Slot, None] = {}  # its idle connections, the longest idle first
        self.throttled: dict[DeliveryQueue, None] = {}  # have idle connections that wait for our rate
        self.wake_at = NEVER
        self.next_turn = 0

    def configure(self, policy: VmtaPolicy, epoch: int) -> None:
        """Follow another policy; what was counted stays counted."""
        self.policy, self.epoch = policy, epoch
        self.message_window = window_for(policy.max_smtp_msg_rate, self.message_window)
        self.volume_window = volume_window_for(policy.max_smtp_data_volume_rate, self.volume_window)
        self.is_metered = self.message_window is not None or self.volume_window is not None

    def has_permit(self) -> bool:
        return self.slots < self.policy.max_smtp_out

    def rate_lifts_at(self, now: float) -> float:
        """When the rates of the whole virtual MTA allow some message."""
        at = now if self.message_window is None else self.message_window.lifts_at(now)
        return at if self.volume_window is None else max(at, self.volume_window.lifts_at(now))

    def __repr__(self) -> str:
        return f"<VmtaState {self.name}: {self.slots} connections, {len(self.ring)} queues want one>"
