"""Fewer workers, other claims: mail finds its new owner, once, and empty partitions go."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mta.sink.receiver import ReceiverOptions
from mta.sink.script import parse_script
from tests.support.service import World
from tests.support.spread import DOMAINS, Account, SpreadInjector

pytestmark = pytest.mark.timeout(300)

SECONDS = 30.0


async def filled(world: World, account: Account, messages: int = 300) -> None:
    """Hand in mail that waits, because every queue is paused."""
    await world.ask("queue.pause", pattern="*/*")
    load = SpreadInjector(world.port, messages=messages, recipients=3)
    await load.run()
    account.add(load)
    assert len(account.acknowledged) == messages * 3


async def until(condition: Any, seconds: float = SECONDS) -> None:
    """Wait for a condition that has to be asked for."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


async def until_waiting(world: World, count: int) -> None:
    """What has just been passed on counts at both ends for a moment."""

    async def are_waiting() -> bool:
        return await world.waiting() == count

    await until(are_waiting)


def partitions(world: World) -> list[str]:
    return sorted(entry.name for entry in world.spool.iterdir() if entry.is_dir())


async def test_partitions_without_a_worker_are_emptied_and_removed(tmp_path: Path) -> None:
    async with World(tmp_path, domains=DOMAINS, extra="workers 3\n") as world:
        account = Account(world)
        await filled(world, account)
        await until_waiting(world, 900)
        assert await world.stop() == 0
        assert partitions(world) == ["0", "1", "2"]

        world.write_config("workers 1\n")
        await world.start()
        await world.until(lambda: partitions(world) == ["0"], SECONDS)
        await until_waiting(world, 900)
        assert not world.received

        await world.ask("queue.resume", pattern="*/*")
        print(await account.check())
        assert max(world.received.values()) == 1


@pytest.mark.slow
async def test_an_adoption_that_is_killed_goes_on_later(tmp_path: Path) -> None:
    async with World(tmp_path, domains=DOMAINS, extra="workers 3\n") as world:
        account = Account(world)
        await filled(world, account, messages=700)
        assert await world.stop() == 0

        world.write_config("workers 2\n")
        for _ in range(3):
            # Whatever the moment is, the next life finds out what has arrived already.
            await world.launch()
            await world.until(lambda: (world.spool / "0" / "intake").exists(), SECONDS)
            await asyncio.sleep(0.05)
            world.kill()
            await world.wait()
            for partition in ("0", "1"):
                (world.spool / partition / "intake").unlink(missing_ok=True)
        await world.start()
        await world.until(lambda: partitions(world) == ["0", "1"], SECONDS)
        await until_waiting(world, 2100)

        await world.ask("queue.resume", pattern="*/*")
        print(await account.check())
        assert max(world.received.values()) == 1


async def test_a_domain_that_another_worker_claims_moves_there_at_a_reload(tmp_path: Path) -> None:
    job = "<source 127.0.0.1>\njobid-prefix news\n</source>\n"
    async with World(tmp_path, domains=DOMAINS, extra="workers 2\n" + job) as world:
        account = Account(world)
        await filled(world, account)
        before = await rows(world)
        assert all(before.values())
        await until(lambda: is_counted_once(world, 900))

        world.write_config("workers 2\n<worker 1>\n  domains *.example.com\n</worker>\n" + job)
        await world.ask("reload")

        async def moved() -> bool:
            return await rows(world) == {"worker-0": 0, "worker-1": 900}

        await until(moved)
        await until(lambda: is_counted_once(world, 900))
        await world.ask("queue.resume", pattern="*/*")
        print(await account.check())
        assert max(world.received.values()) == 1


async def is_counted_once(world: World, recipients: int) -> bool:
    """Whether the jobs of all workers together have so many recipients waiting."""
    return bool((await world.ask("show.jobs"))["totalRcp"] == recipients)


async def rows(world: World) -> dict[str, int]:
    """Recipients that wait at each worker."""
    found = (await world.ask("show.workers"))["worker"]
    return {row["id"]: row["rcp"] for row in found if row["id"] != "events"}


async def test_attempts_and_due_times_move_along(tmp_path: Path) -> None:
    options = ReceiverOptions(with_bodies=False, script=parse_script("rcpt /./ 450 4.2.1 Not now\n"))
    async with World(
        tmp_path, domains=DOMAINS, options=options, extra="workers 2\n", within="retry-recipients-after 1h"
    ) as world:
        load = SpreadInjector(world.port, messages=10, recipients=3)
        await load.run()
        await world.until(lambda: len(world.records("t")) == 30)
        assert await world.stop() == 0

        world.write_config("workers 1\n")
        await world.start()
        await world.until(lambda: partitions(world) == ["0"], SECONDS)
        found = (await world.ask("list", maxitems=100))["rcpt"]
        assert {row["rcpt"] for row in found} == load.acknowledged
        assert {row["attempts"] for row in found} == {1}
        now = (await world.ask("show.status"))["timeNow"]
        assert all(now + 3000 < row["nextTry"] < now + 3700 for row in found)


async def test_mail_for_a_worker_that_does_not_come_back_waits_at_the_others(tmp_path: Path) -> None:
    async with World(tmp_path, domains=DOMAINS, extra="workers 2\n") as world:
        account = Account(world)
        stuck = (await world.children())["worker-1"]
        os.kill(stuck, signal.SIGSTOP)
        # The kernel spreads connections over the doors: with twelve some come to the one that lives.
        load = SpreadInjector(world.port, messages=120, recipients=3, sessions=12)
        async with asyncio.TaskGroup() as company:
            company.create_task(load.run())
            # Some clients talk to the one that is stuck; the others are answered all the same.
            await load.until(60, seconds=20.0)
            os.kill(stuck, signal.SIGCONT)
        account.add(load)
        print(await account.check())
        assert max(world.received.values()) == 1
