"""By what name a share is recognised that comes again, and when its name must not count any more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec import structs

from mta.errors import SpoolCorrupt
from mta.message.envelope import Envelope, encode_envelope
from mta.service.colleagues import SOCKET_NAME
from mta.service.share import FrameReader, Verdict, encode_taken, share_of
from mta.service.sharenames import NAMES_FILE, ShareNames
from mta.spool.settlelog import Cursor, write_cursor
from tests.support.pair import (
    SECONDS,
    Member,
    begin_again,
    brought,
    damage,
    delivered_by,
    envelope,
    offered,
    owned_by,
    pair,
    share,
)

pytestmark = [pytest.mark.both_loops, pytest.mark.timeout(60)]

HERE, THERE = owned_by(0), owned_by(1)


class Listener:
    """In place of worker 1: takes frames, and answers for what it has got when it is told to."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.came = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self, spool: Path) -> Listener:
        (spool / "1").mkdir()
        self._server = await asyncio.start_unix_server(self._serve, spool / "1" / SOCKET_NAME)
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        frames = FrameReader()
        while data := await reader.read(65536):
            for frame in frames.feed(data):
                self.numbers.append(frame.number)
                self.came.set()

    async def next(self) -> None:
        """Wait for one more share."""
        async with asyncio.timeout(SECONDS):
            await self.came.wait()
        self.came.clear()

    def take(self) -> None:
        """Say that what has come is on our disk."""
        numbers, self.numbers = self.numbers, []
        self._writers[-1].write(encode_taken(numbers))

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    def close(self) -> None:
        self.hang_up()
        self._server.close()


async def stored(member: Member, message: Envelope) -> int:
    """The number of a message that is in a worker's partition, and in no queue."""
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    member.partition.accept(
        encode_envelope(message), [b"body\r\n"], lambda number, _error: done.set_result(number), message
    )
    async with asyncio.timeout(SECONDS):
        return await done


async def leaving(spool: Path, message: Envelope) -> tuple[Member, Listener]:
    """Worker 0 has taken a share that is worker 1's, and has just offered it there."""
    one = await Member(spool, 0).open()
    assert await brought(one, message) is Verdict.TAKEN
    colleague = await Listener().open(spool)
    await colleague.next()
    return one, colleague


async def test_a_share_that_was_delivered_before_an_end_in_good_order_is_recognised_in_all_lives_that_follow(
    tmp_path: Path,
) -> None:
    message = envelope("Q1", THERE)
    one, other = await delivered_by(tmp_path, message)
    await other.close()

    for is_killed in (True, False, True):
        other = await begin_again(one, tmp_path)
        assert await offered(one, message, again=True) is Verdict.TAKEN
        assert not other.queued
        assert not (tmp_path / "1" / NAMES_FILE).exists()
        await (other.die() if is_killed else other.close())
    await one.close()


async def test_one_address_given_twice_arrives_twice_when_its_recipients_move_one_by_one(
    tmp_path: Path,
) -> None:
    one, other = await pair(tmp_path)
    message = envelope("Q1", THERE)
    message = structs.replace(message, recipients=message.recipients * 2)
    number = await stored(one, message)
    between = await stored(one, envelope("Q2", THERE))

    # As when one of the two had an attempt behind it, and came to stand behind other mail.
    for place, recipient in ((number, 0), (between, 0), (number, 1)):
        one.crew.passage.add(1, place, recipient)
    await one.until(lambda: not one.crew.passage.waiting)

    assert other.queued == {f"Q1.0@{THERE}": 2, f"Q2.0@{THERE}": 1}
    await other.close()
    other = await begin_again(one, tmp_path)
    assert other.queued == {f"Q1.0@{THERE}": 2, f"Q2.0@{THERE}": 1}
    # Both are still known, each by itself.
    for recipient in (0, 1):
        alone = share_of(message, b"", [b"body\r\n"], [recipient]).envelope
        assert await offered(one, alone, again=True) is Verdict.TAKEN
    assert other.crew.intake.recognised == 2
    await one.close()
    await other.close()


