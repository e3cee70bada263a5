"""Commands over a real socket: what a mature server answers."""

from __future__ import annotations

import pytest

from mta.errors import SpoolBroken, SpoolFull
from mta.ingress.conversation import Conversation
from tests.support.inbound import Inbound, snapshot_of

pytestmark = pytest.mark.both_loops

MESSAGE = b"From: sender@example.com\r\nSubject: hello\r\n\r\nText.\r\n"


async def test_message_is_on_disk_before_250_and_named_in_it() -> None:
    async with Inbound() as inbound, inbound.caller() as caller:
        inbound.partition.is_held = True
        await caller.envelope()
        assert (await caller.ask("DATA")).startswith("354 ")
        caller.send(MESSAGE + b".\r\nNOOP\r\n")
        await inbound.partition.arrived.wait()
        assert inbound.admitted == []

        inbound.partition.commit()
        reply = await caller.reply()

        assert reply == f"250 2.0.0 OK, queued as {inbound.admitted[0].queue_id}"
        assert await caller.reply() == "250 2.0.0 OK"
        assert inbound.partition.bodies[0].endswith(MESSAGE)
        assert await caller.ask("QUIT") == "221 2.0.0 Bye"
        assert await caller.is_closed()


async def test_greeting_and_ehlo_name_host_and_extensions() -> None:
    source = "always-allow-relaying yes\nmax-message-size 1M"
    async with Inbound(source=source) as inbound, inbound.caller() as caller:
        assert caller.greeting == "220 mx.test ESMTP mta ready"
        assert await caller.hello() == (
            "250-mx.test / 250-PIPELINING / 250-SIZE 1048576 / 250-8BITMIME / "
            "250-ENHANCEDSTATUSCODES / 250-DSN / 250-SMTPUTF8 / 250 CHUNKING"
        )
        assert await caller.ask("HELO client.test") == "250 mx.test"


async def test_extensions_can_be_switched_off() -> None:
    source = "always-allow-relaying yes\nallow-chunking no\nallow-smtputf8 no"
    async with Inbound(source=source) as inbound, inbound.caller() as caller:
        extensions = await caller.hello()

        assert "CHUNKING" not in extensions
        assert "SMTPUTF8" not in extensions
        assert extensions.endswith("250 DSN")
        assert (await caller.ask("BDAT 3 LAST")).startswith("502 5.5.1")
        assert (await caller.ask("MAIL FROM:<a@example.com> SMTPUTF8")).startswith("555 5.5.4")


@pytest.mark.parametrize(
    ("commands", "codes"),
    [
        (
            ["NOOP", "NOOP anything", "RSET", "HELP", "VRFY user", "EXPN list"],
            ["250 2.0.0", "250 2.0.0", "250 2.0.0", "214 2.0.0", "252 2.1.5", "502 5.5.1"],
        ),
        (["MAIL FROM:<a@b.example>"], ["503 5.5.1"]),
        (["EHLO", "EHLO a b", "HELO \x01x"], ["501 5.5.4", "501 5.5.4", "501 5.5.4"]),
        (
            ["EHLO x", "RCPT TO:<a@b.example>", "DATA", "BDAT 0 LAST"],
            ["250", "503 5.5.1", "503 5.5.1", "503 5.5.1"],
        ),
        (["EHLO x", "MAIL FROM:<a@b.example>", "MAIL FROM:<a@b.example>"], ["250", "250 2.1.0", "503 5.5.1"]),
        (["EHLO x", "MAIL FROM:<a@b.example>", "DATA"], ["250", "250 2.1.0", "554 5.5.1"]),
        (
            ["EHLO x", "MAIL FROM:<a@b.example>", "RSET", "RCPT TO:<a@b.example>"],
            ["250", "250 2.1.0", "250 2.0.0", "503 5.5.1"],
        ),
        (
            ["EHLO x", "MAIL FROM:<a@b.example>", "EHLO y", "RCPT TO:<a@b.example>"],
            ["250", "250 2.1.0", "250", "503 5.5.1"],
        ),
        (
            ["EHLO x", "MAIL FROM:a@b.example", "MAIL <a@b.example>", "MAIL", "MAIL FROM:<a@b.example>x"],
            ["250", "501 5.1.7", "501 5.5.4", "501 5.5.4", "501 5.5.4"],
        ),
        (
            ["EHLO x", "mail from: <a@b.example>", "rcpt to: <c@d.example>", "data x"],
            ["250", "250 2.1.0", "250 2.1.5", "501 5.5.4"],
        ),
        (
            ["EHLO x", "MAIL FROM:<>", "RCPT TO:<>", "RCPT TO:<postmaster>"],
            ["250", "250 2.1.0", "501 5.1.3", "250 2.1.5"],
        ),
        (["EHLO x", "MAIL FROM:<postmaster>"], ["250", "501 5.1.7"]),
        (
            ["EHLO x", "MAIL FROM:<a@b.example> SIZE=99999999999", "MAIL FROM:<a@b.example> FOO=1"],
            ["250", "552 5.3.4", "555 5.5.4"],
        ),
        (
            [
                "EHLO x",
                "MAIL FROM:<a@b.example> SIZE=10 BODY=8BITMIME RET=FULL ENVID=x",
                "RCPT TO:<c@d.example> NOTIFY=NEVER",
            ],
            ["250", "250 2.1.0", "250 2.1.5"],
        ),
        (
            [
                "EHLO x",
                "MAIL FROM:<gr\u00e5@b.example>",
                "MAIL FROM:<gr\u00e5@b.example> SMTPUTF8",
                "RCPT TO:<\u00e5@d.example>",
            ],
            ["250", "553 5.6.7", "250 2.1.0", "250 2.1.5"],
        ),
        (
            ["EHLO x", "MAIL FROM:<a@b.example>", "RCPT TO:<\u00e5@d.example>"],
            ["250", "250 2.1.0", "501 5.1.3"],
        ),
        (
            ["STARTTLS", "AUTH PLAIN", "XCLIENT ADDR=1.2.3.4", "ETRN x", "FROB"],
            ["502 5.5.1", "503 5.5.1", "502 5.5.1", "502 5.5.1", "500 5.5.2"],
        ),
        (["QUIT now", "RSET x", "VRFY"], ["501 5.5.4", "501 5.5.4", "501 5.5.4"]),
        (["MAIL FROM:<a\x00@b.example>", "NOOP \x7f", "EHLO a\rb"], ["501 5.5.4", "501 5.5.4", "501 5.5.4"]),
    ],
)
async def test_command_sequence(commands: list[str], codes: list[str]) -> None:
    source = "always-allow-relaying yes\nmax-message-size 10M"
    async with Inbound(source=source) as inbound, inbound.caller() as caller:
        assert await caller.codes(*commands) == codes


