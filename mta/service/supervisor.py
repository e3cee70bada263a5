"""The parent of all our processes: binds ports, drops privileges, spawns, watches, restarts, ends.

It touches no mail, so its own death loses nothing: children notice that their channel closed and end.
Workers carry the mail (worker N has the partition SPOOL/N; `layout.py` says which domains), one events
process writes the accounting. While one of several workers is down, new connections go to the others.

A start that cannot work is over at once with a plain message and an exit code of sysexits.h: 78 for the
configuration, 75 for what may pass (a port in use, a spool that somebody else holds).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mta.clock import Clock, SystemClock
from mta.config.exposed import open_secrets
from mta.config.files import Reading
from mta.config.lint import Machine, silent_lines
from mta.config.load import Loaded, load
from mta.config.problems import Problem, Severity
from mta.config.snapshot import Snapshot
from mta.errors import ConfigError, MtaError, StreamError
from mta.service.admin import AdminSocket
from mta.service.adoption import EMPTIED
from mta.service.borrower import GROUP, PLACE, SMTP_IN, SMTP_OUT, VMTA
from mta.service.channel import CommandFailed
from mta.service.child import Child
from mta.service.commands import Commands
from mta.service.handedover import HandedOver
from mta.service.layout import Layout
from mta.service.leases import LeaseBook
from mta.service.logs import set_up_logging
from mta.service.loop import run
from mta.service.notify import Notifier
from mta.service.places import PlaceBook
from mta.service.ports import bind_listeners
from mta.service.premises import prepare_directories, spool_directory
from mta.service.privileges import drop, raise_file_limit, service_account
from mta.service.processors import processors_available
from mta.service.recorder import partition_directories

__all__ = ["Supervisor", "main"]

log = logging.getLogger(__name__)

EX_TEMPFAIL = 75
EX_CONFIG = 78

#: The end of the service, under 30 s in all: a transfer past its final dot may need all of the worker's
#: part, the rest is for the last records. systemd's TimeoutStopSec stands above it.
DRAIN_SECONDS = 20.0
FINISH_SECONDS = 5.0
#: How long a process that should end by itself may take.
END_SECONDS = 2.0
RELOAD_SECONDS = 60.0
#: A reload waits so long for a process that is just starting.
STARTING_SECONDS = 10.0


def main(config: Path) -> int:
    """Run the service until it is told to stop; returns the process's exit code."""
    # Until the event loop listens for signals there is nothing to drain: just go.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    reading = Reading()
    loaded = load(config, reading=reading)
    _report(loaded)
    if loaded.snapshot is None:
        return EX_CONFIG
    snapshot = loaded.snapshot
    try:
        account = service_account(snapshot.top)
        files = raise_file_limit()
        prepare_directories(snapshot, account)
        layout = Layout.of(snapshot, cpus=processors_available())
        listeners = bind_listeners(snapshot, [post.listens for post in layout.posts])
        drop(account)
        set_up_logging(snapshot.top)
    except ConfigError as failure:
        print(f"mta: {failure}", file=sys.stderr)
        return EX_CONFIG
    except OSError as failure:
        print(f"mta: {failure}", file=sys.stderr)
        return EX_TEMPFAIL
    log.info("starting user=%s open-files=%d config=%s", account.name, files, config)
    supervisor = Supervisor(
        config, snapshot, reading=reading, layout=layout, listeners=listeners, clock=SystemClock()
    )
    return run(supervisor.run())


def _report(loaded: Loaded) -> None:
    for problem in loaded.problems:
        if problem.severity is Severity.ERROR or loaded.snapshot is not None:
            print(f"mta: {problem}", file=sys.stderr)
    if loaded.snapshot is not None:
        for problem in open_secrets(loaded.snapshot, Machine.here().is_open_to_all):
            print(f"mta: {problem}", file=sys.stderr)
        if silent := silent_lines(loaded.snapshot):
            print(f"mta: lines without effect yet: {silent} (mta check names them)", file=sys.stderr)


