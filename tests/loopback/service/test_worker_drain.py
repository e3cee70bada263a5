"""How a worker ends: what is under way is finished, what is promised is on disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.inbound import Caller
from tests.support.workshop import Workshop

pytestmark = pytest.mark.both_loops

CONTENT = b"Subject: late\r\n\r\nStill under way.\r\n"


async def test_a_client_within_its_message_is_answered_before_the_spool_closes(tmp_path: Path) -> None:
    async with Workshop(tmp_path) as shop, Caller(shop.port) as caller:
        await caller.envelope("late@example.com")
        assert (await caller.ask("DATA")).startswith("354")
        draining = asyncio.create_task(shop.worker.drain(20.0))
        # Nothing is being delivered: that side is through at once.
        await shop.turn()
        await shop.turn()

        caller.send(CONTENT + b".\r\n")
        answers = await caller.replies(2)
        async with asyncio.timeout(5.0):
            await draining

        assert answers[0].startswith("250 2.0.0 OK, queued as")
        assert answers[1].startswith("421 4.3.2")
    async with Workshop(tmp_path) as again:
        async with asyncio.timeout(10.0):
            while not again.deliveries:
                await again.turn()
        assert again.deliveries[0].recipients == ("late@example.com",)
