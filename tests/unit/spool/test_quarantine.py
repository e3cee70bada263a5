from __future__ import annotations

from pathlib import Path

import pytest

from mta.spool.quarantine import Damage, Quarantine
from mta.spool.record import FileKind
from mta.spool.segment import Segment, SegmentSet
from tests.support.spool import FaultyFiles


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    (tmp_path / "segments").mkdir()
    return SegmentSet(FaultyFiles(), tmp_path / "segments", FileKind.ACCEPT, (1 << 16, 1 << 16)).obtain(1, 1)[
        0
    ]


def test_a_copy_and_a_note_are_for_their_owner_alone(segment: Segment, tmp_path: Path) -> None:
    segment.write([b"damaged bytes"], 5000)

    assert Quarantine(tmp_path).keep(segment, Damage(segment.path, 1, 5000, 5013, "a reason"))

    folder = tmp_path / "quarantine"
    assert sorted(path.name for path in folder.iterdir()) == [
        "segments-00000001-0000005000.bytes",
        "segments-00000001-0000005000.txt",
    ]
    assert (folder / "segments-00000001-0000005000.bytes").read_bytes() == b"damaged bytes"
    note = (folder / "segments-00000001-0000005000.txt").read_text()
    assert "why: a reason" in note
    assert str(segment.path) in note
    assert all(path.stat().st_mode & 0o077 == 0 for path in [folder, *folder.iterdir()])


def test_the_same_damage_is_kept_once(segment: Segment, tmp_path: Path) -> None:
    quarantine, damage = Quarantine(tmp_path), Damage(segment.path, 1, 5000, 5013, "a reason")

    assert quarantine.keep(segment, damage)
    assert quarantine.keep(segment, damage)
    assert quarantine.kept == 1


def test_a_quarantine_that_cannot_be_written_is_reported_and_goes_on(
    segment: Segment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "quarantine").write_text("a file in the way")

    assert not Quarantine(tmp_path).keep(segment, Damage(segment.path, 1, 5000, 5013, "a reason"))
    assert "quarantine failed" in caplog.text


def test_bytes_that_are_missing_are_kept_as_far_as_they_are_there(segment: Segment, tmp_path: Path) -> None:
    end = segment.size + 1000
    Quarantine(tmp_path).keep(segment, Damage(segment.path, 1, segment.size - 10, end, "missing"))

    (copy,) = (tmp_path / "quarantine").glob("*.bytes")
    assert copy.stat().st_size == 10
