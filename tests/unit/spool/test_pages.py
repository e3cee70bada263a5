from __future__ import annotations

import errno
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.errors import Contradiction
from mta.spool.deferrals import Deferrals
from mta.spool.index import Index
from mta.spool.pages import LEAST_PAGES, Pages
from mta.spool.record import Deferral
from mta.spool.rows import Rows
from mta.spool.shelf import DiskShelf
from tests.support.spool import FaultyFiles, Spool


class BytesShelf:
    """A shelf in memory that knows what lies where, and how much."""

    def __init__(self) -> None:
        self.lies: dict[int, bytes] = {}
        self.held = 0
        self._next = 0

    def put(self, data: bytes) -> int | None:
        self._next += 1
        self.lies[self._next] = data
        self.held += len(data)
        return self._next

    def replace(self, place: int, data: bytes) -> bool:
        assert len(data) <= len(self.lies[place])
        self.lies[place] = data + self.lies[place][len(data) :]
        return True

    def look(self, place: int, size: int) -> bytes:
        return self.lies[place][:size]

    def drop(self, place: int, size: int) -> None:
        assert len(self.lies.pop(place)) == size
        self.held -= size


def paged(shelf: BytesShelf | DiskShelf, messages: int, *, limit: int = 8, recipients: int = 1) -> Index:
    """An index of which all but the youngest messages are in pages of four rows, twenty rows to a file."""
    index = Index(shelf, limit, page_rows=4)
    index.extend([(id, 1 + id // 20, 100 * id, 50, recipients) for id in range(messages)])
    index.age()
    return index


#: What may happen to a partition: settle a recipient, move a message, drop a file, accept some, merge, age.
Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["settle"] * 6 + ["move", "drop", "add", "merge", "age"]),
        st.integers(0, 139),
        st.integers(0, 2),
    ),
    max_size=120,
)


