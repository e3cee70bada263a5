"""The mock receiver over real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiosmtplib
import pytest

from mta.sink.answers import Answers, DomainAnswers
from mta.sink.counters import Delivery
from mta.sink.receiver import Receiver, ReceiverOptions, Tls
from mta.sink.script import parse_script

pytestmark = pytest.mark.both_loops


class Caller:
    """A client that speaks a line at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def reply(self) -> str:
        """One whole reply, its lines joined by `|`."""
        lines = []
        async with asyncio.timeout(10):
            while True:
                line = (await self.reader.readline()).decode().rstrip("\r\n")
                lines.append(line)
                if line[3:4] != "-":
                    return "|".join(lines)

    async def say(self, text: str) -> str:
        self.writer.write(text.encode() + b"\r\n")
        return await self.reply()

    async def ended(self) -> bool:
        """Whether the server has hung up without another word."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True

    async def message(self, recipient: str = "a@example.com", body: str = "Subject: x\r\n\r\nhello") -> str:
        """One transaction; the reply that ended it."""
        for line in ("MAIL FROM:<s@example.org>", f"RCPT TO:<{recipient}>", "DATA"):
            reply = await self.say(line)
            if reply[0] not in "23":
                return reply
        return await self.say(body + "\r\n.")


@asynccontextmanager
async def call(receiver: Receiver, *, greet: bool = True, local: str | None = None) -> AsyncIterator[Caller]:
    """A connection, its greeting and EHLO behind it."""
    address = (local, 0) if local else None
    reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port, local_addr=address)
    caller = Caller(reader, writer)
    try:
        if greet:
            assert (await caller.reply()).startswith("220 ")
            assert (await caller.say("EHLO client.example")).startswith("250")
        yield caller
    finally:
        writer.close()


async def test_message_is_accepted_and_counted() -> None:
    async with Receiver() as receiver, call(receiver) as caller:
        reply = await caller.message()

        assert reply == "250 2.0.0 Ok: queued as 1"
        assert (receiver.totals.messages, receiver.totals.accepted, receiver.totals.open) == (1, 1, 1)
        assert receiver.greetings == {"client.example": 1}
        assert receiver.options.answers.totals()["example.com"].messages == 1


async def test_extensions_follow_the_options() -> None:
    options = ReceiverOptions(
        pipelining=False, smtputf8=False, max_size=5000, tls=Tls.STARTTLS, host_name="mx.x"
    )
    async with Receiver(options) as receiver, call(receiver) as caller:
        reply = await caller.say("EHLO again")

    assert reply == "250-mx.x|250-STARTTLS|250-ENHANCEDSTATUSCODES|250-SIZE 5000|250 8BITMIME"


async def test_helo_gets_one_line() -> None:
    async with Receiver() as receiver, call(receiver, greet=False) as caller:
        await caller.reply()

        assert await caller.say("HELO old.example") == "250 sink.example"


async def test_delivery_carries_who_what_and_whence() -> None:
    seen: list[Delivery] = []
    options = ReceiverOptions(delivered=seen.append)
    async with Receiver(options) as receiver, call(receiver, local="127.0.0.3") as caller:
        await caller.say("MAIL FROM:<s@example.org> SIZE=100")
        await caller.say("RCPT TO:<a@example.com>")
        await caller.say("RCPT TO:<ü@example.net>")
        await caller.say("DATA")
        await caller.say("Subject: x\r\n\r\n..dot\r\n.")

    assert seen == [
        Delivery(
            id="1",
            sender="s@example.org",
            recipients=("a@example.com", "ü@example.net"),
            client="127.0.0.3",
            greeting="client.example",
            connection=1,
            size=21,
            data=b"Subject: x\r\n\r\n..dot\r\n",
            tls="",
        )
    ]


async def test_everything_in_one_write_is_answered_in_order() -> None:
    envelope = "MAIL FROM:<>\r\nRCPT TO:<a@example.com>\r\nDATA\r\n"
    body = "Subject: x\r\n\r\nhi\r\n.\r\n"
    async with Receiver() as receiver, call(receiver) as caller:
        caller.writer.write((envelope + body + envelope + body + "QUIT\r\n").encode())
        codes = [(await caller.reply())[:3] for _ in range(9)]

        assert codes == ["250", "250", "354", "250", "250", "250", "354", "250", "221"]
        assert await caller.ended()
    assert receiver.totals.messages == 2


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 7])
async def test_end_of_data_is_found_however_the_bytes_are_cut(step: int) -> None:
    seen: list[Delivery] = []
    wire = b"MAIL FROM:<s@x>\r\nRCPT TO:<a@y>\r\nDATA\r\nA: b\r\n\r\n.\r\r\n..\r\n\r\n.\r\nQUIT\r\n"
    async with Receiver(ReceiverOptions(delivered=seen.append)) as receiver, call(receiver) as caller:
        transport = caller.writer.transport
        for start in range(0, len(wire), step):
            transport.write(wire[start : start + step])
            await asyncio.sleep(0)
        codes = [(await caller.reply())[:3] for _ in range(5)]

    assert codes == ["250", "250", "354", "250", "221"]
    assert seen[0].data == b"A: b\r\n\r\n.\r\r\n..\r\n\r\n"
    assert seen[0].size == len(seen[0].data)


async def test_empty_message_is_a_dot_alone() -> None:
    seen: list[Delivery] = []
    async with Receiver(ReceiverOptions(delivered=seen.append)) as receiver, call(receiver) as caller:
        for line in ("MAIL FROM:<s@x>", "RCPT TO:<a@y>", "DATA"):
            await caller.say(line)

        assert (await caller.say(".")).startswith("250")
    assert seen[0].data == b""


async def test_commands_out_of_order_are_refused() -> None:
    async with Receiver() as receiver, call(receiver, greet=False) as caller:
        await caller.reply()
        assert (await caller.say("MAIL FROM:<a@b>")).startswith("503")
        await caller.say("EHLO x")
        assert (await caller.say("RCPT TO:<a@b>")).startswith("503")
        assert (await caller.say("DATA")).startswith("503")
        await caller.say("MAIL FROM:<a@b>")
        assert (await caller.say("MAIL FROM:<a@b>")).startswith("503")
        assert (await caller.say("DATA")).startswith("554")
        assert (await caller.say("RSET")).startswith("250")
        assert (await caller.say("WHAT")).startswith("500")
        assert (await caller.say("NOOP")).startswith("250")


async def test_shares_defer_and_refuse_at_rcpt() -> None:
    answers = Answers(
        DomainAnswers(), {"no.example": DomainAnswers(refuse=1), "later.example": DomainAnswers(defer=1)}
    )
    async with Receiver(ReceiverOptions(answers=answers)) as receiver, call(receiver) as caller:
        await caller.say("MAIL FROM:<s@x>")
        replies = [await caller.say(f"RCPT TO:<a@{name}.example>") for name in ("no", "later", "yes")]

        assert [reply[:9] for reply in replies] == ["550 5.1.1", "451 4.7.1", "250 2.1.5"]
        totals = receiver.totals
        assert (totals.accepted, totals.deferred, totals.refused) == (0, 1, 1)


async def test_verdict_at_the_dot_holds_for_the_whole_message() -> None:
    answers = Answers(DomainAnswers(refuse=1.0, at_dot=True, refuse_reply=b"554 5.7.1 spam"))
    async with Receiver(ReceiverOptions(answers=answers)) as receiver, call(receiver) as caller:
        assert await caller.message() == "554 5.7.1 spam"
        assert (receiver.totals.messages, receiver.totals.refused) == (0, 1)


async def test_message_over_the_size_is_refused_at_the_dot() -> None:
    async with Receiver(ReceiverOptions(max_size=10)) as receiver, call(receiver) as caller:
        assert (await caller.message()).startswith("552 5.3.4")


async def test_recipient_over_the_limit_is_deferred() -> None:
    async with Receiver(ReceiverOptions(max_recipients=1)) as receiver, call(receiver) as caller:
        await caller.say("MAIL FROM:<s@x>")
        await caller.say("RCPT TO:<a@y>")

        assert (await caller.say("RCPT TO:<b@y>")).startswith("452 4.5.3")


async def test_connection_over_the_total_is_turned_away() -> None:
    async with (
        Receiver(ReceiverOptions(max_connections=1)) as receiver,
        call(receiver),
        call(receiver, greet=False) as second,
    ):
        assert (await second.reply()).startswith("421 4.3.2")
        assert await second.ended()
    assert (receiver.totals.peak, receiver.totals.refused_connections) == (2, 1)


async def test_connections_are_limited_for_each_client_address() -> None:
    async with (
        Receiver(ReceiverOptions(max_connections_per_ip=1)) as receiver,
        call(receiver, local="127.0.0.2"),
        call(receiver, local="127.0.0.3"),
        call(receiver, greet=False, local="127.0.0.2") as third,
    ):
        assert (await third.reply()).startswith("421 4.7.0")

    assert receiver.clients["127.0.0.2"].refused == 1
    assert receiver.clients["127.0.0.3"].refused == 0


async def test_message_over_the_connection_limit_ends_it() -> None:
    async with Receiver(ReceiverOptions(max_messages_per_connection=2)) as receiver, call(receiver) as caller:
        assert (await caller.message()).startswith("250")
        assert (await caller.message()).startswith("250")
        assert (await caller.message()).startswith("421 4.7.0")
        assert await caller.ended()


async def test_latency_holds_the_reply_to_the_dot_back_and_no_other() -> None:
    async with Receiver(ReceiverOptions(latency=0.08)) as receiver, call(receiver) as caller:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for line in ("MAIL FROM:<s@x>", "RCPT TO:<a@y>", "DATA"):
            await caller.say(line)
        before_dot = loop.time() - begun
        await caller.say("hello\r\n.")

        assert before_dot < 0.08 <= loop.time() - begun + 0.002


async def test_latency_before_every_reply_keeps_their_order() -> None:
    async with (
        Receiver(ReceiverOptions(latency=0.02, every_reply=True)) as receiver,
        call(receiver) as caller,
    ):
        caller.writer.write(b"NOOP\r\n")
        await asyncio.sleep(0)
        caller.writer.write(b"WHAT\r\n")
        replies = [await caller.reply(), await caller.reply()]

        assert [reply[:3] for reply in replies] == ["250", "500"]


async def test_starttls_encrypts_and_forgets_what_was_said_before() -> None:
    seen: list[Delivery] = []
    options = ReceiverOptions(tls=Tls.STARTTLS, delivered=seen.append)
    async with Receiver(options) as receiver, peer(receiver) as client:
        await client.ehlo()
        await client.starttls(tls_context=unverified())
        refused, _ = await client.execute_command(b"MAIL FROM:<s@x>")
        hello = await client.ehlo(hostname="secret.example")
        await client.sendmail("s@example.org", ["a@example.com"], b"Subject: x\r\n\r\nhello\r\n")

    assert refused == 503
    assert "STARTTLS" not in hello.message
    assert seen[0].tls == "TLSv1.3"
    assert seen[0].greeting == "secret.example"
    assert receiver.totals.tls == 1


async def test_what_is_sent_behind_starttls_in_clear_is_never_executed() -> None:
    async with Receiver(ReceiverOptions(tls=Tls.STARTTLS)) as receiver, call(receiver) as caller:
        caller.writer.write(b"STARTTLS\r\nQUIT\r\n")

        assert (await caller.reply()).startswith("220")
        caller.writer.write(b"no handshake")
        assert await caller.ended()
    assert receiver.totals.quits == 0


async def test_failed_handshake_only_ends_that_connection() -> None:
    async with Receiver(ReceiverOptions(tls=Tls.STARTTLS)) as receiver:
        async with call(receiver) as caller:
            await caller.say("STARTTLS")
            caller.writer.write(b"this is no handshake\r\n")
            await caller.reader.read()
        async with call(receiver) as caller:
            assert (await caller.say("NOOP")).startswith("250")


async def test_implicit_tls_begins_with_the_handshake() -> None:
    async with Receiver(ReceiverOptions(tls=Tls.IMPLICIT)) as receiver:
        reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port, ssl=unverified())
        caller = Caller(reader, writer)

        assert (await caller.reply()).startswith("220")
        await caller.say("QUIT")
        writer.close()
    assert receiver.totals.tls == 1


@asynccontextmanager
async def peer(receiver: Receiver) -> AsyncIterator[aiosmtplib.SMTP]:
    """A client that is not ours and can speak TLS on both loops."""
    client = aiosmtplib.SMTP(
        hostname="127.0.0.1", port=receiver.port, start_tls=False, local_hostname="peer.example"
    )
    await client.connect()
    try:
        yield client
    finally:
        client.close()


def unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def scripted(text: str) -> Receiver:
    return Receiver(ReceiverOptions(script=parse_script(text)))


async def test_scripted_greeting_refuses_and_hangs_up() -> None:
    async with scripted("CONNECT 421 4.3.2 busy") as receiver, call(receiver, greet=False) as caller:
        assert await caller.reply() == "421 4.3.2 busy"
        assert await caller.ended()


async def test_scripted_refusal_of_the_sender_leaves_the_transaction_closed() -> None:
    async with scripted("MAIL x1 451 4.7.1 greylisted") as receiver, call(receiver) as caller:
        assert (await caller.message()) == "451 4.7.1 greylisted"
        assert (await caller.message()).startswith("250")


async def test_scripted_recipients_are_refused_one_by_one() -> None:
    async with scripted("RCPT /^bad/ 550 5.1.1 unknown") as receiver, call(receiver) as caller:
        assert (await caller.message("bad@example.com")) == "550 5.1.1 unknown"
        await caller.say("RSET")
        assert (await caller.message("good@example.com")).startswith("250")
        assert receiver.totals.refused == 1


@pytest.mark.parametrize("stage", ["EHLO", "MAIL", "RCPT", "DATA", "DOT", "QUIT"])
@pytest.mark.parametrize("action", ["close", "reset"])
async def test_script_hangs_up_at_any_stage_without_a_reply(stage: str, action: str) -> None:
    async with scripted(f"{stage} {action}") as receiver, call(receiver, greet=False) as caller:
        await caller.reply()
        commands = ["EHLO x", "MAIL FROM:<s@x>", "RCPT TO:<a@y>", "DATA", "text\r\n.", "QUIT"]
        for command in commands[: ["EHLO", "MAIL", "RCPT", "DATA", "DOT", "QUIT"].index(stage)]:
            await caller.say(command)
        last = commands[["EHLO", "MAIL", "RCPT", "DATA", "DOT", "QUIT"].index(stage)]
        caller.writer.write(last.encode() + b"\r\n")

        assert await caller.ended()


async def test_reply_421_in_a_script_ends_the_connection() -> None:
    async with scripted("DOT 421 4.7.0 go away") as receiver, call(receiver) as caller:
        assert await caller.message() == "421 4.7.0 go away"
        assert await caller.ended()
        assert receiver.totals.deferred == 1


async def test_silence_swallows_one_reply_only() -> None:
    async with scripted("NOOP silence") as receiver, call(receiver) as caller:
        caller.writer.write(b"NOOP\r\n")

        assert (await caller.say("RSET")).startswith("250")


async def test_raw_bytes_and_dripping_reach_the_client() -> None:
    script = 'EHLO raw "250-a\\r\\n250 \\xff\\r\\n"\nNOOP drip 1ms 250 slow'
    async with scripted(script) as receiver, call(receiver, greet=False) as caller:
        await caller.reply()
        caller.writer.write(b"EHLO x\r\nNOOP\r\nRSET\r\n")
        lines = [await caller.reader.readline() for _ in range(4)]

    assert lines == [b"250-a\r\n", b"250 \xff\r\n", b"250 slow\r\n", b"250 2.0.0 Ok\r\n"]


async def test_endless_command_line_ends_the_connection() -> None:
    async with Receiver() as receiver, call(receiver) as caller:
        caller.writer.write(b"x" * 10000)

        assert (await caller.reply()).startswith("421")
        assert await caller.ended()


async def test_connection_lost_in_the_middle_of_data_is_counted() -> None:
    async with Receiver() as receiver:
        async with call(receiver) as caller:
            for line in ("MAIL FROM:<s@x>", "RCPT TO:<a@y>", "DATA"):
                await caller.say(line)
        async with call(receiver) as caller:
            await caller.say("NOOP")

        assert receiver.totals.lost == 1
        assert receiver.totals.messages == 0


async def test_receiver_listens_on_several_addresses() -> None:
    async with Receiver() as receiver:
        await receiver.start("127.0.0.2", 0)

        assert [host for host, _ in receiver.addresses] == ["127.0.0.1", "127.0.0.2"]
        assert repr(receiver) == "<Receiver open=0 connections=0 messages=0>"
