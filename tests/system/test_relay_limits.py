"""Thousands of messages from Postfix: once each, within every limit, from the right addresses."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from pathlib import Path

import pytest

from mta.sink.receiver import Receiver, ReceiverOptions
from tests.support.service import World

pytestmark = [pytest.mark.timeout(300), pytest.mark.peers]

#: Both domains have a receiver of their own, so that connections of a queue can be told apart.
TWO_IDENTITIES = """
<virtual-mta one>
    smtp-source-host  127.0.0.11 one.example.org
    max-smtp-out      5
</virtual-mta>
<virtual-mta two>
    smtp-source-host  127.0.0.12 two.example.org
    <domain *>
        max-smtp-out  2
    </domain>
</virtual-mta>
<virtual-mta-pool both>
    virtual-mta one
    virtual-mta two
</virtual-mta-pool>
<source 127.0.0.1>
    default-virtual-mta both
</source>
<domain example.net>
    smtp-hosts 127.0.0.2:{port}
</domain>
"""
MESSAGES_PER_CONNECTION = 25


async def inject(world: World, program: str, domain: str, count: int) -> None:
    """Let smtp-source hand in so many messages of 10 KB over ten sessions, a recipient for each."""
    process = await asyncio.create_subprocess_exec(
        program, "-N", "-s", "10", "-l", "10240", "-m", str(count), "-f", "app@example.org",
        "-t", f"r@{domain}", f"127.0.0.1:{world.port}",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def relay(tmp_path: Path, count: int) -> None:
    program = shutil.which("smtp-source") or "/usr/sbin/smtp-source"
    if not Path(program).exists():
        pytest.skip("smtp-source (package postfix) is not installed")
    # Slow enough that one connection is never sufficient.
    options = ReceiverOptions(with_bodies=False, latency=0.005)
    other_options = ReceiverOptions(with_bodies=False, latency=0.005)
    async with Receiver(other_options) as other:
        other.close()
        port = await other.start("127.0.0.2")
        within = f"max-msg-per-connection {MESSAGES_PER_CONNECTION}"
        world = World(tmp_path, options=options, extra=TWO_IDENTITIES.format(port=port), within=within)
        other_options.delivered = world.remember
        async with world, asyncio.TaskGroup() as company:
            for domain in ("example.com", "example.net"):
                company.create_task(inject(world, program, domain, count // 2))
            await world.until(lambda: world.received.total() >= count, seconds=120.0)
            await world.until_empty()
            receivers = (world.receiver, other)
            status = await world.ask("show.status")
            assert await world.stop() == 0

    assert status["spool"]["dirs"][0]["messages"] == 0
    assert len(world.received) == count
    assert max(world.received.values()) == 1
    senders = Counter((one.client, one.greeting) for one in world.deliveries)
    assert senders == {
        ("127.0.0.11", "one.example.org"): count // 2,
        ("127.0.0.12", "two.example.org"): count // 2,
    }
    peaks = {ip: [receiver.clients[ip].peak for receiver in receivers] for ip in ("127.0.0.11", "127.0.0.12")}
    print(f"messages={count} peaks of connections={peaks}")
    # Each receiver is one domain: its clients are the queues.
    assert peaks["127.0.0.12"] == [2, 2], "the limit of each queue, and all of it used"
    assert max(peaks["127.0.0.11"]) <= 5
    assert most_open(world) <= 5, "the limit of the virtual MTA holds for its queues together"
    loads = Counter((one.recipients[0].rpartition("@")[2], one.connection) for one in world.deliveries)
    assert max(loads.values()) <= MESSAGES_PER_CONNECTION
    assert all(receiver.totals.lost == receiver.totals.refused_connections == 0 for receiver in receivers)
    rows = world.records("d")
    assert Counter(row["rcpt"] for row in rows) == world.received
    assert Counter((row["dlvSourceIp"], row["vmta"]) for row in rows) == {
        ("127.0.0.11", "one"): count // 2,
        ("127.0.0.12", "two"): count // 2,
    }


def most_open(world: World) -> int:
    """How many connections of virtual MTA `one` carried messages at a time, both receivers together."""
    first: dict[tuple[str, int], int] = {}
    last: dict[tuple[str, int], int] = {}
    for moment, one in enumerate(world.deliveries):
        if one.client == "127.0.0.11":
            connection = one.recipients[0].rpartition("@")[2], one.connection
            first.setdefault(connection, moment)
            last[connection] = moment
    return max(sum(first[other] <= moment <= last[other] for other in first) for moment in first.values())


async def test_two_thousand_messages_within_all_limits(tmp_path: Path) -> None:
    await relay(tmp_path, 2000)


@pytest.mark.slow
async def test_twenty_thousand_messages_within_all_limits(tmp_path: Path) -> None:
    await relay(tmp_path, 20_000)
