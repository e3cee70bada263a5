"""Figures on the screen, and in files that can be read again."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.coldstart import BYTES_EACH, FEWEST, FIRST_SECONDS, ColdFigures, ColdRun
from benchmarks.measure import Figures, Run
from benchmarks.peers import peer_versions
from benchmarks.scenarios import Dkim, Entry, Kind, Server, Shape, Tools
from benchmarks.verdicts import Verdict, verdicts

__all__ = [
    "COLD_COLUMNS",
    "COLUMNS",
    "RESULTS",
    "Results",
    "cold_table",
    "conditions",
    "figures_table",
    "read_results",
    "shares_table",
    "verdict_table",
    "write_results",
]

RESULTS = Path(__file__).parent / "results"
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
#: More than this part of the processors busy with something else at the start: the figures will show it.
BUSY = 0.25


@dataclass(slots=True)
class Results:
    """What one session has measured, or several of them put together."""

    conditions: dict[str, Any]
    figures: list[Figures] = field(default_factory=list)
    cold: list[ColdFigures] = field(default_factory=list)
    signatures: float = 0.0

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
        "changed": bool(git(root, "status", "--porcelain", "--untracked-files=no")),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "file_system": file_system(place),
        **peer_versions(),
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


def write_results(results: Results, directory: Path = RESULTS) -> Path:
    """One JSON file a session with every run; returns where."""
    directory.mkdir(exist_ok=True)
    when = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    path = directory / f"{when}-{results.conditions.get('commit') or 'unknown'}.json"
    written = {
        "conditions": results.conditions,
        "signatures": results.signatures,
        "verdicts": [asdict(verdict) | {"is_kept": verdict.is_kept} for verdict in results.verdicts()],
        "figures": [
            {
                "name": one.name,
                "median": {name: one.median(name) for name in ("rate", "accept_rate", "cpu_us", "memory")},
                "error": one.error,
                "shape": asdict(one.shape),
                "entry": asdict(one.entry),
                "runs": [asdict(run) for run in one.runs],
            }
            for one in results.figures
        ],
        "cold": [asdict(one) for one in results.cold],
    }
    path.write_text(
        json.dumps(written, indent=1, default=lambda member: member.value) + "\n", encoding="utf-8"
    )
    return path


def read_results(paths: Iterable[Path]) -> Results:
    """Several sessions as one: of each scenario the last that was measured without an error."""
    figures: dict[str, Figures] = {}
    cold: dict[int, ColdFigures] = {}
    sessions: list[dict[str, Any]] = []
    signatures = 0.0
    for path in sorted(paths, key=lambda path: path.name):
        read = json.loads(path.read_text(encoding="utf-8"))
        sessions.append(read["conditions"])
        signatures = read.get("signatures") or signatures
        for item in read["figures"]:
            if item["runs"] and not item["error"]:
                one = figures_of(item)
                figures[one.name] = one
        for item in read.get("cold", []):
            if item["runs"]:
                runs = [ColdRun(**run) for run in item["runs"]]
                cold[item["recipients"]] = ColdFigures(item["recipients"], runs)
    return Results(
        together(sessions), list(figures.values()), [cold[size] for size in sorted(cold)], signatures
    )


def together(sessions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The conditions of the last session, with the commits of all of them and the highest load before any."""
    if not sessions:
        return {}
    commits = dict.fromkeys(str(one.get("commit") or "unknown") for one in sessions)
    told = {name: value for one in sessions for name, value in one.items() if value != ""}
    return told | {
        "commit": ", ".join(commits),
        "changed": any(one.get("changed") for one in sessions),
        "load_before": max(float(one.get("load_before") or 0.0) for one in sessions),
    }


def figures_of(item: dict[str, Any]) -> Figures:
    shape = item["shape"] | {"kind": Kind(item["shape"]["kind"]), "tools": Tools(item["shape"]["tools"])}
    entry = item["entry"] | {"server": Server(item["entry"]["server"]), "dkim": Dkim(item["entry"]["dkim"])}
    return Figures(Shape(**shape), Entry(**entry), [Run(**run) for run in item["runs"]])
