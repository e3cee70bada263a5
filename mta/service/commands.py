"""What an operator may ask: each command of the control socket, answered from the processes that know.

Commands about queues and messages are the worker's (`workercommands.py`) and pass through; those about the
service as a whole are answered here. Request and reply shapes are described in `mta/cli/control.py`.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import TYPE_CHECKING, Any

from mta.clock import Clock
from mta.service.channel import CommandFailed

if TYPE_CHECKING:
    from mta.service.supervisor import Supervisor

__all__ = ["Commands"]

#: A listing of very many queues or a delete of very many messages takes a while.
WORKER_SECONDS = 60.0

#: Passed to the worker as they are.
WORKER_COMMANDS = frozenset(
    {
        "show.queues",
        "show.topqueues",
        "show.domains",
        "show.vmtas",
        "show.jobs",
        "list",
        "queue.pause",
        "queue.resume",
        "queue.schedule",
        "queue.mode",
        "delete",
        "trace",
        "why",
        "clear.dnscache",
    }
)


class Commands:
    """`run(command, arguments)` answers one request; raises MtaError with the operator's sentence."""

    def __init__(self, supervisor: Supervisor, *, clock: Clock) -> None:
        self._supervisor = supervisor
        self._clock = clock

    async def run(self, command: str, arguments: dict[str, Any]) -> Any:
        if command in WORKER_COMMANDS:
            return await self._ask_worker(command, **arguments)
        if command == "show.status":
            return await self._status()
        if command == "show.version":
            return version()
        if command == "show.workers":
            return self._workers()
        if command == "reload":
            return await self._supervisor.reload()
        if command == "rotate":
            if arguments.get("what", "acct") != "acct":
                raise CommandFailed("only accounting files can be rotated: rotate acct [FILE]")
            file = arguments.get("file", "")
            files = await self._supervisor.events.channel.ask("rotate", timeout=WORKER_SECONDS, file=file)
            return {"files": files}
        if command == "reset.counters":
            return await self._ask_worker("reset.counters")
        raise CommandFailed(f"unknown command {command!r}")

    async def _ask_worker(self, command: str, **arguments: Any) -> Any:
        return await self._supervisor.worker.channel.ask(command, timeout=WORKER_SECONDS, **arguments)

    async def _status(self) -> dict[str, Any]:
        supervisor = self._supervisor
        return {
            "status": supervisor.status,
            "version": version()["version"],
            "pid": os.getpid(),
            "hostName": supervisor.snapshot.host_name() or platform.node(),
            "timeNow": self._clock.wall(),
            "startupTime": supervisor.started_at,
            "epoch": supervisor.snapshot.epoch,
            "configFile": str(supervisor.config),
            "workers": 1,
            "events": supervisor.events.heartbeat,
            **await self._ask_worker("show.status"),
        }

    def _workers(self) -> dict[str, Any]:
        return {
            "worker": [
                {
                    "id": child.name,
                    "pid": child.pid,
                    "state": child.state,
                    "startupTime": child.started_at,
                    "restarts": child.restarts,
                    "cpus": sorted(os.sched_getaffinity(child.pid)) if child.is_ready else [],
                    **child.heartbeat,
                }
                for child in self._supervisor.children
            ]
        }


def version() -> dict[str, str]:
    """The product's name and version, and what it runs on."""
    return {
        "name": "mta",
        "version": importlib.metadata.version("mta"),
        "python": platform.python_version(),
        "revision": "",
    }
