"""Recipients that wait on disk alone survive an end in good order and SIGKILL like all others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.service import START_SECONDS, World
from tests.support.spread import DOMAINS, Account, SpreadInjector

pytestmark = pytest.mark.timeout(300)

EXTRA = "workers 2\nmax-recipients-in-memory 100\n"


async def until_parked(world: World, least: int) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            spool = (await world.ask("show.status"))["spool"]
            if spool["initPct"] == 100 and spool["parkedRcp"] >= least:
                return
            await asyncio.sleep(0.02)


async def test_parked_recipients_survive_a_kill_and_an_end_and_arrive(tmp_path: Path) -> None:
    async with World(tmp_path, domains=DOMAINS, extra=EXTRA) as world:
        account = Account(world)
        await world.ask("queue.pause", pattern="*/*")
        load = SpreadInjector(world.port, messages=150, recipients=10, size=200)
        await load.run()
        account.add(load)
        assert len(load.acknowledged) == 1500
        await until_parked(world, 1000)

        world.kill()
        account.note_kill()
        await world.wait()
        await world.start()
        await until_parked(world, 1000)
        await world.settled("show.topqueues", "totalRcp", 1500, maxitems=0)

        await world.ask("queue.resume", pattern="*/*")
        await world.until(lambda: len(world.received) >= 500)
        assert await world.stop() == 0
        await world.start()
        print(await account.check())
