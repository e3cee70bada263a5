"""Changes of mode: into backoff and out of it, and source addresses that are disabled and come back.

Everything that changes a queue's mode goes through here, whoever wants it (a reply rule, a delivery, the
operator, time), so that every change is noticed once, and so that all of it can be written down and taken up
again after a restart: modes, retry times and steps, with their reasons.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mta.queue.key import QueueKey
from mta.queue.notice import Notice, Noticed, NoticeKind
from mta.queue.queue import DeliveryQueue, QueueMode
from mta.queue.registry import Registry
from mta.queue.timers import NEVER

__all__ = ["Modes"]

#: A source address stays out of use at least so long (seconds): with less, the same reply would come at once.
SHORTEST_BAN = 1.0


class Modes:
    """The modes of all queues of one scheduler; `changes` counts what a restart would have to know."""

    __slots__ = ("_noticed", "_registry", "changes", "seen_at")

    def __init__(self, registry: Registry, noticed: Noticed) -> None:
        self._registry = registry
        self._noticed = noticed
        self.changes = 0
        self.seen_at = 0.0  # the last time that anything was looked at

    def enter_backoff(self, queue: DeliveryQueue, now: float, reason: str, lasting: float | None) -> None:
        """Backoff for `lasting` seconds (None: until somebody says otherwise); longer if it is on already."""
        self.changes += 1
        if queue.enter_backoff(now, lasting):
            queue.mode_reason = reason
            self._noticed(Notice(NoticeKind.BACKOFF, queue.key, now, reason, queue.backoff_until))

    def leave_backoff(self, queue: DeliveryQueue, now: float, reason: str) -> None:
        """Back to the normal numbers; nothing happens to a queue that has them."""
        if queue.leave_backoff(now):
            self.changes += 1
            queue.mode_reason = ""
            self._noticed(Notice(NoticeKind.NORMAL, queue.key, now, reason))

    def disable_source(
        self, queue: DeliveryQueue, ip: str, now: float, reason: str, lasting: float | None
    ) -> None:
        """Leave a source address out of use for `lasting` seconds (None: until the operator enables it).

        With `backoff-upon-all-sources-disabled` the last one takes the queue into backoff.
        """
        policy = queue.policy
        until = NEVER if lasting is None else now + max(lasting, SHORTEST_BAN)
        is_news = not queue.is_disabled(ip, now)
        queue.disabled_sources[ip] = max(until, queue.disabled_sources.get(ip, 0.0))
        self.changes += 1
        if is_news:
            self._noticed(Notice(NoticeKind.SOURCE_DISABLED, queue.key, now, reason, until, ip))
        if policy.backoff_upon_all_sources_disabled and all(
            queue.is_disabled(source.ip, now) for source in queue.vmta.policy.sources
        ):
            self.enter_backoff(
                queue, now, "all source addresses are disabled", policy.backoff_to_normal_after
            )

    def refresh(self, queue: DeliveryQueue, now: float) -> None:
        """What ends by time."""
        self.seen_at = now
        if queue.backoff_until <= now:
            self.leave_backoff(queue, now, "backoff-to-normal-after")
        for ip, until in list(queue.disabled_sources.items()):
            if until <= now:
                self.enabled(queue, ip, now, "its time is over")
                del queue.disabled_sources[ip]

    def enabled(self, queue: DeliveryQueue, ip: str, now: float, reason: str) -> None:
        """A source address may be used again."""
        self.changes += 1
        self._noticed(Notice(NoticeKind.SOURCE_ENABLED, queue.key, now, reason, 0.0, ip))

    # -- over restarts ----------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """The queues whose mode or retry state is not the ordinary one, as JSON; 0 stands for `never`."""
        return [
            {
                "queue": str(queue.key),
                "mode": queue.mode.value,
                "since": queue.mode_since,
                "until": 0.0 if queue.backoff_until == NEVER else queue.backoff_until,
                "reason": queue.mode_reason,
                "retryAt": queue.retry_at,
                "openAfter": queue.open_after,
                "retryStep": queue.retry_step,
                "error": queue.errors[-1][1] if queue.errors else "",
            }
            for queue in self._registry
            if queue.mode is QueueMode.BACKOFF or queue.retry_step
        ]

    def restore(self, rows: Iterable[dict[str, Any]], now: float) -> list[DeliveryQueue]:
        """Make these queues with the state they had; rows that make no sense are skipped. Nobody is told.

        After `now` no queue waits longer than its longest wait, whatever the clock showed before.
        """
        restored = []
        for row in rows:
            try:
                domain, slash, vmta = str(row["queue"]).partition("/")
                step, until = int(row["retryStep"]), float(row["until"])
                since, retry_at, open_after = (float(row[name]) for name in ("since", "retryAt", "openAfter"))
                mode = QueueMode(row["mode"])
            except (KeyError, TypeError, ValueError):
                continue
            if not (domain and slash and vmta):
                continue
            queue = self._registry.obtain(QueueKey(domain, vmta), since)
            if mode is QueueMode.BACKOFF:
                queue.enter_backoff(since, None)
                queue.backoff_until = until or NEVER
                queue.mode_reason = str(row.get("reason", ""))
            latest = now + max(queue.active.retry_after)
            queue.retry_at, queue.open_after = min(retry_at, latest), min(open_after, latest)
            queue.retry_step = step
            if error := row.get("error"):
                queue.note_error(since, str(error))
            restored.append(queue)
        return restored
