"""Injectors and receivers: our own, and Postfix's smtp-source and smtp-sink where they are installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmarks.processes import BenchError, free_port, is_greeting, start, stop, wait_for
from benchmarks.scenarios import Shape, Tools

__all__ = ["Injection", "Sink", "has_smtp_tools", "inject", "make_sink"]

DOMAIN = "bench.example"
#: A run that takes longer than this is broken.
PATIENCE = 300.0
#: Programs of Postfix may lie outside an ordinary user's path.
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


class Injection(NamedTuple):
    """When it began and ended, in seconds of the machine's monotonic clock."""

    begun: float
    ended: float


class Sink(Protocol):
    """A receiver that counts."""

    port: int

    def messages(self) -> int: ...
    def wait(self, count: int) -> float:
        """Return when `count` messages have arrived since the start: the time of the last."""
        ...

    def close(self) -> None: ...


def has_smtp_tools() -> bool:
    """Whether smtp-source and smtp-sink are there."""
    return all(shutil.which(name, path=PATH) for name in ("smtp-source", "smtp-sink"))


def make_sink(tools: Tools, directory: Path) -> Sink:
    """Start a receiver."""
    return PostfixSink(directory) if tools is Tools.POSTFIX else OwnSink(directory)


def inject(tools: Tools, port: int, shape: Shape, directory: Path) -> Injection:
    """Send the whole load and return when everything was accepted. BenchError when something was refused."""
    command = [sys.executable, "-m", "benchmarks.source", str(port), "-m", str(shape.count)]
    command += ["-s", str(shape.sessions), "-l", str(shape.size), "--domain", DOMAIN]
    if tools is Tools.POSTFIX:
        source = shutil.which("smtp-source", path=PATH) or "smtp-source"
        command = [source, "-4", "-d", "-N", "-s", str(shape.sessions), "-m", str(shape.count)]
        command += ["-l", str(shape.size), "-f", f"source@{DOMAIN}", "-t", f"rcpt@{DOMAIN}"]
        command += [f"127.0.0.1:{port}"]
    begun = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{command[0]}: not done after {PATIENCE:.0f} s") from None
    ended = time.monotonic()
    if done.returncode or (tools is Tools.POSTFIX and done.stderr):
        raise BenchError(f"injection failed: {(done.stderr or done.stdout).strip()[-300:]}")
    if tools is Tools.OURS:
        told = json.loads(done.stdout)
        return Injection(told["begun"], told["ended"])
    return Injection(begun, ended)


class OwnSink:
    """`mta sink`, as a process of its own."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._output = directory / "sink.log"
        command = [sys.executable, "-m", "mta", "sink", "--listen", f"127.0.0.1:{self.port}"]
        self._process = start(
            [*command, "--count-output", "--json", "--refresh", "20ms"], output=self._output
        )
        wait_for(lambda: is_greeting(self.port), "mta sink")

    def _counters(self) -> dict[str, float]:
        with self._output.open("rb") as file:
            file.seek(max(0, self._output.stat().st_size - 2000))
            lines = file.read().split(b"\n")
        for line in reversed(lines[:-1]):
            if line.startswith(b"{"):
                found: dict[str, float] = json.loads(line)
                return found
        return {}

    def messages(self) -> int:
        return int(self._counters().get("messages", 0))

    def wait(self, count: int) -> float:
        wait_for(lambda: self.messages() >= count, f"{count} messages at mta sink", patience=PATIENCE)
        return float(self._counters()["last_at"])

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
            [sink, *user, "-4", "-c", "-m", "1000", f"127.0.0.1:{self.port}", "1024"], output=self._output
        )
        wait_for(lambda: is_greeting(self.port), "smtp-sink")

    def messages(self) -> int:
        with self._output.open("rb") as file:
            file.seek(max(0, self._output.stat().st_size - 400))
            found = re.findall(rb"mesg=(\d+)[^\r\n]*[\r\n]", file.read())
        return int(found[-1]) if found else 0

    def wait(self, count: int) -> float:
        wait_for(
            lambda: self.messages() >= count, f"{count} messages at smtp-sink", patience=PATIENCE, step=0.005
        )
        return time.monotonic()

    def close(self) -> None:
        stop(self._process)
