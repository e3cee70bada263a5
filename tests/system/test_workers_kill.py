"""SIGKILL of one process among several workers under load: no loss, and the others go on."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from pathlib import Path

import pytest

from mta.service.layout import Layout, Post
from tests.support.service import World, has_ended
from tests.support.spread import DOMAINS, Account, SpreadInjector, domain_of

pytestmark = pytest.mark.timeout(300)

#: The longest time in which nothing may arrive for domains whose worker lives. The machine is shared.
LONGEST_GAP = 2.0


def owners(workers: int) -> Layout:
    """Who owns which domain in a service of so many workers without `<worker>` blocks."""
    return Layout([Post(number) for number in range(workers)])


async def kill_workers(tmp_path: Path, *, workers: int, kills: int, recipients: int) -> None:
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    layout = owners(workers)
    async with World(tmp_path, domains=DOMAINS, extra=f"workers {workers}\n") as world:
        account = Account(world)
        load = SpreadInjector(world.port, recipients=recipients, reconnects=True)
        async with asyncio.TaskGroup() as company:
            company.create_task(load.run())
            await load.until(500)
            for _ in range(kills):
                victim = dice.randrange(workers)
                os.kill((await world.children())[f"worker-{victim}"], signal.SIGKILL)
                account.note_kill()
                killed_at = account.kills[-1]
                await load.until(len(load.acknowledged) + dice.randint(300, 1500))
                await restarted(world, victim)
                await load.until(len(load.acknowledged) + 300)
                back_at = asyncio.get_running_loop().time()
                moments = [
                    moment
                    for moment, address in world.arrivals
                    if killed_at <= moment <= back_at and layout.owner(domain_of(address)) != victim
                ]
                gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
                assert max(gaps, default=LONGEST_GAP) < LONGEST_GAP, "living workers had to wait"
            load.stop()
        account.add(load)
        print(f"seed {seed}", await account.check())


async def restarted(world: World, number: int) -> None:
    """Wait until a worker is there again."""
    async with asyncio.timeout(30.0):
        while True:
            rows = (await world.ask("show.workers"))["worker"]
            if rows[number]["state"] == "running" and rows[number]["restarts"]:
                return
            await asyncio.sleep(0.05)


async def test_a_worker_dies_and_the_domains_of_the_other_do_not_notice(tmp_path: Path) -> None:
    await kill_workers(tmp_path, workers=2, kills=1, recipients=3)


@pytest.mark.slow
async def test_workers_die_again_and_again(tmp_path: Path) -> None:
    await kill_workers(tmp_path, workers=3, kills=10, recipients=4)


async def test_the_whole_group_dies_in_the_middle_of_handing_over(tmp_path: Path) -> None:
    async with World(tmp_path, domains=DOMAINS, extra="workers 2\n") as world:
        account = Account(world)
        for turn in range(2):
            load = SpreadInjector(world.port, prefix=f"g{turn}-", recipients=3)
            async with asyncio.TaskGroup() as company:
                company.create_task(load.run())
                await load.until(600)
                world.kill()
                account.note_kill()
            await world.wait()
            account.add(load)
            await world.start()
        print(await account.check())


@pytest.mark.slow
async def test_records_and_supervisor_die_under_load_and_nothing_is_lost(tmp_path: Path) -> None:
    async with World(tmp_path, domains=DOMAINS, extra="workers 2\n") as world:
        account = Account(world)
        load = SpreadInjector(world.port, recipients=3, reconnects=True)
        async with asyncio.TaskGroup() as company:
            company.create_task(load.run())
            await load.until(300)
            events = (await world.children())["events"]
            killed_at = asyncio.get_running_loop().time()
            os.kill(events, signal.SIGKILL)
            await load.until(len(load.acknowledged) + 600)
            moments = [moment for moment, _ in world.arrivals if moment >= killed_at]
            gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
            assert max(gaps, default=LONGEST_GAP) < LONGEST_GAP, "mail waited for the records"

            workers = await world.children()
            os.kill(world.pid, signal.SIGKILL)
            account.note_kill()
            load.stop()
        assert await world.wait() == -signal.SIGKILL
        await world.until(lambda: all(has_ended(pid) for pid in workers.values()))
        account.add(load)
        await world.start()
        print(await account.check())
