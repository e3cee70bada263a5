"""Emptying the partition of a worker that does not exist any more.

When there are fewer workers than at the last start, the partitions of the others still hold mail. Each is
adopted by a living worker: it takes the lock, offers everything that waits to the owners (itself included)
like any other share, and removes the directory once nothing waits in it and the events process has written
every record of it. A partition with damaged messages in quarantine is emptied and left for people.

Recovered messages are read as they are passed on, so a large partition takes no memory.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from mta.errors import SpoolError
from mta.service.layout import Layout
from mta.service.namelog import NameLog
from mta.service.passage import Offer, Passage
from mta.service.sharenames import ShareNames
from mta.spool.options import SpoolOptions
from mta.spool.partition import Partition
from mta.spool.settlelog import EventReader, read_cursors

__all__ = ["EMPTIED", "Adoption", "is_read"]

log = logging.getLogger(__name__)

#: Behind the name of a directory that is about to be removed.
EMPTIED = ".emptied"
#: Recipients read ahead of those that have found their owner: more than are on their way to one at a time.
AHEAD = 5000
#: Messages read in one turn of the loop.
LOOK = 100
#: Seconds between two looks at what others have to do first.
PATIENCE = 0.5
EVENTS_AT_ONCE = 1000


class Adoption:
    """One orphan; `run()` returns when it is gone, or left for people."""

    def __init__(
        self,
        directory: Path,
        number: int,
        *,
        options: SpoolOptions,
        layout: Callable[[], Layout],
        offer: Offer,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.directory = directory
        self._number = number
        self._options = options
        self._layout = layout
        self._offer = offer
        self._loop = loop
        self._partition: Partition | None = None
        self._passage: Passage | None = None

    def __repr__(self) -> str:
        return f"<Adoption {self.directory} {self._passage!r}>"

    @property
    def waiting(self) -> int:
        """Recipients that still wait in it."""
        return self._partition.stats().recipients if self._partition is not None else 0

    def rest(self) -> None:
        """Offer nothing more, but hear the answers."""
        if self._passage is not None:
            self._passage.rest()

    async def run(self) -> None:
        """Empty the partition and remove it; cancelled, it stays as it is for the next start."""
        if not self.directory.is_dir():
            return
        partition = self._partition = await self._open()
        try:
            await self._empty(partition)
            while not is_read(self.directory):  # noqa: ASYNC110 - another process reads
                await asyncio.sleep(PATIENCE)
            is_whole = not partition.stats().recipients and not has_quarantine(self.directory)
        finally:
            if self._passage is not None:
                self._passage.close()
            partition.close()
            self._partition = None
        if is_whole:
            # Under another name nobody takes it for a partition, even if we die on the way.
            gone = self.directory.with_name(f"{self.directory.name}{EMPTIED}")
            self.directory.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
            log.info("partition=%s event=removed", self.directory)
        else:
            log.warning("partition=%s event=kept it has damaged messages; see mta spool", self.directory)

    async def _open(self) -> Partition:
        while True:
            try:
                partition = Partition.open(self.directory, options=self._options, loop=self._loop)
                try:
                    # Nothing that was here is recognised any more: it goes to others, and may come back.
                    ShareNames.taken(self.directory)
                    NameLog.remove(self.directory)
                except OSError:
                    partition.close()
                    raise
                return partition
            except (SpoolError, OSError) as error:
                # Its former worker may take a moment to end.
                log.warning("partition=%s event=not-adopted error=%s", self.directory, error)
                await asyncio.sleep(10 * PATIENCE)

    async def _empty(self, partition: Partition) -> None:
        passage = self._passage = Passage(
            self._number,
            partition=partition,
            layout=self._layout,
            offer=self._offer,
            at_home=None,
            loop=self._loop,
        )
        recipients = 0
        for number, found in enumerate(partition.recovered(), 1):
            for recipient, attempts, due in found.waiting:
                owner = self._layout().owner(found.envelope.recipients[recipient].queue_domain)
                passage.add(owner, found.message, recipient, attempts, due)
            recipients += len(found.waiting)
            if passage.waiting > AHEAD:
                await passage.emptied(AHEAD // 2)
            elif number % LOOK == 0:
                await asyncio.sleep(0)
        await passage.emptied()
        flushed: asyncio.Future[SpoolError | None] = self._loop.create_future()
        partition.flush(flushed.set_result)
        await flushed
        log.info("partition=%s event=emptied recipients=%d", self.directory, recipients)


def is_read(partition: Path) -> bool:
    """Whether the events process has written every record of a partition."""
    cursors = read_cursors(partition)
    reader = EventReader(partition)
    try:
        for cursor in cursors:
            while True:
                events, following = reader.read(cursor, EVENTS_AT_ONCE)
                if events:
                    return False
                if following == cursor:
                    break
                cursor = following
    except SpoolError:
        return False
    finally:
        reader.close()
    return bool(cursors)


def has_quarantine(partition: Path) -> bool:
    """Whether damaged messages wait for somebody to look at them."""
    try:
        return any((partition / "quarantine").iterdir())
    except FileNotFoundError:
        return False
