"""Runs a batch beside the loop: commits of many messages, and those of disks that take their time.

Where the kernel makes syncs by itself (kernelsync.py) the loop writes, which is a copy into the page cache,
and goes on; it hears of each sync's end as it hears of anything else. A thread does the whole of the batch
where the kernel can't, where there is more to it than writes and syncs, and where writing might hold the loop
up: when it is much, or the disk is so slow that the kernel may let writers wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
from collections.abc import Callable

from mta.clock import Clock
from mta.spool.batch import Batch
from mta.spool.files import Files
from mta.spool.kernelsync import KernelSync

__all__ = ["Runner"]

logger = logging.getLogger(__name__)

#: Bytes that are copied in less than a millisecond. The thread copies without the interpreter, while the loop
#: goes on: with messages of 100 KB that was worth more than its wakes cost.
_LITTLE = 1 << 20


class Runner:
    """Runs one batch at a time; `landed` is called with it, on the loop, when it is through."""

    __slots__ = (
        "_batch",
        "_clock",
        "_files",
        "_jobs",
        "_kernel",
        "_landed",
        "_loop",
        "_thread",
        "_was_asked",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        files: Files,
        landed: Callable[[Batch], None],
    ) -> None:
        self._loop, self._clock, self._files, self._landed = loop, clock, files, landed
        self._kernel: KernelSync | None = None
        self._was_asked = False
        #: what the kernel syncs a file of
        self._batch: Batch | None = None
        self._jobs: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, batch: Batch, *, is_slow: bool) -> None:
        """Begin with a batch; `is_slow` says that writes had better not be made in the loop."""
        if is_slow or not batch.is_plain or batch.octets > _LITTLE or not self._has_kernel():
            self._give_to_thread(batch)
        else:
            batch.write(self._clock)
            self._go_on(batch)

    def close(self) -> None:
        """Wait for what is in hand. It does not land any more."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
        if self._kernel is not None:
            if self._batch is not None:
                self._batch.synced(_as_error(self._kernel.wait()))
                self._batch.run(self._clock)
                self._batch = None
            self._close_kernel(self._kernel)

    def _has_kernel(self) -> bool:
        """Whether the kernel makes syncs for us; it is asked once."""
        if not self._was_asked:
            self._was_asked = True
            self._kernel = self._files.kernel_sync()
            if self._kernel is not None:
                self._loop.add_reader(self._kernel.descriptor, self._look)
        return self._kernel is not None

    def _go_on(self, batch: Batch) -> None:
        """The next file of the batch, or its end."""
        if not batch.unsynced:
            batch.finish(self._clock)
            self._landed(batch)
            return
        assert self._kernel is not None
        try:
            self._kernel.begin(batch.unsynced[0].descriptor)
        except OSError as error:  # nothing has begun: this is not a sync that has failed
            logger.info("spool syncs in a thread from now on why=%r", str(error))
            self._close_kernel(self._kernel)
            self._give_to_thread(batch)
        else:
            self._batch = batch

    def _look(self) -> None:
        """The kernel says that a sync has ended."""
        batch, kernel = self._batch, self._kernel
        if kernel is None or batch is None:
            return
        ended = kernel.ended()
        if ended is not None:
            self._batch = None
            batch.synced(_as_error(ended))
            self._go_on(batch)

    def _close_kernel(self, kernel: KernelSync) -> None:
        self._kernel = None
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.remove_reader(kernel.descriptor)
        kernel.close()

    def _give_to_thread(self, batch: Batch) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="spool-commit", daemon=True)
            self._thread.start()
        self._jobs.put(batch)

    def _serve(self) -> None:
        """The thread: runs batches, one at a time, until told to stop."""
        while (batch := self._jobs.get()) is not None:
            batch.run(self._clock)
            try:
                self._loop.call_soon_threadsafe(self._landed, batch)
            except RuntimeError:
                return  # the loop is closed; who closes us completes the batch


def _as_error(number: int) -> OSError | None:
    return OSError(number, os.strerror(number)) if number else None
