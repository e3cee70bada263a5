"""The rows of `show queues`, `show domains` and `show vmtas`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mta.queue.key import RECIPIENT_BITS
from mta.queue.status import QueueStatus

if TYPE_CHECKING:
    from mta.service.worker import Worker

__all__ = ["domain_rows", "queue_rows", "vmta_rows"]

#: Sizes of so many waiting recipients are summed; a longer queue's are estimated from them.
SIZE_SAMPLE = 200

#: What monitors look for when a limit stops a queue, by the beginning of our own sentence about it.
LIMIT_WORDS = (
    ("max-msg-rate", "message rate limit reached"),
    ("backoff-max-msg-rate", "message rate limit reached"),
    ("max-smtp-msg-rate", "message rate limit reached"),
    ("max-connect-rate", "connect rate limit reached"),
    ("backoff-max-connect-rate", "connect rate limit reached"),
    ("This queue may use no source address", "All SMTP sources disabled"),
)

SORTS = {
    "name": lambda status: (status.key.domain, status.key.vmta),
    "rcpt": lambda status: (-status.waiting, status.key),
    "size": lambda status: (-status.waiting, status.key),
}

DOMAIN_SORTS: Mapping[str, Callable[[dict[str, Any]], Any]] = MappingProxyType(
    {
        "name": lambda row: row["name"],
        "rcpt": lambda row: (-row["rcp"], row["name"]),
        "size": lambda row: (-row["kb"], row["name"]),
    }
)


def queue_rows(
    worker: Worker,
    now: float,
    *,
    domain: str = "*",
    vmta: str = "*",
    paused: bool | None = None,
    mode: str | None = None,
    connected: bool | None = None,
    errors: bool = False,
    maxitems: int = 20,
    sort: str = "rcpt",
) -> dict[str, Any]:
    """The queues that match, as the control socket sends them; 0 `maxitems` means all."""
    every = list(worker.scheduler.queues(now))
    wanted = [
        status
        for status in every
        if fnmatchcase(status.key.domain, domain.lower())
        and fnmatchcase(status.key.vmta, vmta)
        and (paused is None or (status.state == "paused") == paused)
        and (mode is None or status.mode == mode)
        and (connected is None or bool(status.connections) == connected)
        and not (errors and not limit_of(status) and not last_error(worker, status))
    ]
    wanted.sort(key=SORTS.get(sort, SORTS["rcpt"]))
    return {
        "queue": [queue_row(worker, status, now) for status in wanted[: maxitems or None]],
        "totalRcp": sum(status.waiting for status in wanted),
        "heldRcp": worker.crew.passage.waiting,
        "totalQueues": len(wanted),
        "totalQueuesWithRcp": sum(1 for status in wanted if status.waiting),
    }


def queue_row(worker: Worker, status: QueueStatus, now: float) -> dict[str, Any]:
    """One queue."""
    return {
        "name": str(status.key),
        "rcp": status.waiting,
        "kb": waiting_bytes(worker, status) // 1024,
        "conn": status.connections,
        "paused": status.state == "paused",
        "mode": status.mode,
        "state": status.state,
        "retryTime": status.retry_at,
        "reason": status.explanation,
        "delivered": status.delivered,
        "failed": status.failed,
        "deferred": status.temporary,
        "event": [
            *({"type": "limit", "time": now, "text": text} for text in limit_of(status)),
            *(
                {"type": kind, "time": when, "text": text}
                for when, kind, text in worker.scheduler.recent(status.key)
            ),
        ],
    }


def last_error(worker: Worker, status: QueueStatus) -> str:
    """What went wrong last: for the whole queue, or else for one of its recipients; "" when nothing did."""
    if status.last_error:
        return status.last_error
    recent = worker.scheduler.recent(status.key)
    return next((text for _, kind, text in recent if kind in ("error", "reply")), "")


def limit_of(status: QueueStatus) -> list[str]:
    """The limit that stops a queue now, in words that monitors know; empty without one."""
    said = status.explanation
    return [f"{words}: {said}" for start, words in LIMIT_WORDS if said.startswith(start)][:1]


def domain_rows(
    worker: Worker,
    now: float,
    *,
    domain: str = "*",
    vmta: str = "*",
    connected: bool | None = None,
    errors: bool = False,
    maxitems: int = 20,
    sort: str = "rcpt",
) -> dict[str, Any]:
    """Recipient domains, each with all its queues; 0 `maxitems` means all."""
    found: dict[str, list[QueueStatus]] = {}
    for status in worker.scheduler.queues(now):
        if fnmatchcase(status.key.domain, domain.lower()) and fnmatchcase(status.key.vmta, vmta):
            found.setdefault(status.key.domain, []).append(status)
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "rcp": sum(status.waiting for status in queues),
            "kb": 0,
            "conn": sum(status.connections for status in queues),
            "lastError": next(filter(None, (last_error(worker, status) for status in queues)), ""),
        }
        for name, queues in found.items()
    ]
    wanted = [
        row
        for row in rows
        if (connected is None or bool(row["conn"]) == connected) and not (errors and not row["lastError"])
    ]
    by_size = sort == "size"
    for row in wanted if by_size else ():
        row["kb"] = sum(waiting_bytes(worker, status) for status in found[row["name"]]) // 1024
    wanted.sort(key=DOMAIN_SORTS.get(sort, DOMAIN_SORTS["rcpt"]))
    shown = wanted[: maxitems or None]
    for row in () if by_size else shown:
        row["kb"] = sum(waiting_bytes(worker, status) for status in found[row["name"]]) // 1024
    return {
        "domain": shown,
        "totalRcp": sum(row["rcp"] for row in wanted),
        "totalDomains": len(wanted),
    }


def waiting_bytes(worker: Worker, status: QueueStatus) -> int:
    """About how many bytes wait in a queue."""
    sample = worker.scheduler.sample(status.key, SIZE_SAMPLE)
    if not sample:
        return 0
    size = sum(worker.partition.size(entry.ref >> RECIPIENT_BITS) for entry in sample)
    return size * status.waiting // len(sample)


def vmta_rows(worker: Worker, now: float) -> dict[str, Any]:
    """Every configured virtual MTA and those that still have mail."""
    rows: dict[str, dict[str, Any]] = {
        name: _vmta_row(name, [source.ip for source in vmta.sources if source.ip])
        for name, vmta in worker.snapshot.vmtas.items()
    }
    for status in worker.scheduler.queues(now):
        name = status.key.vmta
        row = rows.setdefault(name, _vmta_row(name, []))
        row["conn"] += status.connections
        row["rcp"] += status.waiting
        if status.waiting:
            row["dom"] += 1
            row["kb"] += waiting_bytes(worker, status) // 1024
    return {"vmta": list(rows.values()), "totalRcp": sum(row["rcp"] for row in rows.values())}


def _vmta_row(name: str, sources: list[str]) -> dict[str, Any]:
    return {"name": name, "dom": 0, "rcp": 0, "kb": 0, "conn": 0, "sources": sources}
