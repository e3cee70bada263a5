"""The benchmark harness measures something, on this machine, now."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.coldstart import build
from benchmarks.receiver import Counters, Manner, Peer
from benchmarks.source import Source, inject, message_of
from mta.sink.receiver import Receiver, ReceiverOptions
from mta.sink.script import parse_script
from mta.spool.partition import Partition, SpoolOptions

pytestmark = pytest.mark.timeout(120)


def source(messages: int, *, pipelining: bool = False) -> Source:
    return Source(messages, message_of(1000), "bench.example", pipelining, asyncio.Event())


@pytest.mark.parametrize("pipelining", [False, True])
async def test_source_sends_every_message_once(pipelining: bool) -> None:
    seen: list[str] = []
    options = ReceiverOptions(delivered=lambda delivery: seen.extend(delivery.recipients))
    async with Receiver(options) as receiver:
        work = source(50, pipelining=pipelining)
        await inject(receiver.port, work, 4, "127.0.0.1")

    assert work.accepted == 50
    assert not work.errors
    assert sorted(seen) == sorted(f"r{n}@bench.example" for n in range(1, 51))


async def test_source_says_what_the_server_refused() -> None:
    async with Receiver(ReceiverOptions(script=parse_script("RCPT after=3 550 5.1.1 enough"))) as receiver:
        work = source(10)
        await inject(receiver.port, work, 1, "127.0.0.1")

    assert work.accepted == 3
    assert work.errors[0] == "550 5.1.1 enough"


@asynccontextmanager
async def receiver(manner: Manner) -> AsyncIterator[tuple[Counters, int]]:
    """A light receiver in this process, and its port."""
    loop = asyncio.get_running_loop()
    counters = Counters(loop)
    server = await loop.create_server(lambda: Peer(counters, manner), "127.0.0.1", 0)
    async with server:
        yield counters, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("size", [10, 1000, 300_000])
async def test_light_receiver_counts_every_message(size: int) -> None:
    async with receiver(Manner()) as (counters, port):
        work = Source(30, message_of(size), "bench.example", True, asyncio.Event(), domains=7)
        await asyncio.wait_for(inject(port, work, 3, "127.0.0.1"), 20)

    assert (work.accepted, work.errors) == (30, [])
    assert (counters.messages, counters.connections) == (30, 3)


async def test_light_receiver_finds_the_end_of_a_message_in_any_pieces() -> None:
    message = b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\nx\r\n..\r\n.\r\n"
    said = b""
    async with receiver(Manner()) as (counters, port), asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            for at in range(len(message)):
                writer.write(message[at : at + 1])
                await writer.drain()
            said += await reader.readuntil(b"taken\r\n")
        writer.write(b"QUIT\r\n")
        said += await reader.read()
        writer.close()

    assert counters.messages == 3
    assert said.count(b"354 ") == 3
    assert said.endswith(b"221 2.0.0 bye\r\n")


@pytest.mark.parametrize(("each", "turns"), [(False, 2), (True, 11)])
async def test_light_receiver_waits_where_it_is_told_to(each: bool, turns: int) -> None:
    begun = asyncio.get_running_loop().time()
    async with receiver(Manner(delay=0.02, each=each)) as (_, port):
        work = source(2)
        await asyncio.wait_for(inject(port, work, 1, "127.0.0.1"), 20)
    took = asyncio.get_running_loop().time() - begun

    assert work.accepted == 2
    # Greeting, EHLO, and four replies a message where every one waits; else only the final ones.
    assert took >= 0.02 * (turns - 1)


async def test_spool_for_a_cold_start_waits_with_every_recipient(tmp_path: Path) -> None:
    await asyncio.to_thread(build, tmp_path / "0", 300, domains=20)

    partition = Partition.open(tmp_path / "0", options=SpoolOptions(), loop=asyncio.get_running_loop())
    try:
        waiting = [one.envelope.recipients[0] for one in partition.recovered()]
    finally:
        partition.close()

    assert len({recipient.address for recipient in waiting}) == 300
    assert len({recipient.queue_domain for recipient in waiting}) == 20


async def test_whole_scenario_is_measured_and_printed(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks", "--short", "--no-write", "--place", str(tmp_path)),
        *("--only", "tls/10KB-20 mta TLS"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()

    assert process.returncode == 0, said
    assert "tls/10KB-20 mta TLS" in said
    assert "worker 0" in said
    assert "file_system" in said


async def test_mta_sink_counts_for_programs(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "mta", "sink", "-l", "127.0.0.1:0", "--json", "--until", "5", "--refresh", "20ms"),
        *("--record", str(tmp_path / "record.csv")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    listening = (await process.stderr.readline()).decode()
    await inject(int(listening.rpartition(":")[2]), source(5), 1, "127.0.0.1")
    summary = json.loads((await process.communicate())[0])

    assert summary["messages"] == 5
    assert summary["domains"]["bench.example"]["accepted"] == 5
    assert len((tmp_path / "record.csv").read_text().splitlines()) == 6
