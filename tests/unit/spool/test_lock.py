from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mta.errors import SpoolError
from mta.spool.lock import SpoolLock, lock_holder


def test_the_second_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    lock = SpoolLock(tmp_path)

    with pytest.raises(SpoolError, match=f"process {os.getpid()}"):
        SpoolLock(tmp_path)
    lock.close()
    lock.close()
    SpoolLock(tmp_path).close()


def test_the_holder_can_be_asked_for(tmp_path: Path) -> None:
    assert lock_holder(tmp_path) == ""
    lock = SpoolLock(tmp_path)
    assert lock_holder(tmp_path) == str(os.getpid())
    lock.close()
    assert lock_holder(tmp_path) == ""


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = """
import os, pathlib, sys
from mta.spool.lock import SpoolLock
SpoolLock(pathlib.Path(sys.argv[1]))
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)

    SpoolLock(tmp_path).close()


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(SpoolError):
        SpoolLock(tmp_path)
    assert not (tmp_path / "elsewhere").exists()
