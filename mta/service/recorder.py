"""The events process: reads the settle logs of all partitions and writes accounting and reject log.

It is not on the delivery path. It may die at any moment: its cursors are moved only after what they
passed is safely in its files. Two of them would write into each other's lines: the one of a service that was
started by mistake, or too early, waits for the other's lock.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

from mta.clock import Clock
from mta.config.load import load
from mta.config.snapshot import Snapshot
from mta.errors import SpoolError
from mta.events.runner import EventRunner
from mta.service.channel import Channel, CommandFailed
from mta.service.loop import settle_garbage
from mta.service.premises import spool_directory
from mta.service.vitals import Vitals
from mta.spool.lock import SpoolLock

__all__ = ["Recorder", "partition_directories"]

log = logging.getLogger(__name__)

EX_SOFTWARE = 70
HEARTBEAT = 1.0
LOCK = "events.lock"
#: Samples of the loop's lag between two looks: each wakes the process, and only commands wait for this loop.
LAG_SPAN = 8
#: Seconds between two tries to get the lock.
LOCK_RETRY = 0.1


def partition_directories(spool: Path) -> list[Path]:
    """The partitions below a spool: a directory with a number for a name each."""
    return sorted((entry for entry in spool.iterdir() if entry.name.isdigit()), key=lambda e: int(e.name))


class Recorder:
    """`run(channel socket)` is the life of the process and returns its exit code."""

    def __init__(self, config: Path, snapshot: Snapshot, *, clock: Clock) -> None:
        self._config = config
        self._snapshot = snapshot
        self._clock = clock
        self._channel = Channel(self._handle)
        self._spool = spool = spool_directory(snapshot)
        self._is_alone = False  # no other events process writes what we write
        self._runner = EventRunner(
            snapshot=lambda: self._snapshot, partitions=lambda: partition_directories(spool), clock=clock
        )

    async def run(self, channel: socket.socket) -> int:
        settle_garbage()
        code = 0
        try:
            async with asyncio.TaskGroup() as company:
                talk = company.create_task(self._channel.run(channel))
                work = company.create_task(self._write())
                beat = company.create_task(self._beat())
                await talk
                if self._is_alone:
                    self._runner.stop()
                else:
                    work.cancel()
                await asyncio.wait({work})
                beat.cancel()
        except* Exception as failures:
            log.critical("the events process died of a contradiction", exc_info=failures)
            code = EX_SOFTWARE
        return code

    async def _write(self) -> None:
        """Write records as soon as nobody else does."""
        lock = await self._lock()
        self._is_alone = True
        try:
            await self._runner.run()
        finally:
            self._is_alone = False
            lock.close()

    async def _lock(self) -> SpoolLock:
        said = ""
        while True:
            try:
                return SpoolLock(self._spool, LOCK)
            except SpoolError as failure:
                if str(failure) != said:
                    said = str(failure)
                    log.warning("event=waiting reason=%r", said)
            await asyncio.sleep(LOCK_RETRY)

    async def _beat(self) -> None:
        # Ready at once: accounting catches up while mail already flows.
        await self._channel.opened.wait()
        self._channel.tell("ready")
        vitals = Vitals(self._clock, asyncio.get_running_loop(), span=LAG_SPAN)
        try:
            while True:
                await asyncio.sleep(HEARTBEAT)
                self._channel.tell("heartbeat", **vitals.figures(), **self._runner.stats())
        finally:
            vitals.close()

    async def _handle(self, command: str, arguments: dict[str, Any]) -> Any:
        if command == "check":
            return None
        if command == "reload":
            loaded = load(self._config, epoch=arguments["epoch"])
            if loaded.snapshot is None:
                raise CommandFailed("the configuration changed while it was being read")
            self._snapshot = loaded.snapshot
            if self._is_alone:
                self._runner.reload()
            return None
        if command == "finish":
            if self._is_alone:
                await self._runner.catch_up()
            return None
        if command == "reopen":
            return self._runner.reopen() if self._is_alone else []
        if command == "rotate":
            return self._runner.rotate(arguments.get("file", "")) if self._is_alone else []
        if command == "stats":
            return self._runner.stats()
        raise CommandFailed(f"the events process knows no {command}")
