"""What a reply means for the recipient it was given for, and for the queue."""

from __future__ import annotations

import enum

__all__ = ["Reaction"]


class Reaction(enum.Enum):
    """What the scheduler does with a recipient after an attempt."""

    DELIVERED = "delivered"  # gone for good; the queue's retry list starts again
    FAILED = "failed"  # gone for good
    RETRY_RECIPIENT = "retry recipient"  # this recipient waits, the queue goes on
    RETRY_QUEUE = "retry queue"  # the whole queue waits
    RETRY_NOW = "retry now"  # to be tried again at once: another MX, another transaction
