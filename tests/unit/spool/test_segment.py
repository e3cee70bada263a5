from __future__ import annotations

from pathlib import Path

import pytest

from mta.spool.record import DATA_START, FileKind, FileState, decode_file_header
from mta.spool.segment import SegmentSet, no_segment, size_range
from tests.support.spool import FaultyFiles

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@pytest.fixture
def files() -> FaultyFiles:
    return FaultyFiles()


@pytest.fixture
def segments(files: FaultyFiles, tmp_path: Path) -> SegmentSet:
    return SegmentSet(files, tmp_path, FileKind.ACCEPT, (16 * KIB, 64 * KIB))


@pytest.mark.parametrize(
    ("total", "accept", "settle"),
    [
        (24 * MIB, (256 * KIB, 256 * KIB), (64 * KIB, 64 * KIB)),
        (1 * GIB, (4 * MIB, 16 * MIB), (1 * MIB, 4 * MIB)),
        (250 * GIB, (4 * MIB, 64 * MIB), (1 * MIB, 16 * MIB)),
        (1 * MIB, (256 * KIB, 256 * KIB), (64 * KIB, 64 * KIB)),
    ],
)
def test_sizes_follow_the_file_system(total: int, accept: tuple[int, int], settle: tuple[int, int]) -> None:
    assert size_range(FileKind.ACCEPT, total) == accept
    assert size_range(FileKind.SETTLE, total) == settle


def test_files_grow_from_the_smallest_to_the_largest(segments: SegmentSet) -> None:
    sizes = [segments.obtain(100, 1)[0].size for _ in range(4)]

    assert sizes == [16 * KIB, 32 * KIB, 64 * KIB, 64 * KIB]


def test_a_record_that_needs_more_gets_a_file_that_fits(segments: SegmentSet) -> None:
    segment, is_new = segments.obtain(1_000_000, 1)

    assert is_new
    assert segment.has_room(1_000_000)
    assert not segment.has_room(1_000_000 + 2 * DATA_START)


def test_a_use_has_a_number_and_a_salt_of_its_own(segments: SegmentSet) -> None:
    first, _ = segments.obtain(100, 1)
    header = first.header
    segments.release(first, 1 << 30)
    second, is_new = segments.obtain(100, 2)

    assert second is first
    assert not is_new
    assert second.number > header.number
    assert second.header.salt != header.salt
    assert decode_file_header(second.read(DATA_START, 0)) == second.header


def test_a_filled_file_has_all_its_blocks_and_is_free(segments: SegmentSet) -> None:
    segment = segments.create(0, written=True)

    assert segment.path.stat().st_blocks * 512 >= segment.size
    header = decode_file_header(segment.read(DATA_START, 0))
    assert header is not None
    assert header.state == FileState.FREE


def test_a_file_that_could_not_be_made_leaves_nothing_behind(
    segments: SegmentSet, files: FaultyFiles, tmp_path: Path
) -> None:
    for call in ("allocate", "create"):
        files.fail(call, 1)
        with pytest.raises(OSError):
            segments.obtain(100, 1)
    files.fail("write", 2)
    with pytest.raises(OSError):
        segments.create(0, written=True)

    assert list(tmp_path.iterdir()) == []


def test_a_name_that_exists_is_passed_over(segments: SegmentSet, tmp_path: Path) -> None:
    (tmp_path / "00000001").write_text("somebody else's")

    assert segments.obtain(100, 1)[0].path.name == "00000002"
    assert (tmp_path / "00000001").read_text() == "somebody else's"


def test_only_so_many_free_bytes_are_kept(segments: SegmentSet, tmp_path: Path) -> None:
    for segment in [segments.obtain(100, 1)[0] for _ in range(4)]:
        segments.release(segment, 100 * KIB)

    assert segments.free_bytes <= 100 * KIB
    segments.trim(0)
    assert list(tmp_path.iterdir()) == []


def test_the_stand_in_for_a_file_has_no_room(files: FaultyFiles) -> None:
    segment = no_segment(files, FileKind.SETTLE)

    assert not segment.has_room(0)
    assert segment.end_parts() == []


def test_reading_past_damage_gives_zeros_for_the_block_alone(
    segments: SegmentSet, files: FaultyFiles
) -> None:
    segment, _ = segments.obtain(10_000, 1)
    segment.write([b"x" * 12_000], DATA_START)
    files.unreadable = (DATA_START + 5000, DATA_START + 5001)

    found = segment.read_past_damage(12_000, DATA_START)

    assert found == b"x" * 4096 + bytes(4096) + b"x" * (12_000 - 8192)
    with pytest.raises(OSError):
        segment.read(12_000, DATA_START)


def test_status_lines_say_number_state_and_filling(segments: SegmentSet) -> None:
    segment, _ = segments.obtain(100, 1)

    assert repr(segment) == "<Segment 00000001 number=1 in_use end=4096/16384 live=0>"
    assert repr(segments) == "<SegmentSet ACCEPT in_use=1 free=0>"
