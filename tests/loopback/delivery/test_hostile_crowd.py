"""A thousand broken receivers at once: each queue ends as it would alone, and a good one does not notice.

The rows are those of `test_hostile_servers`; here every queue has a domain of its own, and all share one
scheduler and one dispatcher. Memory and descriptors are those of this whole process, the broken receivers
included: an upper bound.
"""

from __future__ import annotations

import asyncio
import gc
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from mta.delivery.policy import DeliveryPolicy
from mta.message.event import Event
from mta.queue.key import QueueKey
from mta.queue.policy import QueuePolicy
from mta.routing.router import Target
from tests.loopback.delivery.test_hostile_servers import (
    EHLOS,
    GREETINGS,
    ONE_BY_ONE,
    SWEPT,
    TRANSACTIONS,
    Row,
)
from tests.support.delivery_rig import DeliveryRig
from tests.support.memory import MEBIBYTE, open_files, resident
from tests.support.scripted_server import Script, ScriptedServer

PLAIN = QueuePolicy(max_smtp_out=1, retry_after=(3600.0,))
ROWS = [row for row in (*GREETINGS, *EHLOS, *TRANSACTIONS, *ONE_BY_ONE, *SWEPT) if row.queue == PLAIN]
GOOD = "good.example"
GOOD_MESSAGES = 100


def patience(seconds: float) -> DeliveryPolicy:
    """One deadline for everything: who is slower than that is gone."""
    return DeliveryPolicy(
        connect_timeout=seconds,
        greeting_timeout=seconds,
        command_timeout=seconds,
        data_send_timeout=seconds,
        data_termination_timeout=seconds,
    )


@dataclass(frozen=True, slots=True)
class Course:
    """How it went: seconds from the start, octets."""

    good_done: float
    growth: int
    most_open: int
    events: dict[str, list[Event]]


async def run(peers: int, seconds: float) -> Course:
    """Mail to so many broken receivers and to a good one."""
    loop = asyncio.get_running_loop()
    rows = {f"broken{number}.example": ROWS[number % len(ROWS)] for number in range(peers)}
    async with AsyncExitStack() as stack:
        good = await stack.enter_async_context(ScriptedServer(Script()))
        servers: dict[str, ScriptedServer] = {}
        for domain, row in rows.items():
            # Scripts that answer by turns have a memory: a receiver for each domain.
            servers[domain] = await stack.enter_async_context(ScriptedServer(row.script))
        ports = {GOOD: good.port, **{domain: server.port for domain, server in servers.items()}}
        gc.collect()
        before = resident()
        rig = DeliveryRig([good.port], policy=patience(seconds), queue=PLAIN)

        async def route(key: QueueKey) -> tuple[Target, ...]:
            return (Target("mx.example.net", "127.0.0.1", ports[key.domain], 0),)

        rig.routes.route = route  # type: ignore[method-assign]
        async with rig:
            rig.scheduler.reconfigure(rig.clock.now(), total_max_smtp_out=peers + 10)
            began = loop.time()
            for domain in rows:
                rig.admit(f"b@{domain}", f"c@{domain}", domain=domain)
            for number in range(GOOD_MESSAGES):
                rig.admit(f"r{number}@{GOOD}", domain=GOOD)
            expected = GOOD_MESSAGES + sum(len(row.expected) for row in rows.values())
            highest, most_open, good_done = before, 0, 0.0
            async with asyncio.timeout(12 * seconds):
                while len(rig.events) < expected:
                    highest = max(highest, resident())
                    most_open = max(most_open, rig.open())
                    if not good_done and len(good.accepted) == GOOD_MESSAGES:
                        good_done = loop.time() - began
                    await rig.turn()
        events: defaultdict[str, list[Event]] = defaultdict(list)
        for event in rig.events:
            events[event.queue.partition("/")[0]].append(event)
        assert len(good.accepted) == GOOD_MESSAGES
        return Course(good_done or loop.time() - began, highest - before, most_open, dict(events))


def judge(course: Course, peers: int) -> list[str]:
    """The queues that did not end as they would alone."""
    wrong = []
    for number in range(peers):
        row: Row = ROWS[number % len(ROWS)]
        events = sorted(course.events.get(f"broken{number}.example", []), key=lambda event: event.recipient)
        seen = tuple(f"{event.type} {event.dsn_status}" for event in events)
        if seen != row.expected:
            wrong.append(f"{row.name}: {seen} instead of {row.expected}")
    return wrong


async def test_a_hundred_broken_receivers_and_a_good_one() -> None:
    course = await run(100, 3.0)

    assert judge(course, 100) == []
    assert course.growth < 64 * MEBIBYTE


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_thousand_broken_receivers_and_a_good_one() -> None:
    alone = await run(0, 15.0)
    files = open_files()

    course = await run(1000, 15.0)

    print(
        f"\n1000 peers, {len(ROWS)} behaviours: {course.growth / MEBIBYTE:.1f} MiB, {course.most_open} open, "
        f"{GOOD_MESSAGES} good messages in {alone.good_done:.2f} s alone, {course.good_done:.2f} s with them"
    )
    assert judge(course, 1000) == []
    assert course.growth < 64 * MEBIBYTE
    assert course.most_open > 300
    # Nobody waits for a broken one's deadline.
    assert course.good_done < 10
    assert open_files() < files + 10
