"""One mail's whole way through the real processes."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest

from mta.sink.receiver import ReceiverOptions
from mta.sink.script import parse_script
from tests.support.service import World

pytestmark = pytest.mark.timeout(180)


def message(subject: str = "hello") -> bytes:
    mail = EmailMessage()
    mail["From"] = "app@example.org"
    mail["To"] = "someone@example.com"
    mail["Subject"] = subject
    mail["X-Job"] = "job-7"
    mail.set_content("A line.\n.\n.. dots at the start survive.\n")
    return mail.as_bytes()


async def inject(world: World, *recipients: str, sender: str = "app@example.org") -> str:
    """Hand one message in and return the reply to its final dot."""
    client = aiosmtplib.SMTP(
        hostname="127.0.0.1", port=world.port, local_hostname="app.example.org", start_tls=False
    )
    async with client:
        _, reply = await client.sendmail(sender, list(recipients), message())
    return reply


async def test_a_message_arrives_and_is_accounted_for(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        world.options.with_bodies = True
        reply = await inject(world, "a@example.com", "b@example.com")

        await world.until(lambda: world.received.total() == 2)
        await world.until(lambda: len(world.records("d")) == 2)
        assert "queued as" in reply
        assert world.received == {"a@example.com": 1, "b@example.com": 1}
        assert await world.stop() == 0

        delivered = world.records("d")
        assert {row["rcpt"] for row in delivered} == {"a@example.com", "b@example.com"}
        assert {row["jobId"] for row in delivered} == {"job-7"}
        assert {row["queue"] for row in delivered} == {"example.com/{default}"}
        assert {row["dsnStatus"] for row in delivered} == {"2.0.0 (success)"}
        assert len(world.records("r")) == 2


async def test_a_refused_recipient_comes_back_to_the_sender(tmp_path: Path) -> None:
    script = parse_script("rcpt /nobody/ 550 5.1.1 No such mailbox\n")
    options = ReceiverOptions(with_bodies=False, script=script)
    async with World(tmp_path, options=options, domains=("example.com", "example.org")) as world:
        await inject(world, "nobody@example.com", "there@example.com")

        await world.until(lambda: world.received.total() == 2)
        await world.until(lambda: len(world.records("d", "b")) == 3)

        assert world.received == {"there@example.com": 1, "app@example.org": 1}
        (bounce,) = world.records("b")
        assert bounce["rcpt"] == "nobody@example.com"
        assert bounce["bounceCat"] == "bad-mailbox"
        assert bounce["dsnDiag"] == "smtp;550 5.1.1 No such mailbox"
        assert [d.sender for d in world.deliveries if "app@example.org" in d.recipients] == [""]
