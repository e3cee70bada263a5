"""How many processors the service may use: those it may run on, no more than a container's quota pays for.

A quota is what cgroups call cpu.max (version 2) or cpu.cfs_quota_us (version 1), of our group and of every
group around it. More workers than that would only be stopped by turns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["processors_available", "quota"]

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def processors_available() -> int:
    """At least one."""
    allowed = len(os.sched_getaffinity(0))
    paid = quota(CGROUPS, OWN_GROUPS)
    return allowed if paid is None else max(1, min(allowed, int(paid)))


def quota(root: Path, own_groups: Path) -> float | None:
    """How many processors our control groups pay for; None for any number.

    `root` is where control groups are mounted, `own_groups` says which ones are ours.
    """
    try:
        lines = own_groups.read_text().splitlines()
    except OSError:
        return None
    found: list[float] = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            found += filter(None, map(limit_of_two, around(root, path)))
        elif "cpu" in controllers.split(","):
            found += filter(None, map(limit_of_one, around(root / controllers, path)))
    return min(found, default=None)


def around(root: Path, path: str) -> Iterator[Path]:
    """The directories of a group and of those it is in; inside a container the path may lead nowhere."""
    here = root / path.strip("/")
    yield here
    while here != root and root in here.parents:
        here = here.parent
        yield here


def limit_of_two(group: Path) -> float | None:
    """Version 2: `max 100000`, or microseconds in a period."""
    try:
        most, period = (group / "cpu.max").read_text().split()
        return None if most == "max" else int(most) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def limit_of_one(group: Path) -> float | None:
    """Version 1: -1, or microseconds in a period."""
    try:
        most = int((group / "cpu.cfs_quota_us").read_text())
        return None if most <= 0 else most / int((group / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError, ZeroDivisionError):
        return None
