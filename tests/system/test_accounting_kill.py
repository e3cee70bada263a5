"""The events process is killed again and again while mail flows: no record is missing, none stands twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.processes import tree
from benchmarks.source import Source, inject, message_of
from tests.support.service import World

pytestmark = pytest.mark.timeout(180)

MESSAGES = 3000
KILLS = 5


def events_process(root: int) -> int:
    """The pid of the process that writes records, 0 while there is none."""
    for pid in tree(root)[1:]:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"events" in words:
            return pid
    return 0


async def test_killing_the_events_process_loses_and_repeats_no_record(tmp_path: Path) -> None:
    extra = "<domain bench.example>\nmax-smtp-out 10\n</domain>"
    async with World(tmp_path, domains=("bench.example",), extra=extra) as world:
        load = Source(MESSAGES, message_of(1000), "bench.example", False, asyncio.Event())
        injecting = asyncio.create_task(inject(world.port, load, 10, "127.0.0.1"))
        for number in range(1, KILLS + 1):
            share = MESSAGES * number // (KILLS + 1)
            await world.until(lambda share=share: len(world.records("d")) >= share or load.done.is_set())
            await world.until(lambda: events_process(world.pid) > 0)
            os.kill(events_process(world.pid), signal.SIGKILL)
        await injecting
        assert load.accepted == MESSAGES, load.errors
        await world.until(lambda: len({row["rcpt"] for row in world.records("d")}) == MESSAGES)
        assert await world.stop() == 0

        times = Counter(row["rcpt"] for row in world.records("d"))
        assert len(times) == MESSAGES
        assert max(times.values()) == 1
        assert max(Counter(row["rcpt"] for row in world.records("r")).values()) == 1
