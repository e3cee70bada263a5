"""One answer out of many: what several workers say about the same question, added up.

Pure: the shapes are those of `mta/cli/control.py`. Rows about the same thing are added, others put together,
sorted as they were asked for, and cut to the number asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = [
    "add",
    "merge_disabled_sources",
    "merge_domains",
    "merge_jobs",
    "merge_list",
    "merge_precache",
    "merge_queues",
    "merge_vmtas",
]

Answer = dict[str, Any]

#: Numbers that are not added: limits of the whole service, percentages, percentiles.
_SPECIAL: dict[str, Callable[[Any, Any], Any]] = {
    "max": lambda one, other: one,
    "duplicateWindowP99": max,
    "initPct": min,
}

#: Numbers of a queue or domain that is at several workers.
_ADDED = ("rcp", "kb", "conn", "delivered", "failed", "deferred", "event")

_SORTS: dict[str, Callable[[Answer], Any]] = {
    "name": lambda row: row["name"],
    "rcpt": lambda row: (-row["rcp"], row["name"]),
    "size": lambda row: (-row["kb"], row["name"]),
}


def add(answers: Sequence[Answer]) -> Answer:
    """The sum: numbers are added, lists put together, the first word that says something counts.

    Whether something is so: it is when it is so for one of them.
    """
    total: Answer = {}
    for answer in answers:
        for name, value in answer.items():
            total[name] = _together(name, total[name], value) if name in total else value
    return total


def _together(name: str, one: Any, other: Any) -> Any:
    if name in _SPECIAL:
        return _SPECIAL[name](one, other)
    if isinstance(one, dict):
        return add([one, other])
    if isinstance(one, bool | str):
        return one or other
    return one + other


def merge_queues(answers: Sequence[Answer], *, maxitems: int = 20, sort: str = "rcpt", **_: Any) -> Answer:
    """Rows of `show.queues`. A queue is at one worker only, but for those of roll-ups, and for moments when
    its domain moves; then the one with most recipients says what it waits for."""
    return _merge(answers, "queue", sort, maxitems, ("totalQueues", "totalQueuesWithRcp"))


def merge_domains(answers: Sequence[Answer], *, maxitems: int = 20, sort: str = "rcpt", **_: Any) -> Answer:
    """Rows of `show.domains`."""
    return _merge(answers, "domain", sort, maxitems, ("totalDomains",))


def merge_vmtas(answers: Sequence[Answer], *, maxitems: int = 0, sort: str = "rcpt", **_: Any) -> Answer:
    """Rows of `show.vmtas`: the same virtual MTAs at every worker."""
    merged: dict[str, Answer] = {}
    for answer in answers:
        for row in answer["vmta"]:
            known = merged.setdefault(row["name"], {**row, "dom": 0, "rcp": 0, "kb": 0, "conn": 0})
            for name in ("dom", "rcp", "kb", "conn"):
                known[name] += row[name]
    return {**add(answers), "vmta": _cut(merged.values(), sort, maxitems)}


def merge_jobs(answers: Sequence[Answer], *, maxitems: int = 20, sort: str = "rcpt", **_: Any) -> Answer:
    """Rows of `show.jobs`: a job may have recipients at every worker."""
    merged: dict[str, Answer] = {}
    for answer in answers:
        for row in answer["job"]:
            known = merged.get(row["id"])
            merged[row["id"]] = dict(row) if known is None else {**add([known, row]), "id": row["id"]}
    rows = [{"name": row["id"], **row} for row in merged.values()]
    jobs = [{name: row[name] for name in row if name != "name"} for row in _cut(rows, sort, maxitems)]
    return {**add(answers), "job": jobs, "totalJobs": len(merged)}


def merge_disabled_sources(answers: Sequence[Answer], **_: Any) -> Answer:
    """An order for many queues was given to every worker; each stands there once."""
    rows = {(row["queue"], row["ip"]): row for answer in answers for row in answer["source"]}
    return {"source": [rows[place] for place in sorted(rows)]}


def merge_precache(answers: Sequence[Answer], **_: Any) -> Answer:
    """Every worker keeps the same domains fresh: the answer of the one that knows most."""
    return max(answers, key=lambda answer: int(answer["totalDomains"]))


def merge_list(answers: Sequence[Answer], *, maxitems: int = 100, **_: Any) -> Answer:
    """Recipients, the oldest first."""
    rows = sorted((row for answer in answers for row in answer["rcpt"]), key=lambda row: row["timeQueued"])
    return {"rcpt": rows[:maxitems], "total": sum(answer["total"] for answer in answers)}


def _merge(answers: Sequence[Answer], kind: str, sort: str, maxitems: int, counts: Sequence[str]) -> Answer:
    """Rows of the same name become one; `counts` are totals that counted each of them."""
    total, rows = add(answers), dict[str, Answer]()
    for row in sorted((row for answer in answers for row in answer[kind]), key=lambda row: -int(row["rcp"])):
        known = rows.get(row["name"])
        if known is None:
            rows[row["name"]] = row
            continue
        rows[row["name"]] = known | {name: known[name] + row[name] for name in _ADDED if name in row}
        for name in counts:
            if name != "totalQueuesWithRcp" or row["rcp"]:
                total[name] -= 1
    return {**total, kind: _cut(list(rows.values()), sort, maxitems)}


def _cut(rows: Any, sort: str, maxitems: int) -> list[Answer]:
    return sorted(rows, key=_SORTS.get(sort, _SORTS["rcpt"]))[: maxitems or None]
