"""The only module that asks the machine for the time.

Pure code gets `now` as an argument; shells own a `Clock`. `now()` is epoch seconds at the start of the
process, advanced by the monotonic clock: it can be compared with stored times, yet never jumps when
somebody sets the machine's clock. `wall()` follows the machine's clock and is for records people read.
"""

from __future__ import annotations

from time import monotonic, time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Where a shell gets the time from; tests hand in one of their own."""

    def now(self) -> float:
        """Steady epoch seconds: for deadlines, schedules and anything compared."""
        ...

    def wall(self) -> float:
        """The machine's epoch seconds: for records and file names."""
        ...


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        self._offset = time() - monotonic()

    def now(self) -> float:
        return self._offset + monotonic()

    #: Records ask for it once each: without a layer of ours between.
    wall = staticmethod(time)
