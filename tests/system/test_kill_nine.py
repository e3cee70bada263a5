"""SIGKILL in the middle of everything: what got 250 is delivered and accounted for, nothing is invented."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from tests.support.account import Account
from tests.support.injector import Injector
from tests.support.service import World, has_ended

pytestmark = pytest.mark.timeout(300)

#: Seconds before a kill in which a delivery may still be unknown to the disk (tens of milliseconds when the
#: machine is quiet).
WINDOW = 1.0


def account_of(world: World) -> Account:
    return Account(world, window=WINDOW, kinds=("d", "r"), is_shared=False)


async def kill_everything(tmp_path: Path, rounds: int, most: int) -> None:
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    print(f"seed {seed}")
    async with World(tmp_path) as world:
        loads = account_of(world)
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
        loads = account_of(world)
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
        loads = account_of(world)
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
