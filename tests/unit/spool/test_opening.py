"""How a partition is opened; what a restart finds in it is in test_recovery."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from mta.errors import SpoolError
from mta.spool.inspect import Inspection
from mta.spool.partition import Partition
from tests.support.memory import open_below
from tests.support.spool import FaultyFiles, Spool


def test_a_second_instance_is_told_who_has_the_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path)

    with pytest.raises(SpoolError, match=f"in use by process {os.getpid()}"):
        Partition.open(tmp_path, options=spool.options, loop=spool.loop)  # type: ignore[arg-type]
    spool.partition.close()
    spool.open()


def test_directories_and_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "spool"
    before = os.umask(0)
    try:
        spool = Spool(directory)
        spool.put()
    finally:
        os.umask(before)

    assert directory.stat().st_mode & 0o777 == 0o700
    for path in directory.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_directory_open_to_others_is_closed_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o755)

    Spool(tmp_path)

    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert "open to others" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_refused_to_those_who_are_not_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(tmp_path, 12345, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)

    with pytest.raises(SpoolError, match="belongs to user 12345"):
        Spool(tmp_path)


@pytest.mark.parametrize("call", ["create", "write", "sync"])
def test_an_opening_that_fails_leaves_the_partition_to_the_next_one(tmp_path: Path, call: str) -> None:
    spool = Spool(tmp_path)
    message = spool.put(b"still here\r\n")
    spool.partition.close()
    spool.files.fail(call)  # type: ignore[attr-defined]

    with pytest.raises(SpoolError, match=os.strerror(errno.EIO)):
        spool.open()
    spool.open()

    assert spool.partition.load(message).body == b"still here\r\n"
    assert [one.message for one in spool.partition.recovered()] == [message]


class Brittle(FaultyFiles):
    """One call fails, whatever it is for; a descriptor is closed once."""

    def __init__(self, nth: int, failure: BaseException) -> None:
        super().__init__()
        self.left = nth
        self._failure = failure
        self._open: set[int] = set()

    def _count(self, call: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise self._failure

    def open(self, path: Path, *, write: bool) -> int:
        descriptor = super().open(path, write=write)
        self._open.add(descriptor)
        return descriptor

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        self._open.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        self._open.remove(descriptor)
        super().close(descriptor)

    def size(self, descriptor: int) -> int:
        self._count("size")
        return super().size(descriptor)


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A partition with mail in one file, and a second one that is a copy of it."""
    spool = Spool(tmp_path_factory.mktemp("some") / "0", segment_size=16 << 10, settle_size=8 << 10)
    spool.put(name="1", recipients=2)
    spool.put(name="2")
    spool.partition.defer(1, 0, attempts=1, due=5.0, event=b"t")
    spool.partition.settle(2, 0, b"d")
    spool.partition.close()
    (path,) = (path for path in (spool.directory / "segments").iterdir() if b"u1@" in path.read_bytes())
    path.with_name("00000077").write_bytes(path.read_bytes())
    return spool.directory


def failures(step: int) -> Iterator[tuple[int, BaseException]]:
    """Which call fails, and how."""
    kinds = cycle((OSError(errno.EIO, "broken"), MemoryError(), OSError(errno.EACCES, "no")))
    return zip(range(1, 1000, step), kinds, strict=False)


def test_wherever_an_opening_fails_it_leaves_no_file_open(some: Path, tmp_path: Path) -> None:
    failed = 0
    for nth, failure in failures(4):
        directory = tmp_path / str(nth)
        shutil.copytree(some, directory)
        files = Brittle(nth, failure)
        try:
            spool = Spool(directory, files=files, segment_size=16 << 10, settle_size=8 << 10)
        except (SpoolError, MemoryError):
            failed += 1
        else:
            if files.left > 0:
                break  # nothing was left to fail
            spool.partition.close()
        assert open_below(directory) == [], f"call {nth}"
        shutil.rmtree(directory)
    assert failed > 5


def test_wherever_a_look_at_a_partition_fails_it_leaves_no_file_open(some: Path) -> None:
    failed = 0
    for nth, failure in failures(1):
        files = Brittle(nth, failure)
        try:
            with Inspection(some, files):
                pass
        except (SpoolError, MemoryError):
            failed += 1
        if files.left > 0:
            break
        assert open_below(some) == [], f"call {nth}"
    assert failed > 1
