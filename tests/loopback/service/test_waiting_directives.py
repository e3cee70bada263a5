"""How long queues and recipients wait, and what ends the wait: directives at a receiver that refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.queue.queue import QueueMode
from mta.queue.status import QueueStatus
from tests.support.scripted_server import Script, ScriptedServer
from tests.support.steering import REACTIONS, reactions, towards
from tests.support.workshop import Workshop

HOUR = 3600


def row(shop: Workshop, domain: str = "example.com", vmta: str = "{default}") -> QueueStatus:
    (found,) = shop.worker.scheduler.queues(shop.clock.now(), f"{domain}/{vmta}")
    return found


def due(shop: Workshop) -> float:
    """Seconds until the queue's only recipient is due."""
    status = row(shop)
    return max(status.retry_at, status.next_due) - shop.clock.now()


async def tried_once(shop: Workshop) -> None:
    await shop.submit()
    await shop.until(lambda: shop.events("t", "tq"))
    await shop.until_idle()


@pytest.mark.directive("domain initial-pts")
@pytest.mark.directive("domain max-pts")
async def test_penalties_double_up_to_the_most(tmp_path: Path) -> None:
    within = "initial-pts 100\nmax-pts 300"
    async with Workshop(tmp_path, rules="RCPT 450 4.2.0 later", within=within) as shop:
        await tried_once(shop)
        waits = [due(shop)]
        for count in (2, 3):
            await shop.at(shop.clock.now() + waits[-1] + 1)
            await shop.until_events(count, "t")
            waits.append(due(shop))

    assert waits == [pytest.approx(wait, abs=5) for wait in (100, 200, 300)]


@pytest.mark.directive("domain backoff-retry-after")
@pytest.mark.directive("smtp-pattern-list mode=normal")
async def test_a_queue_in_backoff_waits_as_backoff_says_and_a_reply_may_end_it(tmp_path: Path) -> None:
    within = f"backoff-retry-after 2h\nretry-after 1m\n{REACTIONS}"
    extra = reactions("/busy/ mode=backoff", "/better/ mode=normal")
    rules = "MAIL x1 421 busy\nMAIL 421 better"
    async with Workshop(tmp_path, rules=rules, within=within, extra=extra) as shop:
        await tried_once(shop)
        assert (row(shop).mode, due(shop)) == ("backoff", pytest.approx(2 * HOUR, abs=5))

        await shop.at(shop.clock.now() + 2 * HOUR + 1)
        await shop.until_events(2, "t")
        assert row(shop).mode == "normal"


@pytest.mark.directive("domain backoff-to-normal-after")
@pytest.mark.directive("smtp-pattern-list backoff-to-normal-after=")
@pytest.mark.parametrize(
    ("within", "action", "seconds"),
    [
        ("backoff-to-normal-after 1h", "mode=backoff", HOUR),
        ("backoff-to-normal-after 1h", "mode=backoff,backoff-to-normal-after=3h", 3 * HOUR),
    ],
)
async def test_backoff_ends_by_itself(tmp_path: Path, within: str, action: str, seconds: int) -> None:
    within += f"\n{REACTIONS}\nretry-recipients-after 1d"
    extra = reactions(f"/busy/ {action}")
    async with Workshop(tmp_path, rules="RCPT 450 busy", within=within, extra=extra) as shop:
        await tried_once(shop)
        start = shop.clock.now()
        await shop.at(start + seconds - 60)
        assert row(shop).mode == "backoff"

        await shop.at(start + seconds + 1)
        assert row(shop).mode == "normal"


@pytest.mark.directive("domain backoff-to-normal-after-delivery")
@pytest.mark.parametrize(("wish", "mode"), [("yes", "normal"), ("no", "backoff")])
async def test_a_delivery_may_end_backoff(tmp_path: Path, wish: str, mode: str) -> None:
    async with Workshop(tmp_path, within=f"backoff-to-normal-after-delivery {wish}") as shop:
        shop.worker.scheduler.pause("*/*", shop.clock.now())
        await shop.submit()
        shop.worker.scheduler.set_mode("*/*", QueueMode.BACKOFF, shop.clock.now())
        shop.worker.scheduler.resume("*/*", shop.clock.now())
        shop.worker.dispatcher.wake()
        await shop.until_events(1, "d")

        assert row(shop).mode == mode


AWAY = reactions("/go away/ disable-source-ip")


@pytest.mark.directive("domain backoff-upon-all-sources-disabled")
@pytest.mark.parametrize(("wish", "mode"), [("yes", "backoff"), ("no", "normal")])
async def test_a_queue_without_addresses_may_go_into_backoff(tmp_path: Path, wish: str, mode: str) -> None:
    within = f"backoff-upon-all-sources-disabled {wish}\n{REACTIONS}"
    async with Workshop(tmp_path, rules="MAIL x1 421 go away", within=within, extra=AWAY) as shop:
        await tried_once(shop)

        assert row(shop).mode == mode


