"""`mta-sendmail` as cron, PHP and mail programs call it, as a process of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass

import pytest

from mta.cli.sendmail import prepare
from tests.support.mailhost import mail_host

MESSAGE = (
    b"To: Bob <bob@example.net>\nCc: carol@example.net,\n dave@example.net\nBcc: eve@example.net\n\nbody\n"
)


@dataclass
class Ended:
    code: int
    output: bytes
    errors: str


async def sendmail(*arguments: str, stdin: bytes = MESSAGE, server: str = "") -> Ended:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mta.cli.sendmail", *arguments,
        stdin=PIPE, stdout=PIPE, stderr=PIPE, env={**os.environ, "MTA_SERVER": server},
    )  # fmt: skip
    output, errors = await process.communicate(stdin)
    assert process.returncode is not None
    return Ended(process.returncode, output, errors.decode())


async def test_a_message_goes_to_the_addresses_on_the_command_line() -> None:
    async with mail_host() as host:
        ended = await sendmail("-f", "alice@example.com", "zoe@example.net", server=host.address)

    assert (ended.code, ended.errors) == (0, "")
    (letter,) = host.letters
    assert letter.sender == "alice@example.com"
    assert letter.recipients == ["zoe@example.net"]
    assert letter.content.endswith(b"\r\n\r\nbody\r\n")
    assert b"Bcc" not in letter.content


async def test_t_takes_recipients_from_the_header_and_hides_bcc() -> None:
    async with mail_host() as host:
        ended = await sendmail("-t", "-i", "zoe@example.net", server=host.address)

    assert ended.code == 0
    assert host.letters[0].recipients == [
        "zoe@example.net", "bob@example.net", "carol@example.net", "dave@example.net", "eve@example.net",
    ]  # fmt: skip
    assert b"eve@" not in host.letters[0].content


@pytest.mark.parametrize(
    ("flag", "body"), [("-i", b"a\r\n.\r\nb\r\n"), ("-oi", b"a\r\n.\r\nb\r\n"), ("-U", b"a\r\n")]
)
async def test_a_single_dot_ends_the_message_unless_told_otherwise(flag: str, body: bytes) -> None:
    async with mail_host() as host:
        await sendmail(flag, "bob@example.net", stdin=b"Subject: x\n\na\n.\nb\n", server=host.address)

    assert host.letters[0].content.endswith(b"\r\n\r\n" + body)


async def test_all_the_flags_that_programs_use_are_taken() -> None:
    async with mail_host() as host:
        ended = await sendmail(
            "-FAlice A", "-fa@example.com", "-B8BITMIME", "-odb", "-oem", "-O", "DeliveryMode=b", "-h", "3",
            "-U", "-v", "-q", "-G", "-Ltag", "--", "bob@example.net", server=host.address,
        )  # fmt: skip

    assert (ended.code, ended.errors) == (0, "")
    assert b"From: Alice A <a@example.com>\r\n" in host.letters[0].content


async def test_report_options_go_with_the_message() -> None:
    async with mail_host() as host:
        await sendmail(
            "-N", "failure,delay", "-R", "hdrs", "-V", "id+1", "bob@example.net", server=host.address
        )

    assert host.letters[0].parameters == ["RET=HDRS", "ENVID=ID+2B1", "NOTIFY=FAILURE,DELAY"]


async def test_eight_bit_text_and_foreign_addresses_are_announced() -> None:
    async with mail_host() as host:
        ended = await sendmail(
            "-i", "jürgen@example.net", stdin="Subject: x\n\ngrüße\n".encode(), server=host.address
        )

    assert ended.code == 0
    assert {"BODY=8BITMIME", "SMTPUTF8"} <= set(host.letters[0].options)
    assert "grüße".encode() in host.letters[0].content


@pytest.mark.parametrize("null", ["<>", ""])
async def test_the_null_sender(null: str) -> None:
    async with mail_host() as host:
        await sendmail("-f", null, "bob@example.net", server=host.address)

    assert host.letters[0].sender == ""


@pytest.mark.parametrize(
    ("replies", "code"),
    [
        ({"bad@example.net": "550 5.1.1 no such user"}, 67),
        ({"bad@example.net": "451 4.7.1 later"}, 75),
        ({"alice@example.com": "550 5.7.1 who are you"}, 77),
        ({"DATA": "554 5.6.0 content"}, 69),
        ({"DATA": "452 4.3.1 full"}, 75),
    ],
)
async def test_a_refusal_is_an_exit_code_and_nobody_gets_anything(replies: dict[str, str], code: int) -> None:
    async with mail_host() as host:
        host.replies = replies
        ended = await sendmail(
            "-f", "alice@example.com", "good@example.net", "bad@example.net", server=host.address
        )

    assert ended.code == code
    assert next(iter(replies.values())) in ended.errors
    assert host.letters == []


async def test_no_server_is_a_temporary_failure() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        ended = await sendmail("bob@example.net", server=f"127.0.0.1:{free.getsockname()[1]}")

    assert ended.code == 75
    assert "no server at 127.0.0.1" in ended.errors


async def test_a_server_that_hangs_up_is_a_temporary_failure() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        ended = await sendmail("bob@example.net", server=f"127.0.0.1:{server.sockets[0].getsockname()[1]}")

    assert ended.code == 75


@pytest.mark.parametrize("arguments", [(), ("-t",), ("--nonsense",), ("-bd",), ("--server", "x:y", "a@b")])
async def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    ended = await sendmail(*arguments, stdin=b"Subject: x\n\nbody\n")

    assert ended.code == 64
    assert "mta-sendmail" in ended.errors


async def test_an_smtp_session_on_standard_input() -> None:
    async with mail_host() as host:
        ended = await sendmail("-bs", stdin=b"EHLO me\r\nQUIT\r\n", server=host.address)

    assert ended.code == 0
    assert ended.output.startswith(b"220 mailhost.test")
    assert ended.output.endswith(b"221 Bye\r\n")


async def test_rebuilding_aliases_is_nothing_to_do() -> None:
    assert (await sendmail("-bi")).code == 0


def test_what_a_message_lacks_is_added() -> None:
    message, recipients = prepare(
        b"Subject: x\n\nbody", ["root"], sender="alice@example.com", full_name="Alice", from_header=False
    )

    assert recipients == [f"root@{socket.gethostname()}"]
    assert b"From: Alice <alice@example.com>\r\n" in message
    assert b"\r\nDate: " in message
    assert b"\r\nMessage-ID: <" in message
    assert message.endswith(b"\r\nSubject: x\r\n\r\nbody\r\n")


def test_what_a_message_has_stays_as_it_is() -> None:
    original = b"From: a@b\r\nDate: x\r\nMessage-ID: <y>\r\nX-Odd : z\r\n\r\n body \r\n"

    message, _ = prepare(original, ["c@d"], sender="e@f", full_name="", from_header=False)

    assert message == original


@pytest.mark.parametrize("text", [b"", b"just a body\n", b"\nbody\n"])
def test_a_message_without_a_header_gets_one(text: bytes) -> None:
    message, _ = prepare(text, ["c@d"], sender="e@f", full_name="", from_header=False)

    head, _, body = message.partition(b"\r\n\r\n")
    assert head.startswith(b"From: e@f\r\n")
    assert body == text.lstrip(b"\n").replace(b"\n", b"\r\n")
