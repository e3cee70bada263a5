"""Result files: one for each session, written while it runs; and which of them the page is made from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.coldstart import ColdFigures, ColdRun
from benchmarks.measure import Figures, Run
from benchmarks.processes import BUSY
from benchmarks.report import Results
from benchmarks.scenarios import Contest, Dkim, Entry, Kind, Server, Shape, Tools, contests
from benchmarks.verdicts import shape_of

__all__ = [
    "RESULTS",
    "Take",
    "cold_takes",
    "has_measured",
    "has_started_cold",
    "read_results",
    "session_path",
    "takes",
    "write_results",
]

RESULTS = Path(__file__).parent / "results"
SIGNED = "dkim/10KB-200"


@dataclass(slots=True)
class Take:
    """One shape as one session has measured it: what the page takes or leaves as a whole."""

    conditions: dict[str, Any]
    figures: list[Figures]
    signatures: float = 0.0

    @property
    def labels(self) -> set[str]:
        return {one.entry.label for one in self.figures}

    @property
    def runs(self) -> int:
        return min(len(one.runs) for one in self.figures)

    @property
    def busy(self) -> float:
        """Of all processors, by something else: the worst that a contestant had."""
        cpus = int(self.conditions.get("cpus") or 1)
        return max(one.busy(cpus) for one in self.figures)

    def is_as_good_as(self, other: Take) -> bool:
        """Everybody who takes part there, on a machine as quiet, and as many runs."""
        rank, others_rank = ((take.busy <= BUSY, take.runs) for take in (self, other))
        return self.labels >= other.labels and rank >= others_rank


def session_path(results: Results, directory: Path = RESULTS) -> Path:
    """Where a session that begins now keeps its results."""
    when = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    return directory / f"{when}-{results.conditions.get('commit') or 'unknown'}.json"


def write_results(results: Results, path: Path) -> None:
    """Every run of a session, the medians, and what the limits say of them, as JSON."""
    path.parent.mkdir(exist_ok=True)
    written = {
        "conditions": results.conditions,
        "signatures": results.signatures,
        "yardsticks": results.yardsticks(),
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
    text = json.dumps(written, indent=1, default=lambda member: member.value)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.replace(path)


def takes(paths: Iterable[Path]) -> dict[str, Take]:
    """Of each shape the best take: the newest that is as good as those before it, contestants together."""
    best: dict[str, Take] = {}
    for session in sessions(paths):
        for name, take in takes_of(session).items():
            if name not in best or take.is_as_good_as(best[name]):
                best[name] = take
    return best


def takes_of(session: dict[str, Any]) -> dict[str, Take]:
    """What one session has of each shape. A shape in which one of ours is missing says nothing of us."""
    told = session["conditions"]
    measured: dict[str, list[Figures]] = {}
    broken = set()
    for item in session["figures"]:
        one = figures_of(item)
        if one.runs and not item["error"]:
            measured.setdefault(shape_of(one), []).append(one)
        elif one.entry.server is Server.MTA:
            broken.add(shape_of(one))
    found = {}
    for name, figures in measured.items():
        known = known_labels(name, int(told.get("cpus") or 1))
        figures = [one for one in figures if one.entry.label in known]
        if name not in broken and any(one.entry.server is Server.MTA for one in figures):
            found[name] = Take(told, figures, float(session.get("signatures") or 0.0))
    return found


def known_labels(shape: str, cpus: int) -> set[str]:
    """Who takes part in a shape today: what has another name by now can't be compared with anything."""
    everything = contests(cpus=cpus, has_tools=True, peers=set(Server), short=False)
    return {
        entry.label
        for contest in everything
        for entry in contest.entries
        if f"{contest.shape.group}/{contest.shape.name}" == shape
    }


