"""One message stays one message, by every way in and at the far end.

The contents hold what various servers have taken for the end of a message, and a second message behind it.
By SMTP such content is refused, or arrives as text; `mta-sendmail` and `mta send` make lines of it first.
What arrives is checked octet by octet: no bare CR or LF, no lone dot, and nobody but those it was sent to.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Awaitable, Callable
from pathlib import Path

from mta.sink.options import ReceiverOptions
from tests.support.service import World

MARKS = {
    "lf": b"\n.\n",
    "lf-cr": b"\n.\r",
    "cr-lf": b"\r.\n",
    "cr": b"\r.\r",
    "lf-crlf": b"\n.\r\n",
    "cr-crlf": b"\r.\r\n",
    "crlf-lf": b"\r\n.\n",
    "crlf-cr": b"\r\n.\r",
    "nul-before": b"\r\n\0.\r\n",
    "nul-behind": b"\r\n.\0\r\n",
    "crlf-crcrlf": b"\r\n.\r\r\n",
    "crcrlf": b"\r\r\n.\r\r\n",
    "crlf": b"\r\n.\r\n",
    "two-dots": b"\r\n..\r\n",
    "vt": b"\x0b.\x0b",
    "nel": b"\xc2\x85.\xc2\x85",
}
TOGETHER = {
    "marks": b"x".join(mark for mark in MARKS.values() if b"\0" not in mark),
    "nul": MARKS["nul-before"],
}
SECOND = (
    b"MAIL FROM:<evil@x.example>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nSubject: second\r\n\r\nsecond"
)


def content(mark: bytes) -> bytes:
    return b"Subject: first\r\n\r\nfirst" + mark + SECOND + mark


async def by_smtp(world: World, recipient: str, text: bytes, *, chunked: bool) -> None:
    """Content as it is; what the server says does not matter here, but that it stays in step does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    envelope = f"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<{recipient}>\r\n".encode()
    if chunked:
        writer.write(envelope + b"BDAT %d LAST\r\n%b" % (len(text), text) + b"QUIT\r\n")
    else:
        writer.write(envelope + b"DATA\r\n" + text + b"\r\n.\r\nQUIT\r\n")
    async with asyncio.timeout(20):
        await reader.read()
    writer.close()


async def by_data(world: World, recipient: str, text: bytes) -> None:
    # CRLF.CRLF is the end, and commands behind it are commands: that is no smuggling.
    if b"\r\n.\r\n" not in text:
        await by_smtp(world, recipient, text, chunked=False)


async def by_chunks(world: World, recipient: str, text: bytes) -> None:
    await by_smtp(world, recipient, text, chunked=True)


async def by_program(text: bytes, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL
    )
    async with asyncio.timeout(30):
        await process.communicate(text)


async def by_sendmail(world: World, recipient: str, text: bytes) -> None:
    server = f"127.0.0.1:{world.port}"
    await by_program(text, "-m", "mta.cli.sendmail", "-i", "--server", server, "-f", "a@b.example", recipient)


async def by_send(world: World, recipient: str, text: bytes) -> None:
    body = world.directory / f"{recipient}.txt"
    body.write_bytes(text)
    await by_program(
        b"", "-m", "mta", "send", "--server", f"127.0.0.1:{world.port}", "--from", "a@b.example",
        "--body", f"@{body}", "--to", recipient,
    )  # fmt: skip


Way = Callable[[World, str, bytes], Awaitable[None]]
#: A program costs half a second, so it gets all marks at once, and those with a NUL apart.
WAYS: dict[str, tuple[Way, dict[str, bytes]]] = {
    "data": (by_data, MARKS),
    "chunks": (by_chunks, MARKS),
    "sendmail": (by_sendmail, TOGETHER),
    "send": (by_send, TOGETHER),
}


def faults(data: bytes) -> list[str]:
    """What must not be on the wire."""
    left = data.replace(b"\r\n", b"")
    return [
        name
        for name, is_there in {
            "bare CR": b"\r" in left,
            "bare LF": b"\n" in left,
            "lone dot": b"\r\n.\r\n" in b"\r\n" + data,
            "NUL": b"\0" in data,
            "no line end": not data.endswith(b"\r\n"),
        }.items()
        if is_there
    ]


async def test_no_message_becomes_two(tmp_path: Path) -> None:
    options = ReceiverOptions()
    async with World(tmp_path, domains=("example.com",), options=options) as world:
        for way, (send, marks) in WAYS.items():
            async with asyncio.TaskGroup() as company:
                for name, mark in marks.items():
                    company.create_task(send(world, f"{way}.{name}@example.com", content(mark)))
        await world.until_empty(30)
        deliveries = list(world.deliveries)

        assert "Traceback" not in world.log(), world.log()
    seen = [recipient for delivery in deliveries for recipient in delivery.recipients]
    assert len(set(seen)) == len(seen)
    assert not [address for address in seen if address.startswith("victim")]
    assert {delivery.sender for delivery in deliveries} <= {"a@b.example"}
    wrong = {
        delivery.recipients[0]: faults(delivery.data) for delivery in deliveries if faults(delivery.data)
    }
    assert wrong == {}
    arrived = {way: sum(address.startswith(way + ".") for address in seen) for way in WAYS}
    # By SMTP only what is text; by the programs everything but what holds a NUL.
    assert arrived == {"data": 3, "chunks": 4, "sendmail": 1, "send": 1}
