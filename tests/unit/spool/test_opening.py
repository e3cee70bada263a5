"""How a partition is opened; what a restart finds in it is in test_recovery."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mta.errors import SpoolError
from mta.spool.partition import Partition
from tests.support.spool import Spool


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
