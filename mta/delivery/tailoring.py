"""A stored message as a queue's receivers get it: header lines taken out, a recipient's own text put in, and
the date where that is to be the day of delivery."""

from __future__ import annotations

from collections.abc import Collection
from email.utils import formatdate

from mta.message import headers
from mta.message.envelope import Envelope
from mta.message.personal import personal_content, personal_envelope
from mta.queue.key import RECIPIENT_MASK

__all__ = ["tailored"]


def tailored(
    envelope: Envelope, body: bytes, ref: int, removed: Collection[bytes] = (), now: float = 0.0
) -> tuple[Envelope, bytes, int]:
    """Envelope and content for the recipient (or, when nothing is personal, the recipients) of `ref`.

    The number is one that no other content has: what is remembered about a message (signatures) is
    remembered under it. Numbers of the spool are positive, these are negative.
    """
    number = ~ref if envelope.is_personal else ~(ref | RECIPIENT_MASK)
    if envelope.is_personal:
        index = ref & RECIPIENT_MASK
        body = personal_content(envelope, index, body)
        envelope = personal_envelope(envelope, index)
    if removed:
        end = headers.header_end(body)
        block = body[:end]
        kept = headers.remove(block, removed)
        if kept is not block:
            body = kept + body[end:]
        # Queues may remove different lines from one message.
        number -= (hash(frozenset(removed)) & 0xFFFFFFFFFFFF) << 64
    if envelope.lacks_date:
        body = f"Date: {formatdate(now)}\r\n".encode() + body
        # A later attempt has another date, and so another signature.
        number -= int(now) << 128
    return envelope, body, number
