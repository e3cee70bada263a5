"""Injectors and receivers: our own, and Postfix's smtp-source and smtp-sink where they are installed."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmarks.processes import BenchError, free_port, is_greeting, start, stop, wait_for
from benchmarks.scenarios import Entry, Shape, Tools

__all__ = [
    "DOMAIN",
    "PATH",
    "Injection",
    "LightSink",
    "PostfixSink",
    "Sink",
    "has_smtp_tools",
    "inject",
    "make_sink",
]

DOMAIN = "bench.example"
#: A run that takes longer than this is broken.
PATIENCE = 300.0
#: So is one in which nothing has arrived for so long.
STALL = 20.0
#: Programs of Postfix may lie outside an ordinary user's path.
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


class Injection(NamedTuple):
    """When it began and ended, in seconds of the machine's monotonic clock.

    Seconds of the generator's CPU for that, and before it (an interpreter that starts).
    """

    begun: float
    ended: float
    cpu: float
    start_cpu: float = 0.0


class Sink(Protocol):
    """A receiver that counts."""

    port: int
    pid: int

    def messages(self) -> int: ...
    def wait(self, count: int) -> float:
        """Return when `count` messages have arrived since the start: the time of the last."""
        ...

    def close(self) -> None: ...


def has_smtp_tools() -> bool:
    """Whether smtp-source and smtp-sink are there."""
    return all(shutil.which(name, path=PATH) for name in ("smtp-source", "smtp-sink"))


def make_sink(shape: Shape, entry: Entry, directory: Path) -> Sink:
    """Start the receiver of one contestant."""
    if shape.tools is Tools.POSTFIX and not entry.is_tls and not shape.delay_ms:
        return PostfixSink(directory)
    return LightSink(directory, delay_ms=shape.delay_ms, delay_at=shape.delay_at, is_tls=entry.is_tls)


def inject(port: int, shape: Shape, count: int) -> Injection:
    """Send the whole load and return when everything was accepted. BenchError when something was refused."""
    is_ours = shape.tools is Tools.OURS
    command = our_source(port, shape, count) if is_ours else smtp_source(port, shape, count)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{command[0]}: not done after {PATIENCE:.0f} s") from None
    ended = time.monotonic()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode or (not is_ours and done.stderr):
        raise BenchError(f"injection failed: {(done.stderr or done.stdout).strip()[-300:]}")
    if is_ours:
        told = json.loads(done.stdout)
        return Injection(told["begun"], told["ended"], told["cpu"], max(0.0, cpu - told["cpu"]))
    return Injection(begun, ended, cpu)


def our_source(port: int, shape: Shape, count: int) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.source", str(port), "-m", str(count)]
    command += ["-s", str(shape.sessions), "-l", str(shape.size), "--domain", DOMAIN]
    return [*command, "--domains", str(shape.domains), *(["--pipelining"] if shape.is_piped else [])]


def smtp_source(port: int, shape: Shape, count: int) -> list[str]:
    source = shutil.which("smtp-source", path=PATH) or "smtp-source"
    command = [source, "-4", "-d", "-N", "-s", str(shape.sessions), "-m", str(count), "-l", str(shape.size)]
    return [*command, "-f", f"source@{DOMAIN}", "-t", f"rcpt@{DOMAIN}", f"127.0.0.1:{port}"]


def wait_while_growing(messages: Callable[[], int], wanted: int, *, step: float = 0.01) -> None:
    """Return when `wanted` messages are there; BenchError when no more have come for a while."""
    seen, deadline = -1, 0.0
    while (now := messages()) < wanted:
        if now != seen:
            seen, deadline = now, time.monotonic() + STALL
        elif time.monotonic() > deadline:
            raise BenchError(f"{now} of {wanted} messages at the receiver, and no more for {STALL:.0f} s")
        time.sleep(step)


class LightSink:
    """`benchmarks.receiver`, as a process of its own."""

    def __init__(
        self, directory: Path, *, delay_ms: int = 0, delay_at: str = "dot", is_tls: bool = False
    ) -> None:
        self.port = free_port()
        self._output = directory / "receiver.log"
        command = [sys.executable, "-m", "benchmarks.receiver", str(self.port)]
        command += ["--delay-ms", str(delay_ms), "--delay-at", delay_at, *(["--tls"] if is_tls else [])]
        self._process = start(command, output=self._output)
        self.pid = self._process.pid
        wait_for(lambda: is_greeting(self.port), "the receiver")

    def counters(self) -> dict[str, float]:
        """`messages`, `connections`, `peak`, and the monotonic times `first_at` and `last_at`."""
        with self._output.open("rb") as file:
            file.seek(max(0, self._output.stat().st_size - 1000))
            lines = file.read().split(b"\n")
        for line in reversed(lines[:-1]):
            if line.startswith(b"{") and line.endswith(b"}"):
                found: dict[str, float] = json.loads(line)
                return found
        return {}

    def messages(self) -> int:
        return int(self.counters().get("messages", 0))

    def wait(self, count: int) -> float:
        wait_while_growing(self.messages, count)
        return float(self.counters()["last_at"])

    def close(self) -> None:
        stop(self._process)


class PostfixSink:
    """smtp-sink -c, whose running counters go to a file."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._output = directory / "smtp-sink.log"
        sink = shutil.which("smtp-sink", path=PATH) or "smtp-sink"
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        self._process = start(
            [sink, *user, "-4", "-c", "-m", "3000", f"127.0.0.1:{self.port}", "1024"], output=self._output
        )
        self.pid = self._process.pid
        wait_for(lambda: is_greeting(self.port), "smtp-sink")

    def messages(self) -> int:
        with self._output.open("rb") as file:
            file.seek(max(0, self._output.stat().st_size - 400))
            found = re.findall(rb"mesg=(\d+)[^\r\n]*[\r\n]", file.read())
        return int(found[-1]) if found else 0

    def wait(self, count: int) -> float:
        wait_while_growing(self.messages, count, step=0.005)
        return time.monotonic()

    def close(self) -> None:
        stop(self._process)
