"""What `<source>` directives do to messages on their way through a whole worker, one client address each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import pytest_asyncio

from mta.sink.counters import Delivery
from tests.support.workshop import Workshop

BLOCKS = {
    "127.0.0.2": """
        add-date-header yes
        add-message-id-header yes
        remove-received-headers yes
        hide-message-source yes
        remove-header X-Secret
        add-x-virtual-mta-header yes
        bcc watcher@example.com
    """,
    "127.0.0.3": "add-received-header no\nadd-date-header override\ndate-header-time delivery",
    "127.0.0.4": """
        process-x-virtual-mta yes
        allow-empty-x-virtual-mta yes
        process-x-job yes
        process-x-envid yes
    """,
    "127.0.0.5": "process-x-virtual-mta yes\nretain-x-virtual-mta yes\nprocess-x-job yes\nretain-x-job yes",
    "127.0.0.6": "reject-invalid-virtual-mta no\nprocess-x-virtual-mta yes\npattern-list choose",
    "127.0.0.7": "default-virtual-mta v2\nrewrite-list senders",
    "127.0.0.8": "suppress-local-dsn yes",
    "127.0.0.9": "dsn-return-default full",
}
EXTRA = """
<virtual-mta v1>
</virtual-mta>
<virtual-mta v2>
</virtual-mta>
<pattern-list choose>
header Subject /offer/ virtual-mta=v2
</pattern-list>
<rewrite-list senders>
mail-from app@example.org news@shop.example
</rewrite-list>
"""
LINES = "From: app@example.org\nSubject: x\n"


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    (tmp_path / "all.conf").write_text("add-message-id-header yes\n")
    blocks = BLOCKS | {"127.0.0.10": f"include {tmp_path}/all.conf"}
    sources = "".join(
        f"<source {ip}>\nalways-allow-relaying yes\n{lines}\n</source>\n" for ip, lines in blocks.items()
    )
    async with Workshop(tmp_path, rules="RCPT /^no@/ 550 5.1.1 nobody", extra=EXTRA + sources) as made:
        yield made


async def sent(shop: Workshop, client: int, header: str = "") -> Delivery:
    """What arrives of a message that this client hands in."""
    await shop.hand_in(f"{LINES}{header}\nhello", address=f"127.0.0.{client}")
    return (await shop.until_delivered())[0]


@pytest.mark.directive("source add-date-header")
@pytest.mark.directive("source add-message-id-header")
@pytest.mark.directive("source remove-received-headers")
@pytest.mark.directive("source hide-message-source")
@pytest.mark.directive("source remove-header")
@pytest.mark.directive("source add-x-virtual-mta-header")
@pytest.mark.directive("source bcc")
async def test_lines_are_added_and_taken_out(shop: Workshop) -> None:
    await shop.hand_in(f"{LINES}Received: from the inside\nX-Secret: 1\n\nhello", address="127.0.0.2")
    events = await shop.until_events(2, "d")
    text = shop.deliveries[0].data.decode()

    assert {event.recipient for event in events} == {"b@example.com", "watcher@example.com"}
    assert "\r\nDate: " in text
    assert "\r\nMessage-ID: <" in text
    assert "x-virtual-mta: {default}\r\n" in text
    assert text.startswith("Received: by mta.example.org")
    assert "the inside" not in text
    assert "X-Secret" not in text


@pytest.mark.directive("source include")
async def test_settings_of_a_source_may_stand_in_another_file(shop: Workshop) -> None:
    assert b"Message-ID: <" in (await sent(shop, 10)).data


@pytest.mark.directive("source add-received-header")
@pytest.mark.directive("source date-header-time")
async def test_date_is_that_of_the_delivery(shop: Workshop) -> None:
    shop.worker.scheduler.pause("*/*", shop.clock.now())
    await shop.hand_in(f"{LINES}Date: Mon, 1 Jan 2024 00:00:00 +0000\n\nhello", address="127.0.0.3")
    shop.clock.move(86400)
    shop.worker.scheduler.resume("*/*", shop.clock.now())
    shop.worker.dispatcher.wake()
    (delivery,) = await shop.until_delivered()
    head = delivery.data.split(b"\r\n\r\n")[0].decode()

    assert "2024" not in head
    assert "Received:" not in head
    (date,) = (line.removeprefix("Date: ") for line in head.splitlines() if line.startswith("Date:"))
    (event,) = await shop.until_events(1, "d")
    assert parsedate_to_datetime(date).timestamp() == pytest.approx(event.time_queued + 86400, abs=20)


@pytest.mark.directive("source process-x-virtual-mta")
@pytest.mark.directive("source process-x-job")
@pytest.mark.directive("source process-x-envid")
async def test_control_headers_are_obeyed_and_taken_out(shop: Workshop) -> None:
    delivery = await sent(shop, 4, "x-virtual-mta: v1\nx-job: may\nx-envid: 17\n")
    (event,) = await shop.until_events(1, "d")

    assert (event.vmta, event.job_id, event.envelope_id) == ("v1", "may", "17")
    assert not any(name in delivery.data for name in (b"x-virtual-mta", b"x-job", b"x-envid"))


@pytest.mark.directive("source allow-empty-x-virtual-mta")
async def test_an_empty_header_means_the_default(shop: Workshop) -> None:
    await sent(shop, 4, "x-virtual-mta:\n")

    assert (await shop.until_events(1, "d"))[0].vmta == "{default}"


@pytest.mark.directive("source retain-x-virtual-mta")
@pytest.mark.directive("source retain-x-job")
async def test_control_headers_may_stay(shop: Workshop) -> None:
    delivery = await sent(shop, 5, "x-virtual-mta: v1\nx-job: may\n")

    assert b"x-virtual-mta: v1" in delivery.data
    assert b"x-job: may" in delivery.data


@pytest.mark.directive("source reject-invalid-virtual-mta")
@pytest.mark.directive("source pattern-list")
@pytest.mark.parametrize(("subject", "vmta"), [("an offer", "v2"), ("news", "{default}")])
async def test_a_pattern_chooses_and_an_unknown_name_is_passed_over(
    shop: Workshop, subject: str, vmta: str
) -> None:
    header = f"Subject: {subject}\n" + ("x-virtual-mta: nowhere\n" if vmta == "{default}" else "")
    await shop.hand_in(f"From: a@example.org\n{header}\nhello", address="127.0.0.6")

    assert (await shop.until_events(1, "d"))[0].vmta == vmta


@pytest.mark.directive("source default-virtual-mta")
@pytest.mark.directive("source rewrite-list")
async def test_virtual_mta_and_sender_are_those_of_the_source(shop: Workshop) -> None:
    delivery = await sent(shop, 7)

    assert delivery.sender == "news@shop.example"
    assert (await shop.until_events(1, "d"))[0].vmta == "v2"


@pytest.mark.directive("source suppress-local-dsn")
@pytest.mark.directive("source dsn-return-default")
async def test_who_gets_a_report_and_what_it_returns(shop: Workshop) -> None:
    for client in (8, 9):
        await shop.hand_in(
            f"{LINES}\nthe whole text",
            "no@example.com",
            sender=f"c{client}@example.com",
            address=f"127.0.0.{client}",
        )
    await shop.until_events(2, "b")
    (report,) = await shop.until_delivered()

    assert report.recipients == ("c9@example.com",)
    assert b"the whole text" in report.data
