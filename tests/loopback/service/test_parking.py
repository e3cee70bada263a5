"""A worker that may keep few recipients in memory: the others wait on disk, and an operator sees them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mta.config.load import load_text
from mta.service.workercommands import WorkerCommands
from tests.support.workshop import Workshop

DOMAINS = ("example.com", "example.org")
FEW = "max-recipients-in-memory 100"
JOBS = "<source 127.0.0.1>\nprocess-x-job yes\n</source>"


async def ask(shop: Workshop, command: str, **arguments: Any) -> Any:
    return await WorkerCommands(shop.worker, clock=shop.clock).run(command, arguments)


async def parked(shop: Workshop) -> int:
    found: int = (await ask(shop, "show.status"))["spool"]["parkedRcp"]
    return found


async def fill(shop: Workshop, **options: object) -> None:
    """Let 600 recipients wait, most of them on disk alone."""
    await ask(shop, "queue.pause", pattern="*/*")
    await shop.submit(count=60, recipients=10, domains=DOMAINS, size=100, **options)
    await shop.until(lambda: shop.worker.partition.recipients - shop.worker.scheduler.parked <= 100)


@pytest.mark.both_loops
@pytest.mark.directive(" max-recipients-in-memory")
async def test_recipients_beyond_the_limit_wait_on_disk_and_all_arrive_in_order(tmp_path: Path) -> None:
    async with Workshop(tmp_path, within="max-smtp-out 1", extra=FEW) as shop:
        await fill(shop)

        assert await parked(shop) >= 500
        assert (await ask(shop, "show.status"))["queue"]["smtp"]["rcp"] == 600
        found = await ask(shop, "show.topqueues")
        assert sorted((row["name"], row["rcp"]) for row in found["queue"]) == [
            ("example.com/{default}", 300),
            ("example.org/{default}", 300),
        ]
        assert found["totalRcp"] == 600
        assert (await ask(shop, "why", queue="example.com/{default}"))["text"].startswith("Paused")

        await ask(shop, "queue.resume", pattern="*/*")
        await shop.until(lambda: not shop.worker.partition.recipients)

        arrived = [recipient for delivery in shop.deliveries for recipient in delivery.recipients]
        assert len(arrived) == 600
        for domain in DOMAINS:
            mine = [place(address) for address in arrived if address.endswith(domain)]
            assert len(mine) == 300
            assert mine == sorted(mine)
        assert await parked(shop) == 0


async def test_list_and_delete_reach_parked_recipients(tmp_path: Path) -> None:
    async with Workshop(tmp_path, extra=FEW) as shop:
        await fill(shop)

        assert (await ask(shop, "list", rcpt="r*@example.com"))["total"] == 300
        assert (await ask(shop, "delete", rcpt="*.3@*", noAccounting=True))["rcp"] == 60
        await shop.until(lambda: shop.worker.partition.recipients == 540)
        assert (await ask(shop, "list"))["total"] == 540
        assert await parked(shop) >= 440

        await ask(shop, "queue.resume", pattern="*/*")
        await shop.until(lambda: not shop.worker.partition.recipients)
        arrived = {recipient for delivery in shop.deliveries for recipient in delivery.recipients}
        assert len(arrived) == 540
        assert not any(".3@" in address for address in arrived)


async def test_a_job_whose_recipients_are_parked_can_be_paused(tmp_path: Path) -> None:
    async with Workshop(tmp_path, extra=f"{FEW}\n{JOBS}") as shop:
        await fill(shop, headers=lambda number: f"x-job: {'odd' if number % 3 else 'even'}\r\n")

        assert (await ask(shop, "job.pause", job="odd"))["rcp"] == 400
        await ask(shop, "queue.resume", pattern="*/*")
        await shop.until(lambda: shop.worker.partition.recipients == 400)
        await shop.until_idle()
        assert sum(len(delivery.recipients) for delivery in shop.deliveries) == 200

        await ask(shop, "job.resume", job="odd")
        await shop.until(lambda: not shop.worker.partition.recipients)


async def test_a_reload_changes_how_many_are_kept_in_memory(tmp_path: Path) -> None:
    async with Workshop(tmp_path) as shop:
        await ask(shop, "queue.pause", pattern="*/*")
        await shop.submit(count=60, recipients=10, size=100)
        assert await parked(shop) == 0

        loaded = load_text(f"{shop._text()}{FEW}\n")
        assert loaded.snapshot is not None
        shop.worker.reload(loaded.snapshot)

        await shop.until(lambda: shop.worker.scheduler.parked >= 500)


def place(address: str) -> tuple[int, int]:
    """The number of the message, and which of its recipients it is."""
    number, _, index = address.removeprefix("r").partition("@")[0].partition(".")
    return int(number), int(index)
