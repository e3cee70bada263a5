"""Syncs by the kernel, on real files; skipped where the kernel makes none."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.spool.kernelsync import KernelSync


def begun() -> KernelSync:
    try:
        return KernelSync()
    except OSError as error:
        pytest.skip(f"no syncs by the kernel here: {error}")


@pytest.fixture
def kernel() -> Iterator[KernelSync]:
    kernel = begun()
    yield kernel
    kernel.close()


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def is_readable(kernel: KernelSync, seconds: float) -> bool:
    return bool(select.select([kernel.descriptor], [], [], seconds)[0])


def test_the_descriptor_is_readable_from_the_end_of_a_sync_until_its_result_is_taken(
    kernel: KernelSync, descriptor: int
) -> None:
    for _ in range(3):
        os.write(descriptor, b"x" * 10_000)
        assert kernel.ended() is None
        assert not is_readable(kernel, 0)

        kernel.begin(descriptor)

        assert is_readable(kernel, 20)
        assert kernel.ended() == 0
        assert kernel.ended() is None


def test_a_sync_can_be_waited_for(kernel: KernelSync, descriptor: int) -> None:
    os.write(descriptor, b"x" * 10_000)
    kernel.begin(descriptor)

    assert kernel.wait() == 0


def test_what_cannot_be_synced_is_not_begun(kernel: KernelSync, descriptor: int) -> None:
    reading, writing = os.pipe()
    for unfit, reason in ((reading, errno.EINVAL), (1 << 20, errno.EBADF)):
        with pytest.raises(OSError) as refused:
            kernel.begin(unfit)
        assert refused.value.errno == reason
    os.close(reading)
    os.close(writing)

    assert kernel.ended() is None
    kernel.begin(descriptor)
    assert kernel.wait() == 0, "the next one goes on as usual"


def test_a_sync_whose_result_cannot_be_had_has_failed(descriptor: int) -> None:
    kernel = begun()
    kernel.begin(descriptor)
    kernel.close()

    assert kernel.wait() == errno.EINVAL


def test_a_closed_one_leaves_no_descriptor_behind(descriptor: int) -> None:
    before = os.listdir("/proc/self/fd")
    kernel = begun()
    kernel.begin(descriptor)
    kernel.close()

    assert os.listdir("/proc/self/fd") == before


def test_an_unknown_machine_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "pdp11")

    with pytest.raises(OSError, match="not known on this machine"):
        KernelSync()
