"""A partition on real event loops, real threads and a real disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mta.errors import SpoolError
from mta.spool.pace import Pace
from mta.spool.partition import Partition, SpoolOptions
from mta.spool.settlelog import Cursor, EventReader
from tests.support.spool import envelope


async def cycles(partition: Partition, writers: int, count: int) -> list[int]:
    """So many writers put and settle messages, each when it has its answer; the ids in order of answers."""
    answered: list[int] = []
    done = asyncio.get_running_loop().create_future()
    left = count

    def put() -> None:
        nonlocal left
        if left:
            left -= 1
            partition.accept(envelope(), [b"x" * 3000], stored)

    def stored(message: int, error: SpoolError | None) -> None:
        assert error is None
        answered.append(message)
        partition.settle(message, 0, b"d %d" % message)
        put()
        if len(answered) == count:
            done.set_result(None)

    for _ in range(writers):
        put()
    await asyncio.wait_for(done, 30)
    return answered


async def one_turn() -> None:
    """Let the loop do what is ready."""
    turned = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    await turned


async def flushed(partition: Partition) -> SpoolError | None:
    verdict: asyncio.Future[SpoolError | None] = asyncio.get_running_loop().create_future()
    partition.flush(verdict.set_result)
    return await asyncio.wait_for(verdict, 30)


@pytest.mark.both_loops
@pytest.mark.parametrize("inline_limit", [0, 5, 1000])
async def test_everything_put_is_answered_in_order_and_everything_settled_is_gone(
    tmp_path: Path, inline_limit: int
) -> None:
    options = SpoolOptions(
        segment_size=256 << 10, settle_size=64 << 10, pace=Pace(inline_limit=inline_limit, slow_sync=10.0)
    )
    partition = Partition.open(tmp_path, options=options, loop=asyncio.get_running_loop())

    answered = await cycles(partition, 20, 600)

    assert answered == sorted(answered)
    assert await flushed(partition) is None
    stats = partition.stats()
    assert (stats.messages, stats.backlog, stats.broken) == (0, 0, "")
    reader = EventReader(tmp_path)
    assert reader.read(Cursor(), 10_000)[0] == [b"d %d" % message for message in answered]
    reader.close()
    partition.close()
    again = Partition.open(tmp_path, options=options, loop=asyncio.get_running_loop())
    assert list(again.recovered()) == []
    again.close()


@pytest.mark.both_loops
async def test_outcomes_are_on_disk_soon_without_anybody_asking(tmp_path: Path) -> None:
    partition = Partition.open(tmp_path, options=SpoolOptions(), loop=asyncio.get_running_loop())
    await cycles(partition, 1, 1)
    reader = EventReader(tmp_path)

    async with asyncio.timeout(30):
        while not reader.read(Cursor(), 1)[0]:
            await one_turn()

    assert 0 < partition.stats().window_p99 <= 0.512
    reader.close()
    partition.close()


@pytest.mark.both_loops
async def test_closing_in_the_middle_answers_everybody(tmp_path: Path) -> None:
    partition = Partition.open(
        tmp_path, options=SpoolOptions(pace=Pace(inline_limit=0)), loop=asyncio.get_running_loop()
    )
    answers: list[SpoolError | None] = []
    for _ in range(50):
        partition.accept(envelope(), [b"x"], lambda message, error: answers.append(error))
    await one_turn()

    partition.close()

    assert answers == [None] * 50
