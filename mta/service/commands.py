"""What an operator may ask: each command of the control socket, answered from the processes that know.

Commands about queues and messages go to all workers (`workercommands.py`) and their answers are put together
(`merging.py`); those about the service as a whole are answered here. The shapes are described in
`mta/cli/control.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
import os
import platform
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mta.clock import Clock
from mta.config.rollups import SUFFIX
from mta.config.snapshot import DEFAULT_VMTA, Snapshot
from mta.errors import MtaError, StreamError
from mta.service import merging
from mta.service.channel import CommandFailed
from mta.service.child import Child
from mta.service.layout import Post
from mta.service.logs import rotate_log
from mta.service.requests import checked

if TYPE_CHECKING:
    from mta.service.supervisor import Supervisor

__all__ = ["Commands", "check_file"]

log = logging.getLogger(__name__)

#: A listing of very many queues or a delete of very many messages takes a while.
WORKER_SECONDS = 60.0

#: `show workers` doesn't wait for one that is busy.
GLANCE_SECONDS = 2.0

#: Asked of every worker that runs; the answers are put together.
QUESTIONS: Mapping[str, Callable[..., dict[str, Any]]] = MappingProxyType(
    {
        "show.queues": merging.merge_queues,
        "show.topqueues": merging.merge_queues,
        "show.domains": merging.merge_domains,
        "show.disabledsources": merging.merge_disabled_sources,
        "show.precache": merging.merge_precache,
        "show.vmtas": merging.merge_vmtas,
        "show.jobs": merging.merge_jobs,
        "list": merging.merge_list,
    }
)
#: Told to every worker; the numbers of what they did are added.
ORDERS = frozenset(
    {
        "queue.pause",
        "queue.resume",
        "queue.schedule",
        "queue.mode",
        "job.pause",
        "job.resume",
        "source.disable",
        "source.enable",
        "set.priority",
        "delete",
        "undo.delete",
        "clear.dnscache",
        "reset.counters",
    }
)
#: For the worker that owns the queue.
OWNERS = frozenset({"why", "trace", "resolve"})
#: A trace waits for a remote server; longer than its own limit.
TRACE_SECONDS = 240.0
#: Read while the process may still do so: as another user it may not reach the interpreter's library.
VERSION = importlib.metadata.version("mta")


class Commands:
    """`run(command, arguments)` answers one request; raises MtaError with the operator's sentence."""

    def __init__(self, supervisor: Supervisor, *, clock: Clock) -> None:
        self._supervisor = supervisor
        self._clock = clock

    async def run(self, command: str, arguments: dict[str, Any]) -> Any:
        arguments = checked(arguments)
        if command in QUESTIONS:
            return QUESTIONS[command](await self._ask_workers(command, **arguments), **arguments)
        if command in ORDERS:
            return await self._order(command, **arguments)
        if command in OWNERS:
            return await self._ask_owner(command, **arguments)
        if command == "show.status":
            return await self._status()
        if command == "show.version":
            return version()
        if command == "show.workers":
            return await self._workers()
        if command == "reload":
            return await self._supervisor.reload()
        if command == "rotate":
            what = arguments.get("what", "acct")
            if what == "log":
                return {"files": [self._rotate_log()]}
            if what != "acct":
                raise CommandFailed("only logs can be rotated: rotate acct [FILE], rotate log")
            file = arguments.get("file", "")
            check_file(file, self._supervisor.snapshot)
            files = await self._supervisor.events.channel.ask("rotate", timeout=WORKER_SECONDS, file=file)
            return {"files": files}
        raise CommandFailed(f"unknown command {command!r}")

    def _rotate_log(self) -> str:
        try:
            return str(rotate_log(self._supervisor.snapshot.top))
        except OSError as failure:
            raise CommandFailed(f"the log can't be rotated: {failure.strerror or failure}") from None

    async def _ask_workers(self, command: str, **arguments: Any) -> list[dict[str, Any]]:
        """The answers of all workers that are there. Raises when there is none, or when one refuses."""
        present = [worker for worker in self._supervisor.workers if worker.is_ready]
        found: list[dict[str, Any]] = []
        refusals: list[CommandFailed] = []

        async def ask(worker: Child) -> None:
            try:
                found.append(await worker.channel.ask(command, timeout=WORKER_SECONDS, **arguments))
            except CommandFailed as refusal:
                refusals.append(refusal)
            except StreamError as failure:
                log.warning("process=%s event=no-answer error=%s", worker.name, failure)

        async with asyncio.TaskGroup() as company:
            for worker in present:
                company.create_task(ask(worker))
        if refusals:
            raise refusals[0]
        if not found:
            raise CommandFailed("no worker runs; try again")
        return found

    async def _order(self, command: str, **arguments: Any) -> dict[str, Any]:
        """All workers have to do it: an order that one of them never heard of would not hold."""
        answers = await self._ask_workers(command, **arguments)
        missing = len(self._supervisor.workers) - len(answers)
        if missing:
            raise CommandFailed(f"done, but {missing} of the workers could not be told: try again")
        return merging.add(answers)

    async def _ask_owner(self, command: str, **arguments: Any) -> Any:
        name = str(arguments.get("queue") or arguments.get("domain", "")).lower()
        domain, _, vmta = name.partition("/")
        owner = self._supervisor.workers[self._supervisor.layout.owner(domain)]
        if domain.endswith(SUFFIX):
            owner = await self._busiest(domain, vmta or DEFAULT_VMTA, owner)
        seconds = WORKER_SECONDS if command == "why" else TRACE_SECONDS
        return await owner.channel.ask(command, timeout=seconds, **arguments)

    async def _busiest(self, domain: str, vmta: str, otherwise: Child) -> Child:
        """The worker with most recipients in the queue of a roll-up, which may be at several."""
        most, found = 0, otherwise
        for worker in self._supervisor.workers:
            if worker.is_ready:
                answer = await worker.channel.ask(
                    "show.queues", timeout=WORKER_SECONDS, domain=domain, vmta=vmta
                )
                if answer["totalRcp"] > most:
                    most, found = answer["totalRcp"], worker
        return found

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
            "workers": len(supervisor.workers),
            "events": supervisor.events.heartbeat,
            **merging.add(await self._ask_workers("show.status")),
        }

    async def _workers(self) -> dict[str, Any]:
        async with asyncio.TaskGroup() as company:
            rows = [company.create_task(self._glance(child)) for child in self._supervisor.children]
        return {"timeNow": self._clock.wall(), "worker": [row.result() for row in rows]}

    async def _glance(self, child: Child) -> dict[str, Any]:
        """One process: what we see of it, its last heartbeat, and what it says itself if it is quick."""
        figures: dict[str, Any] = {}
        workers = self._supervisor.workers
        post = self._supervisor.layout.posts[workers.index(child)] if child in workers else None
        if post is not None and child.is_ready:
            with contextlib.suppress(MtaError):
                figures = await child.channel.ask("glance", timeout=GLANCE_SECONDS)
        return {
            "id": child.name,
            "pid": child.pid,
            "state": child.state,
            "startupTime": child.started_at,
            "restarts": child.restarts,
            "role": post.role.value if post is not None else "",
            "domains": domains_of(post) if post is not None else [],
            "cpus": processors(child),
            "cpuShare": round(child.cpu_share, 3),
            **child.heartbeat,
            **figures,
        }


def domains_of(post: Post) -> list[str]:
    """The domains whose queues a worker has: what it claims, or `*` for its share of all others."""
    if not post.delivers:
        return []
    return [claim.text for claim in post.claims] or ["*"]


def processors(child: Child) -> list[int]:
    """The processors a child may run on; none when it is just ending."""
    try:
        return sorted(os.sched_getaffinity(child.pid)) if child.is_ready else []
    except OSError:
        return []


def version() -> dict[str, str]:
    """The product's name and version, and what it runs on."""
    return {
        "name": "mta",
        "version": VERSION,
        "python": platform.python_version(),
        "revision": "",
    }


def check_file(part: str, snapshot: Snapshot) -> None:
    """Whether some file of records has `part` in its name. Raises CommandFailed."""
    targets = [file.target for file in (*snapshot.acct_files, *snapshot.reject_files)]
    if part and not any(part in target for target in targets):
        known = ", ".join(targets) or "none"
        raise CommandFailed(f"no accounting file has {part} in its name", hint=f"there are: {known}")
