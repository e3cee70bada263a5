from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mta.spool.settlelog import Cursor, EventReader, read_cursor, read_cursors, write_cursor
from tests.support.spool import Spool


def everything(directory: Path, limit: int = 7) -> list[bytes]:
    reader, cursor, found = EventReader(directory), Cursor(), []
    while True:
        events, cursor = reader.read(cursor, limit)
        if not events:
            reader.close()
            return found
        found += events


def test_events_come_in_order_and_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    message = spool.put(recipients=2)
    spool.partition.record(b"r")
    spool.partition.defer(message, 0, attempts=1, due=5.0, event=b"t")
    spool.partition.defer(message, 0, attempts=1, due=6.0, event=None)
    spool.settle(message, 0, b"d")
    spool.settle(message, 1, b"")
    spool.flush()

    assert everything(tmp_path, 1) == everything(tmp_path, 100) == [b"r", b"t", b"d"]


def test_nothing_is_seen_before_it_is_on_disk(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    reader = EventReader(tmp_path)
    spool.partition.record(b"one")
    spool.put()  # carries the record along without a sync of the settle file

    assert reader.read(Cursor(), 10)[0] == []
    spool.flush()
    assert reader.read(Cursor(), 10)[0] == [b"one"]
    reader.close()


def test_the_reader_follows_into_the_next_files_and_over_restarts(tmp_path: Path) -> None:
    spool = Spool(tmp_path, settle_size=8 << 10)
    sent: list[bytes] = []
    reader, cursor, got = EventReader(tmp_path), Cursor(), list[bytes]()
    for turn in range(6):
        for number in range(30):
            sent.append(b"%d-%d" % (turn, number) + b"." * 200)
            spool.partition.record(sent[-1])
        spool.flush()
        if turn % 2:
            spool.reopen()
        while True:
            events, cursor = reader.read(cursor, 11)
            got += events
            if not events:
                break
    assert got == sent
    assert reader.read(cursor, 10) == ([], cursor)
    reader.close()


def test_an_event_larger_than_a_file_is_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path, settle_size=8 << 10)
    spool.partition.record(b"small")
    spool.partition.record(b"L" * 50_000)
    spool.partition.record(b"after")
    spool.flush()

    assert everything(tmp_path) == [b"small", b"L" * 50_000, b"after"]


def test_a_partition_that_is_not_there_has_no_events(tmp_path: Path) -> None:
    assert EventReader(tmp_path / "none").read(Cursor(), 10) == ([], Cursor())


def test_damage_in_a_settle_file_costs_one_event(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for number in range(5):
        spool.partition.record(b"event %d" % number)
    spool.flush()
    (path,) = [path for path in (tmp_path / "settle").iterdir() if b"event 2" in path.read_bytes()]
    path.write_bytes(path.read_bytes().replace(b"event 2", b"eVent 2"))
    reader = EventReader(tmp_path)

    assert reader.read(Cursor(), 10)[0] == [b"event %d" % number for number in (0, 1, 3, 4)]
    assert reader.damaged == 1
    reader.close()


def test_a_cursor_survives_and_replaces_the_one_before(tmp_path: Path) -> None:
    write_cursor(tmp_path, Cursor(3, 5000))
    write_cursor(tmp_path, Cursor(4, 6000))
    write_cursor(tmp_path, Cursor(2, 4096), "webhooks")

    assert read_cursor(tmp_path) == Cursor(4, 6000)
    assert sorted(read_cursors(tmp_path)) == [Cursor(2, 4096), Cursor(4, 6000)]
    assert (tmp_path / "cursor.events").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "1", "1 2 4", "a b c", "\xff"])
def test_a_cursor_that_makes_no_sense_is_the_beginning(tmp_path: Path, text: str) -> None:
    (tmp_path / "cursor.events").write_text(text, "latin-1")

    assert read_cursor(tmp_path) == Cursor()


def test_without_a_cursor_every_settle_file_is_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path, settle_size=8 << 10)
    for number in range(300):
        spool.partition.record(b"%3d" % number + b"." * 200)
        if number % 30 == 0:
            spool.flush()
    spool.flush()
    spool.rest()

    assert len(everything(tmp_path)) == 300


def test_files_that_every_cursor_has_passed_go(tmp_path: Path) -> None:
    spool = Spool(tmp_path, settle_size=8 << 10)
    reader, cursor = EventReader(tmp_path), Cursor()
    for number in range(300):
        spool.partition.record(b"%3d" % number + b"." * 200)
        if number % 30 == 0:
            spool.flush()
    spool.flush()
    write_cursor(tmp_path, Cursor(), "slow")
    _, cursor = reader.read(cursor, 1000)
    write_cursor(tmp_path, cursor)
    spool.rest(20)
    assert len(everything(tmp_path)) == 300, "the slow reader has seen nothing yet"

    write_cursor(tmp_path, cursor, "slow")
    spool.rest(20)

    assert spool.partition.stats().settle_files <= 5
    assert len(everything(tmp_path)) < 300
    spool.partition.record(b"new")
    spool.flush()
    assert reader.read(cursor, 10)[0] == [b"new"]
    reader.close()


def test_a_reader_whose_file_was_used_again_goes_on_with_what_there_is(tmp_path: Path) -> None:
    spool = Spool(tmp_path, settle_size=8 << 10)
    reader = EventReader(tmp_path)
    spool.partition.record(b"first")
    spool.flush()
    events, cursor = reader.read(Cursor(), 10)
    for number in range(300):
        spool.partition.record(b"%3d" % number + b"." * 200)
    spool.flush()
    write_cursor(tmp_path, Cursor(1000, 0))  # somebody says that all is read
    spool.rest(20)
    for number in range(40):
        spool.partition.record(b"%3d again" % number)
    spool.flush()

    events, _ = reader.read(cursor, 1000)
    assert events[-1] == b" 39 again"
    assert len(events) == len(set(events))
    reader.close()


@given(
    st.lists(st.lists(st.binary(min_size=1, max_size=600), max_size=8), max_size=8),
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_events_do_not_depend_on_batches_or_on_how_they_are_read(
    tmp_path: Path, batches: list[list[bytes]], limits: list[int]
) -> None:
    directory = tmp_path / os.urandom(8).hex()
    spool = Spool(directory, settle_size=8 << 10)
    for batch in batches:
        for event in batch:
            spool.partition.record(event)
        spool.flush()
    reader, cursor, got = EventReader(directory), Cursor(), list[bytes]()
    for turn in range(1000):
        events, cursor = reader.read(cursor, limits[turn % len(limits)])
        if not events:
            break
        got += events
    reader.close()
    spool.partition.close()

    assert got == [event for batch in batches for event in batch]
