"""Hand-over between two workers over real sockets and real partitions, with accidents at every place."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from mta.clock import SystemClock
from mta.service.colleagues import SOCKET_NAME, Colleague
from mta.service.intake import Intake, Visitor
from mta.service.share import Verdict
from mta.spool.options import SpoolOptions
from mta.spool.partition import Partition
from tests.support.pair import Member, begin_again, envelope, offered, owned_by, pair, share

pytestmark = [pytest.mark.both_loops, pytest.mark.timeout(60)]

HERE, THERE = owned_by(0), owned_by(1)


async def test_each_owner_has_its_share_on_disk_when_acceptance_is_told(tmp_path: Path) -> None:
    one, other = await pair(tmp_path)

    assert await one.submit(envelope("Q1", HERE, THERE, HERE, THERE)) is None

    assert one.queued == {f"Q1.0@{HERE}": 1, f"Q1.2@{HERE}": 1}
    assert other.queued == {f"Q1.1@{THERE}": 1, f"Q1.3@{THERE}": 1}
    assert (one.partition.stats().recipients, other.partition.stats().recipients) == (2, 2)
    await one.close()
    await other.close()
    again = await Member(tmp_path, 1).open()
    assert again.queued == {f"Q1.1@{THERE}": 1, f"Q1.3@{THERE}": 1}
    await again.close()


async def test_a_large_body_arrives_whole(tmp_path: Path) -> None:
    one, other = await pair(tmp_path)
    body = bytes(range(32, 127)) * 40_000

    assert await one.submit(envelope("Q1", THERE), body) is None

    (number,) = await numbers(other)
    assert other.partition.load(number).body == body
    await one.close()
    await other.close()


async def test_workers_that_begin_together_keep_nothing_for_each_other(tmp_path: Path) -> None:
    beginning = asyncio.create_task(Member(tmp_path, 0).open())
    while not (tmp_path / "0" / SOCKET_NAME).exists():
        await asyncio.sleep(0)
    assert not beginning.done(), "the other one is about to come"

    other = await Member(tmp_path, 1).open()
    one = await beginning
    assert await one.submit(envelope("Q1", THERE)) is None

    assert other.queued == {f"Q1.0@{THERE}": 1}
    assert one.crew.handover.held == 0
    await one.close()
    await other.close()


async def test_what_an_absent_owner_cannot_take_is_kept_and_passed_on_when_it_comes(tmp_path: Path) -> None:
    one = await Member(tmp_path, 0).open()

    assert await one.submit(envelope("Q1", HERE, THERE)) is None
    assert one.queued == {f"Q1.0@{HERE}": 1}
    assert one.crew.passage.waiting == 1

    other = await Member(tmp_path, 1).open()
    await one.until(lambda: other.queued)
    await one.until(lambda: not one.crew.passage.waiting)
    assert other.queued == {f"Q1.1@{THERE}": 1}
    await one.close()
    await other.close()


async def test_what_was_kept_survives_a_restart(tmp_path: Path) -> None:
    one = await Member(tmp_path, 0).open()
    assert await one.submit(envelope("Q1", THERE)) is None
    await one.close()

    one, other = await pair(tmp_path)
    await one.until(lambda: other.queued)
    assert other.queued == {f"Q1.0@{THERE}": 1}
    assert not one.queued
    await one.close()
    await other.close()


async def test_a_share_that_comes_again_is_recognised(tmp_path: Path) -> None:
    one, other = await pair(tmp_path)
    message = envelope("Q1", THERE)

    assert await offered(one, message) is Verdict.TAKEN
    assert await offered(one, message, again=True) is Verdict.TAKEN
    assert other.queued == {f"Q1.0@{THERE}": 1}

    await other.close()
    other = await begin_again(one, tmp_path)
    assert await offered(one, message, again=True) is Verdict.TAKEN
    assert other.queued == {f"Q1.0@{THERE}": 1}
    assert other.crew.intake.recognised == 1
    await one.close()
    await other.close()


async def test_a_share_that_comes_again_while_it_is_being_stored_is_stored_once_and_everybody_hears(
    tmp_path: Path,
) -> None:
    one, other = await pair(tmp_path)
    verdicts: list[Verdict] = []
    for _ in range(3):
        other.crew.intake.take(share(envelope("Q1", THERE)), verdicts.append, again=True)

    await other.until(lambda: verdicts)

    assert verdicts == [Verdict.TAKEN] * 3
    assert other.queued == {f"Q1.0@{THERE}": 1}
    assert other.crew.intake.taken == 1
    await one.close()
    await other.close()


async def test_shares_for_which_the_owner_has_no_room_are_refused(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    full = Partition.open(tmp_path / "1", options=SpoolOptions(deliver_only=True), loop=loop)
    admitted: list[object] = []
    intake = Intake(
        partition=full, admit=lambda *share: admitted.append(share), clock=SystemClock(), loop=loop
    )
    intake.knows_all = True
    await intake.open(tmp_path / "1" / SOCKET_NAME)
    one = await Member(tmp_path, 0).open()
    await one.until(lambda: one.crew.colleagues[1].is_up)

    assert await offered(one, envelope("Q1", THERE)) is Verdict.REFUSED
    assert await offered(one, envelope("Q2", THERE), again=True) is Verdict.REFUSED
    assert not admitted
    assert full.stats().messages == 0
    await one.close()
    intake.close()
    full.close()


async def test_shares_offered_in_the_turn_in_which_the_way_is_closed_are_unknown_and_never_leave(
    tmp_path: Path,
) -> None:
    one, other = await pair(tmp_path)
    verdicts: list[Verdict] = []

    for name in ("Q1", "Q2"):
        one.crew.colleagues[1].offer(share(envelope(name, THERE)), verdicts.append)
    one.crew.colleagues[1].close()

    assert verdicts == [Verdict.UNKNOWN, Verdict.UNKNOWN]
    await other.until(lambda: not other.crew.intake.visitors)
    assert not other.queued
    await one.close()
    await other.close()


async def test_who_has_not_read_its_disk_takes_nothing_that_it_may_have(tmp_path: Path) -> None:
    one = await Member(tmp_path, 0).open()
    other = Member(tmp_path, 1)
    other.look()
    await other.crew.open()
    await one.until(lambda: one.crew.colleagues[1].is_up)

    assert await offered(one, envelope("Q1", THERE), again=True) is Verdict.REFUSED
    assert await offered(one, envelope("Q2", THERE)) is Verdict.TAKEN
    other.recover()
    assert await offered(one, envelope("Q1", THERE), again=True) is Verdict.TAKEN
    assert other.queued == {f"Q1.0@{THERE}": 1, f"Q2.0@{THERE}": 1}
    await one.close()
    await other.close()


async def test_shares_of_a_colleague_that_dies_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    visits: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        await visits.put(writer)

    silent = await asyncio.start_unix_server(swallow, tmp_path / "1" / SOCKET_NAME)
    one = await Member(tmp_path, 0).open()
    await one.until(lambda: one.crew.colleagues[1].is_up)
    answer = asyncio.get_running_loop().create_task(offered(one, envelope("Q1", THERE)))
    (await visits.get()).close()

    assert await answer is Verdict.UNKNOWN
    silent.close()
    await one.close()


async def test_a_colleague_that_never_answers_holds_a_client_up_only_once(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    visits: list[asyncio.StreamWriter] = []

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(writer)
        while await reader.read(65536):
            pass

    silent = await asyncio.start_unix_server(swallow, tmp_path / "1" / SOCKET_NAME)
    one = await Member(tmp_path, 0).open()
    loop = asyncio.get_running_loop()
    await one.until(lambda: one.crew.colleagues[1].is_up)

    began = loop.time()
    assert await one.submit(envelope("Q1", THERE)) is None
    assert loop.time() - began < 6.0
    began = loop.time()
    for number in range(20):
        assert await one.submit(envelope(f"R{number}", THERE)) is None
    assert loop.time() - began < 2.0
    assert one.crew.passage.waiting == 21
    for writer in visits:
        writer.close()
    silent.close()
    await one.close()


async def test_rubbish_on_the_socket_ends_the_connection_and_nothing_else(tmp_path: Path) -> None:
    one, other = await pair(tmp_path)
    reader, writer = await asyncio.open_unix_connection(tmp_path / "1" / SOCKET_NAME)
    writer.write(b"GET / HTTP/1.0\r\n\r\n" * 10)
    async with asyncio.timeout(5.0):
        assert await reader.read() == b""
    writer.close()

    assert await one.submit(envelope("Q1", THERE)) is None
    assert other.queued == {f"Q1.0@{THERE}": 1}
    await one.close()
    await other.close()


async def test_who_comes_in_while_we_close_is_not_left_with_nobody(tmp_path: Path) -> None:
    one = await Member(tmp_path, 0).open()
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    await one.close()
    # Accepted just before the end, and seen by its protocol just after.
    await loop.connect_accepted_socket(lambda: Visitor(one.crew.intake), ours)
    with theirs:
        async with asyncio.timeout(5.0):
            assert await loop.sock_recv(theirs, 1) == b""


async def test_only_our_own_account_may_hand_over(tmp_path: Path) -> None:
    one = await Member(tmp_path, 0).open()

    assert (tmp_path / "0" / SOCKET_NAME).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "0").stat().st_mode & 0o777 == 0o700
    await one.close()
    assert not (tmp_path / "0" / SOCKET_NAME).exists()


async def test_a_deep_directory_does_not_matter(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    one, other = await pair(deep)

    assert await one.submit(envelope("Q1", THERE)) is None
    assert other.queued == {f"Q1.0@{THERE}": 1}
    await one.close()
    await other.close()


async def test_a_share_for_somebody_else_goes_on_to_its_owner(tmp_path: Path) -> None:
    """As happens while a reload has reached one worker and not the other."""
    one, other = await pair(tmp_path)

    assert await offered(one, envelope("Q1", HERE)) is Verdict.TAKEN
    await one.until(lambda: one.queued)
    assert one.queued == {f"Q1.0@{HERE}": 1}
    assert not other.queued
    await one.close()
    await other.close()


async def test_an_orphan_is_emptied_with_its_attempts_and_kept_until_its_records_are_read(
    tmp_path: Path,
) -> None:
    three = await Member(tmp_path, 2, workers=3).open()
    mine = [f"d{k}.example" for k in range(50) if three.crew.layout.owner(f"d{k}.example") == 2]
    assert await three.submit(envelope("Q1", *mine)) is None
    (number,) = await numbers(three)
    three.partition.defer(number, 0, attempts=3, due=5e9, event=None)
    await three.close()

    one, other = await Member(tmp_path, 0, adopted=[2]).open(), await Member(tmp_path, 1).open()
    adoption = asyncio.get_running_loop().create_task(one.crew.adopt())
    await one.until(lambda: len(one.queued) + len(other.queued) == len(mine))
    assert max((one.queued + other.queued).values()) == 1
    assert {**one.attempts, **other.attempts}[f"Q1.0@{mine[0]}"] == 3
    assert (tmp_path / "2").is_dir(), "nobody has read its records yet"
    adoption.cancel()
    await asyncio.wait({adoption})
    await one.close()
    await other.close()


async def numbers(member: Member) -> list[int]:
    """The message numbers in a partition that has taken one message."""
    return [number for number in range(1, 100_000) if member.partition.size(number)][:1]


def test_a_colleague_shows_what_it_is_up_to(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    assert repr(Colleague(3, tmp_path / "x", loop=loop)) == "<Colleague 3 down waiting=0>"
    loop.close()
