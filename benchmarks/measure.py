"""Contests, measured: servers and tools started, loads sent by turns, times, CPU and memory taken."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.processes import (
    BenchError,
    busy_share,
    cpu_by_name,
    cpu_of_tree,
    machine_cpu,
    memory_of_tree,
)
from benchmarks.scenarios import Contest, Entry, Kind, Server, Shape
from benchmarks.servers import BenchServer, make_server
from benchmarks.tools import Sink, inject, make_sink
from benchmarks.yardstick import read_yardstick

__all__ = ["Figures", "Run", "measure"]

#: CPU that arrives a little after the last message (logs, accounting) belongs to the run as well.
SETTLE = 0.6


@dataclass(frozen=True, slots=True)
class Run:
    """One run. Rates in messages a second, CPU in microseconds a message.

    `rate` is of the way that was timed, `accept_rate` of the injection. `machine_us` is the CPU of the whole
    machine from the start of the timed way on, `others_us` what of it neither the server nor the tools used
    (the kernel's own threads, and whatever else ran). `shares` says how many processors each process kept
    busy during the timed way. `loop_us` and `ping_us` are the yardstick's reading before the run (0: none was
    taken), `busy` the part of all processors that something was using then, with all contestants idle.
    """

    seconds: float
    rate: float
    accept_rate: float
    cpu_us: float
    cpu_user_us: float
    source_us: float
    sink_us: float
    others_us: float
    machine_us: float
    memory: int
    shares: dict[str, float]
    loop_us: float = 0.0
    ping_us: float = 0.0
    busy: float = 0.0


@dataclass(slots=True)
class Figures:
    """All runs of one contestant in one shape."""

    shape: Shape
    entry: Entry
    runs: list[Run] = field(default_factory=list)
    error: str = ""

    @property
    def name(self) -> str:
        return f"{self.shape.group}/{self.shape.name} {self.entry.label}"

    def median(self, name: str) -> float:
        return statistics.median(getattr(run, name) for run in self.runs) if self.runs else 0.0

    def busy(self, cpus: int) -> float:
        """The part of all processors that something else used, on the mean of the runs: see BUSY.

        Before each run, with everybody idle; and, for ours, during it: others let the kernel's own threads do
        so much (a file for each message) that it can't be told apart.
        """
        during = 1e-6 * self.entry.count / cpus if self.entry.server is Server.MTA else 0.0
        found = [max(run.busy, run.others_us * during / (run.seconds + SETTLE)) for run in self.runs]
        return statistics.mean(found) if found else 0.0

    def spread(self, name: str) -> tuple[float, float]:
        values = [getattr(run, name) for run in self.runs]
        return (min(values), max(values)) if values else (0.0, 0.0)


class Stand:
    """One contestant, started: its sink and its server, in a directory of their own."""

    def __init__(self, shape: Shape, entry: Entry, directory: Path) -> None:
        self._shape, self._entry = shape, entry
        self._sink: Sink = make_sink(shape, entry, directory)
        try:
            self._server: BenchServer = make_server(shape, entry, directory, sink_port=self._sink.port)
        except BaseException:
            self._sink.close()
            raise

    def close(self) -> None:
        try:
            self._server.close()
        finally:
            self._sink.close()

    def run(self) -> Run:
        """Send one load and watch it through. Raises BenchError."""
        server, sink, count = self._server, self._sink, self._entry.count
        before = sink.messages()
        is_backlog = self._shape.kind is Kind.BACKLOG
        if is_backlog:
            server.hold()
        os.sync()  # what others have left to write is not ours to wait for
        start = Meters(server, sink.pid)
        injection = inject(server.port, self._shape, count)
        begun, timed_count = injection.begun, count
        if is_backlog:
            start = Meters(server, sink.pid)
            begun, timed_count = self._let_go(before)
        ended = sink.wait(before + count)
        timed = Meters(server, sink.pid)
        time.sleep(SETTLE)
        end = Meters(server, sink.pid)
        source, before_it = (0.0, 0.0) if is_backlog else (injection.cpu, injection.start_cpu)
        seconds, per = ended - begun, 1e6 / count
        used, sunk = end.server.total - start.server.total, end.sink - start.sink
        machine = end.machine - start.machine - before_it
        return Run(
            seconds=round(seconds, 4),
            rate=round(timed_count / seconds, 1),
            accept_rate=round(count / (injection.ended - injection.begun), 1),
            cpu_us=round(used * per, 2),
            cpu_user_us=round((end.server.user - start.server.user) * per, 2),
            source_us=round(source * per, 2),
            sink_us=round(sunk * per, 2),
            others_us=round((machine - used - sunk - source) * per, 2),
            machine_us=round(machine * per, 2),
            memory=memory_of_tree(server.pid),
            shares=timed.shares_since(start, source),
        )

    def _let_go(self, before: int) -> tuple[float, int]:
        """Resume what was held: when the drain is seen to run, and how many are still to come then.

        How long the order takes (Postfix reads its settings anew) is not part of the drain.
        """
        begun = time.monotonic()
        self._server.go()
        after = self._sink.wait(before + 1)
        left = before + self._entry.count - self._sink.messages()
        return (after, left) if left > self._entry.count // 2 else (begun, self._entry.count)


class Meters:
    """What the processes have used so far."""

    def __init__(self, server: BenchServer, sink: int) -> None:
        self.at = time.monotonic()
        self.machine = machine_cpu()
        self.server = server.cpu()
        self.sink = cpu_of_tree(sink).total
        self._by_name = cpu_by_name(server.pid)
        # What processes have used that nobody waited for is not in the tree.
        unseen = self.server.total - sum(self._by_name.values())
        self._by_name["ended"] = self._by_name.get("ended", 0.0) + max(0.0, unseen)

    def shares_since(self, start: Meters, source: float) -> dict[str, float]:
        """Processors that each process kept busy since then."""
        seconds = max(1e-9, self.at - start.at)
        used = {name: value - start._by_name.get(name, 0.0) for name, value in self._by_name.items()}
        used |= {"sink": self.sink - start.sink, "source": source, "machine": self.machine - start.machine}
        return {name: round(value / seconds, 3) for name, value in sorted(used.items()) if value > 0}


def measure(
    contest: Contest, *, runs: int, place: Path | None, step: Callable[[Entry], None] = lambda _: None
) -> list[Figures]:
    """All contestants by turns, so that whatever else the machine does hits them alike.

    A contestant that fails has its reason in `error`; the others go on.
    """
    found = [Figures(contest.shape, entry) for entry in contest.entries]
    with bench_directory(place) as directory:
        stands: list[tuple[Figures, Stand]] = []
        try:
            start_all(found, directory, stands)
            for number in range(runs):
                # First one way, then the other: nobody always comes behind the same neighbour.
                for figures, stand in stands[:: -1 if number % 2 else 1]:
                    if not figures.error:
                        step(figures.entry)
                        run_one(figures, stand)
        finally:
            with ThreadPoolExecutor(len(stands) or 1) as pool:
                for _ in pool.map(lambda pair: pair[1].close(), stands):
                    pass
    return found


def run_one(figures: Figures, stand: Stand) -> None:
    busy, (loop_us, ping_us) = busy_share(), read_yardstick()
    try:
        figures.runs.append(replace(stand.run(), busy=busy, loop_us=loop_us, ping_us=ping_us))
    except BenchError as error:
        figures.error = str(error)


def start_all(all_figures: list[Figures], directory: Path, stands: list[tuple[Figures, Stand]]) -> None:
    """Start everybody at once, into `stands`; those that don't come up have their reason in `error`.

    Whoever is up is in `stands` even if we are told to end meanwhile.
    """

    def begin(numbered: tuple[int, Figures]) -> None:
        number, figures = numbered
        home = directory / str(number)
        home.mkdir()
        try:
            stands.append((figures, Stand(figures.shape, figures.entry, home)))
        except BenchError as error:
            figures.error = str(error)

    with ThreadPoolExecutor(len(all_figures)) as pool:
        for _ in pool.map(begin, enumerate(all_figures)):
            pass
    stands.sort(key=lambda pair: all_figures.index(pair[0]))


@contextmanager
def bench_directory(place: Path | None) -> Iterator[Path]:
    """A directory that is gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="mta-bench-", dir=place))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
