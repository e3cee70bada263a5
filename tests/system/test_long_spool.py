"""A spool far beyond what may be kept in memory: how much memory it takes, and that all of it arrives."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mta.clock import SystemClock
from mta.errors import SpoolError
from mta.ingress.queueid import QueueIds
from mta.message.envelope import Envelope, Recipient, encode_envelope
from mta.spool.partition import Partition, SpoolOptions
from tests.support.service import World
from tests.support.spread import DOMAINS, domain_of

MESSAGES = 300_000
LIMIT = 10_000
EXTRA = f"max-recipients-in-memory {LIMIT}\n"
#: Octets of memory beyond those of an empty service, while all wait, and while connections are open; kept in
#: memory as a whole these messages would take 20 MB in the index and 18 MB in the queues, and grow with them.
WAITING, DRAINING = 16 << 20, 64 << 20
PATIENCE = 600.0
#: Deliveries whose outcome a killed worker may not have noted: what it does in a second or two.
WINDOW = 20_000


async def fill(directory: Path, messages: int) -> set[str]:
    """A partition with messages of one recipient each; returns who they are for."""
    loop = asyncio.get_running_loop()
    directory.parent.mkdir(parents=True, exist_ok=True)
    partition = Partition.open(directory, options=SpoolOptions(memory_pool=0), loop=loop)
    ids, everybody = QueueIds(SystemClock()), list[str]()
    try:
        for first in range(0, messages, 5000):
            some = [f"r{number}@{DOMAINS[number % len(DOMAINS)]}" for number in range(first, first + 5000)]
            await store(partition, ids, some)
            everybody += some
    finally:
        partition.close()
    return set(everybody)


async def store(partition: Partition, ids: QueueIds, addresses: list[str]) -> None:
    """A message for each address."""
    stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    missing = len(addresses)

    def answered(message: int, error: SpoolError | None) -> None:
        nonlocal missing
        missing -= 1
        assert error is None
        if not missing:
            stored.set_result(None)

    now = SystemClock().now()
    for address in addresses:
        person = Recipient(address, domain_of(address))
        envelope = Envelope(ids.next(), now, "a@example.org", "{default}", (person,))
        partition.accept(encode_envelope(envelope), [b"Subject: x\r\n\r\nx\r\n"], answered, envelope)
    await stored


def resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split(None, 1)[0]) * 1024


async def memory(world: World) -> int:
    """Octets in memory of the worker when all has been read."""
    async with asyncio.timeout(PATIENCE):
        while (await world.ask("show.status"))["spool"]["initPct"] < 100:
            await asyncio.sleep(0.1)
    await asyncio.sleep(1.5)
    return resident((await world.children())["worker-0"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_memory_stays_bounded_and_everybody_is_served_once(tmp_path: Path) -> None:
    world = World(tmp_path, domains=DOMAINS, extra=EXTRA)
    async with world.surroundings():
        await world.start()
        await world.ask("queue.pause", pattern="*/*")
        base = await memory(world)
        assert await world.stop() == 0
        everybody = await fill(world.spool / "0", MESSAGES)

        await world.start()
        assert await memory(world) - base < WAITING
        await world.ask("queue.resume", pattern="*/*")
        await world.until(lambda: len(world.received) >= MESSAGES // 4, PATIENCE)
        assert resident((await world.children())["worker-0"]) - base < DRAINING
        assert await world.stop() == 0
        assert len(world.received) == world.received.total(), "an end in good order repeats nothing"

        await world.start()
        await world.until(lambda: len(world.received) >= MESSAGES // 2, PATIENCE)
        world.kill()
        await world.wait()
        await world.start()
        await world.until_empty(PATIENCE)
        assert resident((await world.children())["worker-0"]) - base < DRAINING
        assert await world.stop() == 0
    assert world.received.keys() == everybody
    assert max(world.received.values()) <= 2
    assert world.received.total() - MESSAGES < WINDOW