async def test_what_an_adopted_partition_held_is_not_recognised_when_it_comes_back(tmp_path: Path) -> None:
    one, other = await pair(tmp_path)
    assert await one.submit(envelope("Q1", THERE)) is None
    await one.close()
    await other.close()
    # A partition with something to look at stays when it has been emptied.
    (tmp_path / "1" / "quarantine").mkdir()
    (tmp_path / "1" / "quarantine" / "damaged").touch()

    alone = await Member(tmp_path, 0, workers=1, adopted=[1]).open()
    write_cursor(tmp_path / "1", Cursor(1 << 40))
    await alone.crew.adopt()
    assert alone.queued == {f"Q1.0@{THERE}": 1}
    await alone.close()

    one, other = await pair(tmp_path)
    await one.until(lambda: not one.crew.passage.waiting)
    assert other.queued == {f"Q1.0@{THERE}": 1}
    await one.close()
    await other.close()


async def test_a_share_is_not_taken_from_a_worker_that_may_be_taking_it_from_us(tmp_path: Path) -> None:
    """As when a reload has reached one of two workers that both have the share."""
    message = envelope("Q1", THERE)
    one, colleague = await leaving(tmp_path, message)

    assert await brought(one, message) is Verdict.REFUSED, "both would be rid of it"

    colleague.take()
    await one.until(lambda: not one.crew.passage.waiting)
    assert await brought(one, message) is Verdict.TAKEN
    assert one.crew.intake.taken == 2, "it has come back, and is on our disk again"
    colleague.close()
    await one.close()


async def test_a_share_whose_owner_has_gone_without_an_answer_is_ours_again(tmp_path: Path) -> None:
    message = envelope("Q1", THERE)
    one, colleague = await leaving(tmp_path, message)
    colleague.close()
    await one.until(lambda: not one.crew.colleagues[1].is_up)

    assert await brought(one, message) is Verdict.TAKEN
    assert one.crew.intake.recognised == 1
    assert one.partition.recipients == 1
    await one.close()


async def test_a_share_that_waits_here_for_its_owner_is_recognised_when_the_owner_brings_it(
    tmp_path: Path,
) -> None:
    """The owner had taken it without our hearing, and is its owner no more."""
    message = envelope("Q1", THERE)
    one = await Member(tmp_path, 0).open()
    assert await one.submit(message) is None

    assert await brought(one, message) is Verdict.TAKEN

    assert one.crew.passage.waiting == one.partition.recipients == 1
    await one.close()


async def test_a_share_that_the_start_finds_damaged_gives_way_to_the_copy_that_comes(tmp_path: Path) -> None:
    message = envelope("Q1", THERE)
    other = await Member(tmp_path, 1).open()
    assert await brought(other, message) is Verdict.TAKEN
    await other.close()
    damage(tmp_path / "1", b"Q1.0@")

    other = await Member(tmp_path, 1).open()
    assert not other.queued
    assert await brought(other, message) is Verdict.TAKEN
    assert other.queued == {f"Q1.0@{THERE}": 1}
    await other.close()


@pytest.mark.parametrize("is_noticed", [False, True])
async def test_a_share_that_is_damaged_while_it_waits_gives_way_to_the_copy_that_comes(
    tmp_path: Path, *, is_noticed: bool
) -> None:
    message = envelope("Q1", THERE)
    other = await Member(tmp_path, 1).open()
    assert await brought(other, message, b"the first body\r\n") is Verdict.TAKEN
    await other.close()
    other = await Member(tmp_path, 1).open()
    damage(tmp_path / "1", b"the first body")
    if is_noticed:
        with pytest.raises(SpoolCorrupt):
            other.partition.load(other.entered[0][0])  # as a delivery does
        await other.until(lambda: not other.partition.recipients)

    assert await brought(other, message, b"the first body\r\n") is Verdict.TAKEN

    await other.until(lambda: other.partition.recipients == 1)
    assert other.partition.load(other.entered[1][0]).body == b"the first body\r\n"
    await other.close()


async def test_only_shares_that_all_have_got_are_named_to_the_next_life(tmp_path: Path) -> None:
    one, other = await pair(tmp_path)
    assert await offered(one, envelope("Q1", THERE)) is Verdict.TAKEN
    await other.settle_all()
    assert await offered(one, envelope("Q2", THERE)) is Verdict.TAKEN
    await one.close()
    await other.close()

    names = ShareNames.taken(tmp_path / "1")
    assert share(envelope("Q1", THERE)).name in names
    assert len(names) == 1


async def test_names_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    (tmp_path / NAMES_FILE).symlink_to(tmp_path / NAMES_FILE)
    assert not ShareNames.taken(tmp_path)
    assert not list(tmp_path.iterdir())
