"""Verbs that only count, and deletes that are taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mta.service.channel import CommandFailed
from mta.service.workercommands import WorkerCommands
from tests.support.inbound import Caller
from tests.support.workshop import Workshop

pytestmark = pytest.mark.both_loops


async def ask(shop: Workshop, command: str, **arguments: Any) -> Any:
    return await WorkerCommands(shop.worker, clock=shop.clock).run(command, arguments)


async def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    async with Workshop(tmp_path) as shop:
        await ask(shop, "queue.pause", pattern="*/*")
        await shop.submit(count=3)
        for command, more in (
            ("queue.pause", {}),
            ("queue.resume", {}),
            ("queue.schedule", {}),
            ("queue.mode", {"mode": "backoff"}),
        ):
            found = await ask(shop, command, pattern="*/*", dryRun=True, **more)
            assert found["total"] == 1
        assert (await ask(shop, "queue.resume", pattern="*/*", dryRun=True))["queues"] == 1
        assert (await ask(shop, "delete", queue="*/*", dryRun=True)) == {"rcp": 3, "msg": 3}
        (row,) = (await ask(shop, "show.queues"))["queue"]
        assert (row["rcp"], row["paused"], row["mode"]) == (3, True, "normal")


async def test_a_delete_within_its_grace_is_taken_back(tmp_path: Path) -> None:
    async with Workshop(tmp_path) as shop:
        await ask(shop, "queue.pause", pattern="*/*")
        await shop.submit(count=3)
        assert (await ask(shop, "delete", queue="*/*", grace="1h"))["rcp"] == 3
        assert shop.waiting() == []
        assert shop.events("b") == []

        assert await ask(shop, "undo.delete") == {"rcp": 3}
        assert len(shop.waiting()) == 3
        assert await ask(shop, "undo.delete") == {"rcp": 0}
        await ask(shop, "queue.resume", pattern="*/*")
        await shop.until_events(3, "d")


async def test_without_grace_a_delete_is_final(tmp_path: Path) -> None:
    async with Workshop(tmp_path) as shop:
        await ask(shop, "queue.pause", pattern="*/*")
        await shop.submit(count=300)
        assert (await ask(shop, "delete", queue="*/*"))["rcp"] == 300
        await shop.until_events(300, "b")
        assert await ask(shop, "undo.delete") == {"rcp": 0}


async def test_a_grace_ends(tmp_path: Path) -> None:
    async with Workshop(tmp_path) as shop:
        await ask(shop, "queue.pause", pattern="*/*")
        await shop.submit(count=2)
        await ask(shop, "delete", queue="*/*", grace="1s")
        await shop.until_events(2, "b")


async def test_an_end_in_good_order_deletes_what_was_deleted(tmp_path: Path) -> None:
    async with Workshop(tmp_path) as shop:
        await ask(shop, "queue.pause", pattern="*/*")
        await shop.submit(count=2)
        await ask(shop, "delete", queue="*/*", grace="1h")

    async with Workshop(tmp_path) as again:
        assert len(again.events("b")) == 2
        await again.until_idle()
        assert again.deliveries == []
        assert again.worker.partition.stats().recipients == 0


async def test_what_is_brought_back_of_a_paused_job_waits_with_it(tmp_path: Path) -> None:
    extra = "<source 127.0.0.1>\nprocess-x-job yes\n</source>"
    async with Workshop(tmp_path, extra=extra) as shop:
        await ask(shop, "job.pause", job="j")
        async with Caller(shop.port) as caller:
            await caller.envelope("a@example.com")
            assert (await caller.ask("DATA")).startswith("354")
            caller.send(b"X-Job: j\r\nSubject: hello\r\n\r\nbody\r\n.\r\n")
            assert (await caller.reply()).startswith("250")
        assert (await ask(shop, "delete", jobId="j", grace="1h"))["rcp"] == 1
        assert (await ask(shop, "list", jobId="j"))["total"] == 0

        assert await ask(shop, "undo.delete") == {"rcp": 1}
        assert (await ask(shop, "list", jobId="j"))["total"] == 1
        assert shop.waiting() == []
        assert await ask(shop, "job.resume", job="j") == {"jobs": 1, "rcp": 1}
        await shop.until_events(1, "d")


async def test_only_what_is_old_enough_is_deleted_and_without_records_where_wanted(tmp_path: Path) -> None:
    async with Workshop(tmp_path) as shop:
        await ask(shop, "queue.pause", pattern="*/*")
        await shop.submit(count=2)
        shop.clock.move_to(shop.clock.now() + 7200)
        await shop.submit(count=1, prefix="young")
        assert (await ask(shop, "list", olderThan="1h"))["total"] == 2
        with pytest.raises(CommandFailed, match="at least one of"):
            await ask(shop, "delete", olderThan="1h")

        assert (await ask(shop, "delete", queue="*/*", olderThan="1h", noAccounting=True))["rcp"] == 2
        while shop.worker.partition.stats().recipients > 1:
            await shop.turn()
        assert shop.events("b") == []
        assert len(shop.waiting()) == 1


async def test_schedule_counts_who_had_to_wait_and_leaves_recipients_to_their_own_waits(
    tmp_path: Path,
) -> None:
    within = "retry-recipients-after 1h"
    async with Workshop(tmp_path, rules="RCPT x1 450 4.2.1 later", within=within) as shop:
        await shop.submit(count=1)
        await shop.until_events(1, "t")
        await shop.until_idle()
        nobody, everybody = {"queues": 0, "total": 1}, {"queues": 1, "total": 1}

        assert await ask(shop, "queue.schedule", pattern="*/*", dryRun=True) == nobody
        assert await ask(shop, "queue.schedule", pattern="*/*") == nobody
        retry = {"pattern": "*/*", "retryRecipients": True}
        assert await ask(shop, "queue.schedule", **retry, dryRun=True) == everybody
        assert await ask(shop, "queue.schedule", **retry) == everybody
        await shop.until_events(1, "d")
