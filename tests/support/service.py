"""The whole service as subprocesses, with a receiver and a name server in the test's own process."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import os
import random
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from mta.sink.counters import Delivery
from mta.sink.nameserver import Nameserver
from mta.sink.receiver import Receiver, ReceiverOptions
from mta.sink.zone import Zone

#: A busy machine starts three interpreters slowly.
START_SECONDS = 40.0


#: Below those that the kernel gives to clients: it may give any other to one before its server has bound it.
PORTS = 12_000, 32_000


def free_port() -> int:
    """A port nobody uses right now."""
    while True:
        port = random.SystemRandom().randrange(*PORTS)  # whatever seed a test has set
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def has_ended(pid: int) -> bool:
    """Whether a process is gone (or only waits for its parent to notice)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class World:
    """A receiver that remembers recipients, DNS that leads every given domain to it, and the service.

    `extra` is added to the configuration, `within` to its `<domain *>`; there is one worker unless `extra`
    says how many. `wrapper` stands before the command
    that starts the service with `python`, `environment` is added to its environment.
    """

    def __init__(
        self,
        directory: Path,
        *,
        extra: str = "",
        domains: tuple[str, ...] = ("example.com",),
        options: ReceiverOptions | None = None,
        spool: Path | None = None,
        within: str = "",
        port: int = 0,
        wrapper: Sequence[str] = (),
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.spool = spool or directory / "spool"
        self.received: Counter[str] = Counter()
        self.arrivals: list[tuple[float, str]] = []  # the loop's time, recipient
        self.deliveries: list[Delivery] = []
        self.options = options or ReceiverOptions(with_bodies=False)
        self.options.delivered = self.remember
        self.receiver = Receiver(self.options)
        zone = Zone()
        for domain in domains:
            zone.add(domain, f"MX 10 mx.{domain}.")
            zone.add(f"mx.{domain}", "A 127.0.0.1")
        self.nameserver = Nameserver(zone)
        self.port = port or free_port()
        self.config = directory / "mta.conf"
        self._extra = extra
        self._within = within
        self._command = (*wrapper, python, "-m", "mta", "run", "-c", str(self.config))
        self._environment = {**os.environ, **(environment or {})}
        self._stack = AsyncExitStack()
        self._process: asyncio.subprocess.Process | None = None

    def remember(self, delivery: Delivery) -> None:
        """Note a delivery; for a second receiver too."""
        now = asyncio.get_running_loop().time()
        self.deliveries.append(delivery)
        self.received.update(delivery.recipients)
        self.arrivals += [(now, recipient) for recipient in delivery.recipients]

    async def __aenter__(self) -> World:
        await self._stack.enter_async_context(self.surroundings())
        try:
            await self.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @asynccontextmanager
    async def surroundings(self) -> AsyncIterator[None]:
        """Receiver, name server and configuration, and no service yet; nothing of it runs afterwards."""
        await self.receiver.start()
        await self.nameserver.start()
        self.write_config()
        try:
            yield
        finally:
            self.kill()
            if self._process is not None:
                await self._process.wait()
            self.receiver.close()
            self.nameserver.close()

    def write_config(self, extra: str | None = None) -> None:
        host, port = self.nameserver.address
        more = self._extra if extra is None else extra
        workers = "" if "workers " in more else "workers 1"
        self.config.write_text(
            f"""
host-name mta.example.org
postmaster postmaster@example.org
run-as-root yes
smtp-listener 127.0.0.1:{self.port}
control-socket {self.directory}/control.sock
name-server {host}:{port}
<source 127.0.0.1>
    always-allow-relaying yes
    process-x-virtual-mta yes
    process-x-job yes
</source>
<domain *>
    default-smtp-port {self.receiver.port}
    allow-loopback-mx yes
    max-smtp-out 20
    retry-after 1s
    {self._within}
</domain>
<spool {self.spool}>
</spool>
<acct-file {self.directory}/acct.csv>
    records d, b, t, tq, r
    record-fields d *, queueId, recordId
    record-fields b *, queueId, recordId
    record-fields t *, queueId, recordId
    record-fields r *, queueId, recordId
</acct-file>
{workers}
{more}
"""
        )

    async def start(self) -> None:
        """Start the service in a process group of its own and wait until it runs."""
        await self.launch()
        assert self._process is not None
        async with asyncio.timeout(START_SECONDS):
            while True:
                try:
                    if (await self.ask("show.status"))["status"] == "running":
                        return
                except (OSError, RuntimeError):
                    assert self._process.returncode is None, self.log()
                await asyncio.sleep(0.02)

    async def launch(self) -> None:
        """Start the service without waiting for anything."""
        log = open(self.directory / "service.log", "ab")  # noqa: SIM115 - the child writes here
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=self._environment,
        )
        log.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def children(self) -> dict[str, int]:
        """The process ids of the children by name (`worker-0`, `events`)."""
        return {row["id"]: row["pid"] for row in (await self.ask("show.workers"))["worker"]}

    def survivors(self) -> list[int]:
        """Processes of the service that still run, children whose parent is gone among them."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and not has_ended(int(entry.name)):
                try:
                    if os.getpgid(int(entry.name)) == self.pid:
                        found.append(int(entry.name))
                except ProcessLookupError:
                    continue
        return found

    async def waiting(self) -> int:
        """Recipients that the spool still holds."""
        found: int = (await self.ask("show.status"))["spool"]["totalRcp"]
        return found

    async def until_empty(self, seconds: float = START_SECONDS) -> None:
        """Wait until nothing waits in the spool, twice in a row: what one worker has just given to another
        may be counted by neither, because they are asked one at a time."""
        async with asyncio.timeout(seconds):
            while await self.waiting() or await self.waiting():
                await asyncio.sleep(0.02)

    async def settled(self, command: str, name: str, wanted: Any, **arguments: Any) -> dict[str, Any]:
        """Ask until the answer says so: a share counts at both ends, or at none, for a moment."""
        async with asyncio.timeout(START_SECONDS):
            while (found := await self.ask(command, **arguments))[name] != wanted:
                await asyncio.sleep(0.02)
        return dict(found)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signal the whole process group: supervisor, worker, events."""
        if self._process is not None:
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                return

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the supervisor only and wait for its exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        async with asyncio.timeout(START_SECONDS):
            return await self._process.wait()

    async def wait(self) -> int:
        assert self._process is not None
        async with asyncio.timeout(START_SECONDS):
            return await self._process.wait()

    async def ask(self, command: str, **arguments: Any) -> Any:
        """One request over the control socket; RuntimeError with the service's own words on refusal."""
        reader, writer = await asyncio.open_unix_connection(self.directory / "control.sock", limit=1 << 26)
        try:
            writer.write(json.dumps({"command": command, **arguments}).encode() + b"\n")
            answer = json.loads(await reader.readline() or b'{"ok": false, "error": "closed"}')
        finally:
            writer.close()
        if not answer["ok"]:
            raise RuntimeError(answer["error"])
        return answer["data"]

    async def until(self, condition: Callable[[], Any], seconds: float = START_SECONDS) -> None:
        """Wait until `condition()` is true; a failure shows the service's log."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(self.log()) from None

    def log(self) -> str:
        return (self.directory / "service.log").read_text(errors="replace")[-5000:]

    def records(self, *types: str) -> list[dict[str, str]]:
        """The accounting records written so far, of the given types (all without)."""
        found: list[dict[str, str]] = []
        for path in sorted(self.directory.glob("acct*.csv")):
            with path.open(newline="") as file:
                found += [row for row in csv.DictReader(file) if not types or row["type"] in types]
        return found
