from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from mta.spool.compaction import condense
from mta.spool.record import RecordKind
from mta.spool.settlelog import Cursor, EventReader, write_cursor
from mta.spool.stored import Waiting
from tests.support.spool import FaultyFiles, Spool, names


def mostly_delivered(spool: Spool, survivors: int = 3) -> list[int]:
    """Several segments of which only every tenth message is left, deferred."""
    kept = []
    for number in range(survivors * 10):
        message = spool.put(b"%04d" % number * 400, name=f"{number}", recipients=2)
        spool.settle(message, 0)
        if number % 10:
            spool.settle(message, 1)
        else:
            kept.append(message)
            spool.partition.defer(message, 1, attempts=number + 1, due=1e6 + number, event=b"t")
    spool.flush()
    return kept


def check(spool: Spool, survivors: int = 3) -> None:
    found = spool.reopen()
    assert names(found) == [f"{number}" for number in range(0, survivors * 10, 10)]
    for number, one in zip(range(0, survivors * 10, 10), found, strict=True):
        assert one.waiting == [Waiting(1, number + 1, 1e6 + number)]
        assert spool.partition.load(one.message).body == b"%04d" % number * 400


def test_survivors_move_together_and_keep_their_state(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_size=16 << 10, memory_pool=0)
    kept = mostly_delivered(spool, 10)
    before = spool.partition.stats().segments
    spool.rest(10)

    stats = spool.partition.stats()
    assert stats.segments < before / 2
    assert spool.partition._upkeep.compaction.moved_messages >= 7
    for number, message in zip(range(0, 100, 10), kept, strict=True):
        assert spool.partition.load(message).body == b"%04d" % number * 400
    check(spool, 10)


def test_moved_messages_can_be_settled_and_do_not_return(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_size=16 << 10, settle_size=8 << 10)
    for turn in range(4):
        kept = mostly_delivered(spool)
        spool.rest(3)
        if turn % 2:
            spool.reopen()
            spool.rest(3)
        for message in kept:
            spool.settle(message, 1)
        spool.flush()
        _, cursor = EventReader(tmp_path).read(Cursor(), 1_000_000)
        write_cursor(tmp_path, cursor)
        spool.rest(5)
        assert spool.reopen() == []
    assert len(list((tmp_path / "segments").iterdir())) < 14


def test_a_message_settled_while_it_is_moved_is_settled(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_size=16 << 10)
    kept = mostly_delivered(spool)
    spool.loop.advance(1.01)  # the look has begun the move
    for message in kept:
        spool.settle(message, 1)
    spool.rest(5)

    assert spool.partition.stats().bytes == 0
    assert spool.reopen() == []


def test_a_kill_between_copy_and_free_gives_each_message_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a", segment_size=16 << 10, settle_size=8 << 10)
    mostly_delivered(spool)
    spool.partition._upkeep.free = lambda files, segment: None  # type: ignore[method-assign]
    spool.partition._upkeep.compaction._free = lambda files, segment: None
    spool.rest(3)
    assert spool.partition._upkeep.compaction.moved_messages
    shutil.copytree(tmp_path / "a", tmp_path / "b")

    again = Spool(tmp_path / "b", segment_size=16 << 10, settle_size=8 << 10)
    found = list(again.partition.recovered())
    assert names(found) == ["0", "10", "20"]
    for one in found:
        again.settle(one.message, 1)
    again.flush()
    _, cursor = EventReader(tmp_path / "b").read(Cursor(), 1_000_000)
    write_cursor(tmp_path / "b", cursor)
    again.rest(10)
    assert again.reopen() == []


def test_a_full_disk_stops_compaction_and_nothing_else(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, segment_size=16 << 10, files=files)
    mostly_delivered(spool)
    spool.rest(1)
    files.capacity = 0
    spool.partition._accepts.trim(0)
    spool.rest(3)

    files.capacity = None
    check(spool)


@pytest.mark.parametrize("nth", range(1, 12))
@pytest.mark.parametrize("call", ["write", "sync", "truncate"])
def test_no_failure_during_compaction_loses_a_message(tmp_path: Path, call: str, nth: int) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, segment_size=16 << 10, files=files)
    mostly_delivered(spool)
    files.fail(call, nth, errno.EIO if nth % 2 else errno.ENOSPC)
    spool.rest(3)
    spool.partition.close()

    files.__init__()  # type: ignore[misc]
    spool.open()
    check(spool)


def test_a_damaged_survivor_stays_where_it_is_and_the_others_move(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_size=32 << 10, memory_pool=0)
    kept = mostly_delivered(spool)
    for path in (tmp_path / "segments").iterdir():
        data = path.read_bytes()
        path.write_bytes(data.replace(b"0010" * 400, b"0010" * 399 + b"x010"))
    spool.rest(5)

    assert spool.partition.load(kept[0]).body == b"0000" * 400
    assert spool.partition.load(kept[2]).body == b"0020" * 400
    assert names(spool.reopen()) == ["0", "10", "20"]


def test_condensing_keeps_one_fact_per_recipient_without_its_event(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    message = spool.put(recipients=3)
    for attempts in (1, 2, 3):
        spool.partition.defer(message, 0, attempts=attempts, due=float(attempts), event=b"t" * 100)
    spool.partition.defer(message, 1, attempts=1, due=1.0, event=b"t")
    spool.settle(message, 1)
    spool.partition.record(b"r")
    spool.flush()

    facts = condense(spool.partition._committer.settle_segment)

    assert sorted((kind, recipient) for kind, recipient, _, _ in facts) == [
        (RecordKind.SETTLE, 1),
        (RecordKind.DEFER, 0),
    ]
    assert all(len(head) <= 20 for _, _, _, head in facts)


def test_deferred_state_survives_any_number_of_condensed_files(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_size=64 << 10, settle_size=8 << 10)
    messages = [spool.put(name=f"{number}") for number in range(20)]
    done = [spool.put(name=f"done {number}") for number in range(20)]
    for message in done:
        spool.settle(message)
    reader, cursor, seen = EventReader(tmp_path), Cursor(), 0
    for attempt in range(1, 40):
        for message in messages[attempt % 2 :: 2]:
            spool.partition.defer(message, 0, attempts=attempt, due=float(attempt), event=b"t" * 200)
        spool.flush()
        events, cursor = reader.read(cursor, 10_000)
        seen += len(events)
        write_cursor(tmp_path, cursor)
        spool.rest(2)
    assert spool.partition._upkeep.compaction.condensed_files > 5
    assert spool.partition.stats().settle_files <= 7
    assert seen == 39 * 10 + 20

    found = spool.reopen()

    assert names(found) == [f"{number}" for number in range(20)]
    assert [one.waiting[0].attempts for one in found] == [38, 39] * 10


def test_cursors_that_cannot_be_read_now_are_asked_for_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", settle_size=4 << 10)
    message = spool.put()
    for attempt in range(1, 200):
        spool.partition.defer(message, 0, attempts=attempt, due=1.0, event=b"t" * 200)
        if attempt % 10 == 0:
            spool.flush()
    (tmp_path / "spool").rename(tmp_path / "elsewhere")  # as without a descriptor
    spool.partition._upkeep.compaction.look(is_full=False)
    (tmp_path / "elsewhere").rename(tmp_path / "spool")

    assert spool.partition._upkeep.compaction.condensed_files == 0
    assert [one.waiting[0].attempts for one in spool.reopen()] == [199]
