"""Room for servers that have users and paths compiled in: Linux lets each have an own view of the files.

Inside of an `Enclosure` the users exist and the places are empty directories of ours; outside of it nothing
has changed: mail of a benchmark can't get into a queue of this machine. That takes root and `unshare`.
"""

from __future__ import annotations

import contextlib
import grp
import itertools
import os
import pwd
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import BenchError, CpuTime

__all__ = ["Account", "Enclosure", "can_enclose"]

#: Pairs of (ours, where it appears), "--", and the program.
SCRIPT = """
echo $$ > "$1"; shift
while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done
shift
exec "$@"
"""
FIRST_ID = 61_000
NOWHERE = "/nonexistent:/usr/sbin/nologin"


def can_enclose() -> bool:
    """Whether this machine lets us."""
    return os.getuid() == 0 and shutil.which("unshare") is not None and groups_of_processes() is not None


def groups_of_processes() -> Path | None:
    """Where control groups (version 2) are kept, if we may make one there."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(place, os.W_OK):
            return Path(place)
    return None


class Account:
    """A control group: the CPU of all its processes, also of those that nobody waited for when they ended."""

    def __init__(self, name: str) -> None:
        """Raises BenchError when the system does not give us one."""
        parent = groups_of_processes()
        if parent is None:
            raise BenchError("no control groups: the CPU of processes that nobody waits for can't be counted")
        self._place = parent / f"mta-bench-{os.getpid()}-{name}"
        try:
            self._place.mkdir()
        except OSError as error:
            raise BenchError(f"{self._place}: {error.strerror}") from None
        self.processes = self._place / "cgroup.procs"  #: who writes its number there belongs to it

    def cpu(self) -> CpuTime:
        """What all of them have used so far."""
        words = (self._place / "cpu.stat").read_text().split()
        told = dict(zip(words[::2], map(int, words[1::2]), strict=True))
        return CpuTime(told["user_usec"] / 1e6, told["system_usec"] / 1e6)

    def close(self) -> None:
        """End whoever is left."""
        deadline = time.monotonic() + 5.0
        while (left := self.processes.read_text().split()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.01)
        with contextlib.suppress(OSError):
            self._place.rmdir()


class Enclosure:
    """One server's view of the files, with `account` of all its processes."""

    def __init__(self, directory: Path, *, users: Sequence[str], places: Sequence[str]) -> None:
        """`directory` has what appears at `places`, which exist on every system (/run, /var/spool …)."""
        home = directory / "inside"
        (home / "etc").mkdir(parents=True)
        self._shown = [(home / "etc" / name, f"/etc/{name}") for name in ("passwd", "group")]
        # Its users have to get through to what is theirs.
        for parent in (home, *home.parents):
            if parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o011)
        self._write_users(users)
        for place in places:
            (home / place.strip("/")).mkdir(parents=True)
            self._shown.append((home / place.strip("/"), place))
        self._home = home
        self.account = Account(f"{directory.parent.name}-{directory.name}")

    def at(self, path: str) -> Path:
        """Where a path inside lies for us outside."""
        return self._home / path.strip("/")

    def owner(self, user: str) -> int:
        """The number of one of its users."""
        for line in (self._home / "etc" / "passwd").read_text().splitlines():
            if line.startswith(f"{user}:"):
                return int(line.split(":")[2])
        raise KeyError(user)

    def command(self, words: Sequence[str]) -> list[str]:
        """What to start so that `words` run inside. The process becomes the program itself."""
        shown = [str(word) for pair in self._shown for word in pair]
        script = ["unshare", "--mount", "sh", "-euc", SCRIPT, "sh", str(self.account.processes)]
        return [*script, *shown, "--", *words]

    def _write_users(self, users: Sequence[str]) -> None:
        """This machine's users and groups, and those that it lacks."""
        people, groups = Path("/etc/passwd").read_text(), Path("/etc/group").read_text()
        taken = {one.pw_uid for one in pwd.getpwall()} | {one.gr_gid for one in grp.getgrall()}
        free = (number for number in itertools.count(FIRST_ID) if number not in taken)
        for user in users:
            if f"\n{user}:" not in people:
                number = next(free)
                people += f"{user}:x:{number}:{number}::{NOWHERE}\n"
                groups += f"{user}:x:{number}:\n"
        (self._shown[0][0]).write_text(people)
        (self._shown[1][0]).write_text(groups)