def cold_takes(paths: Iterable[Path]) -> dict[int, tuple[dict[str, Any], ColdFigures]]:
    """Cold starts by their size, with the conditions of their session; chosen by the same rule."""
    best: dict[int, tuple[dict[str, Any], ColdFigures]] = {}
    for session in sessions(paths):
        told = session["conditions"]
        for item in session.get("cold", []):
            if item["runs"] and not item["error"]:
                one = ColdFigures(item["recipients"], [ColdRun(**run) for run in item["runs"]])
                if one.recipients not in best or rank_of(told, one) >= rank_of(*best[one.recipients]):
                    best[one.recipients] = told, one
    return best


def rank_of(conditions: dict[str, Any], cold: ColdFigures) -> tuple[bool, int]:
    return float(conditions.get("busy_before") or 0.0) <= BUSY, len(cold.runs)


def sessions(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """What the files say, oldest first."""
    for path in sorted(paths, key=lambda path: path.name):
        yield json.loads(path.read_text(encoding="utf-8"))


def read_results(paths: Iterable[Path]) -> Results:
    """Several sessions as one, see `takes`; in the order of `--list`, whoever was measured first."""
    paths = list(paths)
    best, cold = takes(paths), cold_takes(paths)
    everything = contests(cpus=2, has_tools=True, peers=set(Server), short=False)
    order = [f"{contest.shape.group}/{contest.shape.name}" for contest in everything]
    shapes = sorted(best, key=lambda name: order.index(name) if name in order else len(order))
    conditions = [take.conditions for take in best.values()] + [told for told, _ in cold.values()]
    signed = best.get(SIGNED)
    return Results(
        together(conditions),
        [one for name in shapes for one in best[name].figures],
        [cold[size][1] for size in sorted(cold)],
        signed.signatures if signed else 0.0,
        {
            **{name: origin(best[name].conditions, best[name].busy) for name in shapes},
            **{
                f"coldstart/{size:,}": origin(cold[size][0], float(cold[size][0].get("busy_before") or 0.0))
                for size in sorted(cold)
            },
        },
    )


def origin(conditions: dict[str, Any], busy: float) -> tuple[str, str, float]:
    """When, at which commit, and how busy the machine was."""
    when = str(conditions.get("date", ""))[:16].replace("T", " ")
    return when, commit_of(conditions), busy


def commit_of(conditions: dict[str, Any]) -> str:
    return str(conditions.get("commit") or "unknown") + (" with changes" if conditions.get("changed") else "")


def together(conditions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What all sessions say, the newest last, with the commits of all of them."""
    told: dict[str, Any] = {}
    ordered = sorted(conditions, key=lambda one: str(one.get("date", "")))
    for one in ordered:
        told |= {name: value for name, value in one.items() if value != ""}
    told["commit"] = ", ".join(dict.fromkeys(commit_of(one) for one in ordered))
    return told


def has_measured(contest: Contest, conditions: dict[str, Any], runs: int, paths: Iterable[Path]) -> bool:
    """Whether a session has done all of this already: the same code, on a quiet machine, as many runs."""
    take = takes(paths).get(f"{contest.shape.group}/{contest.shape.name}")
    return (
        take is not None
        and is_same_code(take.conditions, conditions)
        and take.busy <= BUSY
        and take.runs >= runs
        and take.labels >= {entry.label for entry in contest.entries}
    )


def has_started_cold(recipients: int, conditions: dict[str, Any], runs: int, paths: Iterable[Path]) -> bool:
    """The same of a cold start."""
    told, cold = cold_takes(paths).get(recipients, ({}, ColdFigures(recipients)))
    return bool(cold.runs) and is_same_code(told, conditions) and rank_of(told, cold) >= (True, runs)


def is_same_code(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether both sessions have measured the same commit of the programs, without changes."""
    clean = not one.get("changed") and not other.get("changed")
    return clean and bool(one.get("code")) and one.get("code") == other.get("code")


def figures_of(item: dict[str, Any]) -> Figures:
    shape = item["shape"] | {"kind": Kind(item["shape"]["kind"]), "tools": Tools(item["shape"]["tools"])}
    entry = item["entry"] | {"server": Server(item["entry"]["server"]), "dkim": Dkim(item["entry"]["dkim"])}
    return Figures(Shape(**shape), Entry(**entry), [Run(**run) for run in item["runs"]])