class Supervisor:
    """Owns the children; `run()` is its life."""

    def __init__(
        self,
        config: Path,
        snapshot: Snapshot,
        *,
        reading: Reading,
        layout: Layout,
        listeners: list[list[socket.socket]],
        clock: Clock,
    ) -> None:
        """`reading` is what the snapshot was made of; `listeners` are the sockets of each worker."""
        self.config = config
        self.snapshot = snapshot
        self.layout = layout
        self._handed_over = HandedOver(reading)
        self.started_at = clock.wall()
        self._clock = clock
        self._notifier = Notifier()
        self._listeners = listeners
        self._stop = asyncio.Event()
        self._code = 0
        self._was_ready = False
        self._reloading = asyncio.Lock()
        self.leases = LeaseBook(lambda resource: limit_of(self.snapshot, resource))
        self.places = PlaceBook()
        self._orphans = share_out(orphans(spool_directory(snapshot), len(layout)), layout)
        self.workers = tuple(self._worker(post.number) for post in layout.posts)
        self.events = self._child("events", lambda: ("events", str(config), "events"), [])
        self.children = (*self.workers, self.events)

    def _worker(self, number: int) -> Child:
        def arguments() -> list[str]:
            adopted = [str(orphan) for orphan in self._orphans[number]]
            adoption = ["--adopt", *adopted] if adopted else []
            return ["worker", str(self.config), str(number), "--workers", str(len(self.layout)), *adoption]

        return self._child(f"worker-{number}", arguments, self._listeners[number])

    def _child(
        self, name: str, arguments: Callable[[], Sequence[str]], sockets: Sequence[socket.socket]
    ) -> Child:
        return Child(
            name,
            lambda: (*arguments(), *self._in_force()),
            clock=self._clock,
            handler=partial(self._from_child, name),
            sockets=lambda: sockets,
            files=lambda: [self._handed_over.descriptor],
            on_exit=self._child_ended,
        )

    def _in_force(self) -> list[str]:
        """Which configuration a process starts with, although the files may say something else by now."""
        return ["--epoch", str(self.snapshot.epoch), "--config-fd", str(self._handed_over.descriptor)]

    async def run(self) -> int:
        """Start everything, serve until told to stop, drain, and return the exit code."""
        self._catch_signals()
        admin = AdminSocket(self.snapshot.top.text("control-socket"), Commands(self, clock=self._clock).run)
        async with asyncio.TaskGroup() as company:
            lives = [company.create_task(child.run()) for child in self.children]
            others = [company.create_task(self._announce()), company.create_task(self._keep_watchdog_calm())]
            try:
                await admin.open()
                await self._stop.wait()
            except MtaError as failure:
                log.error("control-socket: %s", failure)
                self._code = EX_TEMPFAIL
            await self._drain()
            await asyncio.wait(lives)
            await admin.close()
            for other in others:
                other.cancel()
        for sock in itertools.chain.from_iterable(self._listeners):
            sock.close()
        log.info("stopped code=%d", self._code)
        return self._code

    def stop(self, code: int = 0) -> None:
        """Begin to end; the second call has no effect."""
        if not self._stop.is_set():
            self._code = code
            self._stop.set()

    @property
    def status(self) -> str:
        """One word for monitors."""
        if self._stop.is_set():
            return "stopping"
        return "running" if self._was_ready else "starting"

    async def reload(self) -> dict[str, Any]:
        """Read the configuration again and hand it to everybody.

        Returns the epoch and the warnings. Raises MtaError with all problems when the new text is not good,
        or asks for what only a restart can do; the old one then stays in force everywhere.
        """
        async with self._reloading:
            try:
                return await self._reload()
            except MtaError as failure:
                log.error("reload refused, the old configuration stays: %s", failure)
                raise

    async def _reload(self) -> dict[str, Any]:
        reading = Reading()
        loaded = load(self.config, epoch=self.snapshot.epoch + 1, reading=reading)
        if loaded.snapshot is None:
            errors = [problem for problem in loaded.problems if problem.severity is Severity.ERROR]
            text = "\n".join(map(str, errors))
            raise CommandFailed(text, problems=[shown(problem) for problem in errors])
        check_what_stays(self.snapshot, loaded.snapshot)
        layout = self._layout_of(loaded.snapshot)
        await self._tell_all("check", loaded.snapshot.epoch)
        await self._tell_all("reload", loaded.snapshot.epoch)
        self._handed_over.replace(reading)
        self.snapshot, self.layout = loaded.snapshot, layout
        log.info("reloaded epoch=%d", self.snapshot.epoch)
        return {"epoch": self.snapshot.epoch, "problems": [shown(problem) for problem in loaded.problems]}

    def _layout_of(self, snapshot: Snapshot) -> Layout:
        """Claims follow a reload, the number of workers does not. Raises ConfigError."""
        wanted = len(Layout.of(snapshot, cpus=processors_available()))
        if wanted != len(self.layout):
            log.warning("workers=%d event=restart-needed wanted=%d", len(self.layout), wanted)
        return Layout.of(snapshot, count=len(self.layout))

    async def _tell_all(self, command: str, epoch: int) -> None:
        """Every process that runs; one that is starting again reads the new configuration by itself."""
        for child in self.children:
            try:
                async with asyncio.timeout(STARTING_SECONDS):
                    await child.wait_ready()
            except TimeoutError:
                log.warning("process=%s event=not-told command=%s", child.name, command)
                continue
            await child.channel.ask(command, timeout=RELOAD_SECONDS, epoch=epoch)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._in_background(self._reload_quietly))
        loop.add_signal_handler(signal.SIGUSR1, self._reopen)

    def _in_background(self, work: Callable[[], Any]) -> Callable[[], None]:
        tasks: set[asyncio.Task[Any]] = set()

        def start() -> None:
            task = asyncio.get_running_loop().create_task(work())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        return start

    async def _reload_quietly(self) -> None:
        self._notifier.reloading(int(asyncio.get_running_loop().time() * 1e6))
        try:
            await self.reload()
        except MtaError as failure:
            self._notifier.ready(f"reload refused: {str(failure).splitlines()[0]}")
        else:
            self._notifier.ready("running")

    def _reopen(self) -> None:
        """SIGUSR1: whoever writes a log opens it anew."""
        for child in self.children:
            child.channel.tell("reopen")

    async def _announce(self) -> None:
        for child in self.children:
            await child.wait_ready()
        self._was_ready = True
        self._notifier.ready("running")
        log.info("ready")

    async def _keep_watchdog_calm(self) -> None:
        while self._notifier.watchdog is not None:
            await asyncio.sleep(self._notifier.watchdog)
            self._notifier.alive()

    async def _drain(self) -> None:
        """End mail first, then the records of its last moments."""
        self._notifier.stopping("draining")
        async with asyncio.TaskGroup() as company:
            for worker in self.workers:
                company.create_task(self._drain_worker(worker))
        if self._was_ready:
            with contextlib.suppress(CommandFailed, TimeoutError):
                async with asyncio.timeout(FINISH_SECONDS):
                    await self._finish_records()
        self.events.stop_restarting()
        await self._end(self.events)

    async def _finish_records(self) -> None:
        """Return when all records are written; what can't be written now waits for the next start."""
        while True:
            await self.events.wait_ready()
            try:
                await self.events.channel.ask("finish", timeout=FINISH_SECONDS)
                return
            except StreamError:
                # It is between two lives, and perhaps we have not been told yet.
                await asyncio.sleep(0.05)

    async def _drain_worker(self, worker: Child) -> None:
        worker.stop_restarting()
        with contextlib.suppress(MtaError):
            await worker.channel.ask("drain", timeout=DRAIN_SECONDS, seconds=DRAIN_SECONDS - 2)
        await self._end(worker)

    async def _end(self, child: Child) -> None:
        """A child ends when its channel closes; one that doesn't is killed."""
        child.channel.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await child.ended.wait()
        child.kill()

    def _child_ended(self, child: Child, code: int) -> None:
        self.leases.give_back(child.name)
        self.places.give_back(child.name)
        self._call()
        # A first start that fails will fail again: say so and go, as every daemon does.
        if not self._was_ready and not child.was_ready and not self._stop.is_set():
            log.error("process=%s could not start code=%s", child.name, code)
            child.stop_restarting()
            self.stop(code if code > 0 else EX_TEMPFAIL)
        if child in self.workers and any(other.is_ready for other in self.workers):
            self._close_doors(self.workers.index(child))

    def _close_doors(self, number: int) -> None:
        """New connections go to the other workers; this one opens its doors itself when it is back.

        A listening socket of a process that is gone stays in the kernel's group as long as we have it.
        """
        for sock in self._listeners[number]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RD)

    async def _from_child(self, name: str, command: str, arguments: dict[str, Any]) -> Any:
        if command == "lease":
            return self._lend(name, arguments["demands"])
        raise CommandFailed(f"the supervisor knows no {command}")

    def _lend(self, name: str, demands: dict[str, list[int]]) -> dict[str, int | None]:
        """A worker's parts of what workers share."""
        now = self._clock.now()
        places = {resource: demand for resource, demand in demands.items() if resource.startswith(PLACE)}
        shares = {
            resource: (demand[0], demand[1]) for resource, demand in demands.items() if resource not in places
        }
        parts = self.leases.renew(name, shares, len(self.workers), now) | self.places.renew(name, places, now)
        self._call()
        return parts

    def _call(self) -> None:
        """Let those workers ask at once who wait for a place, or for whose place somebody waits."""
        called = self.places.calls()
        for worker in self.workers:
            if worker.name in called:
                worker.channel.tell("renew")


