"""The benchmark harness measures something, on this machine, now."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from benchmarks.source import Source, inject, message_of
from mta.sink.receiver import Receiver, ReceiverOptions
from mta.sink.script import parse_script

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
