"""A sync has failed: nothing more can be promised or noted, and the process says so instead of dying."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from mta.errors import MtaError
from mta.service.workercommands import WorkerCommands
from tests.support.inbound import Caller
from tests.support.spool import FaultyFiles
from tests.support.workshop import Workshop

pytestmark = pytest.mark.both_loops

CONTENT = b"Subject: hello\r\n\r\nbody\r\n.\r\n"


async def break_spool(shop: Workshop, files: FaultyFiles) -> str:
    """Hand in a message whose sync fails; returns the reply to it."""
    async with Caller(shop.port) as caller:
        await caller.envelope("broken@example.com")
        assert (await caller.ask("DATA")).startswith("354")
        while shop.worker.partition.is_busy:
            await shop.turn()  # a spare file is synced as well, and that sync is not meant
        files.fail("sync")
        caller.send(CONTENT)
        (answer,) = await caller.replies(1)
        while not shop.worker.alarms:
            await shop.turn()
        return answer


async def test_a_failed_sync_stops_delivery_raises_the_alarm_and_clients_are_told_to_come_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = FaultyFiles()
    async with Workshop(tmp_path, within="max-smtp-out 1", files=files) as shop:
        shop.worker.scheduler.pause("*/*", shop.clock.now())
        await shop.submit(count=2)
        with caplog.at_level(logging.CRITICAL):
            answer = await break_spool(shop, files)
        assert answer.startswith("451 4.3.0")

        shop.worker.scheduler.resume("*/*", shop.clock.now())
        shop.worker.dispatcher.wake()
        async with Caller(shop.port) as caller:
            await caller.ask("HELO app.example.org")
            refused = await caller.ask("MAIL FROM:<a@example.org>")
            assert refused.startswith("451 4.3.0"), refused
        for _ in range(10):
            await shop.turn()
        assert shop.deliveries == []
        assert not any(shop.worker.dispatcher.stats())

        status = await WorkerCommands(shop.worker, clock=shop.clock).run("show.status", {})
        (alarm,) = status["alarms"]
        assert "is broken (sync failed: Input/output error)" in alarm
        assert status["spool"]["dirs"][0]["broken"]
        assert "event=alarm" in caplog.text
        with pytest.raises(MtaError, match="is broken"):
            await WorkerCommands(shop.worker, clock=shop.clock).run("trace", {"queue": "example.com"})


async def test_a_disk_that_is_too_full_for_new_mail_is_an_alarm(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with Workshop(tmp_path, files=files) as shop:
        files.inodes = 0
        (alarm,) = (await WorkerCommands(shop.worker, clock=shop.clock).run("show.status", {}))["alarms"]
        assert "takes no new mail (452): 0 inodes left" in alarm


async def test_what_was_acknowledged_before_is_delivered_after_a_restart(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with Workshop(tmp_path, files=files) as shop:
        shop.worker.scheduler.pause("*/*", shop.clock.now())
        expected = await shop.submit(count=3)
        await break_spool(shop, files)

    async with Workshop(tmp_path) as again:
        # The pause is the operator's, and outlives the worker.
        again.worker.scheduler.resume("*/*", again.clock.now())
        again.worker.dispatcher.wake()
        async with asyncio.timeout(10.0):
            while len(again.deliveries) < 3:
                await again.turn()
        await again.until_idle()
        assert sorted(r for delivery in again.deliveries for r in delivery.recipients) == expected


async def test_a_transfer_under_way_is_cut_because_its_end_could_not_be_noted(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with Workshop(tmp_path, rules="DATA silence\n", files=files) as shop:
        await shop.submit()
        async with asyncio.timeout(10.0):
            while not shop.worker.dispatcher.stats().working:
                await shop.turn()
        await break_spool(shop, files)
        await shop.until_idle()
        assert shop.events("d", "b") == []
