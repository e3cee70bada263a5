"""A disk that fills up under load: 452, nothing lost, and everything goes on once there is room again."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import os
from pathlib import Path

import pytest

from tests.support.injector import Injector
from tests.support.service import World
from tests.support.small_disk import small_disk

pytestmark = pytest.mark.timeout(180)


def recipients(paths: list[Path], kind: str) -> list[str]:
    found: list[str] = []
    for path in paths:
        with path.open(newline="") as file:
            found += [row["rcpt"] for row in csv.DictReader(file) if row["type"] == kind]
    return found


def fill(ballast: Path) -> None:
    """Take every last block of the file system."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                continue


async def refuse(load: Injector) -> None:
    """Hand in mail until the service takes no more."""
    await load.run()
    assert set(load.refusals) == {"452 4.3.1"}, load.refusals
    assert load.broken == 0


async def resume(world: World) -> None:
    """Let the queues go on: in force at once, although the disk may have no room to remember it."""
    with contextlib.suppress(RuntimeError):
        await world.ask("queue.resume", pattern="*/*")


async def until_taken(world: World, count: int) -> list[Injector]:
    """Hand in so many messages again and again, until none of them is refused."""
    loads: list[Injector] = []
    async with asyncio.timeout(45.0):
        while not loads or loads[-1].refusals:
            prefix = f"after{len(loads)}-"
            loads.append(Injector(world.port, prefix=prefix, sessions=10, size=10_000, messages=count))
            await loads[-1].run()
            await world.waiting()
    return loads


async def test_a_spool_that_fills_up_refuses_with_452_and_recovers(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        inside = f"<acct-file {disk}/inside.csv>\nrecords d\nrecord-fields d rcpt, recordId\n</acct-file>"
        async with World(tmp_path, spool=disk / "spool", extra=inside) as world:
            pids = await world.children()
            await world.ask("queue.pause", pattern="*/*")
            loads = [Injector(world.port, prefix="first", sessions=10, size=10_000)]
            await refuse(loads[0])
            assert len(loads[0].acknowledged) > 500, "most of the disk is there for mail"

            # Not a block is left, neither for outcomes nor for accounting, and now mail is delivered.
            fill(disk / "ballast")
            await resume(world)
            await world.until(lambda: loads[0].acknowledged <= world.received.keys())
            # What its own messages leave behind is room enough for others, or they are refused.
            loads.append(Injector(world.port, prefix="brim", sessions=2, size=10_000, messages=200))
            await loads[1].run()

            os.unlink(disk / "ballast")
            loads += await until_taken(world, 300)
            taken = set().union(*(load.acknowledged for load in loads))
            await world.until(lambda: taken <= world.received.keys())
            await world.until_empty()
            assert (await world.children()) == pids, "nobody died of it"
            assert await world.stop() == 0

            print(f"taken before 452: {len(loads[0].acknowledged)}, in all {len(taken)}")
            assert set(loads[1].refusals) <= {"452 4.3.1"}
            assert world.received.keys() == taken
            assert max(world.received.values()) == 1
            outside = sorted(tmp_path.glob("acct*.csv"))
            assert sorted(recipients(outside, "d")) == sorted(taken)
            assert sorted(recipients(outside, "r")) == sorted(taken)
            assert sorted(recipients(sorted(disk.glob("inside*.csv")), "d")) == sorted(taken)


async def test_a_service_killed_on_a_full_disk_starts_on_it_and_empties_it(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        async with World(tmp_path, spool=disk / "spool") as world:
            await world.ask("queue.pause", pattern="*/*")
            load = Injector(world.port, sessions=10, size=10_000)
            await refuse(load)
            fill(disk / "ballast")
            world.kill()
            await world.wait()

            await world.start()
            await resume(world)
            await world.until(lambda: load.acknowledged <= world.received.keys())
            os.unlink(disk / "ballast")
            await world.until_empty()
            assert await world.stop() == 0

            assert world.received.keys() <= load.offered
            assert max(world.received.values()) == 1
            assert {row["rcpt"] for row in world.records("d")} == world.received.keys()
