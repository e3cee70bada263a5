from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.errors import Contradiction
from mta.spool.files import Files
from mta.spool.shelf import FILE_SIZE, NAME, DiskShelf
from tests.support.memory import open_below


class FillingFiles(Files):
    """Writes as long as there is room."""

    def __init__(self) -> None:
        self.is_full = False

    def write(self, descriptor: int, parts: Sequence[bytes | memoryview], at: int) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(descriptor, [parts[0][:1000]], at)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[DiskShelf]:
    shelf = DiskShelf(tmp_path, Files())
    yield shelf
    shelf.close()


def test_what_was_put_down_lies_there_until_it_is_dropped(shelf: DiskShelf) -> None:
    first, second = shelf.put(b"one"), shelf.put(b"second")
    assert first is not None
    assert second is not None
    assert (shelf.look(first, 3), shelf.look(second, 6), shelf.look(first, 3)) == (b"one", b"second", b"one")
    assert shelf.held == 9
    shelf.drop(first, 3)
    assert (shelf.look(second, 6), shelf.held) == (b"second", 6)


def test_nothing_has_a_name_in_the_spool(shelf: DiskShelf, tmp_path: Path) -> None:
    shelf.put(b"here")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_a_killed_process_left_is_no_obstacle(shelf: DiskShelf, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"old")
    place = shelf.put(b"here")
    assert place is not None
    assert shelf.look(place, 4) == b"here"
    assert list(tmp_path.iterdir()) == []


def test_room_is_used_again_when_everything_has_been_dropped(shelf: DiskShelf) -> None:
    first = shelf.put(bytes(100))
    assert first is not None
    shelf.drop(first, 100)
    assert shelf.put(bytes(100)) == first


def test_a_file_goes_when_its_last_piece_does(shelf: DiskShelf, tmp_path: Path) -> None:
    size = FILE_SIZE // 3
    places = [shelf.put(bytes([number]) * size) for number in range(7)]
    assert all(place is not None for place in places)
    files = len(open_below(tmp_path))
    for number, place in enumerate(places[:6]):
        assert place is not None
        assert shelf.look(place, size)[:1] == bytes([number])
        shelf.drop(place, size)
    assert len(open_below(tmp_path)) == files - 2 == 1
    assert places[6] is not None
    assert shelf.look(places[6], size) == bytes([6]) * size


def test_a_full_disk_is_said_and_nothing_that_lay_there_is_harmed(tmp_path: Path) -> None:
    files = FillingFiles()
    shelf = DiskShelf(tmp_path, files)
    first = shelf.put(b"a" * 5000)
    files.is_full = True
    assert shelf.put(b"b" * 5000) is None
    files.is_full = False
    second = shelf.put(b"c" * 5000)
    assert first is not None
    assert second is not None
    assert shelf.look(first, 5000) == b"a" * 5000
    assert shelf.look(second, 5000) == b"c" * 5000
    assert shelf.held == 10_000
    shelf.close()


def test_what_cannot_be_read_back_ends_the_process(shelf: DiskShelf) -> None:
    place = shelf.put(b"here")
    assert place is not None
    with pytest.raises(Contradiction, match="gone from the disk"):
        shelf.look(place, 4000)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9_000_000), st.integers(0, 100)), max_size=20))
def test_whatever_the_order_everything_comes_back(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, int, int]]
) -> None:
    shelf = DiskShelf(tmp_path_factory.mktemp("shelf"), Files())
    there: dict[int, tuple[int, int]] = {}
    for number, (is_put, size, which) in enumerate(steps):
        if is_put or not there:
            place = shelf.put(bytes([number]) * size)
            assert place is not None
            assert place not in there
            there[place] = (number, size)
        else:
            place = sorted(there)[which % len(there)]
            mark, size = there.pop(place)
            assert shelf.look(place, size) == bytes([mark]) * size
            shelf.drop(place, size)
        assert shelf.held == sum(size for _, size in there.values())
    for place, (mark, size) in there.items():
        assert shelf.look(place, size) == bytes([mark]) * size
    shelf.close()
