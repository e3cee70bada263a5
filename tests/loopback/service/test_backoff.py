"""Backoff as an operator sees it: reactions to replies of every stage, mails, rerouting, restarts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.load import load_text
from mta.queue.queue import QueueMode
from mta.queue.status import QueueStatus
from mta.sink.counters import Delivery
from tests.support.scripted_server import Script, ScriptedServer
from tests.support.steering import REACTIONS, by_vmta, reactions, towards
from tests.support.workshop import Workshop


def row(shop: Workshop, domain: str = "example.com", vmta: str = "{default}") -> QueueStatus:
    """The queue's row."""
    (found,) = shop.worker.scheduler.queues(shop.clock.now(), f"{domain}/{vmta}")
    return found


def mails_to(shop: Workshop, address: str) -> list[Delivery]:
    return [delivery for delivery in shop.deliveries if address in delivery.recipients]


async def try_once(shop: Workshop) -> None:
    await shop.submit()
    await shop.turn()
    await shop.until_idle()


@pytest.mark.directive("smtp-pattern-list reply")
@pytest.mark.directive("smtp-pattern-list mode=backoff")
@pytest.mark.directive("domain smtp-pattern-list")
@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "DOT"])
@pytest.mark.parametrize("code", ["450", "550"])
async def test_a_reply_of_any_stage_takes_the_queue_into_backoff(
    tmp_path: Path, stage: str, code: str
) -> None:
    rules = f"{stage} {code} 4.7.28 unusual rate"
    within = f"{REACTIONS}\nbackoff-to-normal-after 1h"
    async with Workshop(
        tmp_path, rules=rules, within=within, extra=reactions("/unusual rate/ mode=backoff")
    ) as shop:
        await try_once(shop)

        assert row(shop).mode == "backoff"


@pytest.mark.directive("smtp-pattern-list defer-queue")
@pytest.mark.parametrize("stage", ["CONNECT", "MAIL", "RCPT", "DOT"])
async def test_defer_queue_makes_the_whole_queue_wait(tmp_path: Path, stage: str) -> None:
    rules = f"{stage} 550 5.7.1 come back tomorrow"
    within = f"{REACTIONS}\nretry-after 2h"
    extra = reactions("/come back/ defer-queue")
    async with Workshop(tmp_path, rules=rules, within=within, extra=extra) as shop:
        await try_once(shop)

        assert row(shop).state == "retry"
        assert row(shop).retry_at == pytest.approx(shop.clock.now() + 7200, abs=5)
        assert shop.events("b") == []


@pytest.mark.directive("smtp-pattern-list bounce-queue")
@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "DOT"])
async def test_bounce_queue_fails_everything_that_waits(tmp_path: Path, stage: str) -> None:
    rules = f"{stage} 451 4.7.1 we know you"
    within = f"{REACTIONS}\nmax-smtp-out 1\ndeliver-local-dsn no"
    extra = reactions("/we know you/ bounce-queue")
    async with Workshop(tmp_path, rules=rules, within=within, extra=extra) as shop:
        shop.worker.scheduler.pause("*/*", shop.clock.now())
        await shop.submit(count=5)
        shop.worker.scheduler.resume("*/*", shop.clock.now())
        shop.worker.dispatcher.wake()

        events = await shop.until_events(5, "b")

        assert {event.dsn_status for event in events} == {"5.7.1"}
        assert shop.waiting() == []


@pytest.mark.directive("smtp-pattern-list bounce-rcpt")
async def test_bounce_rcpt_makes_a_temporary_refusal_of_a_recipient_final_and_nothing_else(
    tmp_path: Path,
) -> None:
    extra = reactions("/full/ bounce-rcpt")
    within = f"{REACTIONS}\ndeliver-local-dsn no"
    async with Workshop(tmp_path, rules="RCPT 452 4.2.2 full", within=within, extra=extra) as shop:
        await shop.submit()
        (event,) = await shop.until_events(1, "b")
        assert event.dsn_status == "5.2.2"
    async with Workshop(tmp_path, rules="DOT 452 4.2.2 full", within=within, extra=extra) as shop:
        await shop.submit()
        await shop.until_events(1, "t")


