"""Find, measure and print micro benchmarks."""

from __future__ import annotations

import gc
import importlib
import inspect
import pkgutil
import statistics
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

__all__ = ["Bench", "Measurement", "Work", "collect", "measure", "modules", "table"]

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Work:
    """A call that does several operations at once; `operations` says how many."""

    call: Call
    operations: int = 1


Prepared = Call | Work


@dataclass(frozen=True, slots=True)
class Bench:
    """One benchmark: its name, the first line of its docstring, and the function that prepares it."""

    name: str
    about: str
    prepare: Callable[[], Prepared | Generator[Prepared, None, None]]


@dataclass(frozen=True, slots=True)
class Measurement:
    """Nanoseconds of one operation: the median and the best of `repeats` runs of `calls` calls."""

    name: str
    about: str
    median: float
    best: float
    repeats: int
    calls: int

    @property
    def spread(self) -> float:
        """How far the median lies above the best run, as a share of it: the noise of this machine."""
        return self.median / self.best - 1.0


def modules(package: str = "benchmarks.micro") -> Iterator[ModuleType]:
    """Every bench_*.py of the package, imported, in alphabetical order."""
    root = importlib.import_module(package)
    for found in sorted(pkgutil.iter_modules(root.__path__), key=lambda module: module.name):
        if found.name.startswith("bench_"):
            yield importlib.import_module(f"{package}.{found.name}")


def collect(found: Iterable[ModuleType], words: Sequence[str] = ()) -> list[Bench]:
    """The benchmarks of these modules whose name contains one of the words; all of them without words."""
    benches: list[Bench] = []
    for module in found:
        group = module.__name__.rpartition(".")[2].removeprefix("bench_")
        for name, function in vars(module).items():
            if name.startswith("bench_") and inspect.isfunction(function):
                about = (inspect.getdoc(function) or "").partition("\n")[0]
                benches.append(Bench(f"{group}.{name.removeprefix('bench_')}", about, function))
    return [bench for bench in benches if not words or any(word in bench.name for word in words)]


def measure(bench: Bench, *, seconds: float = 0.5, repeats: int = 5) -> Measurement:
    """Run one benchmark for about `seconds` in all, in `repeats` runs."""
    with _prepared(bench) as work:
        calls = _calibrate(work.call, seconds / repeats)
        runs = [_run(work.call, calls) / calls / work.operations for _ in range(repeats)]
    return Measurement(bench.name, bench.about, statistics.median(runs), min(runs), repeats, calls)


def table(measurements: Iterable[Measurement]) -> Iterator[str]:
    """The lines of a table for people."""
    yield f"{'benchmark':<40} {'ns/op':>12} {'best':>12} {'spread':>7} {'op/s':>12}  what"
    for one in measurements:
        yield (
            f"{one.name:<40} {one.median:>12,.0f} {one.best:>12,.0f} {one.spread:>7.0%} "
            f"{1e9 / one.median:>12,.0f}  {one.about}"
        )


@contextmanager
def _prepared(bench: Bench) -> Iterator[Work]:
    prepared = bench.prepare()
    if isinstance(prepared, Generator):
        yield _as_work(next(prepared))
        next(prepared, None)
    else:
        yield _as_work(prepared)


def _as_work(prepared: Prepared) -> Work:
    return prepared if isinstance(prepared, Work) else Work(prepared)


def _calibrate(call: Call, seconds: float) -> int:
    """How many calls fill a run; the first calls also warm caches up."""
    calls = 1
    while (taken := _run(call, calls)) < seconds * 1e9 / 2:
        calls = max(calls * 2, int(calls * seconds * 1e9 / max(taken, 1) / 2))
    return max(1, int(calls * seconds * 1e9 / taken))


def _run(call: Call, calls: int) -> int:
    """Nanoseconds of so many calls; the garbage collector waits, as in timeit."""
    gc.collect()
    gc.disable()
    try:
        begin = time.perf_counter_ns()
        for _ in range(calls):
            call()
        return time.perf_counter_ns() - begin
    finally:
        gc.enable()
