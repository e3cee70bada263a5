"""What `<domain>` directives do to deliveries, from the configuration to the receiver's socket."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from mta.queue.key import QueueKey
from mta.service.queuepages import queue_rows
from tests.support.inbound import Inbound
from tests.support.scripted_server import CLOSE, HANG, Drip, Late, Raw, Script, ScriptedServer
from tests.support.steering import towards
from tests.support.workshop import Workshop

PIX = Raw(b"220 *******************2****0*0**\r\n")


class Eavesdropper:
    """A receiver that keeps what it gets as it comes, piece by piece."""

    def __init__(self, banner: bytes, offer: bytes = b"") -> None:
        self.pieces: list[bytes] = []
        self.port = 0
        self._banner = banner
        self._offer = offer

    async def __aenter__(self) -> Eavesdropper:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._banner)
        is_message = False
        while piece := await reader.read(65536):
            self.pieces.append(piece)
            if is_message and not piece.endswith(b".\r\n"):
                continue
            is_greeting = piece.startswith(b"EHLO") and self._offer
            commands = 1 if is_message or is_greeting else piece.count(b"\r\n")
            is_message = not is_message and piece.endswith(b"DATA\r\n")
            answers = [b"250 ok\r\n"] * (commands - is_message) + [b"354 go\r\n"] * is_message
            writer.write(b"250-hello\r\n250 %b\r\n" % self._offer if is_greeting else b"".join(answers))
        writer.close()


@pytest.mark.directive("domain pix-bug-workaround")
@pytest.mark.parametrize("wish", ["yes", "no"])
async def test_the_final_dot_comes_alone_behind_a_pix(tmp_path: Path, wish: str) -> None:
    line = f"pix-bug-workaround {wish}"
    async with Eavesdropper(PIX.data) as pix, Workshop(tmp_path, extra=towards(pix, lines=line)) as shop:
        await shop.hand_in("Subject: x\n\nhello")
        await shop.until_events(1, "d")

    assert (b".\r\n" in pix.pieces) is (wish == "yes")


@pytest.mark.directive("domain ignore-pipelining")
@pytest.mark.parametrize("wish", ["yes", "no"])
async def test_commands_wait_for_their_answers_where_pipelining_is_ignored(tmp_path: Path, wish: str) -> None:
    line = f"ignore-pipelining {wish}"
    async with (
        Eavesdropper(b"220 hello\r\n", b"PIPELINING") as receiver,
        Workshop(tmp_path, extra=towards(receiver, lines=line)) as shop,
    ):
        await shop.hand_in("Subject: x\n\nhello")
        await shop.until_events(1, "d")

    (mail,) = (piece for piece in receiver.pieces if piece.startswith(b"MAIL"))
    assert (b"RCPT" in mail) is (wish == "no")


@pytest.mark.directive("domain bounce-upon-pix-transfer-failure")
@pytest.mark.directive("domain bounce-upon-transfer-failure")
@pytest.mark.parametrize(
    ("lines", "banner", "kind"),
    [
        ("bounce-upon-transfer-failure yes", "220 hello", "b"),
        ("bounce-upon-pix-transfer-failure yes", PIX, "b"),
        ("bounce-upon-pix-transfer-failure yes", "220 hello", "t"),
    ],
)
async def test_a_message_that_breaks_off_may_be_given_up(
    tmp_path: Path, lines: str, banner: object, kind: str
) -> None:
    async with (
        ScriptedServer(Script(banner=banner, body=CLOSE)) as server,
        Workshop(tmp_path, extra=towards(server, lines=lines + "\ndeliver-local-dsn no")) as shop,
    ):
        await shop.submit(size=16_000_000)  # more than fits into the buffers of both sides

        await shop.until_events(1, kind)


@pytest.mark.directive("domain replace-smtp-421-service-response")
@pytest.mark.directive("domain max-retries")
@pytest.mark.parametrize(("wish", "words"), [("yes", "Service not available"), ("no", "secret words")])
async def test_the_words_of_a_421_may_be_kept_out_of_bounces(tmp_path: Path, wish: str, words: str) -> None:
    within = f"replace-smtp-421-service-response {wish}\nmax-retries 1\ndeliver-local-dsn no"
    async with Workshop(tmp_path, rules="MAIL 421 4.7.0 secret words", within=within) as shop:
        await shop.submit()
        (event,) = await shop.until_events(1, "b")

    assert words in event.dsn_diag


@pytest.mark.directive("domain allow-cancel-during-transfer")
@pytest.mark.parametrize(("wish", "kinds"), [("yes", []), ("no", ["d"])])
async def test_a_shutdown_may_have_to_wait_for_a_transfer(
    tmp_path: Path, wish: str, kinds: list[str]
) -> None:
    script = Script(DATA=Late("354 go", 0.8))
    async with ScriptedServer(script) as server:
        extra = towards(server, lines=f"allow-cancel-during-transfer {wish}")
        async with Workshop(tmp_path, extra=extra) as shop:
            await shop.submit()
            await shop.until(lambda: shop.worker.dispatcher.stats().working)
            await shop.worker.drain(1.0)

            assert [event.type for event in shop.events()] == kinds


@pytest.mark.directive("domain track-recipient-events")
@pytest.mark.directive("domain max-events-recorded")
async def test_results_of_recipients_are_kept_for_the_operator(tmp_path: Path) -> None:
    within = "track-recipient-events yes\nmax-events-recorded 2\ndeliver-local-dsn no"
    rules = "\n".join(f"RCPT /^no{number}@/ 550 5.1.1 nobody {number}" for number in range(3))
    async with Workshop(tmp_path, rules=rules, within=within) as shop:
        await shop.hand_in("Subject: x\n\nhello", *[f"no{number}@example.com" for number in range(3)])
        await shop.hand_in("Subject: x\n\nhello")
        await shop.until_events(3, "b")
        await shop.until_events(1, "d")
        (row,) = queue_rows(shop.worker, shop.clock.now(), domain="example.com")["queue"]

    kinds = [event["type"] for event in row["event"]]
    assert kinds.count("reply") == 2
    assert kinds.count("rcpt") == 4
    assert "delivered" in [event["text"] for event in row["event"]]


@pytest.mark.directive("domain smtp-greeting-timeout")
@pytest.mark.directive("domain smtp-multiple-line-response-timeout")
@pytest.mark.directive("domain smtp-data-termination-timeout")
@pytest.mark.directive("domain assume-delivery-upon-data-termination-timeout")
@pytest.mark.parametrize(
    ("script", "line", "kinds"),
    [
        (Script(banner=HANG), "smtp-greeting-timeout 1s", ["tq"]),
        (
            Script(MAIL=Drip(b"250-a\r\n250-b\r\n250 c\r\n", 0.3)),
            "smtp-multiple-line-response-timeout 1s",
            ["tq", "t"],
        ),
        (Script(dot=HANG), "smtp-data-termination-timeout 1s", ["t"]),
        (
            Script(dot=HANG),
            "smtp-data-termination-timeout 1s\nassume-delivery-upon-data-termination-timeout yes",
            ["d"],
        ),
    ],
)
async def test_a_silent_receiver_is_given_up_in_time(
    tmp_path: Path, script: Script, line: str, kinds: list[str]
) -> None:
    async with (
        ScriptedServer(script) as server,
        Workshop(tmp_path, extra=towards(server, lines=line)) as shop,
    ):
        await shop.submit()
        await shop.until(lambda: shop.events())

        assert shop.events()[0].type in kinds


@pytest.mark.directive("domain ignore-8bitmime")
@pytest.mark.directive("domain ignore-dsn")
@pytest.mark.parametrize("wish", ["yes", "no"])
async def test_offers_of_a_receiver_may_be_ignored(tmp_path: Path, wish: str) -> None:
    lines = f"ignore-8bitmime {wish}\nignore-dsn {wish}"
    async with ScriptedServer() as server, Workshop(tmp_path, extra=towards(server, lines=lines)) as shop:
        await shop.hand_in("Subject: x\n\nhello", words=" BODY=8BITMIME RET=FULL")
        (event,) = await shop.until_events(1, "d")
        commands = list(server.commands)

    mail = next(command for command in commands if command.startswith("MAIL"))
    assert ("BODY=8BITMIME" in mail) is (wish == "no")
    assert ("RET=FULL" in mail) is (wish == "no")
    assert event.dsn_action == ("delivered" if wish == "no" else "relayed")


@pytest.mark.directive("domain check-spf-outbound")
async def test_mail_that_spf_does_not_allow_stays_here(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, within="check-spf-outbound yes\ndeliver-local-dsn no")
    shop.zone.add("good.example", 'TXT "v=spf1 ip4:127.0.0.1 -all"')
    shop.zone.add("bad.example", 'TXT "v=spf1 -all"')
    shop.zone.add("broken.example", "SERVFAIL")
    async with shop:
        for domain in ("good.example", "bad.example", "broken.example"):
            await shop.hand_in("Subject: x\n\nhello", sender=f"a@{domain}")
        (good,) = await shop.until_events(1, "d")
        (bad,) = await shop.until_events(1, "b")
        (broken,) = await shop.until_events(1, "t")

    assert [event.originator for event in (good, bad, broken)] == [
        "a@good.example",
        "a@bad.example",
        "a@broken.example",
    ]
    assert (bad.dsn_status, broken.dsn_status) == ("5.7.23", "4.7.24")


@pytest.mark.parametrize(
    ("sender", "kind", "result"), [("a@good.example", "d", "pass: "), ("a@bad.example", "b", "fail: ")]
)
async def test_a_trace_asks_spf_as_every_delivery_does(
    tmp_path: Path, sender: str, kind: str, result: str
) -> None:
    shop = Workshop(tmp_path, within="check-spf-outbound yes\ndeliver-local-dsn no")
    shop.zone.add("good.example", 'TXT "v=spf1 ip4:127.0.0.1 -all"')
    shop.zone.add("bad.example", 'TXT "v=spf1 -all"')
    async with shop:
        shop.worker.scheduler.pause("*/*", shop.clock.now())
        await shop.hand_in("Subject: x\n\nhello", sender=sender)
        trace = await shop.worker.outbound.tracer.trace(QueueKey("example.com", "{default}"))
        (event,) = await shop.until_events(1, "b", "d")

    assert event.type == kind
    assert any(line.text.startswith(f"SPF of <{sender}> from 127.0.0.1: {result}") for line in trace.lines)
    assert any(line.text.startswith(">>> MAIL") for line in trace.lines) is (kind == "d")


@pytest.mark.directive("domain ignore-chunking")
@pytest.mark.parametrize("size", [1, 100_000])
async def test_content_may_go_in_one_chunk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    caplog.set_level(logging.INFO)
    text = "Subject: x\n\n..two dots\n.\n" + "line\n" * size + "end"
    async with Inbound() as receiver:
        extra = towards(receiver, lines="ignore-chunking no")
        async with Workshop(tmp_path, within="log-commands yes", extra=extra) as shop:
            await shop.hand_in(text.replace("\n.", "\n.."))
            await shop.hand_in(text.replace("\n.", "\n.."), "b@example.com", "c@example.com")
            events = await shop.until_events(3, "d")

        bodies = [body for _, body in receiver.partition.stored]
    whole = text.replace("\n.", "\n..").replace("\n", "\r\n").encode() + b"\r\n"
    assert {event.dsn_status for event in events} == {"2.0.0"}
    assert [body.endswith(whole) for body in bodies] == [True, True]
    assert any("octets of message" in record.getMessage() for record in caplog.records)
    assert not any(">>> DATA" in record.getMessage() for record in caplog.records)