@pytest.mark.directive("domain reenable-source-ip-after")
async def test_a_disabled_address_comes_back_by_itself(tmp_path: Path) -> None:
    within = f"reenable-source-ip-after 1h\nretry-recipients-after 10m\nretry-after 10m\n{REACTIONS}"
    async with Workshop(tmp_path, rules="MAIL x1 421 go away", within=within, extra=AWAY) as shop:
        await tried_once(shop)
        start = shop.clock.now()
        await shop.at(start + HOUR - 60)
        assert (shop.events("d"), shop.connections) == ([], 1)

        await shop.at(start + HOUR + 1)
        await shop.until_events(1, "d")
        assert shop.connections == 2


@pytest.mark.directive("domain retry-upon-new-mail")
@pytest.mark.parametrize(("wish", "tries"), [("yes", 2), ("no", 1)])
async def test_new_mail_may_wake_a_waiting_queue(tmp_path: Path, wish: str, tries: int) -> None:
    rules = "CONNECT 421 4.3.2 closed"
    async with Workshop(tmp_path, rules=rules, within=f"retry-upon-new-mail {wish}\nretry-after 1h") as shop:
        await tried_once(shop)
        await shop.submit(prefix="n")
        if tries > 1:
            await shop.until_events(tries, "tq")
        await shop.turn()
        await shop.until_idle()

        assert len(shop.events("tq")) == tries


@pytest.mark.directive("domain bounce-upon-5xx-greeting")
@pytest.mark.parametrize(("wish", "kind"), [("yes", "b"), ("no", "tq")])
async def test_a_refusing_greeting_may_be_final(tmp_path: Path, wish: str, kind: str) -> None:
    within = f"bounce-upon-5xx-greeting {wish}\ndeliver-local-dsn no"
    async with Workshop(tmp_path, rules="CONNECT 554 5.7.1 no", within=within) as shop:
        await shop.submit()

        await shop.until_events(1, kind)


@pytest.mark.directive("domain retry-after-dns-error")
async def test_dns_trouble_has_a_wait_of_its_own(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, within="retry-after-dns-error 3m\nretry-after 1h")
    shop.zone.add("broken.example", "SERVFAIL")
    async with shop:
        await shop.submit(domains=("broken.example",))
        await shop.until_events(1, "tq")
        status = row(shop, "broken.example")

        assert status.retry_at - shop.clock.now() == pytest.approx(180, rel=0.15)


@pytest.mark.directive("domain bounce-upon-no-mx")
@pytest.mark.parametrize(("wish", "kind"), [("yes", "b"), ("no", "d")])
async def test_a_domain_without_mx_may_bounce(tmp_path: Path, wish: str, kind: str) -> None:
    shop = Workshop(tmp_path, within=f"bounce-upon-no-mx {wish}\ndeliver-local-dsn no")
    shop.zone.add("bare.example", "A 127.0.0.1")
    async with shop:
        await shop.submit(domains=("bare.example",))

        await shop.until_events(1, kind)


@pytest.mark.directive("domain allow-loopback-mx")
async def test_mail_does_not_go_round_in_circles(tmp_path: Path) -> None:
    extra = "<domain example.com>\nallow-loopback-mx no\ndeliver-local-dsn no\n</domain>"
    async with Workshop(tmp_path, extra=extra) as shop:
        await shop.submit(domains=("example.com", "example.org"), count=2)
        (bounced,) = await shop.until_events(1, "b")
        (delivered,) = await shop.until_events(1, "d")

    assert "example.com" in bounced.recipient
    assert "example.org" in delivered.recipient


@pytest.mark.directive("domain smtp-421-means-mx-unavailable")
@pytest.mark.directive("domain mx-connection-attempts")
@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ("smtp-421-means-mx-unavailable yes", "d"),
        ("smtp-421-means-mx-unavailable no", "t"),
        ("mx-connection-attempts 1", "tq"),
        ("mx-connection-attempts 2", "d"),
    ],
)
async def test_the_next_host_has_its_turn(tmp_path: Path, lines: str, kind: str) -> None:
    script = Script(MAIL="421 4.3.2 not me") if "421" in lines else Script(banner="421 4.3.2 not me")
    async with (
        ScriptedServer(script) as bad,
        ScriptedServer() as good,
        Workshop(tmp_path, extra=towards(bad, good, lines=lines)) as shop,
    ):
        await shop.submit()
        await shop.until_events(1, kind)
        await shop.turn()
        await shop.until_idle()

        assert shop.events()[-1].type == kind


