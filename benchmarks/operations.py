"""What a message costs in byte-code operations: `python -m benchmarks.operations [--sessions 200] [--json]`.

One worker runs in this process under a tracer, between our own generator and receiver in processes of their
own, over loopback. Operations are counted, not timed: the same code gives the same figure within a few
percent on any machine under any load, which no clock does. What C code costs (checksums, encoding, system
calls) is not in the figure.

The tracer runs from the first message on, so that the load has the same form throughout, and the counting
begins when caches are warm and all connections are open, and ends while the generator is still sending:
start-up, the sessions' first messages and the last ones are left out. The spool lies in memory where there
is such a file system, so that all disks are equal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import uvloop

from benchmarks.processes import BenchError, free_port, start, stop, wait_for_greeting
from benchmarks.scenarios import Dkim, Entry, Shape
from benchmarks.servers import configuration
from mta.clock import SystemClock
from mta.config.load import load_text
from mta.service.loop import settle_garbage
from mta.service.worker import Worker

__all__ = ["Cost", "FunctionCost", "Tally", "count", "growth", "main", "module_of", "show"]

ROOT = Path(__file__).parents[1]
MEMORY = Path("/dev/shm")
#: Messages a session before counting begins: delivery is behind until all its connections are open.
WARM = 8
#: Messages a session behind the end of it: the generator must not run dry before.
REST = 2
#: Seconds between two looks at how far it is, and after which it is stuck.
LOOK, PATIENCE = 0.005, 120.0

Trace = Callable[[FrameType, str, Any], Any]


@dataclass(frozen=True, slots=True)
class FunctionCost:
    """One function's share: operations and calls a message."""

    module: str
    name: str
    line: int
    operations: float
    calls: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What was counted, by function, dearest first."""

    functions: tuple[FunctionCost, ...]

    @property
    def operations(self) -> float:
        """Operations a message, of all functions."""
        return sum(one.operations for one in self.functions)

    @property
    def calls(self) -> float:
        return sum(one.calls for one in self.functions)

    def by(self, depth: int | None) -> dict[str, tuple[float, float]]:
        """Operations and calls a message by module, or by so many words of its name; dearest first."""
        sums: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
        for one in self.functions:
            name = ".".join(one.module.split(".")[:depth])
            operations, calls = sums[name]
            sums[name] = operations + one.operations, calls + one.calls
        return dict(sorted(sums.items(), key=lambda item: -item[1][0]))


class Tally:
    """Counts operations and calls of everything that runs in the threads it is set in, by code object."""

    def __init__(self, without: Iterable[str] = ()) -> None:
        """Code of files in `without` is neither counted nor slowed down."""
        self._without = frozenset(without)
        self._counters: dict[CodeType, tuple[list[int], Trace]] = {}

    def set(self) -> None:
        """Count in this thread, and in all that are made from now on."""
        # Python 3.12 tells of operations only when a frame wanted them before the tracer is set.
        sys._getframe().f_trace_opcodes = True
        threading.settrace(self._called)
        sys.settrace(self._called)

    def unset(self) -> None:
        sys.settrace(None)
        threading.settrace(None)

    def clear(self) -> None:
        """Forget what was counted so far."""
        for counts, _ in self._counters.values():
            counts[:] = [0, 0]

    def cost(self, messages: float) -> Cost:
        """What was counted, for each of so many messages."""
        functions = [
            FunctionCost(
                module_of(code.co_filename),
                code.co_qualname,
                code.co_firstlineno,
                operations / messages,
                calls / messages,
            )
            for code, ((operations, calls), _) in self._counters.items()
            if operations
        ]
        return Cost(tuple(sorted(functions, key=lambda one: -one.operations)))

    def _called(self, frame: FrameType, event: str, argument: Any) -> Trace | None:
        code = frame.f_code
        counter = self._counters.get(code)
        if counter is None:
            if code.co_filename in self._without:
                return None
            counter = self._counters[code] = counting()
        counts, trace = counter
        counts[1] += 1
        # Python 3.13 wants to know who traces a frame before it is told that operations matter.
        frame.f_trace = trace
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return trace


def counting() -> tuple[list[int], Trace]:
    """Room for a function's operations and calls, and what counts its operations there."""
    counts = [0, 0]

    def trace(frame: FrameType, event: str, argument: Any) -> Trace:
        if event == "opcode":
            counts[0] += 1
        return trace

    return counts, trace


def module_of(file: str) -> str:
    """The dotted name of the module in a file: ours, the standard library's, or another package's."""
    path = Path(file)
    paths = sysconfig.get_paths()
    for root in (paths["purelib"], paths["stdlib"], str(ROOT)):
        if path.is_relative_to(root):
            return ".".join(path.relative_to(root).with_suffix("").parts)
    return file


# --- the load


def count(*, messages: int, sessions: int, size: int, domains: int, dkim: str = "") -> Cost:
    """Relay so many messages, and some before and after them. BenchError when they don't get through."""
    place = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="mta-operations-", dir=place) as name:
        directory = Path(name)
        sink_port = free_port()
        sink = start(module("receiver", sink_port), output=directory / "sink.log")
        try:
            wait_for_greeting(sink_port, "the receiver", directory / "sink.log")
            shape = Shape("operations", "", size=size, sessions=sessions, domains=domains)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(
                    relay(shape, Entry("operations", messages, dkim=Dkim(dkim)), directory, sink_port)
                )
        finally:
            stop(sink)


def module(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)]


