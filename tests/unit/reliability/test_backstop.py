"""A run that hangs ends all the same, with everything that it has started."""

from __future__ import annotations

import subprocess
import sys

from tests.reliability.backstop import Backstop, processes_of

HANGING = """
import subprocess, sys, time
from tests.reliability.backstop import Backstop
with Backstop(0.2):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    print(child.pid, flush=True)
    time.sleep(600)
"""


def test_a_run_that_hangs_says_where_and_ends_with_its_children() -> None:
    run = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=30)

    assert run.returncode == 3
    assert "the run does not end by itself" in run.stderr
    assert "time.sleep" in run.stderr or 'File "<string>"' in run.stderr


def test_what_is_left_of_a_run_is_ended_behind_it() -> None:
    with Backstop(None) as backstop:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        assert processes_of(backstop._word) == [child.pid]
    assert child.wait(10) == -9
    assert processes_of(backstop._word) == []
    assert child.stdin is not None
    child.stdin.close()
