"""The shell of a worker process: its channel to the supervisor, its heartbeat, its end.

The mail itself is `worker.py`'s. The process ends when told to drain, when the supervisor is gone, or when
the worker finds a contradiction (an exception nobody foresaw): then the supervisor starts a fresh one and
the spool decides what is true.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mta.clock import Clock
from mta.config.load import load
from mta.config.snapshot import Snapshot
from mta.errors import ConfigError, MtaError, SpoolError
from mta.service.borrower import Demands
from mta.service.channel import Channel, CommandFailed
from mta.service.layout import Layout
from mta.service.loop import settle_garbage
from mta.service.vitals import Vitals
from mta.service.worker import Worker
from mta.service.workercommands import WorkerCommands

__all__ = ["WorkerProcess"]

log = logging.getLogger(__name__)

EX_SOFTWARE = 70
EX_TEMPFAIL = 75
EX_CONFIG = 78
HEARTBEAT = 1.0


class WorkerProcess:
    """`run(channel socket)` is the life of the process and returns its exit code."""

    def __init__(
        self,
        config: Path,
        snapshot: Snapshot,
        *,
        name: str,
        listeners: list[socket.socket],
        clock: Clock,
        workers: int = 1,
        adopted: Sequence[int] = (),
    ) -> None:
        self._config = config
        self._snapshot = snapshot
        self._name = name
        self._listeners = listeners
        self._clock = clock
        self._workers = workers
        self._adopted = adopted
        self._checked: Snapshot | None = None
        self._allowed = frozenset(os.sched_getaffinity(0))
        self._channel = Channel(self._handle)
        self._worker: Worker | None = None
        self._commands: WorkerCommands | None = None
        self._drained = False

    async def run(self, channel: socket.socket) -> int:
        code = 0
        try:
            async with asyncio.TaskGroup() as company:
                talk = company.create_task(self._channel.run(channel))
                work = company.create_task(self._work())
                beat = company.create_task(self._beat())
                # The channel closes when the supervisor says so or is gone: either way it is over.
                await asyncio.wait({talk, work}, return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    talk.cancel()
                elif self._worker is not None:
                    await self._worker.stop()
                work.cancel()
                beat.cancel()
        except* (SpoolError, ConfigError, OSError) as failures:
            for failure in failures.exceptions:
                log.error("worker=%s cannot run: %s", self._name, failure)
            is_config = any(isinstance(failure, ConfigError) for failure in failures.exceptions)
            code = EX_CONFIG if is_config else EX_TEMPFAIL
        except* Exception as failures:
            log.critical("worker=%s died of a contradiction", self._name, exc_info=failures)
            code = EX_SOFTWARE
        return code

    async def _work(self) -> None:
        self._worker = Worker(
            self._snapshot,
            name=self._name,
            clock=self._clock,
            loop=asyncio.get_running_loop(),
            workers=self._workers,
            adopted=self._adopted,
            lender=self._borrow if self._workers > 1 else None,
        )
        keep_to_processors(self._worker.crew.post.cpus, self._allowed)
        self._commands = WorkerCommands(self._worker, clock=self._clock)
        await self._channel.opened.wait()
        await self._worker.start(self._listeners)
        settle_garbage()
        self._channel.tell("ready")
        await self._worker.run()

    async def _borrow(self, demands: Demands) -> dict[str, int | None]:
        """Ask the supervisor for our parts of limits that hold for all workers together."""
        parts: dict[str, int | None] = await self._channel.ask("lease", timeout=5.0, demands=demands)
        return parts

    async def _beat(self) -> None:
        vitals = Vitals(self._clock, asyncio.get_running_loop())
        try:
            while True:
                await asyncio.sleep(HEARTBEAT)
                helping = self._worker.outbound.signer.processes if self._worker is not None else []
                self._channel.tell("heartbeat", **vitals.figures(helping))
        finally:
            vitals.close()

    async def _handle(self, command: str, arguments: dict[str, Any]) -> Any:
        if command == "check":
            return self._check(arguments["epoch"])
        if command == "reload":
            return self._reload(arguments["epoch"])
        worker, commands = self._worker, self._commands
        if worker is None or commands is None:
            raise CommandFailed("the worker is still starting")
        if command == "drain":
            await worker.drain(arguments["seconds"])
            return None
        if command == "reopen":
            return None
        if command == "renew":
            worker.want_more()
            return None
        return await commands.run(command, arguments)

    def _check(self, epoch: int) -> None:
        """Read the new configuration, so that `reload` has nothing left to go wrong."""
        loaded = load(self._config, epoch=epoch)
        if loaded.snapshot is None:
            raise CommandFailed("the configuration changed while it was being read")
        try:
            Layout.of(loaded.snapshot, count=self._workers)
        except MtaError as failure:
            raise CommandFailed(str(failure)) from None
        self._checked = loaded.snapshot

    def _reload(self, epoch: int) -> None:
        if self._checked is None or self._checked.epoch != epoch:
            self._check(epoch)
        snapshot, self._checked = self._checked, None
        assert snapshot is not None
        if self._worker is not None:
            try:
                self._worker.reload(snapshot)
            except MtaError as failure:
                raise CommandFailed(str(failure)) from None
            keep_to_processors(self._worker.crew.post.cpus, self._allowed)
        self._snapshot = snapshot


def keep_to_processors(cpus: frozenset[int], allowed: frozenset[int]) -> None:
    """Run only on these; on all that the service may use when there are none, or none of them exists here."""
    try:
        os.sched_setaffinity(0, cpus or allowed)
    except OSError as failure:
        log.error("cpus=%s event=not-pinned error=%s", sorted(cpus), failure.strerror)
