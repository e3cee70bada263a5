"""Load whose messages go to several domains at once, and what may have happened to it when all is over."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from tests.support.injector import Injector
from tests.support.service import World

__all__ = ["DOMAINS", "Account", "SpreadInjector", "domain_of"]

#: Enough that every one of a few workers owns some.
DOMAINS = tuple(f"d{number}.example.com" for number in range(12))
#: Seconds around a kill in which a delivery may not be known to the disk yet.
WINDOW = 1.5


def domain_of(address: str) -> str:
    return address.rpartition("@")[2]


class SpreadInjector(Injector):
    """Each recipient of a message is in another domain than the one before."""

    def __init__(self, port: int, *, domains: tuple[str, ...] = DOMAINS, **options: Any) -> None:
        super().__init__(port, domains=domains, **options)

    def next_message(self) -> tuple[list[str], bytes] | None:
        found = super().next_message()
        if found is None:
            return None
        addresses, content = found
        first = self._domains.index(domain_of(addresses[0]))
        spread = [
            f"{address.rpartition('@')[0]}@{self._domains[(first + 5 * index) % len(self._domains)]}"
            for index, address in enumerate(addresses)
        ]
        return spread, content


class Account:
    """What loads promised and when something was killed; `check` holds the world against it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.acknowledged: set[str] = set()
        self.offered: set[str] = set()
        self.kills: list[float] = []

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
        twice = {recipient for recipient, count in world.received.items() if count > 1}
        first = {recipient: moment for moment, recipient in reversed(world.arrivals)}
        astray = {
            recipient
            for recipient in twice
            if not any(kill - WINDOW <= first[recipient] <= kill + WINDOW for kill in self.kills)
        }
        assert not astray, f"delivered again although the first time was long before any kill: {astray}"
        missing = set(world.received) - {row["rcpt"] for row in world.records("d")}
        assert not missing, f"no record of {missing}"
        ids = Counter({row["recordId"]: row["rcpt"] for row in world.records("d")}.values())
        assert all(count == 1 for recipient, count in ids.items() if recipient not in twice)
        return (
            f"acknowledged={len(self.acknowledged)} delivered={len(world.received)} twice={len(twice)} "
            f"kills={len(self.kills)}"
        )
