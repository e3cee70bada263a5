"""What was refused, for the reject log: connections (record C), recipients and messages (record R).

A flood of refusals must not become a flood of disk writes: beyond `PER_SECOND` records the rest of that
second is only counted, and the next record says how many were left out.
"""

from __future__ import annotations

from collections.abc import Callable

from mta.clock import Clock
from mta.ingress.queueid import QueueIds
from mta.message.event import Event, encode_event
from mta.smtp.reply import Reply

__all__ = ["PER_SECOND", "Rejects"]

PER_SECOND = 200


class Rejects:
    """Writes refusals through `record`, which is a partition's; None when nobody keeps a reject log."""

    def __init__(self, record: Callable[[bytes], None] | None, *, clock: Clock, queue_ids: QueueIds) -> None:
        self._record = record
        self._clock = clock
        self._queue_ids = queue_ids
        self._second = 0
        self._written = 0
        self._left_out = 0

    def connection(self, reply: Reply, *, source_ip: str, received_on: str) -> None:
        """A connection was refused, or ended by us for the client's fault."""
        self._write("C", reply, source_ip=source_ip, received_on=received_on)

    def recipient(
        self,
        reply: Reply,
        *,
        source_ip: str,
        received_on: str,
        source_mta: str = "",
        source_user: str = "",
        originator: str = "",
        recipient: str = "",
    ) -> None:
        """A sender, a recipient or a whole message was refused."""
        self._write(
            "R",
            reply,
            source_ip=source_ip,
            received_on=received_on,
            source_mta=source_mta,
            source_user=source_user,
            originator=originator,
            recipient=recipient,
        )

    def _write(
        self,
        kind: str,
        reply: Reply,
        *,
        source_ip: str,
        received_on: str,
        source_mta: str = "",
        source_user: str = "",
        originator: str = "",
        recipient: str = "",
    ) -> None:
        if self._record is None or not self._has_room():
            return
        text = reply.text
        if self._left_out:
            text += f" ({self._left_out} more refusals were not recorded)"
            self._left_out = 0
        self._record(
            encode_event(
                Event(
                    kind,
                    self._queue_ids.next(),
                    self._clock.now(),
                    originator=originator,
                    recipient=recipient,
                    dsn_action="failed" if reply.is_permanent else "delayed",
                    dsn_status=reply.enhanced,
                    dsn_diag=f"smtp;{reply}",
                    source_type="smtp",
                    source_mta=source_mta,
                    source_user=source_user,
                    received_source_ip=source_ip,
                    received_destination_ip=received_on,
                    text=text,
                )
            )
        )

    def _has_room(self) -> bool:
        second = int(self._clock.now())
        if second != self._second:
            self._second = second
            self._written = 0
        if self._written >= PER_SECOND:
            self._left_out += 1
            return False
        self._written += 1
        return True
