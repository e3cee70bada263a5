"""Files that are continued in the next one, on a real disk with a clock moved by hand."""

from __future__ import annotations

import errno
import os
from datetime import datetime
from pathlib import Path

import pytest

from mta.events.files import FileOptions, Resting, RotatingFile

HEADER = b"type,rcpt\n"
NOON = datetime(2026, 11, 21, 12, 0).timestamp()
DAY = 86400.0


def opened(directory: Path, **options: object) -> RotatingFile:
    return RotatingFile(FileOptions(path=directory / "acct.csv", **options), HEADER)  # type: ignore[arg-type]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_name_has_date_and_number_and_the_header_comes_first(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.write(b"d,a\n", NOON)
    file.close()

    assert names(tmp_path) == ["acct-2026-11-21-0000.csv"]
    assert (tmp_path / "acct-2026-11-21-0000.csv").read_bytes() == b"type,rcpt\nd,a\n"


def test_nothing_written_leaves_no_file(tmp_path: Path) -> None:
    file = opened(tmp_path)

    assert file.finish(NOON) is None
    assert file.sync() is None
    assert names(tmp_path) == []


@pytest.mark.parametrize(("readable", "mode"), [(False, 0o640), (True, 0o644)])
def test_mode_does_not_depend_on_the_umask(tmp_path: Path, readable: bool, mode: int) -> None:
    before = os.umask(0o077)
    try:
        file = opened(tmp_path, world_readable=readable)
        file.write(b"d,a\n", NOON)
    finally:
        os.umask(before)

    assert file.current is not None
    assert file.current.stat().st_mode & 0o777 == mode
    file.close()


def test_file_is_due_before_it_outgrows_its_size(tmp_path: Path) -> None:
    file = opened(tmp_path, max_size=30)
    file.write(b"0123456789\n", NOON)

    assert not file.is_due(NOON, 9)
    assert file.is_due(NOON, 10)
    file.close()


def test_single_batch_larger_than_the_limit_still_gets_a_file(tmp_path: Path) -> None:
    file = opened(tmp_path, max_size=5)

    assert not file.is_due(NOON, 100)
    file.write(b"x" * 100 + b"\n", NOON)
    assert file.is_due(NOON, 1)
    file.close()


def test_file_is_due_at_midnight_and_at_its_age(tmp_path: Path) -> None:
    file = opened(tmp_path, interval=3600.0)
    file.write(b"d,a\n", NOON)

    assert not file.is_due(NOON + 3599)
    assert file.is_due(NOON + 3600)
    file.close()

    late = opened(tmp_path, interval=None)
    late.write(b"d,a\n", NOON + 11 * 3600)
    assert not late.is_due(NOON + 12 * 3600 - 1)
    assert late.is_due(NOON + 12 * 3600)
    late.close()


def test_numbers_grow_during_a_day_and_begin_again_the_next(tmp_path: Path) -> None:
    file = opened(tmp_path)
    for moment in (NOON, NOON + 1, NOON + DAY):
        file.write(b"d,a\n", moment)
        file.finish(moment)

    assert names(tmp_path) == [
        "acct-2026-11-21-0000.csv",
        "acct-2026-11-21-0001.csv",
        "acct-2026-11-22-0000.csv",
    ]


def test_finished_files_are_moved_and_their_numbers_not_used_again(tmp_path: Path) -> None:
    done = tmp_path / "done"
    done.mkdir()
    file = opened(tmp_path, move_to=done)
    file.write(b"d,a\n", NOON)

    assert file.finish(NOON) == done / "acct-2026-11-21-0000.csv"
    file.write(b"d,b\n", NOON)
    file.close()

    assert names(done) == ["acct-2026-11-21-0000.csv"]
    assert names(tmp_path) == ["acct-2026-11-21-0001.csv", "done"]


