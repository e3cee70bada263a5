"""How many octets may be delivered in a time: the windows behind `max-data-volume-rate` and its kin.

Only what was delivered counts, and that is known when the receiver has answered; so a message takes its
size out of the window when it is drawn (a reservation) and pays it when it is delivered, or gives it back.
What is paid plus what is reserved never exceeds the limit, so no window ever does, however long a transfer
takes. A message larger than the whole limit goes out when the window is empty: it would wait for ever.

A transaction counts once, whatever number of recipients it has: that is what goes over the wire.
"""

from __future__ import annotations

from mta.config.units import Rate
from mta.queue.limits import SlidingWindow, has_memory, window_pair
from mta.queue.timers import NEVER

__all__ = ["VolumeWindow", "volume_window_for"]


class VolumeWindow:
    """At most `rate.count` octets delivered in any `rate.per` seconds."""

    __slots__ = ("paid", "reserved")

    def __init__(self, rate: Rate) -> None:
        self.paid = SlidingWindow(*rate)
        self.reserved = 0

    def lifts_at(self, now: float, size: int = 1) -> float:
        """When a message of that size may be drawn; NEVER when one that is under way has to end first."""
        if self.reserved and self.reserved + size > self.paid.count:
            return NEVER
        return self.paid.lifts_at(now, self.reserved + size)

    def reserve(self, size: int) -> None:
        """A message of that size is on its way."""
        self.reserved += size

    def pay(self, size: int, now: float) -> None:
        """It was delivered."""
        self.reserved = max(0, self.reserved - size)
        self.paid.add(size, now)

    def give_back(self, size: int) -> None:
        """It was not."""
        self.reserved = max(0, self.reserved - size)

    def has_memory(self, now: float) -> bool:
        """Whether the window still counts something."""
        return self.reserved > 0 or has_memory(self.paid, now)

    def __repr__(self) -> str:
        return f"<VolumeWindow {self.paid!r} reserved={self.reserved}>"


def volume_window_for(
    rate: Rate | None, before: VolumeWindow | None, resting: Rate | None = None
) -> VolumeWindow | None:
    """The window for a rate; `resting` is the rate of the other mode. What was counted stays counted."""
    some = rate or resting
    if some is None:
        return None
    window = before or VolumeWindow(some)
    window.paid = window_pair(rate, resting, None if before is None else before.paid) or window.paid
    return window