@pytest.mark.directive("smtp-pattern-list disable-source-ip")
@pytest.mark.directive("smtp-pattern-list reenable-after=")
@pytest.mark.directive("virtual-mta smtp-source-host")
@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "DOT"])
async def test_a_disabled_address_leaves_the_others_at_work_until_it_comes_back(
    tmp_path: Path, stage: str
) -> None:
    two = "smtp-source-host 127.0.0.2 a.example.org\nsmtp-source-host 127.0.0.3 b.example.org"
    extra = by_vmta(two) + reactions("/not from there/ disable-source-ip, reenable-after=1h")
    within = f"{REACTIONS}\nmax-smtp-out 1\nretry-recipients-after 1s"
    rules = f"{stage} x1 421 4.7.0 not from there"
    async with Workshop(tmp_path, rules=rules, within=within, extra=extra) as shop:
        await shop.submit()
        if stage == "DOT":
            await shop.until_events(1, "t")
            await shop.at(shop.clock.now() + 3)
        await shop.until_events(1, "d")

        ((queue, ip, until),) = shop.worker.scheduler.disabled_sources(shop.clock.now())
        assert queue == "example.com/v1"
        assert ip != shop.events("d")[0].delivery_source_ip
        await shop.at(until)
        assert shop.worker.scheduler.disabled_sources(shop.clock.now()) == []


@pytest.mark.directive("smtp-pattern-list skip-mx")
async def test_skip_mx_goes_on_at_the_next_host(tmp_path: Path) -> None:
    async with ScriptedServer(Script(MAIL="550 5.7.1 elsewhere")) as bad, ScriptedServer() as good:
        extra = towards(bad, good) + "\n" + reactions("/elsewhere/ skip-mx")
        async with Workshop(tmp_path, within=REACTIONS, extra=extra) as shop:
            await shop.submit()
            await shop.until_events(1, "d")

            assert shop.events("b") == []
            assert (len(bad.attempts), len(good.accepted)) == (1, 1)


async def test_mail_that_every_host_skips_waits(tmp_path: Path) -> None:
    within = f"{REACTIONS}\nretry-after 5s"
    extra = reactions("/elsewhere/ skip-mx")
    async with Workshop(tmp_path, rules="MAIL x1 550 5.7.1 elsewhere", within=within, extra=extra) as shop:
        await try_once(shop)
        assert shop.events("b") == []
        assert len(shop.waiting()) == 1


@pytest.mark.directive("domain backoff-notify")
@pytest.mark.both_loops
async def test_operators_are_told_by_mail_of_backoff_and_its_end(tmp_path: Path) -> None:
    within = (
        f"{REACTIONS}\nbackoff-to-normal-after 30m\nretry-after 1h\nbackoff-retry-after 1h\n"
        "backoff-notify ops@example.org, night@example.org"
    )
    extra = reactions("/slow down/ mode=backoff")
    async with Workshop(tmp_path, rules="MAIL x1 421 4.7.28 slow down", within=within, extra=extra) as shop:
        await try_once(shop)
        assert row(shop).mode == "backoff"
        await shop.at(shop.clock.now() + 1801)
        await shop.at(shop.clock.now() + 1)
        await shop.until(lambda: len(mails_to(shop, "ops@example.org")) == 2)

        first, second = (delivery.data for delivery in mails_to(shop, "ops@example.org"))
        assert b"Subject: example.com/{default} is in backoff mode" in first
        assert b"reason: 421 4.7.28 slow down" in first
        assert b"Subject: example.com/{default} is back in normal mode" in second
        await shop.until(lambda: len(mails_to(shop, "night@example.org")) == 2)