def test_number_is_not_used_again_after_somebody_took_the_file_away(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.write(b"d,a\n", NOON)
    finished = file.finish(NOON)
    assert finished is not None
    finished.unlink()

    file.write(b"d,b\n", NOON)
    assert file.current == tmp_path / "acct-2026-11-21-0001.csv"
    file.close()


def test_directory_that_can_not_be_moved_to_leaves_the_file_for_the_next_time(tmp_path: Path) -> None:
    done = tmp_path / "done"
    file = opened(tmp_path, move_to=done)
    file.write(b"d,a\n", NOON)

    assert file.finish(NOON) == tmp_path / "acct-2026-11-21-0000.csv"
    done.mkdir()
    file.tidy(NOON)
    assert names(done) == ["acct-2026-11-21-0000.csv"]


def test_old_finished_files_are_deleted_and_others_left_alone(tmp_path: Path) -> None:
    for name in (
        "acct-2026-11-01-0000.csv",
        "acct-2026-11-20-0000.csv",
        "other-2026-11-01-0000.csv",
        "acct.csv",
    ):
        (tmp_path / name).write_text("x")
        age = DAY if "-20-" in name else 20 * DAY
        os.utime(tmp_path / name, (NOON - age, NOON - age))

    opened(tmp_path).tidy(NOON)

    assert names(tmp_path) == ["acct-2026-11-20-0000.csv", "acct.csv", "other-2026-11-01-0000.csv"]


def test_a_clock_that_is_set_forward_deletes_nothing(tmp_path: Path) -> None:
    name = "acct-2026-11-20-0000.csv"
    (tmp_path / name).write_text("x")
    os.utime(tmp_path / name, (NOON - DAY, NOON - DAY))
    file = opened(tmp_path)
    file.write(b"d,a\n", NOON)

    file.finish(NOON + 3650 * DAY, NOON)

    assert (tmp_path / name).exists()


def test_nothing_is_deleted_when_files_are_moved_or_kept_for_ever(tmp_path: Path) -> None:
    (tmp_path / "acct-2026-11-01-0000.csv").write_text("x")
    os.utime(tmp_path / "acct-2026-11-01-0000.csv", (0, 0))

    opened(tmp_path, delete_after=None).tidy(NOON)

    assert names(tmp_path) == ["acct-2026-11-01-0000.csv"]


def test_interrupted_file_is_continued_and_what_was_not_safe_cut_off(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.write(b"d,safe\n", NOON)
    resting = first.sync()
    first.write(b"d,unsafe\n", NOON)
    first.close()
    assert resting == Resting("acct-2026-11-21-0000.csv", 17, NOON)

    second = opened(tmp_path)
    assert second.resume(resting, NOON + 60)
    second.write(b"d,next\n", NOON + 60)
    second.close()

    assert names(tmp_path) == ["acct-2026-11-21-0000.csv"]
    assert (tmp_path / "acct-2026-11-21-0000.csv").read_bytes() == b"type,rcpt\nd,safe\nd,next\n"


def test_continued_file_is_as_old_as_it_was(tmp_path: Path) -> None:
    first = opened(tmp_path, interval=3600.0)
    first.write(b"d,safe\n", NOON)
    resting = first.sync()
    first.close()
    assert resting is not None

    second = opened(tmp_path, interval=3600.0)
    second.resume(resting, NOON + 60)

    assert second.is_due(NOON + 3600)
    second.close()


@pytest.mark.parametrize("name", ["acct-2026-11-21-0007.csv", "../evil.csv", "acct.csv"])
def test_file_that_is_not_there_or_not_ours_is_not_continued(tmp_path: Path, name: str) -> None:
    assert not opened(tmp_path).resume(Resting(name, 10, NOON), NOON)


def test_file_with_other_columns_is_finished_instead_of_continued(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.write(b"d,a\n", NOON)
    resting = first.sync()
    first.close()
    assert resting is not None

    second = RotatingFile(FileOptions(path=tmp_path / "acct.csv"), b"type,jobId\n")
    assert not second.resume(resting, NOON)
    second.write(b"d,j\n", NOON)
    second.close()

    assert (tmp_path / "acct-2026-11-21-0001.csv").read_bytes() == b"type,jobId\nd,j\n"


def test_file_that_somebody_shortened_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "acct-2026-11-21-0000.csv").write_bytes(HEADER)

    assert not opened(tmp_path).resume(Resting("acct-2026-11-21-0000.csv", 500, NOON), NOON)
    assert (tmp_path / "acct-2026-11-21-0000.csv").read_bytes() == HEADER


@pytest.mark.parametrize("action", ["unlink", "replace"])
def test_file_taken_away_is_noticed(tmp_path: Path, action: str) -> None:
    file = opened(tmp_path)
    file.write(b"d,a\n", NOON)
    assert not file.is_gone()
    assert file.current is not None

    if action == "unlink":
        file.current.unlink()
    else:
        file.current.rename(tmp_path / "elsewhere")
        file.current.write_text("")

    assert file.is_gone()
    file.close()


def test_disk_that_fills_up_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = opened(tmp_path)
    file.write(b"d,a\n", NOON)
    real = os.write

    def short(descriptor: int, data: bytes) -> int:
        if len(data) > 4:
            return real(descriptor, data[:4])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(OSError, match="No space"):
        file.write(b"d,bcd\n", NOON)
    monkeypatch.setattr(os, "write", real)

    file.write(b"d,bcd\n", NOON)
    file.close()
    assert (tmp_path / "acct-2026-11-21-0000.csv").read_bytes() == b"type,rcpt\nd,a\nd,bcd\n"


def test_disk_too_full_for_the_header_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = opened(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            file.write(b"d,a\n", NOON)

    assert names(tmp_path) == []
    assert repr(file) == "<RotatingFile none octets=0>"
