"""A file system of a few megabytes that a test may fill to the brim."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["small_disk"]


@contextmanager
def small_disk(directory: Path, size: str = "24m") -> Iterator[Path]:
    """A tmpfs of `size` at `directory`, gone afterwards. Skips where mounting is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a tmpfs")
    directory.mkdir()
    # The name tells whose it is, should a machine die in the middle of a test.
    mount = [
        "mount",
        "-t",
        "tmpfs",
        "-o",
        f"size={size},mode=0700",
        f"mta-test-{os.getpid()}",
        str(directory),
    ]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a tmpfs can't be mounted here: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        # Lazily: a process that still has files open must not keep the mount point.
        subprocess.run(["umount", "-l", str(directory)], check=True, capture_output=True)
