"""One message on its way down one connection: the recipients taken, the bytes, and the transaction."""

from __future__ import annotations

from collections.abc import Sequence

from mta.message.envelope import Envelope, Recipient
from mta.queue.key import RECIPIENT_MASK
from mta.smtp.extensions import Extensions
from mta.smtp.transaction import Transaction

__all__ = ["Attempt"]


class Attempt:
    """The references that the scheduler gave out together, with what is needed to send them.

    `head` is what goes in front of the body (signatures); None as long as it is being made. `body` is dropped
    once it is written. `started_at` is the time of the draw.
    """

    __slots__ = (
        "body",
        "envelope",
        "head",
        "held",
        "refs",
        "size",
        "started_at",
        "transaction",
        "wire",
    )

    def __init__(
        self, refs: list[int], envelope: Envelope, body: bytes, *, extensions: Extensions, now: float
    ) -> None:
        self.refs = refs
        self.envelope = envelope
        self.body = body
        self.head: bytes | None = b""
        self.size = self.held = size = len(body)
        self.started_at = now
        self.wire = b""  # the commands that begin it
        recipients: Sequence[Recipient] = envelope.recipients
        if len(recipients) > 1:
            recipients = [recipients[ref & RECIPIENT_MASK] for ref in refs]
        self.transaction = Transaction(envelope, recipients, size, extensions)

    def put_in_front(self, head: bytes) -> None:
        """`head` goes out before the body."""
        self.head = head
        self.size += len(head)
        self.transaction.size = self.size

    def make_chunk(self) -> None:
        """Turn the content from the form of DATA into that of BDAT: no doubled dots, the length in front."""
        content = (self.head or b"") + self.body
        if content.startswith(b"."):
            content = content[1:]
        self.body = content.replace(b"\r\n.", b"\r\n")
        self.head = b"BDAT %d LAST\r\n" % len(self.body)

    def __repr__(self) -> str:
        stage = self.transaction.stage.name
        return f"<Attempt of {self.envelope.queue_id} for {len(self.refs)} at {stage}>"
