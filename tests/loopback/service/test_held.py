"""Mail that is held for the worker that owns its queues, and is in no queue here: the operator reaches it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mta.cli.output import Output
from mta.cli.status import print_status
from mta.service.workercommands import WorkerCommands
from tests.support.pair import owned_by
from tests.support.workshop import Workshop

HERE, THERE = owned_by(0), owned_by(1)
JOBS = "<source 127.0.0.1>\nprocess-x-job yes\n</source>"


def alone(directory: Path) -> Workshop:
    """The first of two workers; the other one is not there."""
    return Workshop(directory, domains=(HERE, THERE), workers=2, extra=JOBS)


async def ask(shop: Workshop, command: str, **arguments: Any) -> Any:
    return await WorkerCommands(shop.worker, clock=shop.clock).run(command, arguments)


async def hold(shop: Workshop) -> None:
    """One recipient waits in our queue, two for the other worker, of different messages."""
    await ask(shop, "queue.pause", pattern="*/*")
    await shop.hand_in("X-Job: news\nSubject: x\n\nhello", f"a@{HERE}", f"b@{THERE}")
    await shop.hand_in("Subject: x\n\nhello", f"c@{THERE}")
    assert shop.worker.crew.passage.waiting == 2


async def listed(shop: Workshop, **filters: Any) -> dict[str, int | None]:
    """The recipients that are listed, and the worker that each is held for."""
    data = await ask(shop, "list", **filters)
    assert data["total"] == len(data["rcpt"])
    return {row["rcpt"].partition("@")[0]: row["heldFor"] for row in data["rcpt"]}


async def test_list_shows_what_is_held_and_for_whom(tmp_path: Path) -> None:
    async with alone(tmp_path) as shop:
        await hold(shop)

        assert await listed(shop) == {"a": None, "b": 1, "c": 1}
        assert await listed(shop, queue=THERE) == {"b": 1, "c": 1}
        assert await listed(shop, rcpt="c@*") == {"c": 1}
        assert await listed(shop, jobId="news") == {"a": None, "b": 1}
        assert await listed(shop, queue=f"{THERE}/other") == {}
        assert await listed(shop, olderThan="1h") == {}


async def test_delete_reaches_what_is_held_and_leaves_its_record(tmp_path: Path) -> None:
    async with alone(tmp_path) as shop:
        await hold(shop)

        assert await ask(shop, "delete", rcpt="b@*", dryRun=True) == {"rcp": 1, "msg": 1}
        assert await listed(shop, queue=THERE) == {"b": 1, "c": 1}
        assert await ask(shop, "delete", rcpt="b@*") == {"rcp": 1, "msg": 1}

        (event,) = await shop.until_events(1, "b")
        assert (event.recipient, event.queue) == (f"b@{THERE}", f"{THERE}/{{default}}")
        assert await listed(shop) == {"a": None, "c": 1}
        assert shop.worker.crew.passage.waiting == 1
        await shop.until(lambda: shop.worker.partition.recipients == 2)
        (job,) = (await ask(shop, "show.jobs"))["job"]
        assert (job["id"], job["rcp"], job["failed"]) == ("news", 1, 1)


async def test_a_deleted_share_that_is_brought_back_waits_for_its_owner_again(tmp_path: Path) -> None:
    async with alone(tmp_path) as shop:
        await hold(shop)

        assert (await ask(shop, "delete", queue="*/*", grace="1h"))["rcp"] == 3
        assert await listed(shop) == {}
        assert await ask(shop, "undo.delete") == {"rcp": 3}
        assert await listed(shop) == {"a": None, "b": 1, "c": 1}
        assert shop.worker.crew.passage.waiting == 2


async def test_pages_say_how_much_is_held(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with alone(tmp_path) as shop:
        await hold(shop)

        for page in ("show.queues", "show.topqueues"):
            data = await ask(shop, page)
            assert (data["totalRcp"], data["heldRcp"]) == (1, 2)
        status = await ask(shop, "show.status")
        assert status["spool"]["heldRcp"] == 2
        print_status(Output(), status)
        assert "2 recipients wait for the workers that own their queues" in capsys.readouterr().out
