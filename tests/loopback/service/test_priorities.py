"""Priorities of recipients within their queue: from pattern lists, mail merges and `mta set priority`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mta.service.channel import CommandFailed
from mta.service.workercommands import WorkerCommands
from tests.support.inbound import Caller
from tests.support.workshop import Workshop

ONE = "max-smtp-out 1"
LIST = """
<source 127.0.0.1>
    pattern-list urgency
    allow-mailmerge yes
</source>
<pattern-list urgency>
    mail-from /^alerts@/ recipient-priority=90
    header Precedence: /bulk/ recipient-priority=10
    * virtual-mta={default}
</pattern-list>
"""


JOBS = "<source 127.0.0.1>\nprocess-x-job yes\n</source>"


async def ask(shop: Workshop, command: str, **arguments: Any) -> Any:
    return await WorkerCommands(shop.worker, clock=shop.clock).run(command, arguments)


async def hold(shop: Workshop) -> None:
    await ask(shop, "queue.pause", pattern="*/*")


async def sent(shop: Workshop, count: int) -> list[str]:
    """Let go; the senders in the order in which their messages arrive."""
    await ask(shop, "queue.resume", pattern="*/*")
    await shop.until_delivered(count)
    return [delivery.sender.partition("@")[0] for delivery in shop.deliveries]


@pytest.mark.directive("pattern-list recipient-priority=")
async def test_pattern_list_gives_priorities(tmp_path: Path) -> None:
    async with Workshop(tmp_path, within=ONE, extra=LIST) as shop:
        await hold(shop)
        await shop.hand_in("Precedence: bulk\n\nhello", sender="news@example.org")
        await shop.hand_in("Subject: hello\n\nhello", sender="shop@example.org")
        await shop.hand_in("Precedence: bulk\n\nhello", sender="alerts@example.org")
        listed = (await ask(shop, "list"))["rcpt"]

        assert sorted(row["priority"] for row in listed) == [10, 50, 90]
        assert await sent(shop, 3) == ["alerts", "shop", "news"]


async def test_recipients_of_a_mail_merge_have_priorities_of_their_own(tmp_path: Path) -> None:
    async with Workshop(tmp_path, within=ONE, extra=LIST) as shop:
        await hold(shop)
        async with Caller(shop.port) as call:
            await call.hello()
            said = await call.codes(
                "XMRG FROM:<alerts@example.org>",
                "XDFN *priority=7",
                "RCPT TO:<late@example.com>",
                "RCPT TO:<list@example.com>",
                "XDFN *priority=100",
                "RCPT TO:<first@example.com>",
                "XPRT 1 LAST",
            )
            assert said[-1] == "354"
            call.send(b"Subject: hello\r\n\r\nhello\r\n.\r\n")
            assert (await call.reply()).startswith("250")
        await sent(shop, 3)

        assert [delivery.recipients[0].partition("@")[0] for delivery in shop.deliveries] == [
            "first",
            "list",
            "late",
        ]


async def test_operator_lets_a_job_go_first_also_after_a_restart(tmp_path: Path) -> None:
    async with Workshop(tmp_path, within=ONE, extra=JOBS) as shop:
        await hold(shop)
        for sender, job in (("a", "spring"), ("b", "reset"), ("c", "spring"), ("d", "reset")):
            await shop.hand_in(f"X-Job: {job}\n\nhello", sender=f"{sender}@example.org")
        assert await ask(shop, "set.priority", jobId="reset", priority=80, dryRun=True) == {
            "rcp": 2,
            "total": 2,
        }
        assert {entry.priority for entry in shop.waiting()} == {50}
        assert (await ask(shop, "set.priority", jobId="reset", priority=80))["rcp"] == 2
        assert await ask(shop, "set.priority", jobId="reset", priority=80) == {"rcp": 0, "total": 2}
        then = shop.clock.now()
    async with Workshop(tmp_path, within=ONE, extra=JOBS, start=then + 60) as shop:
        await shop.until(lambda: len(shop.waiting()) == 4)
        await shop.hand_in("X-Job: reset\n\nhello", sender="new@example.org")

        assert await sent(shop, 5) == ["b", "d", "a", "c", "new"]


async def test_priority_stays_with_a_recipient_that_is_deferred_or_kept_back(tmp_path: Path) -> None:
    rules = "RCPT x1 450 4.2.1 later"
    within = f"{ONE}\nretry-recipients-after 10m"
    async with Workshop(tmp_path, rules=rules, within=within, extra=JOBS) as shop:
        start = shop.clock.now()
        await hold(shop)
        await shop.hand_in("X-Job: spring\n\nhello", sender="job@example.org")
        await ask(shop, "set.priority", queue="example.com/*", priority=70)
        await ask(shop, "queue.resume", pattern="*/*")
        await shop.until_events(1, "t")
        await ask(shop, "job.pause", job="spring")
        (row,) = (await ask(shop, "list"))["rcpt"]
        assert (row["priority"], row["paused"], row["schedule"]) == (70, True, [])
        assert (await ask(shop, "set.priority", jobId="spring", priority=60))["rcp"] == 1

        await ask(shop, "job.resume", job="spring")
        (entry,) = shop.waiting()
        assert (entry.priority, entry.attempts) == (60, 1)
        await shop.at(start + 700)
        await shop.until_events(1, "d")


@pytest.mark.parametrize(
    "arguments", [{"priority": 101, "queue": "*/*"}, {"priority": 50}, {"priority": 50, "colour": "blue"}, {}]
)
async def test_order_that_cannot_be_followed_is_refused(tmp_path: Path, arguments: dict[str, Any]) -> None:
    async with Workshop(tmp_path) as shop:
        with pytest.raises(CommandFailed):
            await ask(shop, "set.priority", **arguments)
