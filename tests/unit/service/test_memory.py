from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.memory import MEBIBYTE

#: In a process of its own, whose memory nobody else has divided.
SCRIPT = """
from mta.service.memory import give_back_memory
from tests.support.memory import resident
large, small = [], []
for _ in range(500):
    large.append(bytearray(100_000))
    small.append(bytearray(600))
del large[:]
before = resident()
give_back_memory()
print(before - resident())
"""


def test_free_memory_between_pieces_in_use_goes_back_to_the_kernel() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert int(done.stdout) >= 20 * MEBIBYTE