@pytest.mark.directive("domain disabled-source-ip-notify")
async def test_operators_are_told_by_mail_of_disabled_addresses(tmp_path: Path) -> None:
    within = (
        f"{REACTIONS}\nreenable-source-ip-after 30m\nretry-after 1h\ndeliver-local-dsn no\n"
        "disabled-source-ip-notify ops@example.org"
    )
    extra = by_vmta("smtp-source-host 127.0.0.2 a.example.org") + reactions("/blocked/ disable-source-ip")
    async with Workshop(tmp_path, rules="MAIL x1 550 5.7.1 blocked", within=within, extra=extra) as shop:
        await shop.submit()
        await shop.until_events(1, "b")
        await shop.at(shop.clock.now() + 1801)
        await shop.at(shop.clock.now() + 1)
        await shop.until(lambda: len(mails_to(shop, "ops@example.org")) == 2)

        first, second = (delivery.data for delivery in mails_to(shop, "ops@example.org"))
        assert b"example.com/v1 does not use 127.0.0.2 any more" in first
        assert b"example.com/v1 may use 127.0.0.2 again" in second


@pytest.mark.directive("domain backoff-reroute-to-virtual-mta")
async def test_mail_of_a_queue_in_backoff_goes_through_the_other_virtual_mta(tmp_path: Path) -> None:
    extra = f"""
{reactions("/slow down/ mode=backoff")}
<virtual-mta first>
    smtp-source-host 127.0.0.2 a.example.org
    <domain example.com>
        smtp-pattern-list reactions
        backoff-reroute-to-virtual-mta spare
        max-smtp-out 1
    </domain>
</virtual-mta>
<virtual-mta third>
    smtp-source-host 127.0.0.3 b.example.org
</virtual-mta>
<virtual-mta-pool spare>
    virtual-mta third
</virtual-mta-pool>
<source 127.0.0.1>
    default-virtual-mta first
</source>
"""
    async with Workshop(tmp_path, rules="MAIL x1 421 4.7.28 slow down", extra=extra) as shop:
        await shop.submit(count=3)
        events = await shop.until_events(3, "d")

        assert {event.delivery_source_ip for event in events} == {"127.0.0.3"}
        assert {event.queue for event in events} == {"example.com/third"}


async def test_what_waits_moves_when_a_reload_sends_the_mail_elsewhere(tmp_path: Path) -> None:
    line = "reroute-to-virtual-mta v2"
    extra = by_vmta("smtp-source-host 127.0.0.2 a.example.org") + (
        "<virtual-mta v2>\nsmtp-source-host 127.0.0.3 b.example.org\n</virtual-mta>\n"
    )
    async with Workshop(tmp_path, rules="RCPT x2 450 4.2.1 later", extra=extra) as shop:
        await shop.submit(count=2)
        await shop.until_events(2, "t")
        loaded = load_text(f"{shop.text}<domain *>\n{line}\n</domain>\n", epoch=2)
        assert loaded.snapshot is not None, loaded.problems
        shop.worker.reload(loaded.snapshot)
        await shop.until(lambda: len(shop.waiting(vmta="v2")) == 2)
        assert shop.waiting(vmta="v1") == []
        assert {entry.attempts for entry in shop.waiting(vmta="v2")} == {1}

        await shop.at(shop.clock.now() + 700)
        events = await shop.until_events(2, "d")
        assert {(event.queue, event.delivery_source_ip) for event in events} == {
            ("example.com/v2", "127.0.0.3")
        }


async def test_mode_disabled_address_and_retry_time_are_the_same_after_a_restart(tmp_path: Path) -> None:
    within = f"{REACTIONS}\nbackoff-to-normal-after 6h\nbackoff-retry-after 20m,40m,80m\nmax-smtp-out 1"
    extra = reactions("/busy/ mode=backoff, defer-queue")
    async with Workshop(tmp_path, rules="MAIL 421 4.3.2 busy", within=within, extra=extra) as shop:
        await try_once(shop)
        await shop.at(row(shop).retry_at)
        before, now = row(shop), shop.clock.now()
        assert (before.mode, before.state) == ("backoff", "retry")
    async with Workshop(tmp_path, rules="", within=within, extra=extra, start=now + 60) as again:
        await again.until_idle()
        after = row(again)
        assert (after.mode, after.state, after.retry_at) == ("backoff", "retry", before.retry_at)
        assert again.deliveries == []
        await again.at(after.retry_at)
        await again.until_events(1, "d")
        assert row(again).mode == QueueMode.BACKOFF.value
