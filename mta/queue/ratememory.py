"""What rate windows have counted, over a restart: a receiver does not forget because we do.

Only an orderly end writes this down (there may be a lot of it). After a crash windows begin empty, so that
what a window had allowed before may be allowed once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mta.queue.key import QueueKey
from mta.queue.limits import SlidingWindow
from mta.queue.queue import DeliveryQueue
from mta.queue.registry import Registry
from mta.queue.vmta import VmtaState

__all__ = ["rate_rows", "restore_rates"]


def rate_rows(registry: Registry) -> dict[str, dict[str, list[list[float]]]]:
    """The windows that count anything, by the name of their queue or virtual MTA, as JSON."""
    rows: dict[str, dict[str, list[list[float]]]] = {}
    for owner in (*registry, *registry.vmtas.values()):
        counted = {name: events for name, window in windows_of(owner) if (events := window.events())}
        if counted:
            rows[str(owner.key) if isinstance(owner, DeliveryQueue) else owner.name] = counted
    return rows


def restore_rates(registry: Registry, rows: dict[str, Any], now: float) -> list[DeliveryQueue]:
    """Let windows count what they counted up to `now`; what makes no sense or has no window is skipped."""
    restored = []
    for name, counted in rows.items():
        domain, slash, vmta = name.partition("/")
        if not isinstance(counted, dict):
            continue
        owner: DeliveryQueue | VmtaState
        if slash:
            owner = queue = registry.obtain(QueueKey(domain, vmta), 0.0)
            restored.append(queue)
            if queue.limits_addresses:
                for window_name in counted:
                    if "@" in window_name:
                        queue.rates_of(window_name.partition("@")[2])
        else:
            owner = registry.obtain_vmta(name)
        for window_name, window in windows_of(owner):
            window.take_over(counted.get(window_name, ()), now)
    return restored


def windows_of(owner: DeliveryQueue | VmtaState) -> Iterator[tuple[str, SlidingWindow]]:
    """The windows of a queue or virtual MTA, by name: `messages`, `connects`, `octets`, with `@ip` behind;
    those of the mode that the queue is not in have `~` behind their names."""
    holders: list[tuple[str, Any]] = [("", owner)]
    if isinstance(owner, DeliveryQueue):
        holders += [(f"@{ip}", rates) for ip, rates in owner.address_rates.items()]
    for suffix, holder in holders:
        volume = holder.volume_window
        windows = {"messages": holder.message_window, "octets": None if volume is None else volume.paid}
        if not isinstance(holder, VmtaState):
            windows["connects"] = holder.connect_window
        for name, window in windows.items():
            if window is None:
                continue
            yield f"{name}{suffix}", window
            if window.other is not None:
                yield f"{name}~{suffix}", window.other
