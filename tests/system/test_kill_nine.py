"""SIGKILL in the middle of everything: what got 250 is delivered and accounted for, nothing is invented."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.support.injector import Injector
from tests.support.service import World, has_ended

pytestmark = pytest.mark.timeout(300)

#: Seconds before a kill in which a delivery may still be unknown to the disk (tens of milliseconds when the
#: machine is quiet).
WINDOW = 1.0


class Loads:
    """What all injectors of a test promised, and when the service was killed."""

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
        """Let the service finish, and hold what it did against what it promised; returns the figures."""
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
        assert not astray, "delivered again although the first time was long before any kill"
        assert max(world.received.values()) <= 1 + len(self.kills)
        for kind, wanted in (("d", set(world.received)), ("r", self.acknowledged)):
            rows = world.records(kind)
            assert wanted <= {row["rcpt"] for row in rows}, f"{kind} records are missing"
            assert {row["rcpt"] for row in rows} <= self.offered
            ids = {row["recordId"]: row["rcpt"] for row in rows}
            assert max(Counter(ids.values()).values()) == 1, f"two {kind} records for one recipient"
        lines = len(world.records())
        return (
            f"acknowledged={len(self.acknowledged)} delivered={len(world.received)} twice={len(twice)} "
            f"kills={len(self.kills)} records={lines} "
            f"repeated records={lines - len({row['recordId'] for row in world.records()})}"
        )


async def kill_everything(tmp_path: Path, rounds: int, most: int) -> None:
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    print(f"seed {seed}")
    async with World(tmp_path) as world:
        loads = Loads(world)
        for turn in range(rounds):
            load = Injector(world.port, prefix=f"k{turn}-", recipients=dice.randint(1, 3))
            async with asyncio.TaskGroup() as company:
                company.create_task(load.run())
                await load.until(dice.randint(1, most))
                world.kill()
                loads.note_kill()
            await world.wait()
            loads.add(load)
            await world.start()
        print(await loads.check())


async def test_everything_acknowledged_survives_a_kill_of_the_whole_group(tmp_path: Path) -> None:
    await kill_everything(tmp_path, rounds=3, most=1500)


@pytest.mark.slow
async def test_everything_acknowledged_survives_twenty_kills_of_the_whole_group(tmp_path: Path) -> None:
    await kill_everything(tmp_path, rounds=20, most=6000)


async def test_a_killed_child_is_started_again_and_nothing_is_lost(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        loads = Loads(world)
        load = Injector(world.port, reconnects=True)
        async with asyncio.TaskGroup() as company:
            company.create_task(load.run())
            await load.until(300)
            os.kill((await world.children())["worker-0"], signal.SIGKILL)
            loads.note_kill()
            await load.until(len(load.acknowledged) + 300)
            os.kill((await world.children())["events"], signal.SIGKILL)
            await load.until(len(load.acknowledged) + 300)
            load.stop()
        loads.add(load)
        restarts = {row["id"]: row["restarts"] for row in (await world.ask("show.workers"))["worker"]}
        print(await loads.check())

        assert restarts == {"worker-0": 1, "events": 1}


async def test_children_end_by_themselves_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        loads = Loads(world)
        load = Injector(world.port)
        async with asyncio.TaskGroup() as company:
            company.create_task(load.run())
            await load.until(300)
            children = await world.children()
            os.kill(world.pid, signal.SIGKILL)
            loads.note_kill()
        await world.until(lambda: all(has_ended(pid) for pid in children.values()), seconds=15.0)
        loads.add(load)
        await world.start()
        print(await loads.check())
