"""Connection limits of groups of sources, through the listener."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.inbound import Caller
from tests.support.workshop import Workshop

pytestmark = pytest.mark.both_loops

GROUP = """
<source-group app>
    max-smtp-in 2
</source-group>
<source 127.0.0.1>
    source-group app
</source>
"""


async def test_a_group_that_has_its_connections_is_told_to_come_again(tmp_path: Path) -> None:
    async with Workshop(tmp_path, extra=GROUP) as shop:
        async with Caller(shop.port) as one, Caller(shop.port) as two:
            assert (await one.ask("NOOP")).startswith("250")
            assert (await two.ask("NOOP")).startswith("250")
            async with Caller(shop.port) as three:
                assert three.greeting.startswith("421 4.7.0 Too many connections from your group")
        async with asyncio.timeout(10.0):
            while shop.worker.listener.reception.guests:
                await shop.turn()
        async with Caller(shop.port) as next_one:
            assert next_one.greeting.startswith("220")
