"""Cold start: a spool full of waiting mail is built with the product's own code, the service started on it.

`python -m benchmarks.coldstart DIRECTORY --recipients N` only builds. Measured are the time from the start of
the program to the first message at the receiver, resident memory a recipient beyond that of a service with an
empty spool, and the rate at which the queue is worked off. The files are put out of the page cache before.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from benchmarks.measure import bench_directory
from benchmarks.processes import BenchError, tree, wait_for
from benchmarks.scenarios import Entry, Shape
from benchmarks.servers import MtaServer, configuration
from benchmarks.source import domain_of, message_of
from benchmarks.tools import LightSink
from mta.clock import SystemClock
from mta.errors import SpoolError
from mta.ingress.queueid import QueueIds
from mta.message.envelope import Envelope, Recipient, encode_envelope
from mta.spool.partition import Partition, SpoolOptions

__all__ = ["ColdFigures", "ColdRun", "build", "measure_cold_start"]

DOMAINS = 5_000
SIZE = 1_024
CONNECTIONS = 100
#: Messages of the drain that is timed, at most; and seconds that it may take.
DRAIN, DRAIN_SECONDS = 20_000, 20.0
FIRST_SECONDS, BYTES_EACH = 10.0, 100.0
#: Below that a recipient's part of the memory drowns in everything else that a service does.
FEWEST = 100_000
WINDOW = 5_000


@dataclass(frozen=True, slots=True)
class ColdRun:
    """One start. Seconds from the start of the program; memory in octets, of all workers together."""

    recipients: int
    greeting: float
    first: float  # the first message has arrived at the receiver
    loaded: float  # the whole spool has been read
    empty_memory: int
    memory: int
    peak_memory: int
    drain_rate: float

    @property
    def bytes_each(self) -> float:
        return (self.memory - self.empty_memory) / max(1, self.recipients)


@dataclass(slots=True)
class ColdFigures:
    """All starts of one size."""

    recipients: int
    runs: list[ColdRun] = field(default_factory=list)
    error: str = ""

    def median(self, name: str) -> float:
        return statistics.median(getattr(run, name) for run in self.runs) if self.runs else 0.0


def build(directory: Path, recipients: int, *, domains: int = DOMAINS) -> None:
    """A partition with so many messages of one recipient each, spread over the domains. Raises SpoolError."""
    loop = uvloop.new_event_loop()
    partition = Partition.open(directory, options=SpoolOptions(memory_pool=0), loop=loop)
    try:
        loop.run_until_complete(fill(partition, recipients, min(domains, recipients)))
    finally:
        partition.close()
        loop.close()


async def fill(partition: Partition, recipients: int, domains: int) -> None:
    clock = SystemClock()
    now, ids = clock.now(), QueueIds(clock)
    body = message_of(SIZE)[:-3]  # stored without its final dot
    stored = asyncio.get_running_loop().create_future()
    put = done = 0

    def answered(message: int, error: SpoolError | None) -> None:
        nonlocal done
        done += 1
        if error is not None and not stored.done():
            stored.set_exception(error)
        elif done == recipients:
            stored.set_result(None)
        elif done + WINDOW // 2 > put:
            put_more()

    def put_more() -> None:
        nonlocal put
        for number in range(put, min(recipients, put + WINDOW)):
            domain = domain_of(number % domains)
            recipient = Recipient(f"r{number}@{domain}", domain)
            envelope = Envelope(ids.next(), now, "source@bench.example", "{default}", (recipient,))
            partition.accept(encode_envelope(envelope), [body], answered, envelope)
        put = min(recipients, put + WINDOW)

    put_more()
    await stored


def measure_cold_start(
    recipients: int, *, runs: int, place: Path | None, step: Callable[[str], None] = lambda _: None
) -> ColdFigures:
    """Build once, start several times: each start works off a little of what is there."""
    figures = ColdFigures(recipients)
    with bench_directory(place) as directory:
        sink = LightSink(directory)
        try:
            step("memory of an empty service")
            empty = memory_of_empty(directory, sink)
            step(f"building a spool of {recipients:,}")
            command = [sys.executable, "-m", "benchmarks.coldstart", str(directory / "spool" / "0")]
            subprocess.run([*command, "--recipients", str(recipients)], check=True, timeout=900)
            for number in range(runs):
                step(f"cold start {number + 1} of {runs}")
                drop_from_cache(directory / "spool")
                figures.runs.append(one_start(directory, sink, empty))
        except (BenchError, subprocess.SubprocessError) as error:
            figures.error = str(error)
        finally:
            sink.close()
    return figures


def server_in(directory: Path, sink: LightSink) -> MtaServer:
    shape = Shape("coldstart", "", domains=DOMAINS)
    return MtaServer(
        directory, configuration(shape, Entry("", 0, connections=CONNECTIONS), directory), sink.port
    )


def memory_of_empty(directory: Path, sink: LightSink) -> int:
    server = server_in(directory, sink)
    try:
        return memory_of_workers(server.pid)[0]
    finally:
        server.close()


def one_start(directory: Path, sink: LightSink, empty: int) -> ColdRun:
    """Start, wait for the first delivery, hold the rest until all is read, time a part of the drain.

    Without the pause the mail would leave nearly as fast as it is read, and never wait all at once.
    """
    before = sink.messages()
    begun = time.monotonic()
    server = server_in(directory, sink)
    try:
        greeting = time.monotonic() - begun
        first = wait_for_one(sink, before) - begun
        server.hold()
        wait_for(lambda: spool_of(server)["initPct"] >= 100, "the whole spool", patience=120.0, step=0.1)
        loaded = time.monotonic() - begun
        wait_for(lambda: is_still(server), "connections to end", patience=60.0, step=0.2)
        memory, peak = memory_of_workers(server.pid)
        waiting = int(spool_of(server)["totalRcp"])
        drain = min(DRAIN, waiting // 4)
        arrived, since = sink.messages(), time.monotonic()
        server.go()
        with contextlib.suppress(BenchError):
            wait_for(lambda: sink.messages() >= arrived + drain, "the drain", patience=DRAIN_SECONDS)
        rate = (sink.messages() - arrived) / (time.monotonic() - since)
    finally:
        server.close()
    return ColdRun(
        waiting, round(greeting, 2), round(first, 2), round(loaded, 2), empty, memory, peak, round(rate, 1)
    )


def wait_for_one(sink: LightSink, before: int) -> float:
    wait_for(lambda: sink.messages() > before, "the first delivery", patience=120.0)
    return time.monotonic()


def spool_of(server: MtaServer) -> dict[str, float]:
    spool: dict[str, float] = server.ask({"command": "show.status"})["spool"]
    return spool


def is_still(server: MtaServer) -> bool:
    """Whether no connection to a receiver is open any more: their buffers are not the queue's memory."""
    return not server.ask({"command": "show.status"})["conn"]["smtpOut"]["cur"]


def memory_of_workers(root: int) -> tuple[int, int]:
    """Resident memory of all worker processes now, and their peak."""
    now = peak = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if "worker" in words:
                status = Path(f"/proc/{pid}/status").read_text()
                now += kib(status, "VmRSS:")
                peak += kib(status, "VmHWM:")
    return now, peak


def kib(status: str, name: str) -> int:
    """A line of /proc/PID/status, in octets."""
    return int(status.partition(name)[2].split(None, 1)[0]) * 1024


def drop_from_cache(directory: Path) -> None:
    """Let the kernel forget the files below, so that the start reads them from the disk."""
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def main() -> int:
    """The command line: only build."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coldstart", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--recipients", type=int, default=1_000_000)
    parser.add_argument("--domains", type=int, default=DOMAINS)
    options = parser.parse_args()
    options.directory.parent.mkdir(parents=True, exist_ok=True)
    build(options.directory, options.recipients, domains=options.domains)
    return 0


if __name__ == "__main__":
    sys.exit(main())
