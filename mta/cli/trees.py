"""PowerMTA's trees for what the server answers: names and nesting as monitors know them, ours beside them.

What the server doesn't have is there as zero or "", so that a monitor that reads it finds something. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = [
    "ABOUT_RECIPIENTS",
    "Machine",
    "domains_tree",
    "jobs_tree",
    "queues_tree",
    "status_tree",
    "vmtas_tree",
]

Tree = dict[str, Any]

#: Kinds of events that --no-rcpt-events leaves out.
ABOUT_RECIPIENTS = frozenset(("rcpt", "reply"))

_PERIODS = ("total", "lastHr", "lastMin", "topPerHr", "topPerMin")
_QUEUES = ("smtp", "pipe", "discard", "file", "alias", "bounceProcessor", "feedbackLoopProcessor")
_EMPTY_QUEUE = {"rcp": 0, "dom": 0, "kb": 0}
_NOTHING = {"rcp": 0, "msg": 0, "kb": 0}


class Machine(NamedTuple):
    """What `mta.os`, `mta.cpu` and `mta.ram` say; `ram` in MB."""

    os_name: str = ""
    os_version: str = ""
    os_build: str = ""
    cpu: str = ""
    cpus: int = 0
    ram: int = 0
    bits: int = 64


def status_tree(data: Mapping[str, Any], machine: Machine) -> Tree:
    """`show status`."""
    return {"mta": _mta(data, machine), "status": _status(data)}


def _mta(data: Mapping[str, Any], machine: Machine) -> Tree:
    return {
        "product": {
            "name": "mta",
            "version": data.get("version", ""),
            "buildDate": "",
            "revision": "",
            "bits": machine.bits,
        },
        "os": {"name": machine.os_name, "version": machine.os_version, "build": machine.os_build},
        "cpu": {"type": machine.cpu, "count": machine.cpus},
        "ram": {"real": machine.ram},
        "fullHostName": data.get("hostName", ""),
        "userString": data.get("userString", ""),
        "hostId": "",
    }


def _status(data: Mapping[str, Any]) -> Tree:
    given = dict(data)
    traffic, connections = given.pop("traffic", {}), given.pop("conn", {})
    resolver, queues, spool = given.pop("resolver", {}), given.pop("queue", {}), given.pop("spool", {})
    status = given.pop("status", "unknown")
    shown = {
        "timeNow": int(given.pop("timeNow", 0)),
        "startupTime": int(given.pop("startupTime", 0)),
        "shuttingDown": status == "stopping",
        "traffic": {
            period: {way: {**_NOTHING, **traffic.get(period, {}).get(way, {})} for way in ("out", "in")}
            for period in _PERIODS
        },
        "conn": {
            name: {part: connections.get(name, {}).get(part, 0) for part in ("cur", "max", "top")}
            for name in ("smtpIn", "smtpOut")
        },
        "resolver": {"namesCached": 0, "queriesPending": 0, "queriesActive": 0, **resolver},
        "queue": {name: {**_EMPTY_QUEUE, **queues.get(name, {})} for name in _QUEUES},
        "spool": _spool(spool),
        "status": status,
        "alarm": list(given.pop("alarms", ())),
    }
    return shown | given


def _spool(spool: Mapping[str, Any]) -> Tree:
    directories = list(spool.get("dirs", ()))
    in_use = sum(int(directory.get("segments", 0)) for directory in directories)
    recycled = sum(int(directory.get("freeFiles", 0)) for directory in directories)
    return {
        "initPct": spool.get("initPct", 100),
        "dirs": len(directories),
        "files": {"inUse": in_use, "recycled": recycled, "total": in_use + recycled},
        "totalRcp": spool.get("totalRcp", 0),
        "maxRcp": 0,
        "dir": directories,
    }


def queues_tree(data: Mapping[str, Any], title: str, *, with_replies: bool = True) -> Tree:
    """`show queues` and `show topqueues`; without the receivers' replies when they are not wanted."""
    rows = []
    for row in data.get("queue", ()):
        events = [
            event
            for event in row.get("event", ())
            if with_replies or event.get("type") not in ABOUT_RECIPIENTS
        ]
        first = {name: row.get(name, 0) for name in ("name", "rcp", "kb", "conn", "paused", "mode")}
        first["retryTime"] = int(row.get("retryTime", 0))
        shown = [{**event, "time": int(event.get("time", 0))} for event in events]
        rows.append(first | {k: v for k, v in row.items() if k not in first} | {"event": shown})
    return {
        "title": title,
        "queue": rows,
        "totalRcp": data.get("totalRcp", 0),
        "totalQueues": data.get("totalQueues", len(rows)),
        "totalQueuesWithRcp": data.get("totalQueuesWithRcp", 0),
    }


def domains_tree(data: Mapping[str, Any], title: str) -> Tree:
    """`show domains` and `show topdomains`."""
    rows = [
        {name: row.get(name, "") for name in ("name", "rcp", "kb", "conn", "lastError")}
        for row in data.get("domain", ())
    ]
    return {
        "title": title,
        "domain": rows,
        "totalRcp": data.get("totalRcp", 0),
        "totalDomains": data.get("totalDomains", len(rows)),
    }


def vmtas_tree(data: Mapping[str, Any], title: str) -> Tree:
    """`show vmtas`; `pct` is the share of all recipients."""
    total = data.get("totalRcp", 0)
    rows = [
        {
            "name": row["name"],
            "dom": row.get("dom", 0),
            "rcp": row.get("rcp", 0),
            "pct": round(100 * row.get("rcp", 0) / total, 1) if total else 0,
            "kb": row.get("kb", 0),
            "conn": row.get("conn", 0),
            "sources": list(row.get("sources", ())),
        }
        for row in data.get("vmta", ())
    ]
    return {"title": title, "vmta": rows, "totalRcp": total}


def jobs_tree(data: Mapping[str, Any], title: str) -> Tree:
    """`show jobs`."""
    return {
        "title": title,
        "job": [dict(row) for row in data.get("job", ())],
        "totalRcp": data.get("totalRcp", 0),
        "totalJobs": data.get("totalJobs", len(data.get("job", ()))),
    }