async def test_wholly_pipelined_messages_are_answered_in_order() -> None:
    count = 50
    one = (
        b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<bad>\r\nDATA\r\n" + MESSAGE + b".\r\n"
    )
    async with Inbound() as inbound, inbound.caller() as caller:
        caller.send(b"EHLO x\r\n" + one * count + b"QUIT\r\n")

        assert (await caller.reply()).startswith("250-mx.test")
        for index in range(count):
            replies = await caller.replies(5)
            assert [reply[:3] for reply in replies] == ["250", "250", "501", "354", "250"]
            assert replies[-1].endswith(inbound.partition.envelopes[index].queue_id)
        assert (await caller.reply()).startswith("221")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64])
async def test_any_segmentation_gives_the_same_conversation(size: int) -> None:
    talk = (
        b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
        b"A: b\r\n\r\n..dot\r\n.\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 5\r\n.x\r\n."
        b"BDAT 3 LAST\r\ny\r\nQUIT\r\n"
    )
    async with Inbound() as inbound, inbound.caller() as caller:
        for position in range(0, len(talk), size):
            caller.send(talk[position : position + size])
            await caller.flush()

        codes = [reply[:3] for reply in await caller.replies(10)]

        assert codes == ["250", "250", "250", "354", "250", "250", "250", "250", "250", "221"]
        assert inbound.partition.bodies[0].endswith(b"A: b\r\n\r\n..dot\r\n")
        assert inbound.partition.bodies[1].endswith(b"\r\n\r\n..x\r\n..y\r\n")


async def test_client_that_closes_its_half_still_gets_every_reply() -> None:
    async with Inbound() as inbound, inbound.caller() as caller:
        inbound.partition.is_held = True
        caller.send(
            b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n" + MESSAGE + b".\r\n"
        )
        caller.writer.write_eof()
        await inbound.partition.arrived.wait()
        inbound.partition.commit()

        assert [reply[:3] for reply in await caller.replies(5)] == ["250", "250", "250", "354", "250"]
        assert await caller.is_closed()


async def test_message_counts_although_its_client_is_gone() -> None:
    async with Inbound() as inbound:
        inbound.partition.is_held = True
        async with inbound.caller() as caller:
            await caller.envelope()
            await caller.ask("DATA")
            caller.send(MESSAGE + b".\r\n")
            await inbound.partition.arrived.wait()
            caller.reset()
        await inbound.reception.empty.wait()

        inbound.partition.commit()

        assert len(inbound.admitted) == 1
        assert inbound.reception.receiving == 0


async def test_spool_without_room_answers_452_and_takes_mail_again_later() -> None:
    async with Inbound() as inbound, inbound.caller() as caller:
        inbound.partition.refuses = SpoolFull("no room")
        await caller.hello()
        assert (await caller.ask("MAIL FROM:<a@b.example>")).startswith("452 4.3.1")
        inbound.partition.refuses = None
        await caller.envelope()
        inbound.partition.refuses = SpoolFull("no room")
        assert (await caller.content(MESSAGE)).startswith("452 4.3.1")
        inbound.partition.refuses = None
        await caller.envelope()

        assert (await caller.content(MESSAGE)).startswith("250 2.0.0")
        assert len(inbound.admitted) == 1


