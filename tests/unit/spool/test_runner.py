"""Large commits beside the loop: written in it, synced by a kernel that does as the test says."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mta.errors import SpoolBroken, SpoolFull
from mta.spool.kernelsync import KernelSync
from mta.spool.pace import Pace
from tests.support.spool import FaultyFiles, Spool, names
from tests.support.steploop import StepLoop

#: Everything beside the loop.
BESIDE = Pace(inline_limit=0)


class SlowKernel:
    """A kernel whose syncs end when the test says so, with the result that it says."""

    descriptor = -2

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.refuses = self.is_closed = False
        self._results: list[int] = []

    def begin(self, descriptor: int) -> None:
        assert not self._results, "one at a time"
        if self.refuses:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.asked.append(descriptor)

    def end(self, result: int = 0) -> None:
        self._results.append(result)

    def ended(self) -> int | None:
        return self._results.pop() if self._results else None

    def wait(self) -> int:
        return self._results.pop() if self._results else 0

    def close(self) -> None:
        self.is_closed = True


class KernelFiles(FaultyFiles):
    """Files that remember which threads wrote and which synced, and the kernel that syncs them."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = SlowKernel()
        self.writes: list[str] = []
        self.syncs: list[str] = []

    def kernel_sync(self) -> KernelSync | None:
        return self.kernel  # type: ignore[return-value]

    def write(self, descriptor: int, parts: object, at: int) -> int:
        self.writes.append(threading.current_thread().name)
        return super().write(descriptor, parts, at)  # type: ignore[arg-type]

    def sync(self, descriptor: int) -> None:
        self.syncs.append(threading.current_thread().name)
        super().sync(descriptor)


class ReadingLoop(StepLoop):
    """A loop that can be told that a descriptor is readable."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: dict[int, Callable[[], None]] = {}

    def add_reader(self, descriptor: int, call: Callable[[], None]) -> None:
        self.readers[descriptor] = call

    def remove_reader(self, descriptor: int) -> None:
        del self.readers[descriptor]


class KernelSpool(Spool):
    def __init__(self, directory: Path, pace: Pace = BESIDE) -> None:
        self.faults = KernelFiles()
        self.kernel = self.faults.kernel
        super().__init__(directory, files=self.faults, pace=pace)

    def open(self) -> None:
        self.loop = self.reading = ReadingLoop()
        super().open()

    def sync_ends(self, result: int = 0) -> None:
        self.kernel.end(result)
        self.reading.readers[self.kernel.descriptor]()
        self.loop.run()


@pytest.fixture
def spool(tmp_path: Path) -> KernelSpool:
    return KernelSpool(tmp_path)


def test_a_message_is_answered_when_the_kernel_says_that_it_is_synced(spool: KernelSpool) -> None:
    spool.accept()
    spool.loop.run()
    assert spool.kernel.asked
    assert not spool.answers

    spool.reading.readers[spool.kernel.descriptor]()
    assert not spool.answers, "woken for nothing"
    spool.sync_ends()

    assert [error for _, error in spool.answers] == [None]
    assert "spool-commit" not in spool.faults.writes
    spool.partition.close()
    assert spool.kernel.is_closed
    assert not spool.reading.readers


def test_outcomes_are_synced_behind_the_mail_and_answered_with_it(spool: KernelSpool) -> None:
    spool.accept()
    spool.loop.run()
    spool.sync_ends()
    spool.settle(spool.answers[0][0])
    spool.accept(name="next")
    spool.partition.flush(lambda error: None)
    spool.loop.run()
    before = len(spool.kernel.asked)
    spool.sync_ends()

    assert len(spool.kernel.asked) == before + 1, "the second file"
    assert len(spool.answers) == 1
    spool.sync_ends()
    assert [error for _, error in spool.answers] == [None, None]
    assert [one.envelope.queue_id for one in spool.reopen()] == ["next"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failed_sync_of_either_file_breaks_the_partition_and_is_not_tried_again(
    spool: KernelSpool, failing: int
) -> None:
    spool.accept(name="first")
    spool.loop.run()
    spool.sync_ends()
    spool.settle(spool.answers[0][0])
    spool.accept(name="refused")
    spool.partition.flush(lambda error: None)
    spool.loop.run()
    if failing == 2:
        spool.sync_ends()
    asked = len(spool.kernel.asked)
    spool.sync_ends(errno.EIO)
    spool.accept(name="later")
    spool.loop.run()

    assert [type(error) for _, error in spool.answers[1:]] == [SpoolBroken, SpoolBroken]
    assert "sync failed: Input/output error" in spool.partition.stats().broken
    assert len(spool.kernel.asked) == asked
    assert "refused" not in names(spool.reopen())


def test_a_kernel_that_takes_no_more_leaves_the_work_to_the_thread(spool: KernelSpool) -> None:
    spool.accept()
    spool.loop.run()
    spool.sync_ends()
    spool.kernel.refuses = True
    for number in (2, 3):
        spool.accept()
        spool.loop.run_until(lambda number=number: len(spool.answers) == number)  # type: ignore[misc]

    assert [error for _, error in spool.answers] == [None] * 3
    assert spool.faults.syncs.count("spool-commit") == 2
    assert spool.kernel.is_closed
    spool.partition.close()


def test_a_full_disk_refuses_the_batch_before_any_sync(spool: KernelSpool) -> None:
    spool.accept()
    spool.loop.run()
    spool.sync_ends()
    asked = len(spool.kernel.asked)
    spool.faults.fail("write", 1, errno.ENOSPC)
    spool.accept(name="refused")
    spool.loop.run()

    assert isinstance(spool.answers[1][1], SpoolFull)
    assert len(spool.kernel.asked) == asked
    assert names(spool.reopen()) == ["m"]


@pytest.mark.parametrize("pace", [Pace(), Pace(inline_limit=0, stalling_sync=-1.0)])
def test_a_bug_while_syncing_acknowledges_nothing(tmp_path: Path, pace: Pace) -> None:
    spool = KernelSpool(tmp_path, pace)
    spool.faults.sync = lambda: None  # type: ignore[method-assign,assignment,misc]
    spool.accept()
    spool.loop.run_until(lambda: bool(spool.answers))

    assert isinstance(spool.answers[0][1], SpoolBroken)
    assert "TypeError" in spool.partition.stats().broken


@pytest.mark.parametrize("result", [0, errno.EIO])
def test_closing_waits_for_the_kernel(spool: KernelSpool, result: int) -> None:
    spool.accept()
    spool.loop.run()
    spool.kernel.end(result)
    spool.partition.close()

    assert [type(error) for _, error in spool.answers] == [SpoolBroken if result else type(None)]
    assert spool.kernel.is_closed


def test_a_disk_that_takes_its_time_is_written_to_in_the_thread(tmp_path: Path) -> None:
    spool = KernelSpool(tmp_path, Pace(inline_limit=0, stalling_sync=-1.0))
    spool.accept()
    spool.loop.run_until(lambda: bool(spool.answers))

    assert "spool-commit" in spool.faults.writes
    assert not spool.kernel.asked
    spool.partition.close()


def test_so_is_what_takes_long_to_copy(spool: KernelSpool) -> None:
    spool.accept(b"x" * (2 << 20))
    spool.loop.run_until(lambda: bool(spool.answers))

    assert "spool-commit" in spool.faults.writes
    spool.partition.close()
