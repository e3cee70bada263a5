"""Processes on the bench: started, waited for, stopped, and what CPU and memory they used (from /proc)."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "BUSY",
    "BenchError",
    "CpuTime",
    "busy_share",
    "cpu_by_name",
    "cpu_of_tree",
    "free_port",
    "is_greeting",
    "machine_cpu",
    "memory_of_tree",
    "start",
    "stop",
    "wait_for",
    "wait_for_greeting",
]

#: Thousands of connections take ports from 32768 on; nobody may be given one before its server has bound it.
PORTS = 12_000, 32_000
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGESIZE")
#: More than this part of the processors busy with something else: the figures will show it.
BUSY = 0.15


class BenchError(Exception):
    """A measurement can't be made; the text says why."""


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Seconds of CPU."""

    user: float
    system: float

    @property
    def total(self) -> float:
        return self.user + self.system

    def __sub__(self, other: CpuTime) -> CpuTime:
        return CpuTime(self.user - other.user, self.system - other.system)


def start(
    command: Sequence[str], *, output: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own, its output in a file."""
    with output.open("wb") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env=environment,
        )


def stop(process: subprocess.Popen[bytes], *, number: int = signal.SIGTERM, patience: float = 40.0) -> None:
    """End a program that we started."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(condition: Callable[[], bool], what: str, *, patience: float = 30.0, step: float = 0.02) -> None:
    """Return when the condition holds; BenchError after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {patience:.0f} s")
        time.sleep(step)


def is_greeting(port: int, host: str = "127.0.0.1") -> bool:
    """Whether an SMTP server greets there."""
    try:
        with socket.create_connection((host, port), 1.0) as probe:
            probe.settimeout(2.0)
            greeted = probe.recv(3) == b"220"
            probe.sendall(b"QUIT\r\n")
            return greeted
    except OSError:
        return False


def wait_for_greeting(port: int, who: str, log: Path, *, patience: float = 30.0) -> None:
    """Return when an SMTP server greets there; BenchError with the end of its log if it doesn't in time."""
    try:
        wait_for(lambda: is_greeting(port), who, patience=patience)
    except BenchError as error:
        raise BenchError(f"{error}\n{log.read_text(errors='replace')[-2000:]}") from None


def free_port() -> int:
    """A port that nobody listens on right now, below those that the kernel gives to clients."""
    while True:
        port = random.randrange(*PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def tree(root: int) -> list[int]:
    """A process and everything below it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parent = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def cpu_of_tree(root: int) -> CpuTime:
    """CPU of a process, its children, and those of their children that have ended meanwhile.

    The system counts in ticks (10 ms as a rule): measure over seconds.
    """
    user = system = 0
    for pid in tree(root):
        with contextlib.suppress(OSError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user += int(fields[11]) + int(fields[13])
            system += int(fields[12]) + int(fields[14])
    return CpuTime(user / TICK, system / TICK)


def cpu_by_name(root: int) -> dict[str, float]:
    """Seconds of CPU of a process and all below it, by what each is; "ended" are children that have."""
    found: dict[str, float] = {}
    for pid in tree(root):
        with contextlib.suppress(OSError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            name = name_of(pid, is_root=pid == root)
            found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / TICK
            if ended := int(fields[13]) + int(fields[14]):
                found["ended"] = found.get("ended", 0.0) + ended / TICK
    return found


def name_of(pid: int, *, is_root: bool) -> str:
    """Our processes by role and number, others by the name of the program."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    if "mta.service.entry" in words:
        role, _, number = words[words.index("mta.service.entry") + 1 :][:3]
        return f"worker {number}" if role == "worker" else role
    if "mta.delivery.signatory" in words:
        return "signatory"
    if is_root and "mta" in words:
        return "supervisor"
    return Path(f"/proc/{pid}/comm").read_text().strip()


def memory_of_tree(root: int) -> int:
    """Octets resident, summed over the tree (shared pages count in each process)."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError, IndexError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return total


def machine_cpu() -> float:
    """Seconds of CPU that the whole machine has used, steal included."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (fields[0] + fields[1] + fields[2] + sum(fields[5:8])) / TICK


def busy_share(span: float = 0.25) -> float:
    """The part of all processors that is busy now. Takes `span` seconds."""
    before, begun = machine_cpu(), time.monotonic()
    time.sleep(span)
    used = (machine_cpu() - before) / (time.monotonic() - begun)
    return round(used / (os.cpu_count() or 1), 3)
