"""A worker that is killed knows again what it has had, and nothing that it has not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mta.errors import SpoolCorrupt
from mta.message.envelope import Envelope
from mta.service.colleagues import SOCKET_NAME
from mta.service.namelog import LOG_FILES, NameLog, boot_id
from mta.service.share import Verdict
from mta.spool.settlelog import Cursor, write_cursor
from tests.support.pair import (
    Member,
    begin_again,
    brought,
    damage,
    delivered_by,
    envelope,
    offered,
    owned_by,
    share,
)

pytestmark = [pytest.mark.both_loops, pytest.mark.timeout(60)]

HERE, THERE = owned_by(0), owned_by(1)


def begun(spool: Path, number: int = 1, *, workers: int = 2) -> Member:
    """A worker that has read its disk, and that nobody can reach but `brought`."""
    member = Member(spool, number, workers=workers)
    member.look()
    member.recover()
    return member


async def taken_and_killed(spool: Path, message: Envelope, *, is_delivered: bool = False) -> None:
    """Worker 1 has taken a share, perhaps delivered it, and is no more."""
    other = begun(spool)
    assert await brought(other, message) is Verdict.TAKEN
    if is_delivered:
        await other.settle_all()
    await other.die()


def logs(partition: Path) -> list[str]:
    return [name for name in LOG_FILES if (partition / name).exists()]


async def test_a_share_that_was_delivered_before_the_owner_was_killed_is_not_delivered_again(
    tmp_path: Path,
) -> None:
    """The giver was killed as well, before it heard the answer, and offers the share again."""
    message = envelope("Q1", THERE)
    one, other = await delivered_by(tmp_path, message)
    await other.die()

    for _ in range(2):
        other = await begin_again(one, tmp_path)
        assert await offered(one, message, again=True) is Verdict.TAKEN
        assert not other.queued
        assert (other.crew.intake.taken, other.crew.intake.recognised) == (0, 1)
        await other.die()
    await one.close()


async def test_a_share_that_waits_when_the_owner_is_killed_is_known_before_the_disk_is_read(
    tmp_path: Path,
) -> None:
    message = envelope("Q1", THERE)
    await taken_and_killed(tmp_path, message)

    other = Member(tmp_path, 1)
    other.look()
    assert await brought(other, message) is Verdict.TAKEN
    assert await brought(other, envelope("Q2", THERE)) is Verdict.REFUSED, "perhaps it is there, unread"
    other.recover()
    assert other.queued == {f"Q1.0@{THERE}": 1}
    await other.close()


async def test_a_share_that_was_passed_on_before_a_kill_and_comes_back_is_stored(tmp_path: Path) -> None:
    message = envelope("Q1", THERE)
    one, other = begun(tmp_path, 0), begun(tmp_path)
    assert await brought(one, message) is Verdict.TAKEN  # it is worker 1's
    await other.crew.intake.open(tmp_path / "1" / SOCKET_NAME)
    one.crew.colleagues[1].start()
    await one.until(lambda: not one.crew.passage.waiting)
    assert other.queued == {f"Q1.0@{THERE}": 1}
    await other.close()
    await one.die()

    one = begun(tmp_path, 0)
    assert not one.partition.recipients
    assert await brought(one, message) is Verdict.TAKEN
    assert one.crew.intake.taken == one.partition.recipients == 1
    await one.close()


async def test_a_share_that_was_damaged_before_a_kill_gives_way_to_the_copy_that_comes(
    tmp_path: Path,
) -> None:
    message = envelope("Q1", THERE)
    await taken_and_killed(tmp_path, message)
    damage(tmp_path / "1", b"body\r\n")

    for _ in range(2):  # the second time it is in quarantine already
        other = begun(tmp_path)
        assert share(message).name not in other.crew.intake.names
        await other.die()
    other = begun(tmp_path)
    assert await brought(other, message) is Verdict.TAKEN
    assert other.queued == {f"Q1.0@{THERE}": 1}
    await other.close()


async def test_a_share_found_damaged_while_it_waits_is_not_known_after_a_kill(tmp_path: Path) -> None:
    message = envelope("Q1", THERE)
    await begun(tmp_path).die()
    other = begun(tmp_path)
    assert await brought(other, message) is Verdict.TAKEN
    number = other.entered[0][0]
    await other.die()
    other = begun(tmp_path)
    damage(tmp_path / "1", b"body\r\n")
    with pytest.raises(SpoolCorrupt):
        other.partition.load(number)  # as a delivery does
    await other.until(lambda: not other.partition.recipients)
    await other.die()

    # Whatever the partition says of damage, the log itself knows.
    log = NameLog(tmp_path / "1", loop=asyncio.get_running_loop(), boot=boot_id(), is_whole=True)
    assert not log.found
    log.close()
    other = begun(tmp_path)
    assert await brought(other, message) is Verdict.TAKEN
    assert other.queued == {f"Q1.0@{THERE}": 1}
    await other.close()


async def test_names_of_another_start_of_the_machine_are_not_believed(tmp_path: Path) -> None:
    other = begun(tmp_path)
    await other.close()
    message = envelope("Q1", THERE)
    log = NameLog(tmp_path / "1", loop=asyncio.get_running_loop(), boot="another", is_whole=True)
    log.add(share(message).name, 1)
    log.flush()
    log.close()

    other = begun(tmp_path)
    assert await brought(other, message) is Verdict.TAKEN
    assert other.queued == {f"Q1.0@{THERE}": 1}
    await other.close()


async def test_a_number_that_is_another_messages_now_is_not_the_shares(tmp_path: Path) -> None:
    """As in a spool that somebody has put back."""
    other = begun(tmp_path)
    assert await brought(other, envelope("Q1", THERE)) is Verdict.TAKEN
    number = other.entered[0][0]
    await other.close()
    log = NameLog(tmp_path / "1", loop=asyncio.get_running_loop(), boot=boot_id(), is_whole=True)
    message = envelope("Q2", THERE)
    log.add(share(message).name, number)
    log.flush()
    log.close()

    other = begun(tmp_path)
    assert await brought(other, message) is Verdict.TAKEN
    assert other.queued == {f"Q1.0@{THERE}": 1, f"Q2.0@{THERE}": 1}
    await other.close()


async def test_a_worker_alone_keeps_no_log_and_removes_one(tmp_path: Path) -> None:
    await taken_and_killed(tmp_path, envelope("Q1", THERE), is_delivered=True)
    assert logs(tmp_path / "1")
    (tmp_path / "1").rename(tmp_path / "0")

    alone = begun(tmp_path, 0, workers=1)
    assert await alone.submit(envelope("Q2", HERE)) is None
    assert not logs(tmp_path / "0")
    await alone.close()


async def test_the_log_of_an_adopted_partition_is_removed(tmp_path: Path) -> None:
    await taken_and_killed(tmp_path, envelope("Q1", THERE), is_delivered=True)
    (tmp_path / "1" / "quarantine").mkdir()
    (tmp_path / "1" / "quarantine" / "damaged").touch()  # so that it stays

    alone = await Member(tmp_path, 0, workers=1, adopted=[1]).open()
    write_cursor(tmp_path / "1", Cursor(1 << 40))
    await alone.crew.adopt()
    assert (tmp_path / "1").exists()
    assert not logs(tmp_path / "1")
    await alone.close()


async def test_a_worker_whose_spool_broke_leaves_no_names(tmp_path: Path) -> None:
    other = begun(tmp_path)
    assert await brought(other, envelope("Q1", THERE)) is Verdict.TAKEN
    other.crew.lose_names()
    assert not logs(tmp_path / "1")
    await other.die()


async def test_an_end_in_good_order_leaves_no_log(tmp_path: Path) -> None:
    other = begun(tmp_path)
    assert await brought(other, envelope("Q1", THERE)) is Verdict.TAKEN
    await other.close()
    assert not logs(tmp_path / "1")
