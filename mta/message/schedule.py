"""When a message may be sent: the windows of `x-schedule` and of a mail merge's `*schedule`.

    2026-12-01 08:00:00 / 2026-12-01 18:00:00, 2026-12-02 08:00:00 / 2026-12-02 18:00:00

Times are those of this machine's time zone; with `Z` or an offset such as `+02:00` behind them they say their
own. Seconds may be left out. From here on they are pairs of epoch seconds, in order, none overlapping.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

__all__ = ["Windows", "closes_at", "next_open", "parse_schedule"]

Windows = tuple[tuple[int, int], ...]

#: Windows of one message.
_MOST = 100
#: Queues keep times in 32 bits: until the year 2106, and this leaves room behind it.
_LATEST = 4_102_444_800
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]+([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)\s*(Z|[+-][0-9]{2}:?[0-9]{2})?",
    re.ASCII | re.IGNORECASE,
)


def parse_schedule(text: str) -> Windows:
    """Read `start / end, start / end`. Raises ValueError with a sentence for the sender."""
    pieces = text.split(",")
    if len(pieces) > _MOST:
        raise ValueError(f"more than {_MOST} windows")
    windows = sorted(_window(piece.strip()) for piece in pieces)
    joined = [windows[0]]
    for start, end in windows[1:]:
        if start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def next_open(windows: Sequence[tuple[int, int]], wall: float) -> float | None:
    """When the message may be sent next: `wall` itself inside a window, None behind the last one."""
    for start, end in windows:
        if wall < end:
            return max(wall, float(start))
    return None


def closes_at(windows: Sequence[tuple[int, int]]) -> float:
    """The end of the last window."""
    return float(windows[-1][1])


def _window(piece: str) -> tuple[int, int]:
    first, slash, last = piece.partition("/")
    if not slash:
        raise ValueError(f"{piece!r} is not start / end")
    start, end = _moment(first.strip()), _moment(last.strip())
    if end <= start:
        raise ValueError(f"{piece!r} ends before it begins")
    return start, end


def _moment(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not YYYY-MM-DD HH:MM:SS")
    zone = (found[3] or "").upper().replace("Z", "+00:00")
    try:
        moment = int(datetime.fromisoformat(f"{found[1]} {found[2]}{zone}").timestamp())
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text!r} is no time") from None
    if not 0 < moment < _LATEST:
        raise ValueError(f"{text!r} is too long ago or too far away")
    return moment
