"""Writes the scheduler's state down when it has changed, so that a restart begins where we were.

Modes and retry steps change by themselves, many of them in a bad hour. So they are looked at once in
INTERVAL seconds, less often when writing takes long; a crash forgets what was new since then. What the
operator says is kept at once, by the commands themselves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from mta.clock import Clock

__all__ = ["INTERVAL", "StateKeeper"]

log = logging.getLogger(__name__)

INTERVAL = 1.0
#: Of all time, the part that may go into writing state.
SHARE = 0.02


class StateKeeper:
    """`changes()` counts up; `save()` writes everything and raises OSError when it can't."""

    def __init__(self, *, changes: Callable[[], int], save: Callable[[], None], clock: Clock) -> None:
        self._changes = changes
        self._save = save
        self._clock = clock
        self._saved = changes()
        self.is_failing = False

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            began = self._clock.now()
            self.look()
            await asyncio.sleep(max(INTERVAL, (self._clock.now() - began) / SHARE))

    def look(self) -> None:
        """Write down what has changed since the last time."""
        changes = self._changes()
        if changes == self._saved:
            return
        try:
            self._save()
        except OSError as failure:
            if not self.is_failing:
                log.error("event=state-not-kept error=%r", str(failure))
            self.is_failing = True
        else:
            self._saved = changes
            self.is_failing = False

    def __repr__(self) -> str:
        return f"<StateKeeper saved={self._saved} of {self._changes()} changes>"