async def relay(shape: Shape, entry: Entry, directory: Path, sink_port: int) -> Cost:
    loop = asyncio.get_running_loop()
    text = configuration(shape, entry, directory)
    text = text.replace("@PORT@", "1").replace("@SINK@", str(sink_port))
    loaded = load_text(text, directory=directory)
    if loaded.snapshot is None:
        raise BenchError(f"our configuration: {loaded.problems}")
    worker = Worker(loaded.snapshot, name="0", clock=SystemClock(), loop=loop)
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as door:
        door.setblocking(False)
        await worker.start([door])
        life = loop.create_task(worker.run())
        settle_garbage()
        try:
            return await counted(worker, shape, entry.count, directory, door.getsockname()[1])
        finally:
            await worker.drain(5.0)
            await life


async def counted(worker: Worker, shape: Shape, messages: int, directory: Path, port: int) -> Cost:
    """Count from one message that was delivered to another, while the generator keeps on sending."""
    warm = WARM * shape.sessions
    total = warm + messages + REST * shape.sessions
    load = ("-m", total, "-s", shape.sessions, "-l", shape.size, "--domains", shape.domains)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    reached = loop.create_future()
    tally = Tally(without=[__file__, subprocess.__file__])

    def look() -> None:
        """Begin to count, end, or come again; a message that only came in or only went out is half of one."""
        accepted = worker.traffic.into.total.messages
        delivered = worker.outbound.settlement.stats().delivered
        if not begun and delivered >= warm:
            tally.clear()
            begun.extend((accepted, delivered))
        if begun and delivered >= begun[1] + messages:
            tally.unset()
            reached.set_result((accepted + delivered - sum(begun)) / 2)
        elif loop.time() > deadline or source.poll() not in (None, 0):
            tally.unset()
            reached.set_exception(BenchError(f"stuck after {delivered} messages"))
        else:
            loop.call_later(LOOK, look)

    begun: list[int] = []
    source = start(module("source", port, *load), output=directory / "source.log")
    try:
        tally.set()
        look()
        return tally.cost(await reached)
    finally:
        tally.unset()
        stop(source)


# --- what is shown


def report(cost: Cost, top: int) -> list[str]:
    """Tables by package, module and function; `top` lines of the latter two."""
    lines = [f"{cost.operations:,.0f} operations and {cost.calls:,.0f} calls a message"]
    for title, sums in (("package", cost.by(2)), ("module", cost.by(None))):
        lines += ["", f"{'operations':>10} {'share':>6} {'calls':>7}  {title}"]
        lines += [
            f"{operations:10,.1f} {operations / cost.operations:6.1%} {calls:7.2f}  {name}"
            for name, (operations, calls) in list(sums.items())[:top]
        ]
    lines += ["", f"{'operations':>10} {'share':>6} {'calls':>7}  function"]
    lines += [
        f"{one.operations:10,.1f} {one.operations / cost.operations:6.1%} {one.calls:7.2f}"
        f"  {one.module}:{one.line} {one.name}"
        for one in cost.functions[:top]
    ]
    return lines


def as_json(cost: Cost, load: Mapping[str, int], top: int) -> dict[str, Any]:
    """The same for programs; `modules` holds operations a message."""
    return {
        "python": platform.python_version(),
        **load,
        "operations": round(cost.operations, 1),
        "calls": round(cost.calls, 1),
        "modules": {name: round(operations, 1) for name, (operations, _) in cost.by(None).items()},
        "functions": [
            [one.module, one.name, one.line, round(one.operations, 1), round(one.calls, 2)]
            for one in cost.functions[:top]
        ],
    }


def growth(before: Mapping[str, Any], now: Mapping[str, Any], least: float = 5.0) -> list[str]:
    """Modules that cost more or less than before by `least` operations a message, the most grown first.

    Both are what `--json` prints.
    """
    old, new = before["modules"], now["modules"]
    changes = [(new.get(name, 0.0) - old.get(name, 0.0), name) for name in old.keys() | new.keys()]
    total = now["operations"] - before["operations"]
    lines = [f"{total:+10,.1f}  together: {before['operations']:,.1f} before, {now['operations']:,.1f} now"]
    return lines + [
        f"{change:+10,.1f}  {name}" for change, name in sorted(changes, reverse=True) if abs(change) >= least
    ]


def show(lines: Iterable[str]) -> None:
    """Print; it is no error when whoever reads has seen enough (`| head`)."""
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:
        # What is still in the buffer would be tried once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operations", description=__doc__)
    parser.add_argument("--messages", "-m", type=int, default=1000, help="counted messages (1000)")
    parser.add_argument("--sessions", "-s", type=int, default=20, help="that inject at a time (20)")
    parser.add_argument("--size", "-l", type=int, default=10_240, help="octets of a message (10240)")
    parser.add_argument("--domains", type=int, default=1, help="domains of recipients, by turns (1)")
    kinds = [kind.value for kind in Dkim if kind.value]
    parser.add_argument("--dkim", choices=kinds, default="", help="sign on the loop with such a key")
    parser.add_argument("--top", type=int, default=40, help="lines of a table (40)")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--against", type=Path, metavar="FILE", help="what has changed since that JSON")
    options = parser.parse_args(arguments)
    load = {name: getattr(options, name) for name in ("messages", "sessions", "size", "domains", "dkim")}
    try:
        cost = count(**load)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        show([json.dumps(as_json(cost, load, options.top), indent=1)])
    elif options.against:
        show(growth(json.loads(options.against.read_text()), as_json(cost, load, 0)))
    else:
        show(report(cost, options.top))
    return 0


if __name__ == "__main__":
    sys.exit(main())
