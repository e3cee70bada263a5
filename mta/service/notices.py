"""News about queues for their operators: log lines, and mail where the configuration names somebody.

Backoff is always logged, source addresses where `log-disabled-ips` asks for it.

`backoff-notify` hears of backoff and of its end, `disabled-source-ip-notify` of source addresses that are
taken out of use and come back. The mails enter like any other mail, from the null return path. A queue that
flaps writes at most one mail of a kind in QUIET seconds; the log has every change.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import formatdate

from mta.clock import Clock
from mta.config.snapshot import Snapshot
from mta.ingress.accept import AcceptResult, Submission
from mta.ingress.queueid import QueueIds
from mta.ingress.relaying import SourcePolicy
from mta.message.envelope import Notify
from mta.queue.key import QueueKey
from mta.queue.notice import Notice, NoticeKind

__all__ = ["QUIET", "Notices"]

log = logging.getLogger(__name__)

#: Seconds in which a queue sends no second mail of the same kind.
QUIET = 60.0
#: Queues remembered for that.
REMEMBERED = 10_000

_POLICY = SourcePolicy(allow_relaying=True, add_received=False, reject_invalid_vmta=False)

_SUBJECTS = {
    NoticeKind.BACKOFF: "{queue} is in backoff mode",
    NoticeKind.NORMAL: "{queue} is back in normal mode",
    NoticeKind.SOURCE_DISABLED: "{queue} does not use {source} any more",
    NoticeKind.SOURCE_ENABLED: "{queue} may use {source} again",
}
_DIRECTIVES = {
    NoticeKind.BACKOFF: "backoff-notify",
    NoticeKind.NORMAL: "backoff-notify",
    NoticeKind.SOURCE_DISABLED: "disabled-source-ip-notify",
    NoticeKind.SOURCE_ENABLED: "disabled-source-ip-notify",
}

_ABOUT_MODE = frozenset((NoticeKind.BACKOFF, NoticeKind.NORMAL))

Accept = Callable[[Submission, Callable[[AcceptResult], None]], None]


class Notices:
    """Tells operators, for one worker."""

    def __init__(
        self,
        *,
        accept: Accept,
        snapshot: Callable[[], Snapshot],
        queue_ids: QueueIds,
        clock: Clock,
        host_name: str,
    ) -> None:
        """`host_name` is the machine's, for configurations that give none."""
        self._accept = accept
        self._snapshot = snapshot
        self._queue_ids = queue_ids
        self._clock = clock
        self._host_name = host_name
        self._told: dict[tuple[NoticeKind, QueueKey, str], float] = {}
        self.sent = 0

    def __call__(self, notice: Notice) -> None:
        """Log it, and write to whom it concerns. Never raises."""
        settings = self._snapshot().effective(*notice.key)
        if notice.kind in _ABOUT_MODE or settings.boolean("log-disabled-ips"):
            log.warning(
                "queue=%s event=%s source=%s until=%s reason=%r",
                notice.key,
                notice.kind.value,
                notice.source_ip or "-",
                moment(notice.until),
                notice.reason,
            )
        addresses = settings.texts(_DIRECTIVES[notice.kind])
        if not addresses or not self._is_time(notice):
            return
        content = self._content(notice, addresses)
        self._accept(
            Submission(
                "",
                [(address, int(Notify.NEVER), "") for address in addresses],
                [content],
                len(content),
                _POLICY,
                source_type="local",
                is_8bit=not content.isascii(),
            ),
            self._accepted,
        )

    def _is_time(self, notice: Notice) -> bool:
        place = (notice.kind, notice.key, notice.source_ip)
        if notice.at < self._told.get(place, 0.0) + QUIET:
            return False
        if len(self._told) >= REMEMBERED:
            del self._told[next(iter(self._told))]
        self._told[place] = notice.at
        return True

    def _content(self, notice: Notice, addresses: tuple[str, ...]) -> bytes:
        host = self._snapshot().host_name() or self._host_name
        subject = _SUBJECTS[notice.kind].format(queue=notice.key, source=notice.source_ip or "its address")
        lines = [
            f"From: Mail server <postmaster@{host}>",
            f"To: {', '.join(addresses)}",
            f"Subject: {subject}",
            f"Date: {formatdate(self._clock.wall())}",
            f"Message-ID: <{self._queue_ids.next()}@{host}>",
            "Auto-Submitted: auto-generated",
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=utf-8",
            "Content-Transfer-Encoding: 8bit",
            "",
            f"queue:  {notice.key}",
            f"event:  {notice.kind.value}",
        ]
        if notice.source_ip:
            lines.append(f"source: {notice.source_ip}")
        if notice.kind in (NoticeKind.BACKOFF, NoticeKind.SOURCE_DISABLED):
            lines.append(f"until:  {moment(notice.until)}")
        lines.append(f"reason: {shown(notice.reason)}")
        return "\r\n".join([*lines, ""]).encode("utf-8", "replace")

    def _accepted(self, result: AcceptResult) -> None:
        if result.refusal is None:
            self.sent += 1
        else:
            log.error("event=notice-refused reason=%r", str(result.refusal))

    def __repr__(self) -> str:
        return f"<Notices sent={self.sent}>"


def moment(when: float) -> str:
    """A time as people read it; `never` for one that does not come, `-` for none."""
    if when == 0.0:
        return "-"
    if when == float("inf"):
        return "until somebody says otherwise"
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def shown(text: str) -> str:
    """What a receiver said, on one line that ends within any line limit."""
    return "".join(character if character.isprintable() else " " for character in text)[:500]