class Pair:
    """The same done to an index with pages and to one without."""

    def __init__(self) -> None:
        self.shelf = BytesShelf()
        self.both = (paged(self.shelf, 90, recipients=2), paged(self.shelf, 90, limit=0, recipients=2))
        self.next = 90
        self.file = 50

    def take(self, step: Step) -> None:
        what, message, other = step
        if what == "add":
            self.next += 1 + other
            for index in self.both:
                index.extend([(self.next, 1 + self.next // 20, 100 * self.next, 60, 1 + other)])
        elif what == "merge":
            self.file += 1
            rows = [(id, self.file, 100 * id, 70, 2) for id in range(message, message + 9 * other, 3)]
            known = [row for row in rows if self.both[1].row(row[0]) < 0 or self.both[1].waiting(row[0]) == 2]
            for index in self.both:
                index.merge(known)
            self.next = max(self.next, self.both[1].last)
        elif what == "move":
            self.file += 1
            place = self.both[1].place(message)
            moved = [place and index.move(message, place.number, self.file, 7, 55) for index in self.both]
            assert moved[0] == moved[1]
        elif what == "drop":
            place = self.both[1].place(message)
            if place is not None:
                assert len({index.drop(place.number, 0, self.next) for index in self.both}) == 1
        elif what == "age":
            self.both[0].age()
        else:
            assert len({index.settle(message, other) for index in self.both}) == 1

    def compare(self) -> None:
        small, whole = self.both
        assert (small.messages, small.recipients, small.bytes) == (
            whole.messages,
            whole.recipients,
            whole.bytes,
        )
        assert len(small) == len(whole)
        assert list(small.walk()) == list(whole.walk())
        assert small.live_bytes() == whole.live_bytes()
        for message in range(self.next + 2):
            assert small.place(message) == whole.place(message)
            assert small.waiting(message) == whole.waiting(message)
            assert small.settled_in_part(message) == whole.settled_in_part(message)
            assert [small.is_waiting(message, who) for who in range(3)] == [
                whole.is_waiting(message, who) for who in range(3)
            ]
        for number in {place.number for _, place, _ in whole.walk()}:
            assert small.ids(number, 0, self.next) == whole.ids(number, 0, self.next)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_an_index_with_pages_says_what_one_without_says(steps: list[Step]) -> None:
    pair = Pair()
    assert pair.shelf.held, "something must be on the shelf"

    for step in steps:
        pair.take(step)

    pair.compare()


def test_nothing_is_left_on_the_shelf_when_all_files_are_dropped() -> None:
    shelf = BytesShelf()
    index = paged(shelf, 200)
    for message in range(200):
        index.settle(message, 0)
    for number in range(1, 12):
        index.drop(number, 0, 200)

    assert (len(index), index.paged, shelf.held) == (0, 0, 0)


def test_short_pages_join_so_that_survivors_do_not_cost_a_page_each() -> None:
    shelf = BytesShelf()
    index = Index(shelf, 8, page_rows=8)
    index.extend([(id, 1 if id % 8 else 2, 0, 50, 1) for id in range(808)])
    index.age()
    assert len(index._firsts) == 100

    index.drop(1, 0, 808)

    assert index.paged == 100
    assert len(index._firsts) <= 50


def test_a_walk_sees_each_message_once_while_rows_go_to_the_shelf(tmp_path: Path) -> None:
    index = paged(DiskShelf(tmp_path, FaultyFiles()), 100, limit=0)
    index.limit = 8
    walk = index.walk()
    seen = [next(walk)[0] for _ in range(50)]
    index.age()
    index.settle(70, 0)
    index.drop(1, 0, 19)
    seen += [next(walk)[0] for _ in range(10)]
    index.extend([(100, 9, 0, 50, 1)])
    seen += [message for message, _, _ in walk]

    assert index.paged
    assert seen == [id for id in range(100) if id != 70]


def test_who_is_settled_in_part_is_remembered_on_the_shelf(tmp_path: Path) -> None:
    index = Index(DiskShelf(tmp_path, FaultyFiles()), 4, page_rows=4)
    index.extend([(id, 1, 0, 50, 300) for id in range(100)])
    for message in range(100):
        index.settle(message, 299)
        index.settle(message, message)
    index.age()

    assert index._young.settled.keys() == set(index._young.ids)
    for message in range(100):
        assert index.settled_in_part(message) == 1 << 299 | 1 << message


def test_without_room_on_the_disk_pages_stay_in_memory_and_go_later(tmp_path: Path) -> None:
    files = FaultyFiles()
    shelf = DiskShelf(tmp_path, files)
    files.fail("create", 1, errno.ENOSPC)
    index = paged(shelf, 200)

    assert shelf.held == 0
    assert [index.settle(message, 0) is not None for message in range(200)] == [True] * 200
    index.age()
    assert shelf.held
    assert (len(index), index.messages) == (200, 0)


def test_a_page_that_the_disk_has_lost_is_told_and_never_believed(tmp_path: Path) -> None:
    shelf = BytesShelf()
    index = paged(shelf, 200)
    place, data = next(iter(shelf.lies.items()))
    shelf.lies[place] = data[:-1] + bytes([data[-1] ^ 1])

    with pytest.raises(Contradiction):
        list(index.walk())
    told: list[str] = []
    index.mourn(told.append)
    assert [message for message, _, _ in index.walk()] == list(range(4, 200))
    assert len(told) == 1


def test_pages_used_last_stay_in_memory_and_unchanged_ones_are_not_written_again() -> None:
    shelf = BytesShelf()
    pages = Pages(shelf, Rows.encode, Rows.decode)
    for number in range(LEAST_PAGES + 2):
        pages.add(number, Rows())
    assert len(shelf.lies) == 2

    kept = pages.get(LEAST_PAGES + 1)
    for number in range(LEAST_PAGES - 1):
        pages.get(number)
    assert pages.get(LEAST_PAGES + 1) is kept
    shelf.replace = lambda place, data: pytest.fail("written again")  # type: ignore[method-assign]
    for number in range(LEAST_PAGES + 2):
        pages.get(number)


def test_deferrals_of_old_messages_are_found_like_those_of_young_ones(tmp_path: Path) -> None:
    shelf = DiskShelf(tmp_path, FaultyFiles())
    index = Index(shelf, 1024)
    index.extend([(id, 1, 0, 50, 2) for id in range(30_000)])
    index.age()
    deferrals = Deferrals(index, shelf)
    for message in range(0, 30_000, 50):
        for recipient in (0, 1):
            deferrals.note(message, recipient, Deferral(message + 7, 700.0, 3))
            deferrals.note(message, recipient, Deferral(5 if message else 0, 500.0, 2))
    deferrals.note(40_000, 0, Deferral(90_000, 1.0, 1))

    for message in range(0, 30_000, 50):
        assert deferrals.find(message, 0) == deferrals.find(message, 1) == Deferral(message + 7, 700.0, 3)
        assert deferrals.find(message + 1, 0) is deferrals.find(message + 1, 1) is None
    assert deferrals.find(40_000, 0) is None
    assert deferrals.highest == 90_000
    held = shelf.held
    deferrals.forget()
    assert shelf.held < held


def test_a_message_beyond_the_limit_takes_less_than_an_octet_of_memory(tmp_path: Path) -> None:
    index = Index(DiskShelf(tmp_path, FaultyFiles()), 10_000)

    def fill(start: int) -> int:
        for first in range(start, start + 30_000, 2000):
            index.extend([(id, 1 + id // 9000, 4096, 500, 1) for id in range(first, first + 2000)])
            index.age()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        base = fill(0)
        assert fill(30_000) - base < 30_000
    finally:
        tracemalloc.stop()
    assert len(index) == index.messages == 60_000


def test_a_partition_beyond_its_limit_gives_everybody_out_once_also_after_restarts(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_size=256 << 10, memory_pool=0, most_in_memory=256)
    for _ in range(5_500):
        spool.accept(b"")
    spool.loop.run_until(lambda: not spool.partition.is_busy)
    spool.partition.defer(5, 0, attempts=2, due=7.0, event=None)
    spool.rest(1)
    assert spool.partition._index.paged > LEAST_PAGES * 1024
    assert len(spool.partition._index._pages._loaded) == LEAST_PAGES

    waiting = [message for message, _ in spool.answers]
    for share in (3, 1):
        found = spool.reopen()
        assert [one.message for one in found] == waiting
        assert spool.partition._index.paged
        assert [one.waiting[0].attempts for one in found if one.message == 5] == [2]
        for message in set(waiting[::share]) - {5 if share > 1 else 0}:
            spool.settle(message)
        spool.rest(1)
        waiting = [message for message in waiting if spool.partition.is_waiting(message, 0)]
        assert spool.partition.recipients == len(waiting)
    assert not waiting
    assert spool.reopen() == []


def test_a_page_that_cannot_be_read_breaks_the_partition_and_the_next_start_finds_everybody(
    tmp_path: Path,
) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files, segment_size=1 << 20, memory_pool=0, most_in_memory=1)
    for _ in range(5 * 1024 + 8):
        spool.accept(b"")
    spool.loop.run_until(lambda: not spool.partition.is_busy)
    spool.rest(1)
    told: list[str] = []
    spool.partition.on_broken = told.append

    files.fail("read")
    spool.settle(1)
    assert spool.flush() is not None
    spool.loop.run()

    assert "parked" in spool.partition.stats().broken
    assert told == [spool.partition.stats().broken]
    found = spool.reopen()
    assert [one.message for one in found] == list(range(2, 5 * 1024 + 9)), "the settlement was on disk"
