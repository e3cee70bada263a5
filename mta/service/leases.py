"""Limits that span workers, lent out in parts: never more in sum than the limit.

`total-max-smtp-out`, `total-max-smtp-in` and `max-smtp-out` of a virtual MTA hold for the whole service, and
no worker knows what the others do. So each borrows its part from the supervisor's book and says twice a
second how much it *holds* (what it may open, or has open, whichever is more) and how much it *wants*. A lease
that is to shrink still counts in full until its holder says that it holds less: that is why the sum never
exceeds the limit. What a dead process had returns when it is dead.

Everybody's part is max-min fair: who wants less than an equal part gets what it wants, the others share
the rest equally; what nobody wants is spread so that the first mail need not wait for a lease. When there is
less than one for each, the parts go round.

Pure: `now` comes in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["LEASE_SECONDS", "LeaseBook", "fair_parts"]

#: A lease that is not renewed for so long ends; the process that had it has been killed by then.
LEASE_SECONDS = 45.0
#: Seconds until a part that can't be divided goes to the next.
TURN = 10.0


class LeaseBook:
    """Who holds how much of what; `limits` gives the limit of a resource, None for no limit."""

    def __init__(self, limits: Callable[[str], int | None]) -> None:
        self._limits = limits
        self._entries: dict[str, dict[str, _Entry]] = {}

    def renew(
        self, holder: str, demands: Mapping[str, tuple[int, int]], holders: int, now: float
    ) -> dict[str, int | None]:
        """The parts of one holder (None = no limit).

        `demands` says for each resource what it holds and what it wants; `holders` is how many there may be.
        """
        return {
            resource: self._renew(resource, holder, holding, wanted, holders, now)
            for resource, (holding, wanted) in demands.items()
        }

    def give_back(self, holder: str) -> None:
        """The holder is gone, and everything it had with it."""
        for entries in self._entries.values():
            entries.pop(holder, None)

    def lent(self, resource: str) -> int:
        """How much is out."""
        return sum(entry.counted for entry in self._entries.get(resource, {}).values())

    def _renew(
        self, resource: str, holder: str, holding: int, wanted: int, holders: int, now: float
    ) -> int | None:
        limit = self._limits(resource)
        entries = self._entries.setdefault(resource, {})
        if limit is None:
            entries.pop(holder, None)
            return None
        for name in [name for name, entry in entries.items() if entry.until < now and name != holder]:
            del entries[name]
        entry = entries.setdefault(holder, _Entry())
        entry.wanted, entry.until = wanted, now + LEASE_SECONDS
        wants = {name: known.wanted for name, known in entries.items()}
        part = fair_parts(limit, wants, holders, int(now / TURN))[holder]
        others = sum(known.counted for name, known in entries.items() if name != holder)
        size = max(0, min(part, limit - others))
        entry.counted = max(size, holding)
        return size

    def __repr__(self) -> str:
        return f"<LeaseBook {', '.join(f'{name}={self.lent(name)}' for name in self._entries)}>"


class _Entry:
    """One holder of one resource. `counted` is what it may have open."""

    __slots__ = ("counted", "until", "wanted")

    def __init__(self) -> None:
        self.counted = 0
        self.wanted = 0
        self.until = 0.0


def fair_parts(limit: int, wants: Mapping[str, int], holders: int, turn: int = 0) -> dict[str, int]:
    """Max-min fair parts of `limit`, then what is left to all alike; `turn` decides who gets what can't be
    divided.

    Part of what is left is kept for holders that have not said anything yet.
    """
    names = sorted(wants)
    if not names:
        return {}
    start = turn % len(names)
    order = sorted(names[start:] + names[:start], key=wants.__getitem__)
    parts: dict[str, int] = {}
    left = limit
    for position, name in enumerate(order):
        # Rounded up: when there is less than one for each, the first in turn gets it.
        parts[name] = min(wants[name], -(-left // (len(order) - position)))
        left -= parts[name]
    spare = left // max(holders, len(names))
    return {name: part + spare for name, part in parts.items()}
