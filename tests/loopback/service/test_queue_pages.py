"""What monitors read about queues, domains and virtual MTAs of a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mta.service.workercommands import WorkerCommands
from tests.support.workshop import Workshop

pytestmark = pytest.mark.both_loops


async def ask(shop: Workshop, command: str, **arguments: Any) -> Any:
    return await WorkerCommands(shop.worker, clock=shop.clock).run(command, arguments)


@pytest.mark.directive("domain max-connect-rate")
@pytest.mark.directive("domain max-msg-rate")
@pytest.mark.parametrize(
    ("within", "words"),
    [
        ("max-msg-rate 1/h", "message rate limit reached: max-msg-rate 1/h is used up"),
        (
            "max-connect-rate 1/h\n    max-msg-per-connection 1",
            "connect rate limit reached: max-connect-rate",
        ),
    ],
)
async def test_a_limit_that_stops_a_queue_is_its_last_error(tmp_path: Path, within: str, words: str) -> None:
    async with Workshop(tmp_path, within=within) as shop:
        await shop.submit(count=3)
        await shop.until_events(1, "d")
        await shop.until_idle()

        (row,) = (await ask(shop, "show.topqueues", errors=True, maxitems=100000))["queue"]
        assert row["event"][0]["type"] == "limit"
        assert row["event"][0]["text"].startswith(words)


async def test_all_sources_disabled_is_said_in_the_words_that_monitors_know(tmp_path: Path) -> None:
    async with Workshop(tmp_path) as shop:
        await ask(shop, "queue.pause", pattern="*/*")
        await shop.submit()
        (row,) = (await ask(shop, "show.queues"))["queue"]
        assert row["event"] == []
        shop.worker.scheduler.disable_source("*/*", "", shop.clock.now(), None)
        await ask(shop, "queue.resume", pattern="*/*")
        (row,) = (await ask(shop, "show.queues", errors=True))["queue"]
        assert row["event"][0]["text"].startswith("All SMTP sources disabled")


async def test_a_refused_recipient_is_an_error_of_its_queue_and_its_domain(tmp_path: Path) -> None:
    async with Workshop(tmp_path, rules="RCPT 450 4.2.1 later") as shop:
        await shop.submit()
        await shop.until_events(1, "t")

        (row,) = (await ask(shop, "show.topqueues", errors=True, maxitems=100000))["queue"]
        (domain,) = (await ask(shop, "show.domains", errors=True))["domain"]
        assert (row["rcp"], row["event"][0]["text"], domain["lastError"]) == (
            1,
            "450 4.2.1 later",
            "450 4.2.1 later",
        )


async def test_sizes_are_those_of_what_waits(tmp_path: Path) -> None:
    async with Workshop(tmp_path) as shop:
        await ask(shop, "queue.pause", pattern="*/*")
        await shop.submit(count=5, size=20_000)
        for command, kind in (("show.queues", "queue"), ("show.domains", "domain"), ("show.vmtas", "vmta")):
            rows = (await ask(shop, command))[kind]
            assert 90 <= sum(row["kb"] for row in rows) <= 110, command
        assert (await ask(shop, "show.domains", sort="size"))["domain"][0]["kb"] >= 90
