"""One child process as the supervisor sees it: spawned, watched, started again with growing pauses.

A child is a fresh interpreter (`python -m mta.service.entry ROLE ...`) that inherits listening sockets
and one end of a channel. It says `ready` once, then a `heartbeat` every second; one that goes silent is
killed, because a process that hangs helps nobody and the logs decide what is true.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from mta.clock import Clock
from mta.service.channel import Channel, Handler

__all__ = ["Child"]

log = logging.getLogger(__name__)

#: A loop that has not turned for this long is not busy, it is stuck. Starts (recovery of a large spool)
#: are exempt: a child that has not said `ready` yet gets START_PATIENCE.
SILENCE = 30.0
START_PATIENCE = 600.0
#: Pauses before the next start; a child that lived for a minute begins at the front again.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0
GOOD_LIFE = 60.0
EX_OSERR = 71


class Child:
    """`name` for people, `arguments` for `mta.service.entry`; `sockets` are inherited in that order, and
    `files` (descriptors) with them.

    All are asked for at each start.
    """

    def __init__(
        self,
        name: str,
        arguments: Callable[[], Sequence[str]],
        *,
        clock: Clock,
        handler: Handler,
        sockets: Callable[[], Sequence[socket.socket]] = lambda: (),
        files: Callable[[], Sequence[int]] = lambda: (),
        on_exit: Callable[[Child, int], None] = lambda child, code: None,
    ) -> None:
        self.name = name
        self.restarts = 0
        self.pid = 0
        self.started_at = 0.0
        self.heartbeat: dict[str, Any] = {}
        self.cpu_share = 0.0  # of one processor, over the last heartbeats
        self.exit_code: int | None = None
        self.was_ready = False
        self.ended = asyncio.Event()  # there is no process
        self.ended.set()
        self._arguments = arguments
        self._sockets = sockets
        self._files = files
        self._clock = clock
        self._handler = handler
        self._on_exit = on_exit
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._last_heard = 0.0
        self._beat_at = 0.0
        self._process: asyncio.subprocess.Process | None = None
        self.channel = Channel(self._hear)

    def __repr__(self) -> str:
        return f"<Child {self.name} {self.state} pid={self.pid} restarts={self.restarts}>"

    @property
    def state(self) -> str:
        """One word for the operator."""
        if self._stopping.is_set():
            return "stopping"
        return "running" if self.is_ready else "starting"

    @property
    def is_ready(self) -> bool:
        return self._ready.is_set()

    async def run(self) -> None:
        """Keep the process alive until `stop_restarting`; returns when it has ended for good."""
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            started = self._clock.now()
            code = await self._live()
            if self._stopping.is_set():
                break
            self.restarts += 1
            if self._clock.now() - started > GOOD_LIFE:
                pause = FIRST_PAUSE
            log.error("process=%s pid=%s ended code=%s restart-in=%.1fs", self.name, self.pid, code, pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            pause = min(LONGEST_PAUSE, pause * 2)

    async def wait_ready(self) -> None:
        await self._ready.wait()

    def stop_restarting(self) -> None:
        """The next end of the process is the last."""
        self._stopping.set()

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def _live(self) -> int:
        ours, theirs = socket.socketpair()
        inherited = [theirs, *self._sockets()]
        for sock in inherited:
            sock.set_inheritable(True)
        numbers = [sock.fileno() for sock in inherited]
        files = self._files()
        for file in files:
            os.set_inheritable(file, True)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "mta.service.entry",
                *self._arguments(),
                "--fds",
                ",".join(map(str, numbers)),
                pass_fds=[*numbers, *files],
                stdin=asyncio.subprocess.DEVNULL,
            )
        except OSError as failure:
            # No memory for one more process, or an interpreter that our account may not run.
            ours.close()
            log.error(
                "process=%s could not run %s: %s", self.name, sys.executable, failure.strerror or failure
            )
            self.exit_code = EX_OSERR
            self._on_exit(self, EX_OSERR)
            return EX_OSERR
        finally:
            theirs.close()
        self.pid = self._process.pid
        self.started_at = self._clock.wall()
        self.ended.clear()
        self._last_heard = self._clock.now()
        self.channel = Channel(self._hear)
        if self._stopping.is_set():
            self.kill()  # whoever told us to stop had nobody yet to tell
        async with asyncio.TaskGroup() as company:
            talk = company.create_task(self.channel.run(ours))
            watch = company.create_task(self._watch())
            self.exit_code = await self._process.wait()
            talk.cancel()
            watch.cancel()
        self.ended.set()
        self._ready.clear()
        self.heartbeat = {}
        self.cpu_share = 0.0
        self._on_exit(self, self.exit_code)
        return self.exit_code

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            silence = self._clock.now() - self._last_heard
            if silence > (SILENCE if self.is_ready else START_PATIENCE):
                log.error("process=%s pid=%s silent-for=%.0fs killed", self.name, self.pid, silence)
                self.kill()
                return

    def _beat(self, figures: dict[str, Any]) -> None:
        now = self._clock.now()
        used = figures.get("cpu", 0.0) - self.heartbeat.get("cpu", 0.0)
        if self.heartbeat and now > self._beat_at:
            self.cpu_share = max(0.0, used / (now - self._beat_at))
        self._beat_at = now
        self.heartbeat = figures

    async def _hear(self, command: str, arguments: dict[str, Any]) -> Any:
        self._last_heard = self._clock.now()
        if command == "heartbeat":
            self._beat(arguments)
            return None
        if command == "ready":
            self.was_ready = True
            self._ready.set()
            return None
        return await self._handler(command, arguments)
