"""Clients that leave without a word, at every point of a session: nothing stays, and nothing is lost."""

from __future__ import annotations

import pytest

from tests.support.inbound import Inbound

pytestmark = pytest.mark.both_loops

#: A session in the pieces in which it is sent; what is stored once a piece has been read.
SESSION = (
    (b"", 0),
    (b"EH", 0),
    (b"LO x\r\n", 0),
    (b"MAIL FROM:<a@b.example>\r\n", 0),
    (b"RCPT TO:<c@d.example>\r\n", 0),
    (b"DATA\r\n", 0),
    (b"Subject: x\r\n", 0),
    (b"\r\ntext", 0),
    (b"\r\n.", 0),
    (b"\r\n", 1),
    (b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 10\r\nA: b", 1),
    (b"\r\n\r\nxx", 1),
    (b"BDAT 3 LAST\r\nend", 2),
    (b"AUTH PLAIN\r\n", 2),
    (b"QUIT\r\n", 2),
)
POINTS = range(1, len(SESSION) + 1)


def talk(point: int) -> bytes:
    return b"".join(piece for piece, _ in SESSION[:point])


@pytest.mark.parametrize("point", POINTS)
async def test_a_reset_leaves_nothing_behind(point: int) -> None:
    async with Inbound() as inbound:
        async with inbound.caller() as caller:
            caller.send(talk(point))
            await caller.flush()
            caller.reset()
        await inbound.reception.empty.wait()

        # A reset may overtake what was sent before it.
        assert len(inbound.partition.stored) <= SESSION[point - 1][1]
        assert inbound.reception.receiving == 0
        assert inbound.reception.guests == set()


@pytest.mark.parametrize("point", POINTS)
async def test_half_a_connection_is_answered_and_closed(point: int) -> None:
    async with Inbound() as inbound:
        async with inbound.caller() as caller:
            caller.send(talk(point))
            caller.writer.write_eof()
            while await caller.reply():
                pass
        await inbound.reception.empty.wait()

        assert len(inbound.partition.stored) == SESSION[point - 1][1]
        assert inbound.reception.receiving == 0
        assert len(inbound.admitted) == len(inbound.partition.stored)
