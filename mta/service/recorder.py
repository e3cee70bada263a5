"""The events process: reads the settle logs of all partitions and writes accounting and reject log.

It is not on the delivery path. It may die at any moment: its cursors are moved only after what they
passed is safely in its files.
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
from mta.events.runner import EventRunner
from mta.service.channel import Channel, CommandFailed
from mta.service.premises import spool_directory

__all__ = ["Recorder", "partition_directories"]

log = logging.getLogger(__name__)

EX_SOFTWARE = 70
HEARTBEAT = 1.0


def partition_directories(spool: Path) -> list[Path]:
    """The partitions below a spool: a directory with a number for a name each."""
    return sorted((entry for entry in spool.iterdir() if entry.name.isdigit()), key=lambda e: int(e.name))


class Recorder:
    """`run(channel socket)` is the life of the process and returns its exit code."""

    def __init__(self, config: Path, snapshot: Snapshot, *, clock: Clock) -> None:
        self._config = config
        self._snapshot = snapshot
        self._channel = Channel(self._handle)
        spool = spool_directory(snapshot)
        self._runner = EventRunner(
            snapshot=lambda: self._snapshot, partitions=lambda: partition_directories(spool), clock=clock
        )

    async def run(self, channel: socket.socket) -> int:
        code = 0
        try:
            async with asyncio.TaskGroup() as company:
                talk = company.create_task(self._channel.run(channel))
                work = company.create_task(self._runner.run())
                beat = company.create_task(self._beat())
                await talk
                self._runner.stop()
                await work
                beat.cancel()
        except* Exception as failures:
            log.critical("the events process died of a contradiction", exc_info=failures)
            code = EX_SOFTWARE
        return code

    async def _beat(self) -> None:
        # Ready at once: accounting catches up while mail already flows.
        await self._channel.opened.wait()
        self._channel.tell("ready")
        while True:
            await asyncio.sleep(HEARTBEAT)
            self._channel.tell("heartbeat", **self._runner.stats())

    async def _handle(self, command: str, arguments: dict[str, Any]) -> Any:
        if command == "check":
            return None
        if command == "reload":
            loaded = load(self._config, epoch=arguments["epoch"])
            if loaded.snapshot is None:
                raise CommandFailed("the configuration changed while it was being read")
            self._snapshot = loaded.snapshot
            self._runner.reload()
            return None
        if command == "finish":
            await self._runner.catch_up()
            return None
        if command == "reopen":
            return self._runner.reopen()
        if command == "rotate":
            return self._runner.rotate(arguments.get("file", ""))
        if command == "stats":
            return self._runner.stats()
        raise CommandFailed(f"the events process knows no {command}")
