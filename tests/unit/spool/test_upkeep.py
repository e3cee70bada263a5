from __future__ import annotations

from pathlib import Path

from mta.spool.background import Background
from tests.support.spool import FaultyFiles, Spool
from tests.support.steploop import StepLoop


def test_a_spare_is_filled_before_the_current_file_is_full(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_size=16 << 10)
    spool.put(b"x" * 1000)
    spool.rest(1)
    assert not spool.partition._accepts.free
    spool.put(b"x" * 8000)
    spool.rest(1)

    assert len(spool.partition._accepts.free) == 1
    assert len(spool.partition._settles.free) == 1


def test_a_full_disk_is_asked_for_a_spare_once_a_second(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, segment_size=64 << 10, files=files)
    spool.put()
    spool.rest(1)
    files.capacity = 0
    before = files.calls["create"]
    for _ in range(25):
        spool.put(b"x" * 2000)
        spool.rest(0)

    assert files.calls["create"] <= before + 1


def test_emptied_files_are_removed_when_they_shall_not_be_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_size=16 << 10, delete_files=True)
    for _ in range(30):
        spool.settle(spool.put(b"x" * 5000))
        spool.loop.advance(0.02)
    spool.rest()

    assert len(list((tmp_path / "segments").iterdir())) <= 3


def test_a_segment_that_is_empty_when_it_is_left_is_freed_at_the_next_look(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_size=16 << 10)
    spool.settle(spool.put(b"x" * 7000))
    spool.flush()
    spool.put(b"x" * 7000)
    assert spool.partition.stats().segments == 2
    spool.rest(2)

    assert spool.partition.stats().segments == 1


def test_a_failed_job_does_not_keep_the_next_from_being_done() -> None:
    loop, done = StepLoop(), list[str]()
    background = Background(loop)  # type: ignore[arg-type]

    def fails() -> object:
        raise RuntimeError("a bug")

    background.run(fails)  # type: ignore[arg-type]
    loop.run_until(lambda: not background.is_busy)
    background.run(lambda: lambda: done.append("landed"))
    background.stop()

    assert done == ["landed"]
    assert not background.is_busy
