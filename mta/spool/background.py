"""One thing at a time in a thread, its result on the loop: for work that must not delay a commit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable

__all__ = ["Background"]

logger = logging.getLogger(__name__)


class Background:
    """A thread that exists while there is something to do."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread: threading.Thread | None = None
        self._landed: list[Callable[[], None]] = []

    @property
    def is_busy(self) -> bool:
        return self._thread is not None

    def run(self, job: Callable[[], Callable[[], None]]) -> None:
        """Call `job` in the thread, and what it returns on the loop. Only when not busy."""
        self._thread = threading.Thread(target=self._work, args=(job,), name="spool-upkeep", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait for the work in hand and land it."""
        if self._thread is not None:
            self._thread.join()
        self._land()

    def _work(self, job: Callable[[], Callable[[], None]]) -> None:
        try:
            self._landed.append(job())
        except Exception:
            # A bug must not keep later work from being done.
            logger.exception("spool upkeep failed")
        with contextlib.suppress(RuntimeError):  # the loop is gone: stop() lands it
            self._loop.call_soon_threadsafe(self._land)

    def _land(self) -> None:
        self._thread = None
        while self._landed:
            self._landed.pop()()
