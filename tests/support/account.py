"""What loads were promised, and what may have become of it when all is over."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.support.injector import Injector
from tests.support.service import World

__all__ = ["Account"]

#: On a machine with much to do (seconds).
WINDOW = 1.5


class Account:
    """What loads promised and when something was killed; `check` holds the world against it.

    `window` is how many seconds around a kill a delivery may not be known to the disk yet. `kinds` are the
    records that there must be of everybody, one of each; where several workers may deliver the same,
    `is_shared`, whoever got the mail twice may have two.
    """

    def __init__(
        self,
        world: World,
        *,
        window: float = WINDOW,
        kinds: tuple[str, ...] = ("d",),
        is_shared: bool = True,
    ) -> None:
        self.world = world
        self.acknowledged: set[str] = set()
        self.offered: set[str] = set()
        self.kills: list[float] = []
        self._window = window
        self._kinds = kinds
        self._is_shared = is_shared

    def note_kill(self) -> None:
        self.kills.append(asyncio.get_running_loop().time())

    def add(self, load: Injector) -> None:
        self.acknowledged |= load.acknowledged
        self.offered |= load.offered

    async def check(self) -> str:
        """Let the service finish, compare, stop it; returns the figures for whoever reads the log."""
        world = self.world
        await world.until(lambda: self.acknowledged <= world.received.keys())
        await world.until_empty()
        assert await world.stop() == 0, world.log()
        assert world.received.keys() <= self.offered, "mail that nobody handed in"
        twice = self._check_copies()
        for kind in self._kinds:
            self._check_records(kind, twice if self._is_shared else set())
        lines = len(world.records())
        return (
            f"acknowledged={len(self.acknowledged)} delivered={len(world.received)} twice={len(twice)} "
            f"kills={len(self.kills)} records={lines} "
            f"repeated records={lines - len({row['recordId'] for row in world.records()})}"
        )

    def _check_copies(self) -> set[str]:
        """Whoever got it twice; the first time must have been near a kill."""
        received = self.world.received
        twice = {recipient for recipient, count in received.items() if count > 1}
        first = {recipient: moment for moment, recipient in reversed(self.world.arrivals)}
        astray = {
            recipient
            for recipient in twice
            if not any(abs(kill - first[recipient]) <= self._window for kill in self.kills)
        }
        assert not astray, (
            f"delivered again although the first time was long before any kill: {astray}\n{self.world.log()}"
        )
        assert max(received.values(), default=0) <= 1 + len(self.kills)
        return twice

    def _check_records(self, kind: str, with_several: set[str]) -> None:
        """One record for everybody, of whom there must be one."""
        rows = self.world.records(kind)
        wanted = self.acknowledged if kind == "r" else set(self.world.received)
        assert wanted <= {row["rcpt"] for row in rows}, f"{kind} records are missing"
        assert {row["rcpt"] for row in rows} <= self.offered
        counts = Counter({row["recordId"]: row["rcpt"] for row in rows}.values())
        several = {recipient for recipient, count in counts.items() if count > 1}
        assert several <= with_several, f"two {kind} records for one recipient"
