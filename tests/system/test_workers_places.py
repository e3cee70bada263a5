"""Limits smaller than the number of workers hold all the same, and all workers' mail gets through."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from mta.service.layout import Layout, Post
from mta.sink.receiver import ReceiverOptions
from tests.support.service import World
from tests.support.spread import DOMAINS, Account, SpreadInjector

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]

WORKERS = "workers 3\n"
#: All domains have their mail taken by one address, from one address.
ADDRESS = WORKERS + "ip-connection-limit 127.0.0.0/8 {limit}\n"
ROLLUP = (
    WORKERS
    + "<mx-rollup-list>\n mx *.example.com shared.rollup\n</mx-rollup-list>\n"
    + "<domain shared.rollup>\n smtp-hosts mx.d0.example.com\n max-smtp-out {limit}\n</domain>\n"
)
LAYOUT = Layout([Post(number) for number in range(3)])


def world_of(tmp_path: Path, extra: str) -> World:
    options = ReceiverOptions(with_bodies=False, latency=0.002)
    return World(tmp_path, domains=DOMAINS, options=options, extra=extra)


async def hand_over(world: World, account: Account, messages: int, prefix: str = "r") -> None:
    """So many messages, each of them on the account."""
    load = SpreadInjector(world.port, messages=messages, recipients=3, sessions=4, prefix=prefix)
    await load.run()
    account.add(load)


def test_every_worker_has_mail() -> None:
    assert {LAYOUT.owner(domain) for domain in DOMAINS} == {0, 1, 2}


@pytest.mark.parametrize("extra", [ADDRESS, ROLLUP], ids=["address", "roll-up"])
@pytest.mark.parametrize("limit", [1, 2])
async def test_there_are_never_more_connections_than_the_limit_and_all_mail_goes_out(
    tmp_path: Path, limit: int, extra: str
) -> None:
    async with world_of(tmp_path, extra.format(limit=limit)) as world:
        account = Account(world)
        await hand_over(world, account, 60)
        await account.check()

        assert world.receiver.totals.peak == limit


async def test_the_place_of_a_killed_worker_goes_to_the_others(tmp_path: Path) -> None:
    async with world_of(tmp_path, ADDRESS.format(limit=1)) as world:
        account = Account(world)
        await hand_over(world, account, 300)
        holder = await holding_worker(world)
        pid = (await world.children())[holder]
        account.note_kill()
        os.kill(pid, signal.SIGKILL)
        await account.check()

        assert world.receiver.totals.peak == 1


@pytest.mark.parametrize(("before", "after"), [(5, 1), (1, 5), (2, 3), (3, 2)])
async def test_a_reload_across_the_number_of_workers_holds_both_limits(
    tmp_path: Path, before: int, after: int
) -> None:
    async with world_of(tmp_path, ADDRESS.format(limit=before)) as world:
        account = Account(world)
        await hand_over(world, account, 200)
        world.write_config(ADDRESS.format(limit=after))
        await world.ask("reload")
        await hand_over(world, account, 100, "again")
        await account.check()

        assert world.receiver.totals.peak <= max(before, after)


async def holding_worker(world: World) -> str:
    """The worker that has the one connection."""
    async with asyncio.timeout(20):
        while True:
            rows = (await world.ask("show.workers"))["worker"]
            busy = [row["id"] for row in rows if row.get("connOut")]
            if busy:
                return str(busy[0])
            await asyncio.sleep(0.02)
