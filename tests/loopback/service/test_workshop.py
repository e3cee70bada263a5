"""The workshop of the tests leaves nothing open when it can't be set up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.workshop import Workshop


async def test_workshop_that_cannot_open_closes_what_it_had_opened(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, extra="no-such-directive yes")

    with pytest.raises(AssertionError, match="no-such-directive"):
        async with shop:
            pass

    assert shop.receiver.addresses == []
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*shop.nameserver.address)
