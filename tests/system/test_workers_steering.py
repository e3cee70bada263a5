"""What an operator says holds at every worker, and what they answer is put together."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mta.sink.receiver import ReceiverOptions
from tests.support.inbound import Caller
from tests.support.service import World
from tests.support.spread import DOMAINS, SpreadInjector

pytestmark = pytest.mark.timeout(120)

ROLLUP = """
workers 2
<mx-rollup-list>
    mx *.example.com all.rollup rollup-by-ip
</mx-rollup-list>
<domain all.rollup>
    max-smtp-out 4
</domain>
"""
GROUP = """
workers 2
<source-group app>
    max-smtp-in 4
</source-group>
<source 127.0.0.1>
    source-group app
</source>
"""


async def hand_in(world: World, messages: int, *, headers: str = "", prefix: str = "r") -> set[str]:
    load = SpreadInjector(
        world.port, messages=messages, recipients=3, sessions=4, prefix=prefix, headers=lambda number: headers
    )
    await load.run()
    assert len(load.acknowledged) == messages * 3
    return load.acknowledged


async def kill_workers(world: World) -> None:
    """Kill both workers, and wait until both are there again and know what they have."""
    before = await world.children()
    for name in ("worker-0", "worker-1"):
        os.kill(before[name], signal.SIGKILL)
    async with asyncio.timeout(30.0):
        while True:
            rows = (await world.ask("show.workers"))["worker"][:2]
            is_back = all(row["state"] == "running" and row["restarts"] for row in rows)
            if is_back and not (await world.ask("show.status"))["recovering"]:
                return
            await asyncio.sleep(0.02)


async def test_what_was_paused_deleted_and_taken_back_is_so_at_every_worker(tmp_path: Path) -> None:
    async with World(tmp_path, domains=DOMAINS, extra="workers 2\n") as world:
        await world.ask("queue.pause", pattern="*/*")
        await world.ask("job.pause", job="news")
        news = await hand_in(world, 10, headers="x-job: news\r\n", prefix="n")
        plain = await hand_in(world, 10, prefix="p")
        await world.settled("list", "total", 60)
        rows = (await world.ask("show.workers"))["worker"]
        assert all(row["rcp"] and row["domains"] == ["*"] for row in rows[:2])

        await kill_workers(world)
        # What was on its way to its owner when they died counts nowhere until it has got there.
        jobs = (await world.settled("show.jobs", "totalRcp", 30))["job"]
        assert [(row["id"], row["rcp"], row["paused"]) for row in jobs] == [("news", 30, True)]
        for domain in DOMAINS:
            said = (await world.ask("why", queue=domain))["text"]
            assert said.startswith("Paused by the operator"), domain
        queues = await world.ask("show.queues", maxitems=0)
        assert len({row["name"] for row in queues["queue"]}) == len(queues["queue"]) == 12

        assert (await world.ask("delete", rcpt="p*", grace="1h"))["rcp"] == 30
        assert (await world.ask("list"))["total"] == 30
        assert (await world.ask("undo.delete"))["rcp"] == 30

        await world.ask("queue.resume", pattern="*/*")
        await world.until(lambda: len(world.received) == 30)
        assert world.received.keys() == plain
        assert (await world.ask("job.resume", job="news"))["rcp"] == 30
        await world.until_empty()
        assert world.received.keys() == plain | news
        assert max(world.received.values()) == 1


async def test_a_roll_up_has_one_limit_and_one_row_however_many_workers_serve_it(tmp_path: Path) -> None:
    options = ReceiverOptions(with_bodies=False, latency=0.01)
    async with World(tmp_path, domains=DOMAINS, options=options, extra=ROLLUP) as world:
        await hand_in(world, 30, prefix="a")
        await world.until_empty()
        assert {row["dlvDestinationIp"] for row in world.records("d")} == {"127.0.0.1"}
        # From here on the roll-up is known: what comes now enters its queue at once.
        await world.ask("queue.pause", pattern="all.rollup/*")
        await hand_in(world, 30, prefix="b")
        found = await world.settled("show.queues", "totalRcp", 90, domain="all.rollup")
        assert [(row["name"], row["rcp"]) for row in found["queue"]] == [("all.rollup/{default}", 90)]
        assert all(row["rcp"] for row in (await world.ask("show.workers"))["worker"][:2])
        assert (await world.ask("why", queue="all.rollup"))["text"].startswith("Paused by the operator")

        # Its mail belongs to whoever owns the domain; the roll-up itself belongs to nobody.
        world.write_config(ROLLUP + "<worker 1>\n  domains d1.example.com\n</worker>\n")
        await world.ask("reload")
        await world.settled("list", "total", 90)

        await world.ask("queue.resume", pattern="all.rollup/*")
        await world.until_empty()
        assert len(world.received) == 180
        assert max(world.received.values()) == 1
        # One that is closing counts a moment longer at the receiver; twice the limit would be eight.
        assert 2 <= world.receiver.totals.peak <= 6


async def test_a_source_group_has_its_connections_from_all_workers_together(tmp_path: Path) -> None:
    async with World(tmp_path, domains=DOMAINS, extra=GROUP) as world, AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(Caller(world.port)) for _ in range(16)]
        greetings = sorted(caller.greeting[:3] for caller in callers)
        assert set(greetings) == {"220", "421"}
        assert greetings.count("220") <= 4
