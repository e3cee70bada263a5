"""A real disk that fills up: 24 MiB of tmpfs, and one with few inodes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.errors import SpoolFull
from mta.spool.files import Files
from mta.spool.settlelog import Cursor, EventReader, write_cursor
from tests.support.spool import Spool


def mounted(path: Path, options: str) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a tmpfs")
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mount is not allowed here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "disk", "size=24m,mode=700")


@pytest.fixture
def few_inodes(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "disk", "size=24m,nr_inodes=24,mode=700")


def fill(spool: Spool, size: int = 10_000) -> list[int]:
    """Accept until the spool says that it is full; the acknowledged messages."""
    acknowledged = []
    while True:
        if spool.partition.refusal(size) is not None:
            return acknowledged
        spool.accept(os.urandom(size))
        spool.loop.run_until(lambda: not spool.partition.is_busy)
        message, error = spool.answers[-1]
        if error is not None:
            assert isinstance(error, SpoolFull)
            return acknowledged
        acknowledged.append(message)
        spool.loop.advance(0.002)
        assert len(acknowledged) < 10_000


def test_a_small_disk_fills_refuses_and_recovers_again_and_again(small_disk: Path) -> None:
    spool = Spool(small_disk / "0", files=Files(), segment_size=0, settle_size=0, memory_pool=1 << 20)
    for _ in range(4):
        acknowledged = fill(spool)
        assert len(acknowledged) * 10_000 > 15_000_000
        assert isinstance(spool.partition.refusal(10_000), SpoolFull)
        for message in acknowledged:
            assert len(spool.partition.load(message).body) == 10_000
            spool.settle(message, 0, b"e" * 400)
        # The outcomes need more room than there is: the first free files, these take the next ones, ...
        spool.rest(10)
        assert spool.partition.stats().messages == 0
        assert spool.flush() is None
        assert spool.partition.refusal(10_000) is None
        _, cursor = EventReader(small_disk / "0").read(Cursor(), 1_000_000)
        write_cursor(small_disk / "0", cursor)
        spool.rest(2)
    assert spool.reopen() == []


def test_a_disk_that_somebody_else_filled_loses_nothing(small_disk: Path) -> None:
    spool = Spool(small_disk / "0", files=Files(), segment_size=0, settle_size=0)
    first = [spool.put(os.urandom(10_000)) for _ in range(300)]
    spool.rest(1)
    with open(small_disk / "other", "wb", buffering=0) as other:
        try:
            while True:
                other.write(bytes(4096))
        except OSError:
            pass
    more = fill(spool)
    for message in first:
        spool.settle(message, 0, b"e" * 2000)
    spool.rest(2)
    assert spool.partition.stats().broken == ""

    waiting = spool.reopen()
    assert {one.message for one in waiting} >= set(more)
    assert spool.partition.stats().broken == ""

    os.unlink(small_disk / "other")
    for one in waiting:
        spool.settle(one.message)
    assert spool.flush() is None
    spool.rest(2)
    assert spool.partition.refusal(10_000) is None
    spool.put(name="after")
    assert [one.envelope.queue_id for one in spool.reopen()] == ["after"]


def test_without_inodes_mail_is_refused_and_outcomes_are_written(few_inodes: Path) -> None:
    spool = Spool(few_inodes / "0", files=Files(), segment_size=0, settle_size=0, min_free_inodes=0)
    message = spool.put()
    for number in range(40):
        try:
            (few_inodes / f"{number}").touch()
        except OSError:
            break

    large = 2_000_000  # would need a file of its own
    spool.accept(b"x" * large)
    spool.loop.run_until(lambda: not spool.partition.is_busy)
    assert isinstance(spool.answers[-1][1], SpoolFull)
    spool.settle(message)
    assert spool.flush() is None
    assert spool.partition.stats().messages == 0
