"""The name of a queue, and the reference to one queued recipient."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RECIPIENT_BITS", "RECIPIENT_MASK", "QueueKey"]

#: A reference is `message << RECIPIENT_BITS | recipient index`: one 64-bit number names one recipient of
#: one stored message, so that a million of them wait in arrays, not in objects.
RECIPIENT_BITS = 16
RECIPIENT_MASK = (1 << RECIPIENT_BITS) - 1


class QueueKey(NamedTuple):
    """`domain/vmta`: what has limits and state of its own."""

    domain: str
    vmta: str

    def __str__(self) -> str:
        return f"{self.domain}/{self.vmta}"
