"""The rates of one local address within one queue.

`source-ip-max-msg-rate`, `source-ip-max-connect-rate` and `source-ip-max-data-volume-rate` give each local
address in a network a limit of its own; of several lines the one with the longest network around the address
holds, the last one among equals.
"""

from __future__ import annotations

from ipaddress import ip_address

from mta.config.units import Rate
from mta.config.values import NetworkLimit
from mta.queue.limits import SlidingWindow, has_memory, window_for
from mta.queue.policy import QueuePolicy
from mta.queue.volume import VolumeWindow, volume_window_for

__all__ = ["AddressRates", "limit_of", "rate_of"]


class AddressRates:
    """What one queue has done through one local address lately, and when it may do more."""

    __slots__ = ("connect_window", "ip", "message_window", "volume_window")

    def __init__(self, ip: str, policy: QueuePolicy) -> None:
        self.ip = ip
        self.message_window: SlidingWindow | None = None
        self.connect_window: SlidingWindow | None = None
        self.volume_window: VolumeWindow | None = None
        self.configure(policy)

    def configure(self, policy: QueuePolicy) -> None:
        """Follow a policy; what was counted stays counted."""
        messages = rate_of(self.ip, policy.source_ip_max_msg_rate)
        connects = rate_of(self.ip, policy.source_ip_max_connect_rate)
        octets = rate_of(self.ip, policy.source_ip_max_data_volume_rate)
        self.message_window = window_for(messages, self.message_window)
        self.connect_window = window_for(connects, self.connect_window)
        self.volume_window = volume_window_for(octets, self.volume_window)

    def opens_at(self, now: float, size: int) -> float:
        """When one more connection from here could carry a message of that size."""
        at = self.sends_at(now, size)
        return at if self.connect_window is None else max(at, self.connect_window.lifts_at(now))

    def sends_at(self, now: float, size: int) -> float:
        """When a connection from here may draw such a message; NEVER when another has to end first."""
        at = now
        if self.message_window is not None:
            at = self.message_window.lifts_at(now)
        if self.volume_window is not None:
            at = max(at, self.volume_window.lifts_at(now, size))
        return at

    def has_memory(self, now: float) -> bool:
        """Whether anything is still counted."""
        return (
            has_memory(self.message_window, now)
            or has_memory(self.connect_window, now)
            or (self.volume_window is not None and self.volume_window.has_memory(now))
        )

    def __repr__(self) -> str:
        windows = (self.message_window, self.connect_window, self.volume_window)
        return f"<AddressRates {self.ip or 'any'}: {windows}>"


def limit_of(ip: str, limits: tuple[NetworkLimit, ...]) -> int | Rate | None:
    """The limit of the longest network around an address; None for none."""
    if not ip or not limits:
        return None
    address = ip_address(ip)
    longest, found = -1, None
    for networks, limit in limits:
        for network in networks:
            if network.prefixlen >= longest and address in network:
                longest, found = network.prefixlen, limit
    return found


def rate_of(ip: str, limits: tuple[NetworkLimit, ...]) -> Rate | None:
    """The same where only rates can have been written."""
    found = limit_of(ip, limits)
    return found if isinstance(found, Rate) else None
