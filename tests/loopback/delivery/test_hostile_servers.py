"""Receivers that break, stall, lie and go: everybody ends in the right state, once, and no slot leaks.

A row is what the server does, and what becomes of a message for b@ and c@: the records in that order, or `tq`
when the queue has to wait and both stay in it. The rig's exit checks that every connection permit has come
back and nobody is in flight.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from mta.delivery.policy import DeliveryPolicy
from mta.delivery.tls import TlsPolicy
from mta.queue.policy import QueuePolicy
from tests.support.certificates import make_certificate, server_context
from tests.support.delivery_rig import HASTY, PATIENT, DeliveryRig
from tests.support.scripted_server import (
    CLOSE,
    HALF_CLOSE,
    HANDSHAKE,
    HANG,
    RESET,
    SILENT,
    TLS,
    Drip,
    Late,
    Raw,
    Script,
    ScriptedServer,
)

pytestmark = pytest.mark.both_loops

DELIVERED = ("d 2.0.0", "d 2.0.0")
LOST = ("t 4.4.2", "t 4.4.2")
BROKEN = ("t 4.5.0", "t 4.5.0")
NO_TLS_FALLBACK = TlsPolicy(require=True)


class Row(NamedTuple):
    name: str
    script: Script
    expected: tuple[str, ...]
    policy: DeliveryPolicy = PATIENT
    queue: QueuePolicy = QueuePolicy(max_smtp_out=1, retry_after=(3600.0,))


def slow(name: str, script: Script, expected: tuple[str, ...]) -> Row:
    """A row whose server keeps us waiting until a deadline."""
    return Row(name, script, expected, HASTY)


def bare(*offers: str, **points: object) -> Script:
    """A server that does not offer PIPELINING."""
    return Script(offers=offers, **points)


GREETINGS = [
    Row("closes at once", Script(banner=CLOSE), ("tq 4.4.2",)),
    Row("resets at once", Script(banner=RESET), ("tq 4.4.2",)),
    Row("half-closes at once", Script(banner=HALF_CLOSE), ("tq 4.4.2",)),
    slow("never greets", Script(banner=HANG), ("tq 4.4.1",)),
    slow("greets one byte at a time for hours", Script(banner=Drip(b"220 x" * 99, 0.02)), ("tq 4.4.1",)),
    Row("greets byte by byte", Script(banner=Drip(b"220-hello\r\n220 world\r\n")), DELIVERED),
    slow("greets without line end", Script(banner=(Raw(b"220 hello"), HANG)), ("tq 4.4.1",)),
    Row("greets in 10,000 lines", Script(banner=Raw(b"220-x\r\n" * 10_000 + b"220 x\r\n")), ("tq 4.5.0",)),
    Row(
        "greets with a line of 1 MiB", Script(banner=Raw(b"220 " + b"x" * (1 << 20) + b"\r\n")), ("tq 4.5.0",)
    ),
    Row("greets with 1 MiB and no end", Script(banner=(Raw(b"2" * (1 << 20)), HANG)), ("tq 4.5.0",)),
    Row("greets in no charset", Script(banner=Raw(b"220 \xff\xfe\x00 hi\r\n")), DELIVERED),
    Row("greets without a code", Script(banner="hello there"), ("tq 4.5.0",)),
    Row("is a web server", Script(banner="HTTP/1.1 400 Bad Request"), ("tq 4.5.0",)),
    Row("is an SSH server", Script(banner="SSH-2.0-OpenSSH_9.2"), ("tq 4.5.0",)),
    Row("greets with 250", Script(banner="250 hi"), ("tq 4.5.0",)),
    Row("greets with 354", Script(banner="354 hi"), ("tq 4.5.0",)),
    Row("greets with 0", Script(banner="000 hi"), ("tq 4.5.0",)),
    Row("greets with 999", Script(banner="999 hi"), ("tq 4.5.0",)),
    Row("greets with 421", Script(banner="421 4.7.0 busy"), ("tq 4.7.0",)),
    Row("greets with 421 and closes", Script(banner=("421 4.7.0 busy", CLOSE)), ("tq 4.7.0",)),
    Row("greets with 450", Script(banner="450 later"), ("tq 4.0.0",)),
    Row("greets with 554", Script(banner="554 5.7.1 blocked"), ("b 5.7.1", "b 5.7.1")),
    Row(
        "greets with 554, which is to be temporary",
        Script(banner="554 5.7.1 blocked"),
        ("tq 4.7.1",),
        queue=QueuePolicy(max_smtp_out=1, bounce_upon_5xx_greeting=False),
    ),
    Row("says more than the greeting", Script(banner=Raw(b"220 hi\r\n250 evil\r\n")), ("tq 4.4.2",)),
]

EHLOS = [
    Row("knows only HELO", Script(EHLO="500 5.5.1 what?"), DELIVERED),
    Row("refuses EHLO and HELO", Script(EHLO="550 5.7.1 no", HELO="550 5.7.1 no"), ("tq 4.7.1",)),
    Row("refuses EHLO for now", Script(EHLO="451 4.3.0 later"), ("tq 4.3.0",)),
    Row("answers EHLO with 421", Script(EHLO="421 4.3.2 bye"), ("tq 4.3.2",)),
    Row("answers EHLO with 354", Script(EHLO="354 go"), ("tq 4.5.0",)),
    Row("closes at EHLO", Script(EHLO=CLOSE), ("tq 4.4.2",)),
    Row("resets at EHLO", Script(EHLO=RESET), ("tq 4.4.2",)),
    Row("closes after refusing EHLO", Script(EHLO=("500 no", CLOSE)), ("tq 4.4.2",)),
    slow("is silent at EHLO", Script(EHLO=HANG), ("tq 4.4.1",)),
    slow("never ends its EHLO reply", Script(EHLO=(Raw(b"250-a\r\n250-b\r\n"), HANG)), ("tq 4.4.1",)),
    Row("answers EHLO with endless lines", Script(EHLO=(Raw(b"250-x\r\n" * 9000), HANG)), ("tq 4.5.0",)),
    Row(
        "offers junk", Script(offers=("pipelining", "", "\x01", "SIZE", "SIZE x", "8bitmime 1 2")), DELIVERED
    ),
    Row("offers nothing", bare(), DELIVERED),
    Row("offers SIZE 0", Script(offers=("SIZE 0", "PIPELINING")), DELIVERED),
    Row("offers SIZE abc", Script(offers=("SIZE abc",)), DELIVERED),
    Row("offers a huge SIZE", Script(offers=("SIZE 99999999999999999999999",)), DELIVERED),
    Row("offers too small a SIZE", Script(offers=("SIZE 10", "PIPELINING")), ("b 5.3.4", "b 5.3.4")),
    Row("says more than the EHLO reply", Script(EHLO=Raw(b"250 x\r\n250 y\r\n")), ("tq 4.4.2",)),
    Row("answers EHLO byte by byte", Script(EHLO=Drip(b"250-x\r\n250 PIPELINING\r\n")), DELIVERED),
]

TRANSACTIONS = [
    # -- codes that are none, or not of this place
    *(
        Row(f"answers MAIL with {line!r}", Script(MAIL=Raw(line + b"\r\n")), BROKEN)
        for line in (
            b"99 x",
            b"600 x",
            b"999 x",
            b"000 x",
            b"25 x",
            b"2500 x",
            b"",
            b"ok",
            b"100 x",
            b"199 x",
        )
    ),
    Row("answers MAIL with 354", Script(MAIL="354 go"), BROKEN),
    Row("answers MAIL with 334", Script(MAIL="334 go"), BROKEN),
    Row("answers MAIL with yes and no", Script(MAIL=Raw(b"250-yes\r\n550 no\r\n")), BROKEN),
    Row("answers MAIL with an endless line", Script(MAIL=(Raw(b"250 " + b"x" * 100_000), HANG)), BROKEN),
    Row("answers MAIL in endless lines", Script(MAIL=(Raw(b"250-x\r\n" * 50_000), HANG)), BROKEN),
    slow("never ends its MAIL reply", Script(MAIL=(Raw(b"250-x\r\n"), HANG)), LOST),
    slow("answers MAIL one byte at a time", Script(MAIL=Drip(b"250 " + b"x" * 500, 0.02)), LOST),
    Row(
        "answers everything byte by byte", Script(MAIL=Drip(b"250 a\r\n"), RCPT=Drip(b"250 b\r\n")), DELIVERED
    ),
    Row("answers MAIL in many lines", Script(MAIL="250-a\r\n250-b\r\n250 c"), DELIVERED),
    Row("answers MAIL with LF only", Script(MAIL=Raw(b"250 ok\n")), DELIVERED),
    # -- 421, close, reset, half-close, silence at each point
    Row("answers MAIL with 421", Script(MAIL=("421 4.7.0 slow", CLOSE)), ("t 4.7.0", "t 4.7.0")),
    Row("answers MAIL with 421 and stays", Script(MAIL="421 4.7.0 slow"), ("t 4.7.0", "t 4.7.0")),
    Row("answers RCPT with 421", Script(RCPT=("421 4.7.0 slow", CLOSE)), ("t 4.7.0", "t 4.7.0")),
    Row(
        "refuses b, answers c with 421", Script(RCPT=["550 5.1.1 no", "421 4.7.0 x"]), ("b 5.1.1", "t 4.7.0")
    ),
    Row("accepts b, answers c with 421", Script(RCPT=["250 ok", "421 4.7.0 x"]), ("t 4.7.0", "t 4.7.0")),
    Row("answers DATA with 421", Script(DATA=("421 4.3.2 bye", CLOSE)), ("t 4.3.2", "t 4.3.2")),
    Row("answers the dot with 421", Script(dot=("421 4.3.2 bye", CLOSE)), ("t 4.3.2", "t 4.3.2")),
    Row("closes at MAIL", Script(MAIL=CLOSE), LOST),
    Row("closes at RCPT", Script(RCPT=CLOSE), LOST),
    Row("refuses b and closes at c", Script(RCPT=["550 5.1.1 no", CLOSE]), ("b 5.1.1", "t 4.4.2")),
    Row("closes at DATA", Script(DATA=CLOSE), LOST),
    Row("refuses b and closes at DATA", Script(RCPT=["550 5.1.1 no"], DATA=CLOSE), ("b 5.1.1", "t 4.4.2")),
    Row("closes at the dot", Script(dot=CLOSE), LOST),
    Row("refuses b and closes at the dot", Script(RCPT=["550 5.1.1 no"], dot=CLOSE), ("b 5.1.1", "t 4.4.2")),
    Row("resets at MAIL", Script(MAIL=RESET), LOST),
    Row("resets at RCPT", Script(RCPT=RESET), LOST),
    Row("resets at DATA", Script(DATA=RESET), LOST),
    Row("resets at the dot", Script(dot=RESET), LOST),
    Row("half-closes at MAIL", Script(MAIL=HALF_CLOSE), LOST),
    Row("half-closes at RCPT", Script(RCPT=HALF_CLOSE), LOST),
    Row("half-closes at DATA", Script(DATA=HALF_CLOSE), LOST),
    Row("half-closes at the dot", Script(dot=HALF_CLOSE), LOST),
    slow("is silent at MAIL", Script(MAIL=HANG), LOST),
    slow("is silent at RCPT", Script(RCPT=HANG), LOST),
    slow("is silent at DATA", Script(DATA=HANG), LOST),
    slow("is silent at the dot", Script(dot=HANG), LOST),
    Row("closes in the middle of a reply", Script(RCPT=["250 ok", (Raw(b"25"), CLOSE)]), LOST),
    # -- after the final reply
    Row("accepts and resets", Script(dot=("250 2.0.0 ok", RESET)), DELIVERED),
    Row("accepts and closes", Script(dot=("250 2.0.0 ok", CLOSE)), DELIVERED),
    Row("accepts and talks on", Script(dot=Raw(b"250 2.0.0 ok\r\n250 more\r\n")), DELIVERED),
    Row("accepts and sends garbage", Script(dot=Raw(b"250 2.0.0 ok\r\n\x00\xff\r\n")), DELIVERED),
    Row("accepts and says 421", Script(dot=Raw(b"250 2.0.0 ok\r\n421 bye\r\n")), DELIVERED),
    Row("accepts and is silent at QUIT", Script(QUIT=SILENT), DELIVERED),
    Row("accepts and answers QUIT with 500", Script(QUIT="500 what?"), DELIVERED),
    Row("accepts and resets at QUIT", Script(QUIT=RESET), DELIVERED),
    # -- wrong counts
    Row("answers one RCPT too few", Script(RCPT=["250 ok", SILENT]), BROKEN),
    slow("answers nothing but MAIL", Script(RCPT=SILENT, DATA=SILENT), LOST),
    Row("answers MAIL twice", Script(MAIL=("250 a", "250 b")), BROKEN),
    Row("answers RCPT twice", Script(RCPT=[("250 a", "250 b")]), BROKEN),
    Row("refuses RCPT twice", Script(RCPT=[("550 5.1.1 a", "550 5.1.1 b")]), ("b 5.1.1", "b 5.1.1")),
    Row("answers the dot twice", Script(dot=("250 2.0.0 a", "250 2.0.0 b")), DELIVERED),
    Row("goes on to 354 with nobody accepted", Script(RCPT="550 5.1.1 no", DATA="354 go"), ("b 5.1.1",) * 2),
    Row("refuses MAIL and accepts the rest", Script(MAIL="550 5.7.1 no", RCPT="250 ok"), ("b 5.7.1",) * 2),
    Row(
        "refuses MAIL, 354 all the same", Script(MAIL="451 4.3.0 x", RCPT="250", DATA="354"), ("t 4.3.0",) * 2
    ),
    Row("answers DATA with 250", Script(DATA="250 ok"), BROKEN),
    Row("answers the dot with 354", Script(dot="354 go on"), BROKEN),
    Row("refuses DATA after accepting", Script(DATA="554 5.3.0 no"), ("b 5.3.0", "b 5.3.0")),
    Row("defers DATA after accepting", Script(DATA="451 4.3.0 no"), ("t 4.3.0", "t 4.3.0")),
    Row("answers RSET with 500", Script(RCPT="550 5.1.1 no", RSET="500 what?"), ("b 5.1.1", "b 5.1.1")),
    Row("closes at RSET", Script(RCPT="550 5.1.1 no", RSET=CLOSE), ("b 5.1.1", "b 5.1.1")),
    slow("is silent at RSET", Script(RCPT="450 4.2.1 no", RSET=HANG), ("t 4.2.1", "t 4.2.1")),
    # -- mixed recipients
    Row("refuses b", Script(RCPT=["550 5.1.1 no"]), ("b 5.1.1", "d 2.0.0")),
    Row("defers c", Script(RCPT=["250 ok", "450 4.2.1 later"]), ("d 2.0.0", "t 4.2.1")),
    Row("refuses b and defers c", Script(RCPT=["550 5.1.1 no", "450 4.2.1 x"]), ("b 5.1.1", "t 4.2.1")),
    Row("takes one at a time (452)", Script(RCPT=["250 ok", "452 4.5.3 too many"]), DELIVERED),
    Row("takes one at a time (552)", Script(RCPT=["250 ok", "552 too many"]), DELIVERED),
    Row("has a full mailbox", Script(RCPT=["552 5.2.2 full", "250 ok"]), ("b 5.2.2", "d 2.0.0")),
    Row("says 553 and no more", Script(RCPT=["553 no"]), ("b 5.1.1", "d 2.0.0")),
    Row("says 550 after the dot for one name", Script(dot="550 5.1.1 b unknown"), ("b 5.1.1", "b 5.1.1")),
    Row("defers after the dot", Script(dot="451 4.7.1 greylisted"), ("t 4.7.1", "t 4.7.1")),
    Row("contradicts itself: 450 5.7.1", Script(RCPT="450 5.7.1 x"), ("t 4.7.1", "t 4.7.1")),
    Row("contradicts itself: 550 4.7.1", Script(RCPT="550 4.7.1 x"), ("b 5.7.1", "b 5.7.1")),
    Row("has a code of an earlier reply", Script(MAIL="250 2.1.0 ok", RCPT="550 no"), ("b 5.0.0", "b 5.0.0")),
]

ONE_BY_ONE = [
    Row("refuses MAIL", bare(MAIL="550 5.7.1 no"), ("b 5.7.1", "b 5.7.1")),
    Row("refuses b", bare(RCPT=["550 5.1.1 no"]), ("b 5.1.1", "d 2.0.0")),
    Row("refuses both", bare(RCPT="550 5.1.1 no"), ("b 5.1.1", "b 5.1.1")),
    Row("refuses DATA", bare(DATA="451 4.3.0 no"), ("t 4.3.0", "t 4.3.0")),
    Row("closes at RCPT", bare(RCPT=["250 ok", CLOSE]), LOST),
    Row("closes at the dot", bare(dot=CLOSE), LOST),
    Row("answers MAIL twice", bare(MAIL=("250 a", "250 b")), BROKEN),
    Row("answers early", bare(MAIL=Raw(b"250 a\r\n250 b\r\n354 c\r\n")), BROKEN),
    Row("answers RCPT with 421", bare(RCPT="421 4.7.0 x"), ("t 4.7.0", "t 4.7.0")),
    slow("is silent at DATA", bare(DATA=HANG), LOST),
    Row("is slow", bare(MAIL=Late("250 ok"), RCPT=Late("250 ok"), DATA=Late("354 go")), DELIVERED),
]

#: Every point answered with every kind of reply (H21); what isn't named here ends as the code's class says.
SWEEP_CODES = ["220 x", "221 x", "354 x", "421 x", "500 x"]
SWEEP = {
    "banner": [DELIVERED, ("tq 4.5.0",), ("tq 4.5.0",), ("tq 4.3.2",), ("b 5.5.2", "b 5.5.2")],
    "EHLO": [("tq 4.5.0",), ("tq 4.5.0",), ("tq 4.5.0",), ("tq 4.3.2",), DELIVERED],
    "MAIL": [DELIVERED, DELIVERED, BROKEN, ("t 4.3.2",) * 2, ("b 5.5.2",) * 2],
    "RCPT": [DELIVERED, DELIVERED, BROKEN, ("t 4.3.2",) * 2, ("b 5.5.2",) * 2],
    "DATA": [BROKEN, BROKEN, DELIVERED, ("t 4.3.2",) * 2, ("b 5.5.2",) * 2],
    "dot": [DELIVERED, DELIVERED, BROKEN, ("t 4.3.2",) * 2, ("b 5.5.2",) * 2],
    "QUIT": [DELIVERED] * 5,
}
SWEPT = [
    Row(f"answers {point} with {code[:3]}", Script(**{point: code}), expected)
    for point, results in SWEEP.items()
    for code, expected in zip(SWEEP_CODES, results, strict=True)
]


def named(rows: list[Row]) -> list[object]:
    return [pytest.param(row, id=row.name.replace(" ", "-")) for row in rows]


async def check(row: Row, server: ScriptedServer) -> DeliveryRig:
    """Deliver one message for b and c to the server of `row`; compare the records: each once."""
    rig = DeliveryRig([server.port], policy=row.policy, queue=row.queue)
    async with rig:
        rig.admit("b@example.net", "c@example.net")
        await rig.until(len(row.expected))
    events = sorted(rig.events, key=lambda event: event.recipient)
    assert tuple(f"{event.type} {event.dsn_status}" for event in events) == row.expected
    waiting = 2 if row.expected[0].startswith("tq") else sum(kind.startswith("t") for kind in row.expected)
    assert len(rig.store.waiting) == waiting
    assert len(rig.returned) == sum(kind.startswith("b") for kind in row.expected)
    return rig


@pytest.mark.parametrize("row", named(GREETINGS))
async def test_greetings(row: Row) -> None:
    async with ScriptedServer(row.script) as server:
        await check(row, server)


@pytest.mark.parametrize("row", named(EHLOS))
async def test_answers_to_ehlo(row: Row) -> None:
    async with ScriptedServer(row.script) as server:
        await check(row, server)


@pytest.mark.parametrize("row", named(TRANSACTIONS))
async def test_pipelined_transactions(row: Row) -> None:
    async with ScriptedServer(row.script) as server:
        await check(row, server)


@pytest.mark.parametrize("row", named(ONE_BY_ONE))
async def test_transactions_one_by_one(row: Row) -> None:
    async with ScriptedServer(row.script) as server:
        await check(row, server)


@pytest.mark.parametrize("row", named(SWEPT))
async def test_every_point_answered_with_every_kind_of_reply(row: Row) -> None:
    async with ScriptedServer(row.script) as server:
        await check(row, server)


TLS_OFFER = ("PIPELINING", "STARTTLS")
STARTTLS_ROWS = [
    (Row("works", Script(offers=TLS_OFFER), DELIVERED), True),
    (Row("answers 454", Script(offers=TLS_OFFER, STARTTLS="454 4.7.0 not now"), DELIVERED), False),
    (Row("answers 501", Script(offers=TLS_OFFER, STARTTLS="501 5.5.4 no"), DELIVERED), False),
    (Row("answers 421", Script(offers=TLS_OFFER, STARTTLS=["421 bye"]), DELIVERED), False),
    (Row("closes", Script(offers=TLS_OFFER, STARTTLS=CLOSE), DELIVERED), False),
    (Row("resets", Script(offers=TLS_OFFER, STARTTLS=RESET), DELIVERED), False),
    (
        Row("sends garbage", Script(offers=TLS_OFFER, STARTTLS=("220 go", Raw(b"\x00\xff" * 99))), DELIVERED),
        False,
    ),
    (Row("closes after 220", Script(offers=TLS_OFFER, STARTTLS=("220 go", CLOSE)), DELIVERED), False),
    (slow("hangs", Script(offers=TLS_OFFER, STARTTLS=HANG), DELIVERED), False),
    (slow("hangs after 220", Script(offers=TLS_OFFER, STARTTLS=("220 go", HANG)), DELIVERED), False),
    (Row("answers nonsense", Script(offers=TLS_OFFER, STARTTLS="so what"), DELIVERED), False),
    (
        Row(
            "has replies injected before the handshake",
            Script(offers=TLS_OFFER, STARTTLS=(Raw(b"220 go\r\n250-x\r\n250 AUTH PLAIN\r\n"), HANDSHAKE)),
            DELIVERED,
        ),
        True,
    ),
]


@pytest.mark.parametrize(
    ("row", "is_tls"), [pytest.param(*pair, id=pair[0].name.replace(" ", "-")) for pair in STARTTLS_ROWS]
)
async def test_opportunistic_tls_delivers_one_way_or_the_other(
    row: Row, is_tls: bool, tmp_path: Path
) -> None:
    context = server_context(make_certificate(tmp_path))
    async with ScriptedServer(row.script, tls=context) as server:
        rig = await check(row, server)

    assert server.accepted[0].tls is is_tls
    assert all((event.tls_protocol.startswith("TLS")) is is_tls for event in rig.events)


@pytest.mark.parametrize(
    ("row", "is_tls"),
    [pytest.param(*pair, id=pair[0].name.replace(" ", "-")) for pair in STARTTLS_ROWS if not pair[1]],
)
async def test_required_tls_never_falls_back_to_plain_text(row: Row, is_tls: bool, tmp_path: Path) -> None:
    context = server_context(make_certificate(tmp_path))
    policy = replace(row.policy, tls=NO_TLS_FALLBACK)
    async with ScriptedServer(row.script, tls=context) as server:
        rig = DeliveryRig([server.port], policy=policy)
        async with rig:
            rig.admit("b@example.net", "c@example.net")
            events = await rig.until(1)

    assert [event.type for event in events] == ["tq"]
    assert server.attempts == []


async def test_required_tls_that_is_not_offered_keeps_the_mail_here() -> None:
    async with ScriptedServer() as server:
        await check(Row("", Script(), ("tq 4.7.10",), replace(PATIENT, tls=NO_TLS_FALLBACK)), server)

    assert server.attempts == []


@pytest.mark.parametrize("is_expired", [True, False])
async def test_a_certificate_that_nobody_vouches_for_is_good_enough_when_opportunistic(
    is_expired: bool, tmp_path: Path
) -> None:
    context = server_context(make_certificate(tmp_path, "other.example", expired=is_expired))
    async with ScriptedServer(Script(offers=TLS_OFFER), tls=context) as server:
        await check(Row("", Script(), DELIVERED), server)

    assert server.accepted[0].tls


@pytest.mark.parametrize(
    ("name", "is_required", "expected", "is_tls"),
    [
        ("mx.example.net", True, DELIVERED, True),
        ("mx.example.net", False, DELIVERED, True),
        ("other.example", True, ("tq 4.7.5",), None),
        ("other.example", False, DELIVERED, False),
    ],
)
async def test_with_a_ca_file_a_wrong_name_costs_the_encryption_or_the_connection(
    name: str, is_required: bool, expected: tuple[str, ...], is_tls: bool | None, tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path, name)
    policy = replace(PATIENT, tls=TlsPolicy(require=is_required, ca_file=str(certificate)))
    async with ScriptedServer(Script(offers=TLS_OFFER), tls=server_context(certificate)) as server:
        await check(Row("", Script(), expected, policy), server)

    assert [attempt.tls for attempt in server.accepted] == ([] if is_tls is None else [is_tls])


async def test_what_was_offered_before_tls_is_forgotten_after_it(tmp_path: Path) -> None:
    context = server_context(make_certificate(tmp_path))
    script = Script(offers=TLS_OFFER, EHLO=["250-x\r\n250-STARTTLS\r\n250 DSN", "250 x"], STARTTLS=TLS)
    async with ScriptedServer(script, tls=context) as server:
        rig = await check(Row("", script, DELIVERED), server)

    assert rig.events[0].esmtp == ""


async def test_broken_tls_is_remembered_so_that_the_next_connection_starts_in_plain_text(
    tmp_path: Path,
) -> None:
    script = Script(offers=TLS_OFFER, STARTTLS=("220 go", CLOSE), dot=("250 2.0.0 ok", CLOSE))
    async with ScriptedServer(script) as server, DeliveryRig([server.port]) as rig:
        rig.admit()
        await rig.until(1)
        rig.admit()
        await rig.until(2)

    assert server.commands.count("STARTTLS") == 1
    assert server.connections == 3
