"""The last resort against an engine that hangs: everything it has started ends, and so does the run.

Every process of a run carries a word in its environment, by which it is known whoever its parent is.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import sys
import threading
import uuid
from pathlib import Path

__all__ = ["Backstop", "processes_of"]

_VARIABLE = "MTA_TORTURE_RUN"
#: Who is killed may have started others that were not seen; one that can't be killed is not waited for.
_SWEEPS = 100


def processes_of(word: str) -> list[int]:
    """Every other process whose environment has the word of a run."""
    wanted = f"{_VARIABLE}={word}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


class Backstop:
    """`with Backstop(seconds):` around a run; `seconds` may be None for a run without a limit.

    When they are over, what every thread does is printed and the process ends with 3. Whether so or in good
    order, no process of the run is left behind.
    """

    def __init__(self, seconds: float | None) -> None:
        self._word = uuid.uuid4().hex
        self._timer = threading.Timer(seconds, self._end) if seconds is not None else None

    def __enter__(self) -> Backstop:
        os.environ[_VARIABLE] = self._word
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        os.environ.pop(_VARIABLE, None)
        self.sweep()

    def sweep(self) -> None:
        """End what is left of the run, and whatever that has started meanwhile."""
        for _ in range(_SWEEPS):
            left = processes_of(self._word)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not left:
                return

    def _end(self) -> None:
        """Say what every thread does, end, and only then sweep: other threads start processes till then."""
        sys.stderr.write("\nthe run does not end by itself:\n")
        faulthandler.dump_traceback(all_threads=True)
        ended, held = os.pipe()
        if os.fork():
            os._exit(3)
        os.close(held)
        watch = select.poll()
        watch.register(ended)  # nothing is ever written: that it is hung up says that the run is gone
        watch.poll(10_000)
        self.sweep()
        os._exit(0)
