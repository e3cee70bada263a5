"""What the log hears of a queue's connections: the log-* directives of `<domain>`.

Nothing is logged unless it was asked for; a queue without these directives pays nothing for them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mta.clock import Clock
from mta.delivery.connection import Connection, Facts
from mta.delivery.dialogue import LINE_LIMIT, Dialogue
from mta.queue.key import QueueKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mta.config.settings import Settings
    from mta.delivery.connection import TargetLike
    from mta.smtp.reply import Reply

__all__ = ["LoggedDialogue", "WireLog"]

log = logging.getLogger(__name__)


class LoggedDialogue(Dialogue):
    """Each line goes to the log as it is said; none is kept."""

    def __init__(self, key: QueueKey, *, clock: Clock, with_data: bool) -> None:
        super().__init__(clock=clock, with_data=with_data)
        self._key = key

    def note(self, text: str) -> None:
        log.info("queue=%s wire=%r", self._key, text[:LINE_LIMIT])


@dataclass(frozen=True, slots=True)
class WireLog:
    """Which of it one queue wants to have logged."""

    connections: bool = False
    commands: bool = False
    data: bool = False
    tls: bool = False
    resolution: bool = False
    transfer_failures: bool = False

    @classmethod
    def from_settings(cls, settings: Settings) -> WireLog:
        """Read the effective settings of one queue."""
        return cls(
            connections=settings.boolean("log-connections"),
            commands=settings.boolean("log-commands"),
            data=settings.boolean("log-data"),
            tls=settings.boolean("log-tls"),
            resolution=settings.boolean("log-resolution"),
            transfer_failures=settings.boolean("log-transfer-failures"),
        )

    def dialogue(self, key: QueueKey, clock: Clock) -> LoggedDialogue | None:
        """What overhears a connection of this queue; None when nobody wants to hear it."""
        if not (self.commands or self.data):
            return None
        return LoggedDialogue(key, clock=clock, with_data=self.data)

    def resolved(self, key: QueueKey, targets: Sequence[TargetLike]) -> None:
        """The queue's mail goes to one of these."""
        if self.resolution:
            shown = " ".join(f"{target.host}[{target.ip}]:{target.port}" for target in targets)
            log.info("queue=%s event=resolved targets=%r", key, shown)

    def opened(self, key: QueueKey, connection: Connection) -> None:
        """A connection is ready for mail."""
        if self.connections:
            log.info(
                "queue=%s event=connected remote=%r port=%d source=%s",
                key,
                connection.mta_name,
                connection.port,
                connection.source_ip,
            )
        if self.tls:
            log.info(
                "queue=%s event=tls remote=%r protocol=%s cipher=%s",
                key,
                connection.mta_name,
                connection.tls_protocol or "none",
                connection.tls_cipher or "-",
            )

    def closed(self, key: QueueKey, connection: Connection, completed: int) -> None:
        """A connection is gone, after so many transactions."""
        if self.connections:
            log.info("queue=%s event=disconnected remote=%r messages=%d", key, connection.mta_name, completed)

    def broke_off(self, key: QueueKey, queue_id: str, facts: Facts, reply: Reply) -> None:
        """The connection went inside a message."""
        if self.transfer_failures:
            log.info(
                "queue=%s event=transfer-failure queue_id=%s remote=%r reply=%r",
                key,
                queue_id,
                facts.mta_name,
                str(reply),
            )
