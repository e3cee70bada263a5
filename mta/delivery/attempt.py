"""One message on its way down one connection: a transaction with the recipients taken and the bytes."""

from __future__ import annotations

from mta.message.envelope import Envelope
from mta.smtp.transaction import Transaction

__all__ = ["Attempt"]


class Attempt(Transaction, kw_only=True, eq=False):
    """The references that the scheduler gave out together, with what is needed to send them.

    `size` counts the octets that go out, `held` those of the body as it was drawn. `head` is what goes in
    front of the body (signatures); None as long as it is being made. `body` is dropped once it is written;
    `end` goes behind it. `started_at` is the time of the draw.
    """

    envelope: Envelope
    refs: list[int]
    body: bytes
    held: int
    started_at: float
    head: bytes | None = b""
    end: bytes = b".\r\n"

    def put_in_front(self, head: bytes) -> None:
        """`head` goes out before the body."""
        self.head = head
        self.size += len(head)

    def make_chunk(self) -> None:
        """Turn the content from the form of DATA into that of BDAT: no doubled dots, the length in front."""
        content = (self.head or b"") + self.body
        if content.startswith(b"."):
            content = content[1:]
        self.body = content.replace(b"\r\n.", b"\r\n")
        self.head = b"BDAT %d LAST\r\n" % len(self.body)
        self.end = b""  # it has been said how long it is

    def __repr__(self) -> str:
        return f"<Attempt of {self.envelope.queue_id} for {len(self.refs)} at {self.stage.name}>"
