"""Limits of the whole service hold over all workers together."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.sink.receiver import ReceiverOptions
from tests.support.service import World
from tests.support.spread import DOMAINS, Account, SpreadInjector

pytestmark = pytest.mark.timeout(300)


async def deliver(tmp_path: Path, extra: str, *, messages: int = 100, headers: str = "") -> World:
    """Let two workers deliver to slow receivers; returns the world when all is delivered."""
    options = ReceiverOptions(with_bodies=False, latency=0.02)
    async with World(tmp_path, domains=DOMAINS, options=options, extra="workers 2\n" + extra) as world:
        account = Account(world)
        load = SpreadInjector(
            world.port, messages=messages, recipients=3, headers=lambda number: headers, sessions=4
        )
        await load.run()
        account.add(load)
        print(await account.check(), f"peak={world.receiver.totals.peak}")
        return world


@pytest.mark.slow
async def test_total_max_smtp_out_holds_for_all_workers_together(tmp_path: Path) -> None:
    world = await deliver(tmp_path, "total-max-smtp-out 5\n")

    assert 2 <= world.receiver.totals.peak <= 5


@pytest.mark.slow
async def test_one_connection_in_all_goes_round(tmp_path: Path) -> None:
    world = await deliver(tmp_path, "total-max-smtp-out 1\n", messages=20)

    assert world.receiver.totals.peak == 1


async def test_max_smtp_out_of_a_virtual_mta_holds_for_all_workers_together(tmp_path: Path) -> None:
    extra = "total-max-smtp-out 6\n<virtual-mta v1>\n  max-smtp-out 4\n</virtual-mta>\n"
    world = await deliver(tmp_path, extra, headers="x-virtual-mta: v1\r\n")

    assert 2 <= world.receiver.totals.peak <= 4
