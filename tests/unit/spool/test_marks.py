from __future__ import annotations

from pathlib import Path

from mta.spool.marks import Marks, Position, read_marks, read_safe_until


def test_what_is_published_is_read_by_others_at_once(tmp_path: Path) -> None:
    marks = Marks(tmp_path)
    marks.publish_settle(3, 4096)
    marks.publish_accept(7, 123456)

    assert read_marks(tmp_path).settle == Position(3, 4096)
    assert read_marks(tmp_path).accept == Position(7, 123456)
    marks.publish_settle(4, 5000)
    assert read_marks(tmp_path).settle == Position(4, 5000)
    marks.close()
    assert read_marks(tmp_path).settle == Position(4, 5000)


def test_nothing_is_known_before_the_first_publication(tmp_path: Path) -> None:
    assert read_marks(tmp_path).settle is None
    marks = Marks(tmp_path)
    assert read_marks(tmp_path) == (None, None)
    marks.close()


def test_a_damaged_mark_is_not_believed(tmp_path: Path) -> None:
    marks = Marks(tmp_path)
    marks.publish_settle(3, 4096)
    marks.publish_accept(7, 9)
    marks.close()
    data = bytearray((tmp_path / "marks").read_bytes())
    data[9] ^= 1
    (tmp_path / "marks").write_bytes(data)

    assert read_marks(tmp_path) == (None, Position(7, 9))


def test_a_foreign_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "marks").write_bytes(b"hello")
    assert read_marks(tmp_path) == (None, None)
    (tmp_path / "marks").write_bytes(b"x" * 64)
    assert read_marks(tmp_path) == (None, None)


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    Marks(tmp_path).close()

    assert (tmp_path / "marks").stat().st_mode & 0o777 == 0o600


def test_the_moment_until_which_outcomes_are_safe_is_read_by_others(tmp_path: Path) -> None:
    assert read_safe_until(tmp_path) == 0.0
    marks = Marks(tmp_path)
    assert read_safe_until(tmp_path) == 0.0
    marks.publish_safe_until(1700000000.25)
    marks.close()

    assert read_safe_until(tmp_path) == 1700000000.25


def test_a_damaged_moment_is_not_believed(tmp_path: Path) -> None:
    marks = Marks(tmp_path)
    marks.publish_safe_until(1700000000.25)
    marks.close()
    data = bytearray((tmp_path / "marks").read_bytes())
    data[41] ^= 1
    (tmp_path / "marks").write_bytes(data)

    assert read_safe_until(tmp_path) == 0.0
