"""x-schedule: messages that are sent in windows of their own, by a whole worker on a clock that is moved."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.inbound import Caller
from tests.support.workshop import Workshop

SOURCE = "<source 127.0.0.1>\nprocess-x-schedule yes\nallow-mailmerge {merge}\n{more}\n</source>"
HOUR = 3600.0
DAY = 24 * HOUR


def source(*, merge: str = "no", more: str = "") -> str:
    return SOURCE.format(merge=merge, more=more)


def windows(shop: Workshop, *hours: tuple[float, float]) -> str:
    """The value of x-schedule for windows that many hours from now."""

    def text(hour: float) -> str:
        moment = datetime.fromtimestamp(shop.clock.wall() + hour * HOUR, UTC)
        return moment.strftime("%Y-%m-%d %H:%M:%SZ")

    return ", ".join(f"{text(start)} / {text(end)}" for start, end in hours)


def header(shop: Workshop, *hours: tuple[float, float]) -> Callable[[int], str]:
    line = f"X-Schedule: {windows(shop, *hours)}\r\n"
    return lambda number: line


@pytest.mark.directive("source process-x-schedule")
async def test_message_waits_for_its_window(tmp_path: Path) -> None:
    async with Workshop(tmp_path, extra=source()) as shop:
        start = shop.clock.now()
        await shop.submit(headers=header(shop, (2, 3)))
        await shop.at(start + 1.99 * HOUR)
        assert shop.deliveries == []
        assert len(shop.waiting()) == 1

        await shop.at(start + 2.01 * HOUR)
        (event,) = await shop.until_events(1, "d")

        assert event.dsn_status == "2.0.0"
        assert b"schedule" not in shop.deliveries[0].data.lower()


@pytest.mark.directive("source retain-x-schedule")
async def test_message_inside_of_its_window_goes_at_once(tmp_path: Path) -> None:
    async with Workshop(tmp_path, extra=source(more="retain-x-schedule yes")) as shop:
        await shop.submit(headers=header(shop, (-1, 1)))
        await shop.until_events(1, "d")

        assert b"X-Schedule: " in shop.deliveries[0].data


async def test_header_is_a_header_like_others_where_it_is_not_processed(tmp_path: Path) -> None:
    async with Workshop(tmp_path) as shop:
        await shop.submit(headers=lambda number: "X-Schedule: whenever\r\n")
        await shop.until_events(1, "d")

        assert b"X-Schedule: whenever" in shop.deliveries[0].data


async def test_header_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    async with Workshop(tmp_path, extra=source()) as shop, Caller(shop.port) as call:
        await call.envelope("b@example.com")
        said = await call.content(b"X-Schedule: whenever\r\n\r\nhello\r\n")

        assert said == "554 5.6.0 x-schedule: 'whenever' is not start / end"
        assert shop.waiting() == []


async def test_schedule_stands_instead_of_bounce_after(tmp_path: Path) -> None:
    async with Workshop(tmp_path, within="bounce-after 1d", extra=source()) as shop:
        start = shop.clock.now()
        await shop.submit(headers=header(shop, (10 * 24, 11 * 24)))
        for day in range(1, 10):
            await shop.at(start + day * DAY)
        assert shop.events("b", "d") == []

        await shop.at(start + 10 * DAY + 5)
        await shop.until_events(1, "d")


async def test_message_expires_with_its_last_window(tmp_path: Path) -> None:
    within = "retry-recipients-after 10m\ndeliver-local-dsn no"
    async with Workshop(tmp_path, rules="RCPT 450 4.2.1 later", within=within, extra=source()) as shop:
        start = shop.clock.now()
        await shop.submit(headers=header(shop, (0, 1)))
        for number in range(6):
            await shop.at(start + number * 11 * 60)
            await shop.until_events(number + 1, "t")
        assert shop.events("b") == []

        await shop.at(start + HOUR + 2)
        (event,) = await shop.until_events(1, "b")

        assert (event.bounce_category, event.dsn_status) == ("message-expired", "4.4.7")


async def test_message_whose_windows_are_over_expires_at_once(tmp_path: Path) -> None:
    async with Workshop(tmp_path, within="deliver-local-dsn no", extra=source()) as shop:
        await shop.submit(headers=header(shop, (-2, -1)))
        (event,) = await shop.until_events(1, "b")

        assert event.bounce_category == "message-expired"
        assert shop.deliveries == []


async def test_what_is_held_up_over_the_end_of_a_window_waits_for_the_next(tmp_path: Path) -> None:
    async with Workshop(tmp_path, extra=source()) as shop:
        start = shop.clock.now()
        shop.worker.scheduler.pause("*/*", start)
        await shop.submit(headers=header(shop, (0, 1), (5, 6)))
        await shop.at(start + 2 * HOUR)
        shop.worker.scheduler.resume("*/*", shop.clock.now())
        await shop.at(start + 2 * HOUR + 1)
        await shop.at(start + 4.9 * HOUR)
        assert (shop.connections, shop.events("d", "b", "t")) == (1, [])
        (entry,) = shop.waiting()
        assert entry.attempts == 0

        await shop.at(start + 5 * HOUR + 1)
        await shop.until_events(1, "d")


async def test_retry_that_would_come_too_late_waits_for_the_next_window(tmp_path: Path) -> None:
    rules = "RCPT x1 450 4.2.1 later"
    async with Workshop(tmp_path, rules=rules, within="retry-recipients-after 30m", extra=source()) as shop:
        start = shop.clock.now()
        await shop.submit(headers=header(shop, (0, 0.2), (5, 6)))
        await shop.until_events(1, "t")
        await shop.at(start + 1 * HOUR)
        assert shop.events("d") == []

        await shop.at(start + 5.01 * HOUR)
        await shop.until_events(1, "d")


async def test_restart_keeps_the_schedule(tmp_path: Path) -> None:
    async with Workshop(tmp_path, extra=source()) as shop:
        start = shop.clock.now()
        await shop.submit(headers=header(shop, (200, 210)))
    async with Workshop(tmp_path, within="bounce-after 1h", extra=source(), start=start + HOUR) as shop:
        await shop.until(shop.waiting)
        await shop.at(start + 199 * HOUR)
        assert shop.events("d", "b") == []

        await shop.at(start + 200 * HOUR + 2)
        await shop.until_events(1, "d")


async def test_recipients_of_a_mail_merge_may_have_windows_of_their_own(tmp_path: Path) -> None:
    async with Workshop(tmp_path, extra=source(merge="yes")) as shop:
        start = shop.clock.now()
        async with Caller(shop.port) as call:
            await call.hello()
            said = await call.codes(
                "XMRG FROM:<news@example.org>",
                f'XDFN *schedule="{windows(shop, (1, 2))}"',
                "RCPT TO:<later@example.com>",
                "RCPT TO:<now@example.com>",
                "XPRT 1 LAST",
            )
            assert said == ["250 2.1.0", "250 2.0.0", "250 2.1.5", "250 2.1.5", "354"]
            call.send(b"Subject: hello\r\n\r\nhello\r\n.\r\n")
            assert (await call.reply()).startswith("250")
        (event,) = await shop.until_events(1, "d")
        assert event.recipient == "now@example.com"

        await shop.at(start + HOUR + 2)
        events = await shop.until_events(2, "d")
        assert events[1].recipient == "later@example.com"
