"""A domain that is slow or hostile keeps its own worker busy, and nobody else's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mta.service.layout import Layout, Post
from mta.sink.receiver import ReceiverOptions
from mta.sink.script import parse_script
from tests.support.injector import Injector
from tests.support.service import World
from tests.support.spread import DOMAINS

pytestmark = pytest.mark.timeout(120)

LAYOUT = Layout([Post(0), Post(1)])
THEIRS = next(domain for domain in DOMAINS if LAYOUT.owner(domain) == 0)
OURS = next(domain for domain in DOMAINS if LAYOUT.owner(domain) == 1)
#: A receiver that cuts every connection in the middle, and wants it tried again at once.
HOSTILE = f"rcpt /@{THEIRS}/ close\n"
EXTRA = f"workers 2\n<domain {THEIRS}>\n    max-smtp-out 200\n    retry-after 1s\n</domain>\n"


async def seconds_for(world: World, prefix: str, messages: int) -> float:
    """How long mail of the well-behaved domain takes until the last of it has arrived."""
    began = asyncio.get_running_loop().time()
    load = Injector(world.port, messages=messages, sessions=4, prefix=prefix, domains=(OURS,))
    await load.run()
    assert len(load.acknowledged) == messages
    await world.until(lambda: load.acknowledged <= world.received.keys())
    return asyncio.get_running_loop().time() - began


async def waiting(world: World) -> dict[str, int]:
    """Recipients that wait, by worker."""
    return {row["id"]: row.get("rcp", 0) for row in (await world.ask("show.workers"))["worker"]}


async def test_a_hostile_domain_does_not_slow_the_domains_of_another_worker(tmp_path: Path) -> None:
    options = ReceiverOptions(with_bodies=False, script=parse_script(HOSTILE))
    async with World(tmp_path, domains=DOMAINS, options=options, extra=EXTRA) as world:
        alone = await seconds_for(world, "a", 100)
        hostile = Injector(world.port, messages=200, sessions=4, prefix="h", domains=(THEIRS,))
        await hostile.run()
        await world.until(lambda: world.receiver.totals.lost or world.receiver.totals.connections > 20)

        beside = await seconds_for(world, "b", 100)
        # The last replies are on their way back when the receiver has all.
        async with asyncio.timeout(10):
            while (rows := await waiting(world))["worker-1"]:
                await asyncio.sleep(0.02)

        assert rows["worker-0"] == 200, "the hostile domain has taken its mail"
        # The machine is shared by whatever else runs; waiting for the other worker would take far longer.
        assert beside < 5 * alone + 2.0
