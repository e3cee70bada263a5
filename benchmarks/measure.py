"""One scenario, measured: servers and tools started, loads sent, times and CPU taken."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import CpuTime, cpu_of_tree, machine_cpu, memory_of_tree
from benchmarks.scenarios import Kind, Scenario
from benchmarks.servers import BenchServer, make_server
from benchmarks.tools import Sink, inject, make_sink

__all__ = ["Figures", "Run", "measure"]

#: CPU that arrives a little after the last message (logs, accounting) belongs to the run as well.
SETTLE = 0.6


@dataclass(frozen=True, slots=True)
class Run:
    """One run: messages a second over the way that was timed, and microseconds of CPU a message."""

    seconds: float
    rate: float
    accept_rate: float
    cpu_us: float
    cpu_user_us: float
    others_cpu_us: float  # the whole machine's CPU less the server's: source, sink, kernel threads
    memory: int


@dataclass(slots=True)
class Figures:
    """All runs of one scenario."""

    scenario: Scenario
    runs: list[Run] = field(default_factory=list)
    error: str = ""

    def median(self, name: str) -> float:
        return statistics.median(getattr(run, name) for run in self.runs) if self.runs else 0.0

    def spread(self, name: str) -> tuple[float, float]:
        values = [getattr(run, name) for run in self.runs]
        return (min(values), max(values)) if values else (0.0, 0.0)


def measure(scenario: Scenario, *, runs: int, place: Path | None, step: Callable[[], None]) -> Figures:
    """Run a scenario several times against one started server. Raises BenchError."""
    figures = Figures(scenario)
    with bench_directory(place) as directory:
        sink = make_sink(scenario.tools, directory)
        try:
            server = make_server(
                scenario.server, directory, sink_port=sink.port, connections=scenario.shape.connections
            )
            try:
                for _ in range(runs):
                    figures.runs.append(one_run(scenario, server, sink, directory))
                    step()
            finally:
                server.close()
        finally:
            sink.close()
    return figures


@contextmanager
def bench_directory(place: Path | None) -> Iterator[Path]:
    """A directory that is gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="mta-bench-", dir=place))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def one_run(scenario: Scenario, server: BenchServer, sink: Sink, directory: Path) -> Run:
    """Send one load and watch it through."""
    shape = scenario.shape
    before = sink.messages()
    if scenario.kind is not Kind.END_TO_END:
        server.hold()
    machine, cpu = machine_cpu(), cpu_of_tree(server.pid)
    injection = inject(scenario.tools, server.port, shape, directory)
    begun, ended = injection.begun, injection.ended
    if scenario.kind is Kind.DELIVER:
        machine, cpu = machine_cpu(), cpu_of_tree(server.pid)
        begun = time.monotonic()
        server.go()
    if scenario.kind is not Kind.INGEST:
        ended = sink.wait(before + shape.count)
    time.sleep(SETTLE)
    used = cpu_of_tree(server.pid) - cpu
    others = machine_cpu() - machine - used.total
    memory = memory_of_tree(server.pid)
    if scenario.kind is Kind.INGEST:
        server.go()
        sink.wait(before + shape.count)
    return make_run(shape.count, ended - begun, injection.ended - injection.begun, used, others, memory)


def make_run(count: int, seconds: float, injecting: float, used: CpuTime, others: float, memory: int) -> Run:
    return Run(
        seconds=round(seconds, 4),
        rate=round(count / seconds, 1),
        accept_rate=round(count / injecting, 1),
        cpu_us=round(used.total * 1e6 / count, 2),
        cpu_user_us=round(used.user * 1e6 / count, 2),
        others_cpu_us=round(others * 1e6 / count, 2),
        memory=memory,
    )
