"""What is decided where mail comes in holds whichever of two workers a client meets."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.support.inbound import Caller
from tests.support.injector import Injector
from tests.support.service import World
from tests.support.spread import DOMAINS, Account

pytestmark = pytest.mark.timeout(300)

#: So many connections that no worker gets none of them.
CLIENTS = 16
SUPPRESSED = "no@d0.example.com"
EXTRA = f"""
workers 2
<virtual-mta new1>
    smtp-source-host 127.0.0.9 nine.example.org
</virtual-mta>
<virtual-mta v1>
    smtp-source-host 127.0.0.8 eight.example.org
    cold-virtual-mta new1
</virtual-mta>
<address-list no>
    address {SUPPRESSED}
</address-list>
<source 127.0.0.1>
    default-virtual-mta v1
    suppression-lists no
</source>
"""


async def test_cold_quotas_and_suppression_lists_hold_with_two_workers(tmp_path: Path) -> None:
    domains = DOMAINS[:2]
    within = "max-cold-virtual-mta-msg 5/day"
    async with World(tmp_path, domains=domains, extra=EXTRA, within=within) as world:
        account = Account(world)

        async with asyncio.TaskGroup() as company:
            asked = [company.create_task(refusal(world.port)) for _ in range(CLIENTS)]
        assert {task.result() for task in asked} == {("550", "250")}

        for turn in range(2):
            load = Injector(
                world.port, sessions=CLIENTS, messages=100, domains=domains, prefix=f"t{turn}-", size=200
            )
            await load.run()
            account.add(load)
            await world.until_empty()
            if not turn:
                # Every day has its number once, restart or not.
                assert await world.stop() == 0
                await world.start()
        print(await account.check())

        cold: Counter[str] = Counter(
            row["rcpt"].rpartition("@")[2] for row in world.records("d") if row["vmta"] == "new1"
        )
        # 3 for one worker, 2 for the other; a kept number may be lost with its process, never gained.
        assert set(cold) == set(domains)
        assert all(4 <= number <= 5 for number in cold.values()), cold


async def refusal(port: int) -> tuple[str, str]:
    """What a client hears about the suppressed recipient, and about another."""
    async with Caller(port) as client:
        await client.hello()
        await client.ask("MAIL FROM:<app@example.org>")
        first = await client.ask(f"RCPT TO:<{SUPPRESSED}>")
        return first[:3], (await client.ask("RCPT TO:<yes@d0.example.com>"))[:3]
