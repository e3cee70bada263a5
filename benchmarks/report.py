"""Figures on the screen, and the conditions that they were taken under."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.coldstart import BYTES_EACH, FEWEST, FIRST_SECONDS, ColdFigures
from benchmarks.interpreter import python_build
from benchmarks.measure import Figures
from benchmarks.peers import peer_versions
from benchmarks.scenarios import Server
from benchmarks.verdicts import Verdict, said_yardsticks, verdicts

__all__ = [
    "COLD_COLUMNS",
    "COLUMNS",
    "Results",
    "cold_table",
    "conditions",
    "figures_table",
    "git",
    "shares_table",
    "verdict_table",
]

COLUMNS = (
    "messages",
    "runs",
    "msg/s",
    "(min-max)",
    "x Postfix",
    "accept/s",
    "CPU us",
    "source",
    "sink",
    "other",
    "MiB",
)
COLD_COLUMNS = (
    *("runs", "greeting s", "first delivery s", "all read s"),
    *("octets each", "peak MiB", "drain/s"),
)


#: What a measurement depends on in this repository; results and documentation may change meanwhile.
CODE = "mta", "benchmarks/*.py", "conf"


@dataclass(slots=True)
class Results:
    """What one session has measured, or several of them put together."""

    conditions: dict[str, Any]
    figures: list[Figures] = field(default_factory=list)
    cold: list[ColdFigures] = field(default_factory=list)
    signatures: float = 0.0
    #: Of each shape when it was measured, at which commit, and how busy the machine was.
    origins: dict[str, tuple[str, str, float]] = field(default_factory=dict)

    def yardsticks(self) -> list[str]:
        return said_yardsticks(self.figures)

    def verdicts(self) -> list[Verdict]:
        cpus = int(self.conditions.get("cpus") or 1)
        found = verdicts(self.figures, cpus=cpus, signatures=self.signatures)
        return [*found, *cold_verdicts(self.cold)]


def cold_verdicts(all_figures: Iterable[ColdFigures]) -> list[Verdict]:
    found = []
    for one in all_figures:
        if one.runs and one.recipients >= FEWEST:
            name = f"coldstart/{one.recipients:,}"
            waiting = one.median("recipients")
            sum_ = f"{one.median('memory') / 2**20:,.0f} MiB - {one.median('empty_memory') / 2**20:,.0f} MiB"
            sum_ += f" of an empty service, over {waiting:,.0f} recipients"
            text = f"{name}: octets of RSS a recipient"
            found.append(Verdict(6, text, one.median("bytes_each"), BYTES_EACH, sum_, is_most=True))
            text = f"{name}: seconds to the first delivery"
            sum_ = f"whole spool read after {one.median('loaded'):.1f} s"
            sum_ += f", drain {one.median('drain_rate'):,.0f}/s"
            found.append(Verdict(6, text, one.median("first"), FIRST_SECONDS, sum_, is_most=True))
    return found


def conditions(place: Path) -> dict[str, Any]:
    """What the figures depend on."""
    root = Path(__file__).parents[1]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "commit": git(root, "rev-parse", "--short", "HEAD"),
        "code": git(root, "log", "-1", "--format=%h", "--", *CODE),
        "changed": bool(git(root, "status", "--porcelain", "--untracked-files=no", "--", *CODE)),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "python_build": python_build(),
        "file_system": file_system(place),
        **peer_versions(),
    }


def git(root: Path, *words: str) -> str:
    """What git prints; nothing where there is no git, or no repository."""
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
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


def best_peer(figures: Figures, everybody: Sequence[Figures]) -> float:
    """The rate of the quickest Postfix in the same shape; 0 without one."""
    return max(
        (
            one.median("rate")
            for one in everybody
            if one.shape == figures.shape
            and one.entry.server is Server.POSTFIX
            and one.entry.is_tls == figures.entry.is_tls
        ),
        default=0.0,
    )


def cells(figures: Figures, everybody: Sequence[Figures]) -> list[str]:
    """One line of the table of figures, without its name."""
    low, high = figures.spread("rate")
    peer = best_peer(figures, everybody)
    is_postfix = figures.entry.server is Server.POSTFIX
    return [
        f"{figures.entry.count:,}",
        str(len(figures.runs)),
        f"{figures.median('rate'):,.0f}",
        f"({low:,.0f}-{high:,.0f})",
        f"{figures.median('rate') / peer:.1f}" if peer and not is_postfix else "",
        f"{figures.median('accept_rate'):,.0f}",
        f"{figures.median('cpu_us'):,.0f}",
        f"{figures.median('source_us'):,.0f}",
        f"{figures.median('sink_us'):,.0f}",
        f"{figures.median('others_us'):,.0f}",
        f"{figures.median('memory') / 2**20:,.0f}",
    ]


def new_table(first: str, columns: Sequence[str]) -> Table:
    shown = Table(box=None, pad_edge=False)
    shown.add_column(first, no_wrap=True)
    for name in columns:
        shown.add_column(name, justify="right", no_wrap=True)
    return shown


def figures_table(all_figures: Sequence[Figures]) -> Table:
    """Medians, with the smallest and largest rate; CPU in microseconds a message."""
    shown = new_table("scenario", COLUMNS)
    for figures in all_figures:
        if figures.error:
            shown.add_row(figures.name, figures.error.splitlines()[0])
        else:
            shown.add_row(figures.name, *cells(figures, all_figures))
    return shown


def shares_table(all_figures: Sequence[Figures]) -> Table:
    """What was the bottleneck: processors that each process kept busy while the clock ran."""
    shown = Table(box=None, pad_edge=False)
    shown.add_column("scenario", no_wrap=True)
    shown.add_column("processors kept busy, in the run with the median rate (machine = all of them)")
    for figures in all_figures:
        if figures.runs:
            parts = [
                f"{name} {share:.2f}" for name, share in figures.runs[-1].shares.items() if share >= 0.01
            ]
            shown.add_row(figures.name, ", ".join(parts))
    return shown


def cold_table(all_figures: Sequence[ColdFigures]) -> Table:
    shown = new_table("cold start", COLD_COLUMNS)
    for one in all_figures:
        if one.error:
            shown.add_row(f"{one.recipients:,}", one.error.splitlines()[0])
        else:
            shown.add_row(f"{one.recipients:,}", *cold_cells(one))
    return shown


def cold_cells(one: ColdFigures) -> list[str]:
    return [
        str(len(one.runs)),
        *(f"{one.median(name):.1f}" for name in ("greeting", "first", "loaded", "bytes_each")),
        f"{one.median('peak_memory') / 2**20:,.0f}",
        f"{one.median('drain_rate'):,.0f}",
    ]


def verdict_table(found: Sequence[Verdict]) -> Table:
    shown = Table(box=None, pad_edge=False)
    for name in ("", "limit", "measured", "", "how"):
        shown.add_column(name)
    for verdict in found:
        mark = "[green]kept[/green]" if verdict.is_kept else "[red]MISSED[/red]"
        limit, value = f"{verdict.limit:,.4g}", f"{verdict.value:,.2f}"
        least = "at most" if verdict.is_most else "at least"
        shown.add_row(f"{verdict.show}. {verdict.text}", f"{least} {limit}", value, mark, verdict.sum)
    return shown