@pytest.mark.directive("domain smtp-553-means-invalid-mailbox")
@pytest.mark.parametrize(("wish", "status"), [("yes", "5.1.1"), ("no", "5.0.0")])
async def test_a_bare_553_means_an_unknown_mailbox(tmp_path: Path, wish: str, status: str) -> None:
    within = f"smtp-553-means-invalid-mailbox {wish}\ndeliver-local-dsn no"
    async with Workshop(tmp_path, rules="RCPT 553 no such user", within=within) as shop:
        await shop.submit()
        (event,) = await shop.until_events(1, "b")

    assert event.dsn_status == status


@pytest.mark.directive("domain disable-acct-records")
async def test_records_of_a_queue_may_be_left_out(tmp_path: Path) -> None:
    extra = "<domain example.com>\ndisable-acct-records d\n</domain>"
    async with Workshop(tmp_path, extra=extra) as shop:
        await shop.submit(domains=("example.com", "example.org"), count=4)
        await shop.until_delivered(4)
        events = await shop.until_events(2, "d")

    assert {event.recipient.partition("@")[2] for event in events} == {"example.org"}


@pytest.mark.directive("domain deliver-local-dsn")
@pytest.mark.directive("domain dsn-format")
async def test_reports_are_written_as_the_queue_says(tmp_path: Path) -> None:
    extra = """
<domain example.org>
deliver-local-dsn no
</domain>
<domain plain.example>
dsn-format plain-text
</domain>"""
    domains = ("example.com", "example.org", "plain.example")
    async with Workshop(tmp_path, rules="RCPT /^no/ 550 5.1.1 nobody", extra=extra, domains=domains) as shop:
        for number, domain in enumerate(domains):
            await shop.hand_in("Subject: x\n\nhello", f"no@{domain}", sender=f"s{number}@example.com")
        await shop.until_events(3, "b")
        reports = {delivery.recipients[0]: delivery.data for delivery in await shop.until_delivered(2)}

    assert set(reports) == {"s0@example.com", "s2@example.com"}
    assert b"message/delivery-status" in reports["s0@example.com"]
    assert b"message/delivery-status" not in reports["s2@example.com"]


@pytest.mark.directive("domain bcc-upon-delivery")
@pytest.mark.directive("domain remove-header")
async def test_a_copy_of_delivered_mail_goes_to_the_watcher(tmp_path: Path) -> None:
    extra = "<domain example.com>\nbcc-upon-delivery watcher@example.org\nremove-header X-Secret\n</domain>"
    async with Workshop(tmp_path, extra=extra) as shop:
        await shop.hand_in("Subject: x\nX-Secret: 1\n\nhello")
        first, second = await shop.until_delivered(2)

    assert (first.recipients, second.recipients) == (("b@example.com",), ("watcher@example.org",))
    assert b"X-Secret" not in first.data


@pytest.mark.directive("domain queue-to")
@pytest.mark.directive("domain reroute-to-virtual-mta")
@pytest.mark.directive("domain default-smtp-port")
@pytest.mark.directive("domain include")
@pytest.mark.directive("virtual-mta include")
async def test_mail_goes_into_the_queue_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "domain.conf").write_text("queue-to joint.queue\n")
    (tmp_path / "vmta.conf").write_text("smtp-source-host 127.0.0.9 nine.example.org\n")
    async with ScriptedServer() as server:
        extra = f"""
<domain joint.queue>
smtp-hosts [127.0.0.1]
default-smtp-port {server.port}
reroute-to-virtual-mta v9
</domain>
<domain example.com>
include {tmp_path}/domain.conf
</domain>
<virtual-mta v9>
include {tmp_path}/vmta.conf
</virtual-mta>"""
        async with Workshop(tmp_path, extra=extra) as shop:
            await shop.submit()
            (event,) = await shop.until_events(1, "d")

        assert event.queue == "joint.queue/v9"
        assert (server.attempts[0].peer, server.attempts[0].helo) == ("127.0.0.9", "nine.example.org")


@pytest.mark.directive("smtp-pattern-list include")
async def test_reactions_may_stand_in_another_file(tmp_path: Path) -> None:
    (tmp_path / "replies.conf").write_text("reply /busy/ mode=backoff\n")
    extra = f"<smtp-pattern-list reactions>\ninclude {tmp_path}/replies.conf\n</smtp-pattern-list>"
    async with Workshop(tmp_path, rules="MAIL 421 busy", within=REACTIONS, extra=extra) as shop:
        await tried_once(shop)

        assert row(shop).mode == "backoff"
