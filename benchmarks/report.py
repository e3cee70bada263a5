"""Figures on the screen and in a file."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from rich.table import Table

from benchmarks.measure import Figures
from benchmarks.servers import has_postfix, postfix_version

__all__ = ["RESULTS", "conditions", "table", "write_results"]

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("messages", "runs", "msg/s", "(min-max)", "accept/s", "CPU us/msg", "user", "others", "MiB")
CAVEATS = (
    "One machine does everything: source, server and sink share its CPUs.",
    "The mta: one worker, group commit with fdatasync before each 250, accounting on; no TLS, DKIM or DNS.",
    "Postfix: tuned as a relay (200 processes, connection cache), a file and fsync a message; no TLS or DNS.",
    "One recipient a message, one destination; sessions and connections are reused.",
    "CPU is that of all processes of the server, user and system, from /proc (10 ms ticks).",
)


def conditions(place: Path) -> dict[str, object]:
    """What the figures depend on."""
    root = Path(__file__).parents[1]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "commit": git(root, "rev-parse", "--short", "HEAD"),
        "changed": bool(git(root, "status", "--porcelain", "--untracked-files=no")),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "load_before": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "file_system": file_system(place),
        "postfix": postfix_version() if has_postfix() else "",
        "caveats": CAVEATS,
    }


def git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def file_system(place: Path) -> str:
    """The type of the file system that `place` lies on."""
    best, kind = "", ""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, type_, *_ = line.split()
        if str(place).startswith(mount) and len(mount) >= len(best):
            best, kind = mount, type_
    return kind


def table(all_figures: Sequence[Figures]) -> Table:
    """Medians, with the smallest and largest rate."""
    shown = Table(box=None, pad_edge=False)
    shown.add_column("scenario", no_wrap=True)
    for name in COLUMNS:
        shown.add_column(name, justify="right", no_wrap=True)
    for figures in all_figures:
        scenario = figures.scenario
        if figures.error:
            shown.add_row(scenario.name, figures.error.splitlines()[0])
            continue
        low, high = figures.spread("rate")
        shown.add_row(
            scenario.name,
            f"{scenario.shape.count:,}",
            str(len(figures.runs)),
            f"{figures.median('rate'):,.0f}",
            f"({low:,.0f}-{high:,.0f})",
            f"{figures.median('accept_rate'):,.0f}",
            f"{figures.median('cpu_us'):,.0f}",
            f"{figures.median('cpu_user_us'):,.0f}",
            f"{figures.median('others_cpu_us'):,.0f}",
            f"{figures.median('memory') / 2**20:,.0f}",
        )
    return shown


def write_results(all_figures: Sequence[Figures], facts: dict[str, object]) -> Path:
    """One JSON file a session; returns where."""
    RESULTS.mkdir(exist_ok=True)
    when = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    path = RESULTS / f"{when}-{facts['commit'] or 'unknown'}.json"
    figures = [
        {
            "kind": one.scenario.kind.value,
            "shape": asdict(one.scenario.shape),
            "server": one.scenario.server.value,
            "tools": one.scenario.tools.value,
            "error": one.error,
            "median": {
                name: one.median(name)
                for name in ("rate", "accept_rate", "cpu_us", "cpu_user_us", "others_cpu_us", "memory")
            },
            "runs": [asdict(run) for run in one.runs],
        }
        for one in all_figures
    ]
    path.write_text(json.dumps({"conditions": facts, "figures": figures}, indent=1) + "\n", encoding="utf-8")
    return path
