"""News about a queue that an operator may want to hear of: backoff, and source addresses out of use."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

from mta.queue.key import QueueKey

__all__ = ["Notice", "NoticeKind", "Noticed"]


class NoticeKind(enum.Enum):
    """What has happened to the queue."""

    BACKOFF = "backoff"
    NORMAL = "normal"
    SOURCE_DISABLED = "source-disabled"
    SOURCE_ENABLED = "source-enabled"


class Notice(NamedTuple):
    """One piece of news; `until` is infinite when nobody knows how long it lasts."""

    kind: NoticeKind
    key: QueueKey
    at: float
    reason: str
    until: float = 0.0
    source_ip: str = ""


Noticed = Callable[[Notice], None]
