"""strace as an instrument: which calls to the kernel touch a directory, and making the n-th of them fail.

Counting is strace's: the n-th call of one name in a thread. `--seccomp-bpf` would be faster, and switches
injection off on some kernels.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.reliability.nursery import Nursery

__all__ = ["CALLS", "ERRORS", "Point", "Run", "has_strace", "points", "trace"]

#: Everything that changes what is on a disk, or makes it lasting.
CALLS = (
    "openat", "pwritev2", "pwritev", "pwrite64", "writev", "write", "fdatasync", "fsync", "ftruncate",
    "fallocate", "unlink", "unlinkat", "rename", "renameat", "renameat2", "mkdir", "chmod", "fchmod",
)  # fmt: skip

#: Which errors each call can really have.
ERRORS: dict[str, frozenset[str]] = {
    "EIO": frozenset(
        {"pwritev2", "pwritev", "pwrite64", "writev", "write", "fdatasync", "fsync", "ftruncate", "fallocate",
         "unlink", "rename", "openat"}
    ),
    "ENOSPC": frozenset(
        {"pwritev2", "pwritev", "pwrite64", "writev", "write", "fallocate", "openat", "rename", "mkdir"}
    ),
    "EMFILE": frozenset({"openat"}),
}  # fmt: skip

_LINE = re.compile(r"^(\d+) +(\w+)\((.*)")


class Point(NamedTuple):
    """The `nth` call of a name in some thread."""

    call: str
    nth: int


class Run(NamedTuple):
    """A traced process: what it said, how it ended (negative: the signal), and strace's own log."""

    said: list[str]
    errors: str
    code: int
    log: str


def has_strace() -> str:
    """Why there is no tracing here; empty when there is."""
    return "" if shutil.which("strace") else "strace is not installed"


def points(log: str, directory: Path) -> list[Point]:
    """The calls in a log that touch the directory, in their order, each once however many threads made it."""
    counts: Counter[tuple[str, str]] = Counter()
    found: dict[Point, None] = {}
    for line in log.splitlines():
        match = _LINE.match(line)
        if match is None or match[2] not in CALLS:
            continue
        thread, call, arguments = match.groups()
        counts[thread, call] += 1
        is_reading = call == "openat" and "O_WRONLY" not in arguments and "O_RDWR" not in arguments
        if f"{directory}/" in arguments and not is_reading:
            found.setdefault(Point(call, counts[thread, call]))
    return list(found)


async def trace(
    nursery: Nursery,
    scenario: str,
    place: Path,
    log: Path,
    *,
    inject: str = "",
    environment: Mapping[str, str] | None = None,
    seconds: float = 30.0,
) -> Run:
    """Run an actor under strace; `inject` as strace's option. It is killed when it takes too long."""
    child = await nursery.bear(scenario, place, environment)
    command = ["strace", "-f", "-y", "-s", "16", "-o", str(log), "-e", "trace=" + ",".join(CALLS)]
    command += ["-e", f"inject={inject}"] if inject else []
    strace = await asyncio.create_subprocess_exec(
        *command, "-p", str(child.pid),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    assert strace.stderr is not None
    try:
        async with asyncio.timeout(seconds):
            while line := await strace.stderr.readline():
                if b"attached" in line:
                    break
            else:
                raise OSError("strace could not attach to a process of ours")
            child.begin()
            ended = await child.ended()
            await strace.communicate()  # until its log is complete
    finally:
        child.kill()
        if strace.returncode is None:
            strace.kill()
            await strace.wait()
    lines = ended.said.decode(errors="replace").split("\n")[:-1]  # the last may be cut off: no promise
    text = log.read_text(errors="replace") if log.exists() else ""
    return Run(lines, ended.errors.decode(errors="replace"), ended.code, text)
