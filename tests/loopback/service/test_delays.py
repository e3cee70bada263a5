"""Delay reports for mail that no attempt could be made at, by a whole worker on a clock that is moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.sink.counters import Delivery
from tests.support.inbound import Caller
from tests.support.workshop import Workshop

HOUR = 3600.0
#: Mail for example.com goes to a host that does not answer; that for example.org arrives.
NOBODY = "<domain example.com>\nsmtp-hosts 127.0.0.1:1\nretry-after 30m\n{more}\n</domain>"


async def submit(shop: Workshop, *recipients: str, sender: str = "app@example.org") -> None:
    async with Caller(shop.port) as call:
        await call.hello()
        await call.codes(f"MAIL FROM:<{sender}>", *(f"RCPT TO:{recipient}" for recipient in recipients))
        assert (await call.content(b"Subject: hello\r\n\r\nhello\r\n")).startswith("250")
    await shop.turn()
    await shop.until_idle()


async def look(shop: Workshop, when: float) -> None:
    """Let it be `when`, and whoever is to be told be told."""
    await shop.at(when)
    shop.worker.delays.look()
    await shop.turn()
    await shop.until_idle()


def reports(shop: Workshop) -> list[Delivery]:
    return [delivery for delivery in shop.deliveries if delivery.sender == ""]


@pytest.mark.directive("domain notify-of-delay-every")
async def test_sender_hears_of_a_delay_although_no_connection_ever_came_about(tmp_path: Path) -> None:
    within = "notify-of-delay-every 4h"
    async with Workshop(tmp_path, within=within, extra=NOBODY.format(more="")) as shop:
        start = shop.clock.now()
        await submit(shop, "<b@example.com> NOTIFY=DELAY,FAILURE", "<c@example.com>")
        assert shop.events("t", "b", "d") == []
        for hours in range(1, 4):
            await look(shop, start + hours * HOUR)
        assert reports(shop) == []

        await look(shop, start + 4 * HOUR + 1)
        await shop.until(lambda: reports(shop))

        (report,) = reports(shop)
        assert report.recipients == ("app@example.org",)
        assert b"Action: delayed\r\n" in report.data
        assert b"rfc822;b@example.com" in report.data
        assert b"c@example.com" not in report.data
        assert b"127.0.0.1" in report.data
        assert len(shop.waiting()) == 2

        await look(shop, start + 7.9 * HOUR)
        assert len(reports(shop)) == 1
        await look(shop, start + 8 * HOUR + 2)
        await shop.until(lambda: len(reports(shop)) == 2)


async def test_paused_queue_is_a_delay_too(tmp_path: Path) -> None:
    async with Workshop(tmp_path, within="notify-of-delay-every 1h") as shop:
        start = shop.clock.now()
        shop.worker.scheduler.pause("example.com/*", start)
        await submit(shop, "<b@example.com> NOTIFY=DELAY")

        await look(shop, start + HOUR + 1)
        await shop.until(lambda: reports(shop))

        assert b"no attempt could be made yet" in reports(shop)[0].data


async def test_nobody_hears_of_what_has_arrived(tmp_path: Path) -> None:
    async with Workshop(tmp_path, within="notify-of-delay-every 1h") as shop:
        start = shop.clock.now()
        await submit(shop, "<b@example.com> NOTIFY=DELAY")
        await shop.until_events(1, "d")
        await shop.until(lambda: not shop.worker.partition.is_waiting(1, 0))

        await look(shop, start + 2 * HOUR)

        assert reports(shop) == []
        assert repr(shop.worker.delays) == "<Delays 0 watched>"


@pytest.mark.parametrize("interval", ["never", "0"])
async def test_nobody_hears_of_delays_where_the_operator_does_not_want_it(
    tmp_path: Path, interval: str
) -> None:
    extra = NOBODY.format(more=f"notify-of-delay-every {interval}")
    async with Workshop(tmp_path, extra=extra) as shop:
        start = shop.clock.now()
        await submit(shop, "<b@example.com> NOTIFY=DELAY")

        await look(shop, start + 50 * HOUR)

        assert reports(shop) == []


async def test_mail_without_a_return_path_is_not_watched(tmp_path: Path) -> None:
    async with Workshop(tmp_path, extra=NOBODY.format(more="")) as shop:
        await submit(shop, "<b@example.com> NOTIFY=DELAY", sender="")

        assert repr(shop.worker.delays) == "<Delays 0 watched>"


async def test_restart_goes_on_where_the_time_was(tmp_path: Path) -> None:
    extra, within = NOBODY.format(more=""), "notify-of-delay-every 4h"
    async with Workshop(tmp_path, within=within, extra=extra) as shop:
        start = shop.clock.now()
        await submit(shop, "<b@example.com> NOTIFY=DELAY")
    async with Workshop(tmp_path, within=within, extra=extra, start=start + 5 * HOUR) as shop:
        await shop.until(shop.waiting)
        await look(shop, start + 5.5 * HOUR)
        assert reports(shop) == []

        await look(shop, start + 8 * HOUR + 1)
        await shop.until(lambda: reports(shop))
