"""How much mail cold virtual MTAs have got today: a number a day for each of them and each queue domain.

Numbers survive restarts, and no restart makes them smaller: they are kept in steps ahead of what was used, so
that most messages write nothing, and what was kept but not used is lost in a crash. Days end at midnight of
the machine's time zone; the day on which a virtual MTA got its first message is day one of its list.

Several workers split the numbers evenly, since each of them takes part of the mail.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from mta.clock import Clock

__all__ = ["ColdQuota", "ColdStore"]

log = logging.getLogger(__name__)

#: A step is this part of a day's number, so that a crash costs no more than that.
_STEPS = 20
_LARGEST_STEP = 500


class ColdStore(Protocol):
    """`mta.service.operatorstate.OperatorState`: JSON objects by name. `save` may raise OSError."""

    def load(self, name: str) -> dict[str, Any]: ...
    def save(self, name: str, value: dict[str, Any]) -> None: ...


class _Count:
    """One virtual MTA and queue domain, today."""

    __slots__ = ("day", "kept", "used")

    def __init__(self, day: int, used: int) -> None:
        self.day = day
        self.used = self.kept = used


class ColdQuota:
    """Counts for one worker, which is number `part` of `parts` that take mail in."""

    def __init__(self, store: ColdStore, clock: Clock, *, part: int = 0, parts: int = 1) -> None:
        self._store = store
        self._clock = clock
        self._part = part
        self._parts = max(1, parts)
        self._counts: dict[tuple[str, str], _Count] = {}
        self._first_days: dict[str, int] = {}
        self._turns: dict[str, int] = {}

    def choose(self, warm: str, colds: Sequence[str], domain: str, limits: Sequence[int]) -> str:
        """The cold virtual MTA that gets a message for `domain` instead of `warm`; "" when none does."""
        if not any(limits):
            return ""
        today = datetime.fromtimestamp(self._clock.wall()).toordinal()
        turn = self._turns.get(warm, 0)
        for step in range(len(colds)):
            cold = colds[(turn + step) % len(colds)]
            limit = self._limit(cold, today, limits)
            if limit and self._take(cold, domain, today, limit):
                self._turns[warm] = turn + step + 1
                return cold
        return ""

    def _limit(self, cold: str, today: int, limits: Sequence[int]) -> int:
        """Our part of the number for today."""
        first = self._first_days.get(cold)
        if first is None:
            first = int(self._store.load(f"cold {cold}").get("first", 0))
            if not first or first > today:
                first = today
                if not self._save(f"cold {cold}", {"first": first}):
                    return 0
            self._first_days[cold] = first
        whole = limits[min(today - first, len(limits) - 1)]
        return whole // self._parts + (self._part < whole % self._parts)

    def _take(self, cold: str, domain: str, today: int, limit: int) -> bool:
        key = (cold, domain)
        name = f"cold {cold}/{domain}"
        count = self._counts.get(key)
        if count is None:
            kept = self._store.load(name)
            count = self._counts[key] = _Count(int(kept.get("day", 0)), int(kept.get("used", 0)))
        if count.day != today:
            count.day, count.used, count.kept = today, 0, 0
        if count.used >= limit:
            return False
        if count.used >= count.kept:
            step = max(1, min(limit // _STEPS, _LARGEST_STEP))
            kept_now = min(limit, count.used + step)
            if not self._save(name, {"day": today, "used": kept_now}):
                return False
            count.kept = kept_now
        count.used += 1
        return True

    def _save(self, name: str, value: dict[str, Any]) -> bool:
        try:
            self._store.save(name, value)
        except OSError as error:
            # Without a memory the number could be used twice: the warm one takes the mail.
            log.error("cold-virtual-mta: %s", error)
            return False
        return True

    def __repr__(self) -> str:
        return f"<ColdQuota {len(self._counts)} counts, part {self._part + 1} of {self._parts}>"
