"""A run that hangs ends all the same, with everything that it has started."""

from __future__ import annotations

import subprocess
import sys

from tests.reliability.backstop import Backstop, processes_of

#: For a machine that is busy with everything else.
LONG = 50.0
HANGING = """
import subprocess, sys, time
from tests.reliability.backstop import Backstop
with Backstop(0.2):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    print(child.pid, flush=True)
    time.sleep(600)
"""

#: Starts processes until it is ended itself, and is in the middle of it when its time is up.
SPAWNING = """
import os, subprocess
from tests.reliability.backstop import Backstop
with Backstop(0.3):
    print(os.environ["MTA_TORTURE_RUN"], flush=True)
    for _ in range(1000):
        subprocess.Popen(["sleep", "20"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""


def test_a_run_that_hangs_says_where_and_ends_with_its_children() -> None:
    run = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=LONG)

    assert run.returncode == 3
    assert "the run does not end by itself" in run.stderr
    assert "time.sleep" in run.stderr or 'File "<string>"' in run.stderr


def test_what_a_run_starts_at_its_very_end_is_ended_as_well() -> None:
    run = subprocess.run([sys.executable, "-c", SPAWNING], capture_output=True, text=True, timeout=LONG)

    assert run.returncode == 3
    assert processes_of(run.stdout.strip()) == []


def test_what_is_left_of_a_run_is_ended_behind_it() -> None:
    with Backstop(None) as backstop:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        assert processes_of(backstop._word) == [child.pid]
    assert child.wait(LONG) == -9
    assert processes_of(backstop._word) == []
    assert child.stdin is not None
    child.stdin.close()
