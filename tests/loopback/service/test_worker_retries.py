"""The whole worker on a clock that the test moves: when mail is tried again, and when it is given up."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.message.event import Event
from mta.queue.status import QueueStatus
from mta.sink.counters import Delivery
from tests.support.workshop import Workshop

MINUTE, HOUR = 60.0, 3600.0
#: Answers that concern the queue before and after the connection stands, and one recipient alone.
TEMPORARY = ["CONNECT 421 4.3.2 not now", "MAIL 451 4.3.2 busy", "RCPT /r0/ 450 4.2.1 try later"]


def status(shop: Workshop) -> QueueStatus:
    (found,) = shop.worker.scheduler.queues(shop.clock.now(), "example.com/*")
    return found


def reports(shop: Workshop) -> list[Delivery]:
    """The DSNs that came to the receiver."""
    return [delivery for delivery in shop.deliveries if not delivery.sender]


async def until_report(shop: Workshop) -> str:
    """The one DSN, once it has come, as text."""
    await shop.until(lambda: reports(shop))
    await shop.until_idle()
    (report,) = reports(shop)
    assert report.recipients == ("app@example.org",)
    return report.data.decode().replace("\r\n", "\n")


@pytest.mark.directive("domain retry-after")
async def test_a_queue_of_temporary_answers_climbs_its_retry_list_to_the_second(tmp_path: Path) -> None:
    waits = [10 * MINUTE, 30 * MINUTE, HOUR, HOUR]
    async with Workshop(
        tmp_path, rules=f"MAIL x{len(waits)} 451 4.3.2 busy", within="retry-after 10m,30m,1h\nmax-smtp-out 1"
    ) as shop:
        sent = await shop.submit(count=3)
        for turn, wait in enumerate(waits, 1):
            deferred = await shop.until_events(turn, "t")
            await shop.until_idle()
            due = status(shop).retry_at
            assert due - deferred[-1].time_logged == pytest.approx(wait, abs=1.0)
            assert shop.connections == turn

            await shop.at(due - 1.0)
            assert shop.connections == turn, "a second early"
            await shop.at(due)

        await shop.until_events(3, "d")
        assert sorted(to for delivery in shop.deliveries for to in delivery.recipients) == sent
        # The first message of each round was answered, the others only waited behind it.
        assert shop.connections == len(waits) + 1
        assert [event.dsn_status for event in shop.events("t")] == ["4.3.2"] * len(waits)


async def test_a_delivery_sets_the_retry_list_back_to_its_first_wait(tmp_path: Path) -> None:
    rules = "MAIL x2 451 4.3.2 busy\nMAIL after=1 451 4.3.2 busy again"
    async with Workshop(tmp_path, rules=rules, within="retry-after 10m,30m\nmax-smtp-out 1") as shop:
        await shop.submit()
        for turn in (1, 2):
            await shop.until_events(turn, "t")
            await shop.until_idle()
            await shop.at(status(shop).retry_at)
        await shop.until_events(1, "d")

        await shop.submit(prefix="later")
        deferred = await shop.until_events(3, "t")
        await shop.until_idle()

        assert status(shop).retry_at - deferred[-1].time_logged == pytest.approx(10 * MINUTE, abs=1.0)


async def test_a_refused_connection_makes_the_queue_wait_as_well(tmp_path: Path) -> None:
    within = "retry-after 10m,30m\nsmtp-hosts 127.0.0.1:1"
    async with Workshop(tmp_path, within=within, rules="") as shop:
        await shop.submit(count=2)
        for turn, wait in enumerate((10 * MINUTE, 30 * MINUTE, 30 * MINUTE), 1):
            failed = await shop.until_events(turn, "tq")
            await shop.until_idle()
            due = status(shop).retry_at
            assert due - failed[-1].time_logged == pytest.approx(wait, abs=1.0)

            await shop.at(due - 1.0)
            assert len(shop.events("tq")) == turn
            await shop.at(due)
        assert not shop.events("d", "b")


@pytest.mark.directive("domain retry-recipients-after")
async def test_a_recipients_own_answer_makes_only_that_recipient_wait(tmp_path: Path) -> None:
    within = "retry-after 2h\nretry-recipients-after 7m"
    async with Workshop(tmp_path, rules="RCPT /slow/ x3 450 4.2.1 try later", within=within) as shop:
        (slow,) = await shop.submit(prefix="slow")
        for turn in (1, 2, 3):
            deferred = await shop.until_events(turn, "t")
            await shop.until_idle()
            (entry,) = shop.waiting()
            assert entry.attempts == turn
            # Whole seconds are kept, and never too early.
            assert 7 * MINUTE <= entry.due - deferred[-1].time_logged <= 7 * MINUTE + 1.0
            assert shop.receiver.totals.deferred == turn

            (other,) = await shop.submit(prefix=f"other{turn}")
            await shop.until_events(turn, "d")
            assert shop.deliveries[-1].recipients == (other,)
            await shop.at(entry.due - 1.0)
            assert shop.receiver.totals.deferred == turn, "a second early"
            await shop.at(entry.due)

        await shop.until_events(4, "d")
        assert shop.deliveries[-1].recipients == (slow,)


async def test_waits_survive_a_restart_to_the_second(tmp_path: Path) -> None:
    within = "retry-after 2h\nretry-recipients-after 7m"
    async with Workshop(tmp_path, rules="RCPT 450 4.2.1 try later", within=within) as shop:
        await shop.submit()
        await shop.until_events(1, "t")
        (before,) = shop.waiting()
        now = shop.clock.now()

    async with Workshop(tmp_path, within=within, start=now + MINUTE) as shop:
        await shop.until(shop.waiting)
        (after,) = shop.waiting()
        assert (after.due, after.attempts) == (before.due, before.attempts)
        await shop.at(before.due - 1.0)
        assert not shop.deliveries
        await shop.at(before.due)
        await shop.until(lambda: shop.deliveries)


async def test_a_permanent_answer_bounces_at_once_with_a_dsn_and_a_record(tmp_path: Path) -> None:
    async with Workshop(tmp_path, rules="RCPT /bad/ 550 5.1.1 No such mailbox") as shop:
        (bad,) = await shop.submit(prefix="bad")

        (record,) = await shop.until_events(1, "b")
        text = await until_report(shop)

        assert record.recipient == bad
        assert (record.dsn_action, record.dsn_status) == ("failed", "5.1.1")
        assert record.dsn_diag == "smtp;550 5.1.1 No such mailbox"
        assert record.bounce_category == "bad-mailbox"
        assert record.time_logged - record.time_queued < 5.0
        assert f"Final-Recipient: rfc822;{bad}" in text.replace("; ", ";")
        assert "Action: failed\n" in text
        assert "Status: 5.1.1\n" in text
        assert "multipart/report" in text
        assert not shop.waiting()


async def test_a_dsn_that_is_refused_is_recorded_and_starts_nothing_new(tmp_path: Path) -> None:
    async with Workshop(tmp_path, rules="RCPT 550 5.1.1 No such mailbox") as shop:
        await shop.submit()

        records = await shop.until_events(2, "b")
        await shop.until_idle()

        assert [record.originator for record in records] == ["app@example.org", ""]
        assert records[1].recipient == "app@example.org"
        assert not shop.deliveries
        assert not any(row.waiting for row in shop.worker.scheduler.queues(shop.clock.now()))


def check_expiry(record: Event, text: str, recipient: str) -> None:
    assert record.recipient == recipient
    assert record.bounce_category == "message-expired"
    assert record.dsn_status == "4.4.7"
    assert record.dsn_action == "failed"
    assert "Status: 4.4.7\n" in text
    assert "Action: failed\n" in text


@pytest.mark.directive("domain bounce-after")
@pytest.mark.parametrize("rule", TEMPORARY)
async def test_bounce_after_ends_what_never_got_through(tmp_path: Path, rule: str) -> None:
    within = "retry-after 50m\nretry-recipients-after 50m\nbounce-after 4h"
    async with Workshop(tmp_path, refusing=rule, within=within) as shop:
        (recipient,) = await shop.submit()
        received = shop.clock.now()
        for _ in range(4):
            await shop.at(shop.clock.now() + 50 * MINUTE + 1.0)
        assert not shop.events("b", "d")

        await shop.at(received + 4 * HOUR - 2.0)
        assert not shop.events("b")
        await shop.at(received + 4 * HOUR + 1.0)
        (record,) = await shop.until_events(1, "b")
        check_expiry(record, await until_report(shop), recipient)
        assert not shop.waiting()


@pytest.mark.parametrize("rule", TEMPORARY)
async def test_max_retries_ends_what_was_tried_often_enough(tmp_path: Path, rule: str) -> None:
    within = "retry-after 10m\nretry-recipients-after 10m\nmax-retries 3"
    async with Workshop(tmp_path, refusing=rule, within=within) as shop:
        (recipient,) = await shop.submit()
        for turn in (1, 2):
            await shop.until_events(turn, "t", "tq")
            await shop.until_idle()
            assert not shop.events("b")
            await shop.at(shop.clock.now() + 10 * MINUTE + 2.0)
        (record,) = await shop.until_events(1, "b")
        check_expiry(record, await until_report(shop), recipient)
