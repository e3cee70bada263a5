"""`type http-delivery`: what an endpoint gets, and what its answers do to the mail."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mta.delivery.policy import DeliveryPolicy
from mta.delivery.tls import TlsPolicy
from mta.message.event import Event
from tests.support.certificates import make_certificate, server_context
from tests.support.delivery_rig import BODY, PATIENT, DeliveryRig
from tests.support.http_endpoint import CLOSES, CREATED, HttpEndpoint, answer

pytestmark = pytest.mark.both_loops


def policy(url: str, **changes: Any) -> DeliveryPolicy:
    return replace(PATIENT, type="http-delivery", http_url=url, **changes)


async def outcome(rules: DeliveryPolicy) -> Event:
    """What becomes of one recipient at its first attempt."""
    async with DeliveryRig([], rules) as rig:
        rig.admit()
        (event,) = await rig.until(1)
    return event


async def test_endpoint_gets_sender_recipient_and_message() -> None:
    async with HttpEndpoint() as endpoint, DeliveryRig([], policy(endpoint.url)) as rig:
        rig.admit("Bob@example.net")
        (event,) = await rig.until(1)

        (posted,) = endpoint.posted
        assert posted.line == "POST /in?x=1 HTTP/1.1"
        assert posted.fields["content-type"] == "application/json"
        assert posted.fields["idempotency-key"] == '"Q1-0"'
        assert endpoint.url.startswith(f"http://{posted.fields['host']}/")
        assert json.loads(posted.body) == {
            "msg_from": "a@example.com",
            "rcpt_to": "Bob@example.net",
            "content": {
                "email_rfc822": "From: a@example.com\r\nSubject: test\r\n\r\nhello\r\n.dots\r\n",
                "email_rfc822_is_base64": False,
                "headers": [{"From": "a@example.com"}, {"Subject": "test"}],
            },
        }
        assert (event.type, event.delivery_type, event.dsn_action) == ("d", "http-delivery", "delivered")
        assert (event.dsn_mta, event.delivery_destination_ip) == ("127.0.0.1 (127.0.0.1)", "127.0.0.1")
        assert "HTTP 200 OK taken" in event.dsn_diag


async def test_message_that_is_not_utf8_travels_as_base64() -> None:
    async with HttpEndpoint() as endpoint, DeliveryRig([], policy(endpoint.url)) as rig:
        rig.admit(body=b"Subject: \xe9t\xe9\r\n\r\n\xff\r\n")
        await rig.until(1)

        content = json.loads(endpoint.posted[0].body)["content"]
        assert content["email_rfc822_is_base64"] is True
        assert base64.b64decode(content["email_rfc822"]) == b"Subject: \xe9t\xe9\r\n\r\n\xff\r\n"


async def test_one_connection_takes_what_waits_and_each_recipient_is_a_request() -> None:
    async with HttpEndpoint() as endpoint:
        rig = DeliveryRig([], policy(endpoint.url))
        for _ in range(3):
            rig.admit("a@example.net", "b@example.net")
        async with rig:
            await rig.until(6)

        assert endpoint.connections == 1
        assert (
            sorted(json.loads(posted.body)["rcpt_to"] for posted in endpoint.posted)
            == ["a@example.net"] * 3 + ["b@example.net"] * 3
        )


@pytest.mark.parametrize(
    ("said", "kind", "status", "waits"),
    [
        (answer("201 Created"), "d", "2.0.0", ""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer("204 No Content"), "d", "2.0.0", ""),
        (b"close HTTP/1.0 200 fine\r\n\r\nall of it", "d", "2.0.0", ""),
        (b"HTTP/1.1 202 ok\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "d", "2.0.0", ""),
        (b"close HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\ncut", "d", "2.0.0", ""),
        (answer("400 Bad Request", b"no\r\nsuch\x00thing"), "t", "4.5.0", "recipient"),
        (answer("422 Unprocessable"), "t", "4.5.0", "recipient"),
        (answer("301 Moved", b"", "Location: http://192.0.2.1/"), "t", "4.3.0", "queue"),
        (answer("401 Unauthorized"), "t", "4.3.0", "queue"),
        (answer("429 Slow down"), "t", "4.3.0", "queue"),
        (answer("500 Oh"), "t", "4.3.0", "queue"),
        (b"220 mx.example.net ESMTP\r\n\r\n", "t", "4.4.2", "queue"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", "t", "4.4.2", "queue"),
        (b"close HTTP/1.1 200 OK\r\nContent-Le", "t", "4.4.2", "queue"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9, "t", "4.4.2", "queue"),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else None,
)
async def test_status_says_what_becomes_of_the_mail(said: bytes, kind: str, status: str, waits: str) -> None:
    async with HttpEndpoint([said]) as endpoint, DeliveryRig([], policy(endpoint.url)) as rig:
        rig.admit()
        (event,) = await rig.until(1)
        await rig.until_idle()

        assert (event.type, event.dsn_status) == (kind, status), event.dsn_diag
        assert event.dsn_diag.isprintable()
        (row,) = rig.scheduler.queues(rig.clock.now())
        assert row.state == ("retry" if waits == "queue" else "ready")
        assert len(rig.store.waiting) == bool(waits)


@pytest.mark.parametrize(
    ("said", "connections"),
    [
        (answer("204 No Content"), 1),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=1\r\ntaken\r\n0\r\nA: b\r\n\r\n", 1),
        (answer("200 OK", b"x", "Connection: close"), 3),
        (b"HTTP/1.1 200 OK\r\n\r\nup to the end", 3),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 500 Twice\r\n\r\n", 3),
        (answer("200 OK", b"x" * 70_000), 3),
    ],
    ids=["no body", "chunks", "told to close", "no end", "too much", "too long"],
)
async def test_connection_is_kept_when_the_end_of_the_answer_is_known(said: bytes, connections: int) -> None:
    async with HttpEndpoint([said]) as endpoint:
        rig = DeliveryRig([], policy(endpoint.url))
        for _ in range(3):
            rig.admit()
        async with rig:
            await rig.until(3)

        assert rig.kinds() == ["d"] * 3
        assert endpoint.connections == connections


async def test_endpoint_with_a_problem_is_not_asked_for_every_message() -> None:
    async with HttpEndpoint([answer("503 Later")]) as endpoint:
        rig = DeliveryRig([], policy(endpoint.url))
        for _ in range(20):
            rig.admit()
        async with rig:
            await rig.until(1)
            await rig.until_idle()

        assert len(endpoint.posted) == 1
        assert len(rig.store.waiting) == 20


async def test_nobody_there_makes_the_queue_wait() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with DeliveryRig([], policy(f"http://127.0.0.1:{closed.getsockname()[1]}/")) as rig:
            rig.admit()
            (event,) = await rig.until(1)

            assert (event.type, event.dsn_status) == ("t", "4.4.2")
            (row,) = rig.scheduler.queues(rig.clock.now())
            assert row.state == "retry"


async def test_endpoint_that_never_answers_costs_its_deadline() -> None:
    async with HttpEndpoint([b""]) as endpoint:
        event = await outcome(policy(endpoint.url, data_termination_timeout=0.1))

    assert (event.type, event.dsn_status) == ("t", "4.4.2")
    assert "no answer in time" in event.dsn_diag


async def test_connection_that_the_endpoint_has_closed_is_opened_anew() -> None:
    async with HttpEndpoint([CLOSES]) as endpoint:
        rig = DeliveryRig([], policy(endpoint.url))
        for _ in range(3):
            rig.admit()
        async with rig:
            await rig.until(3)

            assert rig.kinds() == ["d"] * 3
        assert endpoint.connections == 3
        assert len({posted.fields["idempotency-key"] for posted in endpoint.posted}) == 3


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://127.0.0.1/",
        "127.0.0.1/",
        "http://",
        "http://a:99999/",
        "http://u:secret@h/",
        "http://h/\N{BULLET}",
    ],
)
async def test_url_that_leads_nowhere_makes_the_queue_wait(url: str) -> None:
    event = await outcome(policy(url))

    assert (event.type, event.dsn_status) == ("t", "4.3.5")
    assert "secret" not in event.dsn_diag


async def test_certificate_has_to_be_the_endpoints(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    async with HttpEndpoint(tls=server_context(certificate)) as endpoint:
        event = await outcome(policy(endpoint.url))
        assert (event.type, event.dsn_status) == ("t", "4.4.2")
        assert "certificate not accepted" in event.dsn_diag
        assert endpoint.posted == []

        event = await outcome(policy(endpoint.url, tls=TlsPolicy(ca_file=str(certificate))))
        assert (event.type, event.tls_protocol) == ("d", "TLSv1.3")


async def test_extra_headers_come_from_a_file_that_may_change(tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    extra.write_text("Authorization: Bearer one\nContent-Type: application/vnd.x+json\n\n")
    async with (
        HttpEndpoint() as endpoint,
        DeliveryRig([], policy(endpoint.url, http_extra_headers=str(extra))) as rig,
    ):
        rig.admit()
        await rig.until(1)
        await rig.until_idle()
        extra.write_text("Authorization: Bearer two\n")
        rig.admit()
        await rig.until(2)

    first, second = endpoint.posted
    assert (first.fields["authorization"], second.fields["authorization"]) == ("Bearer one", "Bearer two")
    assert first.fields["content-type"] == "application/vnd.x+json"


@pytest.mark.parametrize("text", [None, "Content-Length: 5", "no header", "Host: elsewhere", "A: b\x01"])
async def test_extra_headers_that_cannot_be_sent_make_the_queue_wait(
    tmp_path: Path, text: str | None
) -> None:
    extra = tmp_path / "extra"
    if text is not None:
        extra.write_text(text)
    async with HttpEndpoint() as endpoint:
        event = await outcome(policy(endpoint.url, http_extra_headers=str(extra)))

        assert (event.type, event.dsn_status) == ("t", "4.3.5")
        assert endpoint.posted == []


async def test_end_of_the_service_waits_for_the_answer_to_what_is_posted() -> None:
    async with HttpEndpoint([b""]) as endpoint, DeliveryRig([], policy(endpoint.url)) as rig:
        rig.admit()
        rig.admit()
        async with asyncio.timeout(10):
            await endpoint.arrived.wait()
            draining = asyncio.create_task(rig.dispatcher.drain(rig.clock.now() + 5.0))
            await rig.turn()
            endpoint.go_on.set()
            await draining

        assert rig.kinds() == ["d"]
        assert len(endpoint.posted) == 1
        assert len(rig.store.waiting) == 1


async def test_end_of_the_service_does_not_wait_for_ever() -> None:
    async with HttpEndpoint([b""]) as endpoint, DeliveryRig([], policy(endpoint.url)) as rig:
        rig.admit()
        async with asyncio.timeout(10):
            await endpoint.arrived.wait()
            await rig.dispatcher.drain(rig.clock.now() + 0.1)
            await rig.until_idle()

        assert rig.events == []
        assert len(rig.store.waiting) == 1


async def test_large_message_travels_in_pieces() -> None:
    body = BODY + b"x" * 78 + b"\r\n" + b"line\r\n" * 100_000
    async with HttpEndpoint([CREATED]) as endpoint, DeliveryRig([], policy(endpoint.url)) as rig:
        rig.admit(body=body)
        (event,) = await rig.until(1)

        assert event.type == "d"
        assert len(json.loads(endpoint.posted[0].body)["content"]["email_rfc822"]) == len(body) - 1


def mutant(random: Random) -> bytes:
    """An answer with some octets changed, doubled, or cut off."""
    said = bytearray(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello"
    )
    for _ in range(random.randrange(1, 4)):
        place = random.randrange(len(said))
        match random.randrange(3):
            case 0:
                said[place] = random.randrange(256)
            case 1:
                said[place:place] = said[max(0, place - 9) : place] * 3
            case _:
                del said[place : place + random.randrange(1, 30)]
                said = said or bytearray(b"H")
    return b"close " + bytes(said)


async def test_any_answer_has_an_outcome() -> None:
    random = Random(7)
    for _ in range(30):
        said = mutant(random)
        async with HttpEndpoint([said]) as endpoint, DeliveryRig([], policy(endpoint.url)) as rig:
            rig.admit()
            (event,) = await rig.until(1)

            assert event.type in ("d", "t"), said
            assert event.dsn_diag.isprintable(), said
            assert len(rig.store.waiting) == (event.type == "t"), said
