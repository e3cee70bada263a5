"""What the kill loop's receiver writes down about a delivery."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.reliability.arena import Arena


async def test_a_delivery_is_on_the_books_with_the_moment_behind_its_reply(tmp_path: Path) -> None:
    arena = Arena(tmp_path)
    written: list[int] = []
    replied = arena.watched.replied

    def watched() -> None:
        written.append(len(arena.evidence.arrivals))
        replied()

    arena.watched.replied = watched
    async with asyncio.timeout(10), arena.surroundings():
        reader, writer = await asyncio.open_connection("127.0.0.1", arena.receiver.port)
        for command in (b"HELO a", b"MAIL FROM:<a@example.org>", b"RCPT TO:<b.0@example.com>", b"DATA"):
            await reader.readline()
            writer.write(command + b"\r\n")
        await reader.readline()
        writer.write(b"Subject: b\r\n\r\nbody\r\n.\r\n")
        assert (await reader.readline()).startswith(b"250")
        writer.close()

        (arrival,) = arena.evidence.arrivals
        assert arrival.recipient == "b.0@example.com"
        assert arrival.said == arrival.left >= arrival.at > 0
        assert written[-1] == 0, "nothing is noted before the reply has been written"
