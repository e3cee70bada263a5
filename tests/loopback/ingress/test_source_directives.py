"""What each `<source>` directive does to the dialogue with a client, on a real socket."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import pytest

from tests.support.certificates import make_certificate, server_context
from tests.support.inbound import Inbound

USER = "<smtp-user jo>\npassword secret\n</smtp-user>"
LOGIN = "AUTH PLAIN " + base64.b64encode(b"\0jo\0secret").decode()
WRONG = "AUTH PLAIN " + base64.b64encode(b"\0jo\0wrong").decode()
HELLO = "EHLO client.test"
MAIL = "MAIL FROM:<a@example.com>"
RCPT = "RCPT TO:<b@example.net>"
OPEN = "always-allow-relaying yes\n"
MESSAGE = "Subject: x\r\n\r\nhello\r\n."
GROUP = "<source-group few>\nmax-smtp-in 1\n</source-group>"
NOBODY = "<address-list nobody>\naddress b@example.net\n</address-list>"


def case(names: str, source: str, *talk: tuple[str, str], text: str = "") -> object:
    """`talk` is what the client says, and a text that the answer holds (or, behind a !, does not hold)."""
    marks = [pytest.mark.directive(f"source {name}") for name in names.split()]
    return pytest.param(source, text, talk, id=names, marks=marks)


CASES = [
    case(
        "always-allow-relaying",
        "always-allow-relaying no",
        (HELLO, "250"),
        (MAIL, "250"),
        (RCPT, "550 5.7.1"),
    ),
    case(
        "allow-auth",
        "allow-unencrypted-plain-auth yes\nallow-auth no",
        (HELLO, "!AUTH"),
        (LOGIN, "502"),
        text=USER,
    ),
    case("allow-unencrypted-plain-auth", "", (HELLO, "!AUTH"), text=USER),
    case(
        "allow-unencrypted-plain-auth require-auth",
        OPEN + "allow-unencrypted-plain-auth yes\nrequire-auth yes",
        (HELLO, "AUTH"),
        (MAIL, "530"),
        (LOGIN, "235"),
        (MAIL, "250"),
        text=USER,
    ),
    case(
        "broken-auth-clients",
        "allow-unencrypted-plain-auth yes\nbroken-auth-clients yes",
        (HELLO, "250-AUTH LOGIN PLAIN / 250 AUTH=LOGIN PLAIN"),
        (LOGIN, "235"),
        (HELLO, "!AUTH"),
        text=USER,
    ),
    case("allow-auth", "allow-unencrypted-plain-auth yes", (HELLO, "!AUTH="), text=USER),
    case(
        "smtp-max-auth-failure-rate",
        "allow-unencrypted-plain-auth yes\nrequire-auth yes\nsmtp-max-auth-failure-rate 1/h",
        (HELLO, "AUTH"),
        (WRONG, "535"),
        (LOGIN, "421"),
        text=USER,
    ),
    case("allow-chunking", "allow-chunking no", (HELLO, "!CHUNKING"), ("BDAT 3 LAST", "502")),
    case("allow-smtputf8", "allow-smtputf8 no", (HELLO, "!SMTPUTF8"), (MAIL + " SMTPUTF8", "555")),
    case(
        "allow-mailmerge", OPEN + "allow-mailmerge yes", (HELLO, "XMRG"), ("XMRG FROM:<a@example.com>", "250")
    ),
    case("smtp-service", "smtp-service no", ("", "554 5.7.1")),
    case("max-message-size", "max-message-size 1000", (HELLO, "SIZE 1000"), (MAIL + " SIZE=1001", "552")),
    case(
        "max-message-hops",
        OPEN + "max-message-hops 1",
        (HELLO, "250"),
        (MAIL, "250"),
        (RCPT, "250"),
        ("DATA", "354"),
        ("Received: one\r\nReceived: two\r\n" + MESSAGE, "554 5.4.6"),
    ),
    case(
        "max-rcpt-per-message",
        OPEN + "max-rcpt-per-message 1",
        (HELLO, "250"),
        (MAIL, "250"),
        (RCPT, "250"),
        ("RCPT TO:<c@example.net>", "452 4.5.3"),
    ),
    case(
        "too-many-rcpts-fails-message",
        OPEN + "max-rcpt-per-message 1\ntoo-many-rcpts-fails-message yes",
        (HELLO, "250"),
        (MAIL, "250"),
        (RCPT, "250"),
        ("RCPT TO:<c@example.net>", "250"),
        ("DATA", "55"),
    ),
    case(
        "suppression-lists",
        OPEN + "suppression-lists nobody",
        (HELLO, "250"),
        (MAIL, "250"),
        (RCPT, "550"),
        ("RCPT TO:<c@example.net>", "250"),
        text=NOBODY,
    ),
    case(
        "reject-invalid-virtual-mta process-x-virtual-mta",
        OPEN + "process-x-virtual-mta yes",
        (HELLO, "250"),
        (MAIL, "250"),
        (RCPT, "250"),
        ("DATA", "354"),
        ("x-virtual-mta: nowhere\r\n" + MESSAGE, "5.3.5"),
    ),
    case(
        "disconnect-on-transient-error",
        OPEN + "max-rcpt-per-message 1\ndisconnect-on-transient-error yes",
        (HELLO, "250"),
        (MAIL, "250"),
        (RCPT, "250"),
        ("RCPT TO:<c@example.net>", ""),
    ),
]


@pytest.mark.parametrize(("source", "text", "talk"), CASES)
async def test_dialogue_is_as_the_source_says(source: str, text: str, talk: list[tuple[str, str]]) -> None:
    async with Inbound(text, source=source) as inbound, inbound.caller() as client:
        for said, expected in talk:
            answer = await client.ask(said) if said else client.greeting
            if expected.startswith("!"):
                assert expected[1:] not in answer, said
            elif expected:
                assert expected in answer, said
            else:
                assert answer == "", said


@pytest.mark.directive("source auto-qualify-domain")
async def test_bare_host_names_are_completed_unless_they_should_not_be() -> None:
    text = "domain-suffix corp.example\n<source 127.0.0.2>\nauto-qualify-domain no\n</source>"
    async with Inbound(text) as inbound:
        for address in ("", "127.0.0.2"):
            async with inbound.caller(address=address) as client:
                await client.hello()
                await client.ask("MAIL FROM:<app@host>", "RCPT TO:<jo@mail>")
                await client.content(b"Subject: x\r\n\r\nhello\r\n")
        first, second = inbound.admitted

    assert (first.originator, first.recipients[0].address) == (
        "app@host.corp.example",
        "jo@mail.corp.example",
    )
    assert (second.originator, second.recipients[0].address) == ("app@host", "jo@mail")


@pytest.mark.directive("source source-group")
async def test_sources_of_a_group_share_its_connections() -> None:
    source = OPEN + "source-group few"
    async with Inbound(GROUP, source=source) as inbound, inbound.caller(), inbound.caller() as second:
        assert second.greeting.startswith("421 4.7.0")


@pytest.mark.directive("source allow-starttls")
@pytest.mark.directive("source require-starttls-before-auth")
async def test_login_is_offered_inside_of_tls_only(tmp_path: Path) -> None:
    source = "allow-unencrypted-plain-auth yes\nallow-starttls yes\nrequire-starttls-before-auth yes"
    async with (
        Inbound(USER, source=source, tls=server_context(make_certificate(tmp_path))) as inbound,
        inbound.caller() as client,
    ):
        offered = await client.hello()
        assert "STARTTLS" in offered
        assert "AUTH" not in offered
        await client.ask("STARTTLS")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        await client.writer.start_tls(context)

        assert "AUTH" in await client.hello()


@pytest.mark.directive("source smtp-command-timeout")
@pytest.mark.directive("source smtp-data-timeout")
@pytest.mark.parametrize("commands", [(HELLO,), (HELLO, MAIL, RCPT, "DATA")])
async def test_a_silent_client_is_sent_away(commands: tuple[str, ...]) -> None:
    # Each would be ten minutes otherwise: a client inside a message has the second one's time.
    quick = "smtp-command-timeout 1s\n" + ("smtp-data-timeout 1s" if len(commands) > 1 else "")
    async with Inbound(source=OPEN + quick) as inbound, inbound.caller() as client:
        await client.ask(*commands)

        assert (await client.reply()).startswith("421 4.4.2")


@pytest.mark.directive("source accept-invalid-recipients")
async def test_suppressed_recipients_are_taken_to_be_bounced() -> None:
    source = OPEN + "suppression-lists nobody\naccept-invalid-recipients yes"
    async with Inbound(NOBODY, source=source) as inbound, inbound.caller() as client:
        await client.envelope("b@example.net")
        await client.content(b"Subject: x\r\n\r\nhello\r\n")

    assert inbound.admitted[0].recipients[0].queue_domain == "{suppressed}"


@pytest.mark.directive("source verp-default")
@pytest.mark.directive("source jobid-prefix")
@pytest.mark.directive("source jobid-header")
async def test_return_path_and_job_id_are_made() -> None:
    source = OPEN + "verp-default yes\njobid-header X-Campaign\njobid-prefix shop-"
    async with Inbound(source=source) as inbound, inbound.caller() as client:
        await client.envelope("b@example.net")
        await client.content(b"X-Campaign: may\r\nSubject: x\r\n\r\nhello\r\n")

    (envelope,) = inbound.admitted
    personal = envelope.recipients[0].personal
    assert envelope.job_id == "shop-may"
    assert personal is not None
    assert personal.originator == "sender-b=example.net@example.com"