async def test_broken_spool_never_answers_250() -> None:
    async with Inbound() as inbound, inbound.caller() as caller:
        inbound.partition.error = SpoolBroken("fsync failed")
        await caller.envelope()

        assert (await caller.content(MESSAGE)).startswith("451 4.3.0")
        assert inbound.admitted == []


async def test_bdat_chunks_make_one_message() -> None:
    async with Inbound() as inbound, inbound.caller() as caller:
        await caller.envelope()
        caller.send(b"BDAT 6\r\nA: b\r\nBDAT 2\r\n\r\nBDAT 4 LAST\r\n.end")

        replies = await caller.replies(3)

        assert replies[0] == "250 2.0.0 6 octets received"
        assert replies[1] == "250 2.0.0 8 octets received"
        assert replies[2].startswith("250 2.0.0 OK, queued as ")
        assert inbound.partition.bodies[0].endswith(b"\r\nA: b\r\n\r\n..end\r\n")


@pytest.mark.parametrize(
    ("talk", "codes"),
    [
        (b"BDAT 4 LAST\r\na\rb\n", ["550"]),
        (b"BDAT 0 LAST\r\n", ["250"]),
        (b"BDAT 2\r\nx\nBDAT 3 LAST\r\ny\r\n", ["250", "550"]),
        (b"BDAT 3\r\nA\r\nDATA\r\nRCPT TO:<x@y.example>\r\nRSET\r\n", ["250", "503", "503", "250"]),
        (b"BDAT 99 last\r\n" + b"x" * 97 + b"\r\nNOOP\r\n", ["250", "250"]),
    ],
)
async def test_bdat_in_odd_order(talk: bytes, codes: list[str]) -> None:
    async with Inbound() as inbound, inbound.caller() as caller:
        await caller.envelope()
        caller.send(talk)

        assert [reply[:3] for reply in await caller.replies(len(codes))] == codes


@pytest.mark.parametrize(
    "talk",
    [
        b"BDAT\r\n",
        b"BDAT -1\r\n",
        b"BDAT 5 FIRST\r\n",
        b"BDAT 99999999999999999999\r\n",
        b"BDAT 9999999999999999999 LAST\r\n",
    ],
)
async def test_bdat_whose_end_nobody_knows_ends_the_connection(talk: bytes) -> None:
    async with Inbound() as inbound, inbound.caller() as caller:
        await caller.envelope()
        caller.send(talk + b"QUIT\r\n")

        assert (await caller.reply())[:3] in ("501", "552")
        assert await caller.is_closed()


async def test_bdat_without_a_sender_swallows_its_octets() -> None:
    async with Inbound() as inbound, inbound.caller() as caller:
        await caller.hello()
        caller.send(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")

        assert (await caller.reply()).startswith("503 5.5.1")
        assert (await caller.reply()).startswith("250 2.0.0")
        assert inbound.partition.stored == []


async def test_reload_reaches_a_connection_at_its_next_message() -> None:
    async with Inbound() as inbound, inbound.caller() as caller:
        await caller.envelope()
        await caller.content(MESSAGE)
        inbound.snapshot = snapshot_of(source="always-allow-relaying no", epoch=2)

        assert await caller.codes("MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>") == [
            "250 2.1.0",
            "550 5.7.1",
        ]


async def test_draining_lets_a_message_finish_and_then_says_goodbye() -> None:
    async with Inbound() as inbound, inbound.caller() as idle, inbound.caller() as busy:
        await busy.envelope()
        await busy.ask("DATA")

        inbound.listener.close()

        assert (await idle.reply()).startswith("421 4.3.2")
        assert await idle.is_closed()
        busy.send(MESSAGE + b".\r\n")
        assert (await busy.reply()).startswith("250 2.0.0")
        assert (await busy.reply()).startswith("421 4.3.2")
        assert await busy.is_closed()


async def test_who_greets_anew_while_we_drain_begins_no_other_transaction() -> None:
    async with Inbound() as inbound, inbound.caller() as caller:
        await caller.envelope()
        inbound.listener.close()

        assert (await caller.ask("EHLO again.example")).startswith("250")
        assert (await caller.ask("MAIL FROM:<a@b.example>")).startswith("421 4.3.2")
        assert await caller.is_closed()


async def test_unforeseen_error_is_temporary_and_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(conversation: Conversation, argument: bytes) -> None:
        raise RuntimeError("secret detail")

    async with Inbound() as inbound, inbound.caller() as caller:
        monkeypatch.setattr(inbound.acceptance, "accept", fail)
        await caller.envelope()

        assert await caller.content(MESSAGE) == "421 4.3.0 Internal error, closing connection"
        assert await caller.is_closed()


async def test_status_line_of_a_connection() -> None:
    async with Inbound() as inbound, inbound.caller():
        assert [repr(guest) for guest in inbound.reception.guests] == ["<Conversation 127.0.0.1 commands>"]
        assert repr(inbound.listener) == "<Listener sockets=1 <Reception guests=1 receiving=0>>"
