"""Ten thousand queues with limits of every kind, 200,000 recipients that wait: the service sleeps."""

from __future__ import annotations

import asyncio
import os
import smtplib
import sys
import time
from pathlib import Path

import pytest

from tests.support.service import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

QUEUES = 10_000
RECIPIENTS = 200_000
AT_ONCE = 1000
#: What each kind of queue is limited by; after the first message each of them waits for an hour.
KINDS = ("messages", "connects", "octets", "retry", "paused")
LIMITS = """
<domain *.messages.example>
    max-msg-rate 1/h
</domain>
<domain *.connects.example>
    max-connect-rate 1/h
    max-msg-per-connection 1
</domain>
<domain *.octets.example>
    max-data-volume-rate 1k/h
</domain>
<domain *.retry.example>
    smtp-hosts [127.0.0.1]:1
    retry-after 1h
</domain>
total-max-smtp-out 200
"""
BODY = "Subject: hello\r\n\r\n" + "x" * 900 + "\r\n"


def submit(port: int) -> None:
    """Every queue gets the same number of recipients, in messages of a thousand."""
    domains = [f"d{number}.{KINDS[number % len(KINDS)]}.example" for number in range(QUEUES)]
    with smtplib.SMTP("127.0.0.1", port, timeout=120) as client:
        for start in range(0, RECIPIENTS, AT_ONCE):
            chosen = [domains[(start + place) % QUEUES] for place in range(AT_ONCE)]
            client.sendmail("app@example.org", [f"r{start}@{domain}" for domain in chosen], BODY)


def used(pids: list[int]) -> float:
    """CPU seconds of these processes up to now."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


async def test_a_service_whose_ten_thousand_queues_all_wait_sleeps_and_answers(tmp_path: Path) -> None:
    async with World(tmp_path, extra=LIMITS, within="smtp-hosts [127.0.0.1]") as world:
        await world.ask("queue.pause", pattern="*.paused.example/*")
        await asyncio.to_thread(submit, world.port)
        served = QUEUES * 3 // len(KINDS)
        await world.until(lambda: len(world.deliveries) >= served, 300)
        pids = [world.pid, *(await world.children()).values()]
        async with asyncio.timeout(200):
            while True:  # until connections have closed and what was noted is on the disk
                before = used(pids)
                await asyncio.sleep(2)
                if used(pids) - before < 0.5:
                    break

        before, started = used(pids), time.monotonic()
        await asyncio.sleep(10)
        share = (used(pids) - before) / (time.monotonic() - started)

        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mta", "--socket", str(tmp_path / "control.sock"), "show", "topqueues",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, _ = await process.communicate()
        answered = time.monotonic() - started

        print(f"CPU at idle {share:.2%}, mta show topqueues {answered:.2f} s, {len(world.deliveries)} sent")
        assert len(world.deliveries) == served
        assert await world.waiting() == RECIPIENTS - served
        assert process.returncode == 0
        assert b".example/" in said
        # The goals are 2 % and one second; a busy machine gets five times that.
        assert share < 0.1
        assert answered < 5.0