def limit_of(snapshot: Snapshot, resource: str) -> int | None:
    """A limit that all workers share (`borrower.py` names them); None when there is none."""
    if resource == SMTP_OUT:
        return snapshot.top.integer("total-max-smtp-out") or None
    if resource == SMTP_IN:
        return snapshot.top.integer("total-max-smtp-in") or None
    if resource.startswith(GROUP):
        group = snapshot.source_groups.get(resource.removeprefix(GROUP))
        return (group.integer("max-smtp-in") or None) if group is not None else None
    member = snapshot.vmtas.get(resource.removeprefix(VMTA))
    return (member.settings.integer("max-smtp-out") or None) if member is not None else None


def check_what_stays(now: Snapshot, then: Snapshot) -> None:
    """Raises ConfigError when another configuration wants what a running service can't change."""
    spool, other = spool_directory(now), spool_directory(then)
    if spool != other:
        raise ConfigError(f"<spool {other}>: the mail of this service lies in {spool}; restart it to move")
    listening, wanted = (
        [f"{listener.host}:{listener.port}" for listener in snapshot.listeners] for snapshot in (now, then)
    )
    if listening != wanted:  # their sockets are handed down in this order
        changed = ", ".join(sorted(set(listening) ^ set(wanted)) or wanted)
        raise ConfigError(f"smtp-listener {changed}: listeners come and go with a restart only")


def orphans(spool: Path, workers: int) -> list[int]:
    """The partitions that none of so many workers has; what an adoption has emptied is removed."""
    if not spool.is_dir():
        return []
    for emptied in spool.glob(f"*{EMPTIED}"):
        shutil.rmtree(emptied, ignore_errors=True)
    return [int(found.name) for found in partition_directories(spool) if int(found.name) >= workers]


def share_out(partitions: Sequence[int], layout: Layout) -> dict[int, list[int]]:
    """Which worker empties which of these: those that deliver, in turn."""
    shares: dict[int, list[int]] = {post.number: [] for post in layout.posts}
    adopters = itertools.cycle(post.number for post in layout.posts if post.delivers)
    for partition in partitions:
        shares[next(adopters)].append(partition)
    return shares


def shown(problem: Problem) -> dict[str, Any]:
    """A problem of the configuration as the control socket sends it."""
    return {
        "file": str(problem.file),
        "line": problem.line,
        "severity": problem.severity.value,
        "text": problem.text,
        "hint": problem.hint,
    }
