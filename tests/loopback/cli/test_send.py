"""`mta send`: what goes over the wire, what is printed, and the exit code."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from pathlib import Path

import pytest

from mta.cli.send import Letter
from mta.errors import LocalProtocolError
from tests.support.mailhost import MailHost, mail_host


@dataclass
class Ended:
    code: int
    output: str
    errors: str


async def send(host: MailHost | None, *arguments: str, stdin: bytes = b"") -> Ended:
    server = ("--server", host.address) if host is not None else ()
    code = "import sys; from mta.cli.main import main; sys.exit(main())"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, "send", *server, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    output, errors = await process.communicate(stdin)
    assert process.returncode is not None
    return Ended(process.returncode, output.decode(), errors.decode())


async def test_a_test_message_arrives_and_the_reply_is_printed() -> None:
    async with mail_host() as host:
        ended = await send(host, "--to", "bob@example.net", "--from", "alice@example.com", "--body", "hello")

    assert (ended.code, ended.output) == (0, "250 2.0.0 queued as ABC\n")
    (letter,) = host.letters
    assert (letter.sender, letter.recipients) == ("alice@example.com", ["bob@example.net"])
    assert letter.content.endswith(b"\r\n\r\nhello\r\n")
    assert b"Subject: Test message\r\n" in letter.content


async def test_virtual_mta_job_and_header_fields_go_with_it() -> None:
    async with mail_host() as host:
        await send(
            host, "--to", "bob@example.net", "--vmta", "v1", "--job", "j1",
            "--header", "List-Unsubscribe: <https://example.com>", "--header", "Subject:other",
        )  # fmt: skip

    content = host.letters[0].content
    assert b"X-Virtual-MTA: v1\r\n" in content
    assert b"X-Job: j1\r\n" in content
    assert b"List-Unsubscribe: <https://example.com>\r\n" in content
    assert content.count(b"Subject:") == 1


async def test_the_body_from_a_file_and_from_standard_input(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("grüße\n")
    async with mail_host() as host:
        await send(host, "--to", "b@example.net", "--body", f"@{tmp_path}/text")
        await send(host, "--to", "b@example.net", "--body", "-", stdin=b".dots\n..\n")

    assert "BODY=8BITMIME" in host.letters[0].options
    assert host.letters[0].content.endswith("\r\n\r\ngrüße\r\n".encode())
    assert host.letters[1].content.endswith(b"\r\n\r\n.dots\r\n..\r\n")


async def test_one_refused_recipient_does_not_stop_the_others() -> None:
    async with mail_host() as host:
        host.replies["bad@example.net"] = "550 5.1.1 no such user"
        ended = await send(host, "--to", "bad@example.net", "--to", "bob@example.net")

    assert ended.code == 69
    assert ended.output == "<bad@example.net>: 550 5.1.1 no such user\n250 2.0.0 queued as ABC\n"
    assert host.letters[0].recipients == ["bob@example.net"]


async def test_try_again_later_is_exit_code_75() -> None:
    async with mail_host() as host:
        host.replies["DATA"] = "452 4.3.1 full"
        ended = await send(host, "--to", "bob@example.net", "--json")

    answer = json.loads(ended.output)
    assert ended.code == 75
    assert answer["status"] == "failure"
    assert answer["data"]["answers"] == [{"recipient": "", "code": 452, "text": "4.3.1 full"}]


async def test_many_messages_over_several_connections_are_counted() -> None:
    async with mail_host() as host:
        ended = await send(
            host, "--to", "b@example.net", "--count", "20", "--connections", "3", "--size", "2000"
        )

    assert (ended.code, ended.output) == (0, "20 of 20 messages accepted\n")
    assert host.sessions == 3
    assert len({letter.content for letter in host.letters}) == 20
    assert {len(letter.content) for letter in host.letters} == {2000}


async def test_refusals_of_many_messages_are_summed_up() -> None:
    async with mail_host() as host:
        host.replies["b@example.net"] = "550 5.1.1 no"
        ended = await send(host, "--to", "b@example.net", "--count", "3")

    assert (ended.code, ended.output) == (69, "3 x 550 5.1.1 no\n0 of 3 messages accepted\n")


async def test_report_options_and_foreign_addresses() -> None:
    async with mail_host() as host:
        ended = await send(
            host, "--to", "jürgen@example.net", "--notify", "success", "--ret", "full", "--envid", "E1"
        )

    assert ended.code == 0, ended.errors
    assert host.letters[0].parameters == ["RET=FULL", "ENVID=E1", "NOTIFY=SUCCESS"]
    assert "SMTPUTF8" in host.letters[0].options


async def test_no_server_and_wrong_usage_have_exit_codes() -> None:
    alone = await send(None, "--to", "b@example.net", "--server", "127.0.0.1:1")
    assert (alone.code, alone.errors) == (69, "mta: 127.0.0.1 port 1: Connection refused\n")
    assert (await send(None, "--to", "b@example.net", "--server", "nowhere")).code == 64
    assert (await send(None, "--to", "b@example.net", "--header", "nonsense")).code == 64
    assert (await send(None, "--to", "b@example.net", "--body", "@/nonexistent")).code == 64


@pytest.mark.parametrize("size", [0, 500, 1000, 1001, 1002, 1003, 5000])
def test_a_message_is_filled_up_to_its_size(size: int) -> None:
    content = Letter("a@example.com", ["b@example.net"], size=size).content()

    assert len(content) >= size - 2
    assert content.endswith(b"\r\n")


def test_a_header_can_not_be_broken_open() -> None:
    with pytest.raises(LocalProtocolError):
        Letter("a@b", ["c@d"], subject="x\r\nBcc: everybody").content()
