"""Units of the configuration language: text to numbers and back.

Every parser takes the text of one value and raises ValueError with a sentence for the operator. Lengths of
time are seconds, sizes are bytes. Words for "no limit" (`unlimited`, `none`, and 0 where 0 means that) become
None, so that a caller can't confuse "no limit" with "nothing at all".
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = [
    "FALSE_WORDS",
    "TRUE_WORDS",
    "Rate",
    "format_interval",
    "format_rate",
    "format_size",
    "parse_boolean",
    "parse_integer",
    "parse_interval",
    "parse_intervals",
    "parse_rate",
    "parse_size",
    "parse_volume_rate",
]

TRUE_WORDS = frozenset({"yes", "true", "on", "1"})
FALSE_WORDS = frozenset({"no", "false", "off", "0"})

_NO_LIMIT = frozenset({"unlimited", "none"})

_SECONDS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_RATE_SECONDS = {
    "d": 86400,
    "day": 86400,
    "h": 3600,
    "hr": 3600,
    "hour": 3600,
    "m": 60,
    "min": 60,
    "minute": 60,
    "s": 1,
    "sec": 1,
    "second": 1,
}
_BYTES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

_INTERVAL = re.compile(r"(?:[0-9]{1,12}[wdhms])+")
_INTERVAL_PART = re.compile(r"([0-9]+)([wdhms])")
_RATE = re.compile(r"([0-9]{1,15})\s*/\s*([0-9]{0,9})\s*([a-z]+)")
_SIZE = re.compile(r"([0-9]{1,18})\s*([bkmgt]?)b?")

#: The documented longest list of retry-after.
MAX_INTERVALS = 30


class Rate(NamedTuple):
    """At most `count` in any `per` seconds. For volume rates the count is bytes."""

    count: int  # type: ignore[assignment]  # the name is worth more than tuple.count()
    per: float


def parse_boolean(text: str) -> bool:
    """`yes`, `true`, `on`, `1` and their opposites, in any case."""
    word = text.lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ValueError(f"{text!r} is neither yes nor no")


def parse_integer(text: str) -> int:
    """A whole number of at least 0; `unlimited` and `none` read as 0."""
    if text.lower() in _NO_LIMIT:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def parse_interval(text: str) -> float | None:
    """Seconds of `4d12h`, `300s` or a bare `0`; None for `never`."""
    word = text.lower()
    if word == "never":
        return None
    if word == "0":
        return 0.0
    if _INTERVAL.fullmatch(word) is None:
        hint = f", did you mean {text}s?" if word.isascii() and word.isdigit() else ""
        raise ValueError(f"{text!r} is not an interval such as 4d12h, 30m or 300s{hint}")
    return float(sum(int(count) * _SECONDS[unit] for count, unit in _INTERVAL_PART.findall(word)))


def parse_intervals(text: str) -> tuple[float, ...]:
    """A comma list of intervals, none of them `never`."""
    waits = []
    for part in text.split(","):
        wait = parse_interval(part.strip())
        if wait is None:
            raise ValueError("a list of intervals can't contain never")
        waits.append(wait)
    if len(waits) > MAX_INTERVALS:
        raise ValueError(
            f"a list of intervals has at most {MAX_INTERVALS} entries, this one has {len(waits)}"
        )
    return tuple(waits)


def parse_rate(text: str) -> Rate | None:
    """`250/h`, `83/10m`, `1/20min`; None for 0 and `unlimited`."""
    word = text.lower()
    if word == "0" or word in _NO_LIMIT:
        return None
    match = _RATE.fullmatch(word)
    if match is None:
        raise ValueError(f"{text!r} is not a rate such as 250/h or 100/15m")
    count = int(match[1])
    if count == 0:
        return None
    return Rate(count, _period(match[2], match[3], text))


def parse_size(text: str) -> int | None:
    """Bytes of `50M`, `10000K`, `1048576`; None for 0 and `unlimited`."""
    word = text.lower()
    if word in _NO_LIMIT:
        return None
    match = _SIZE.fullmatch(word)
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 10M, 500K or 1048576")
    return int(match[1]) * _BYTES[match[2]] or None


def parse_volume_rate(text: str) -> Rate | None:
    """Bytes per time, `1024K/15s`, `2g/10h`; None for 0 and `unlimited`."""
    size, slash, period = text.partition("/")
    if not slash:
        if text.strip() == "0" or text.lower() in _NO_LIMIT:
            return None
        raise ValueError(f"{text!r} is not a size per time such as 1G/h")
    count = parse_size(size.strip())
    if count is None:
        return None
    match = re.fullmatch(r"([0-9]{0,9})\s*([a-z]+)", period.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a size per time such as 1G/h")
    return Rate(count, _period(match[1], match[2], text))


def _period(multiple: str, unit: str, text: str) -> float:
    seconds = _RATE_SECONDS.get(unit)
    times = int(multiple or "1")
    if seconds is None or times == 0:
        raise ValueError(f"{text!r} has no period of time: use d, h, m or s after the slash")
    return float(times * seconds)


def format_interval(seconds: float | None) -> str:
    """The shortest text that `parse_interval` reads as the same length."""
    if seconds is None:
        return "never"
    rest = round(seconds)
    parts = []
    for unit, length in _SECONDS.items():
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0"


def format_rate(rate: Rate | None) -> str:
    """The text that `parse_rate` reads as the same rate."""
    if rate is None:
        return "unlimited"
    for unit in ("d", "h", "m"):
        times, rest = divmod(rate.per, _RATE_SECONDS[unit])
        if times and not rest:
            return f"{rate.count}/{'' if times == 1 else int(times)}{unit}"
    return f"{rate.count}/{'' if rate.per == 1 else int(rate.per)}s"


def format_size(size: int | None) -> str:
    """The text that `parse_size` reads as the same size, in the largest unit that is exact."""
    if size is None:
        return "unlimited"
    for unit in ("t", "g", "m", "k"):
        count, rest = divmod(size, _BYTES[unit])
        if count and not rest:
            return f"{count}{unit.upper()}"
    return str(size)
