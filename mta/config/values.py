"""The text of one value to the value, by kind.

`parse_value` is the only place that knows what a kind looks like: the builder checks with it, and the result
is what the typed getters of `Settings` hand out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from mta.config import units
from mta.config.domainpattern import DomainPattern
from mta.config.kinds import Directive, Kind
from mta.config.networks import Network, parse_address, parse_network
from mta.config.quoting import split_list, split_words, unquote

__all__ = ["EMPTY", "HostPort", "NetworkLimit", "PatternLimit", "list_of", "parse_host_port", "parse_value"]

#: What each kind reads as when nothing is in force.
EMPTY: dict[Kind, Any] = {
    Kind.BOOLEAN: False,
    Kind.INTEGER: 0,
    Kind.PERCENT: 0,
    Kind.PORT: 0,
    Kind.INTERVALS: (),
    Kind.ENUMS: (),
    Kind.TEXTS: (),
    Kind.ADDRESSES: (),
    Kind.WORDS: (),
    Kind.FILE: (),
    Kind.DIRECTORY: (),
    Kind.DAILY: (),
    Kind.INTERVAL: None,
    Kind.RATE: None,
    Kind.SIZE: None,
    Kind.VOLUME_RATE: None,
    Kind.HOST_PORT: None,
    Kind.NETWORK_INTEGER: None,
    Kind.NETWORK_RATE: None,
    Kind.NETWORK_VOLUME_RATE: None,
    Kind.PATTERN_INTEGER: None,
    Kind.DOMAIN_PATTERN: None,
    Kind.BOOLEAN_OR_INTERVAL: False,
    Kind.NOTHING: None,
}

#: Kinds of which an explicit "" clears what was inherited.
_CLEARABLE = frozenset(
    {Kind.TEXT, Kind.TEXTS, Kind.ENUMS, Kind.ADDRESS, Kind.ADDRESSES, Kind.FILE, Kind.DIRECTORY, Kind.IP}
    | {Kind.HOST_PORT, Kind.HOST_NAME, Kind.WORDS, Kind.ENTRY, Kind.NOTHING, Kind.DOMAIN_PATTERN}
)

_MAILBOX = re.compile(r"[^\s@<>,;\"]{1,256}(?:@[^\s@<>,;\"]{1,255})?")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,253}[A-Za-z0-9_])?\.?")
_DAILY = re.compile(r"([0-9]{1,12})\s*/\s*(?:d|day)", re.IGNORECASE)


class HostPort(NamedTuple):
    """An address and a port; 0 where none was written."""

    host: str
    port: int


class NetworkLimit(NamedTuple):
    """A limit of its own for the local addresses in `networks`; None = unlimited."""

    networks: tuple[Network, ...]
    limit: int | units.Rate | None


class PatternLimit(NamedTuple):
    """A limit of its own for hosts that match `pattern`."""

    pattern: DomainPattern
    limit: int


def parse_value(directive: Directive, raw: str) -> Any:
    """The value that `raw` (quotes still in place) has for `directive`; ValueError for the operator.

    >>> parse_value(Directive("x", frozenset(), Kind.RATE, None, ""), "250/h")
    Rate(count=250, per=3600.0)
    """
    kind = directive.kind
    if kind in (Kind.ENTRY, Kind.NOTHING):
        return unquote(raw) if kind is Kind.ENTRY and not raw.startswith("/") else raw
    if not raw:
        raise ValueError(f"{directive.name} needs a value" + _example(kind))
    if raw == '""':
        if kind not in _CLEARABLE:
            raise ValueError(f"{directive.name} can't be empty")
        return EMPTY.get(kind, "")
    if kind is Kind.ENUM:
        return _choice(directive, unquote(raw))
    if kind is Kind.ENUMS:
        return tuple(_choice(directive, word) for word in split_list(raw))
    if kind in (Kind.INTEGER, Kind.PERCENT) and unquote(raw).lower() in directive.choices:
        return 0
    value = _PARSERS[kind](raw)
    _check_range(directive, value, raw)
    return value


def parse_host_port(text: str) -> HostPort:
    """`10.0.0.1`, `10.0.0.1:25`, `[::1]:25`, `::1`, `host:25`, `[10.0.0.1]:25`; ValueError else."""
    word = unquote(text).strip()
    if word.startswith("["):
        host, bracket, rest = word[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not an address with a port such as [::1]:25")
        return HostPort(str(parse_address(host)), _port(rest[1:]) if rest else 0)
    if word.count(":") > 1:
        return HostPort(str(parse_address(word)), 0)
    host, colon, port = word.partition(":")
    if not _HOST.fullmatch(host):
        raise ValueError(f"{text!r} is not a host name or IP address with a port")
    return HostPort(host, _port(port) if colon else 0)


def list_of(value: Any) -> tuple[str, ...]:
    """A parsed value as texts: a tuple's members, or the value itself when there is one."""
    if isinstance(value, tuple) and not isinstance(
        value, HostPort | NetworkLimit | PatternLimit | units.Rate
    ):
        return tuple(str(part) for part in value)
    return () if value in ("", None) else (str(value),)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65536):
        raise ValueError(f"{text!r} is not a port (0 to 65535)")
    return int(text)


def _choice(directive: Directive, word: str) -> str:
    low = word.lower()
    by_name = {choice.lower(): choice for choice in directive.choices}
    if low in by_name:
        return by_name[low]
    if low in units.TRUE_WORDS and "yes" in by_name:
        return by_name["yes"]
    if low in units.FALSE_WORDS and "no" in by_name:
        return by_name["no"]
    raise ValueError(f"{word!r} is not one of {', '.join(directive.choices)}")


def _check_range(directive: Directive, value: Any, raw: str) -> None:
    numbers = value if isinstance(value, tuple) and directive.kind is Kind.INTERVALS else (value,)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        if directive.minimum is not None and number < directive.minimum:
            raise ValueError(f"{raw} is below the least value of {directive.name}, {directive.minimum:g}")
        if directive.maximum is not None and number > directive.maximum:
            raise ValueError(f"{raw} is above the greatest value of {directive.name}, {directive.maximum:g}")


def _example(kind: Kind) -> str:
    return "" if kind is Kind.TEXT else f" ({kind.value})"


def _percent(raw: str) -> int:
    number = units.parse_integer(unquote(raw).removesuffix("%"))
    if number > 100:
        raise ValueError(f"{raw!r} is more than 100 percent")
    return number


def _boolean_or_interval(raw: str) -> bool | float | None:
    word = unquote(raw)
    if word.lower() in units.TRUE_WORDS or word.lower() in units.FALSE_WORDS:
        return units.parse_boolean(word)
    wait = units.parse_interval(word)
    return False if wait is None else wait


def _address(raw: str) -> str:
    word = unquote(raw).removeprefix("<").removesuffix(">")
    if not _MAILBOX.fullmatch(word):
        raise ValueError(f"{raw!r} is not an e-mail address")
    return word


def _host_name(raw: str) -> str:
    word = unquote(raw)
    normal = word if word.isascii() else DomainPattern.parse(word).name
    if not _HOST.fullmatch(normal):
        raise ValueError(f"{raw!r} is not a host name")
    return normal


def _daily(raw: str) -> tuple[int, ...]:
    counts = []
    for entry in split_list(raw):
        match = _DAILY.fullmatch(entry)
        if match is None:
            raise ValueError(f"{entry!r} is not a number per day such as 50/day")
        counts.append(int(match[1]))
    return tuple(counts)


def _network_limit(parse: Callable[[str], int | units.Rate | None]) -> Callable[[str], NetworkLimit]:
    def read(raw: str) -> NetworkLimit:
        words = split_words(raw)
        if len(words) < 2:
            raise ValueError("a network and a limit are needed, e.g. 10.0.0.0/8 20")
        return NetworkLimit(parse_network(words[0]), parse("".join(words[1:])))

    return read


def _pattern_limit(raw: str) -> PatternLimit:
    words = split_words(raw)
    if len(words) != 2:
        raise ValueError("a pattern and a number are needed, e.g. *.mx.example.com 20")
    return PatternLimit(DomainPattern.parse(words[0]), units.parse_integer(words[1]))


_PARSERS: dict[Kind, Callable[[str], Any]] = {
    Kind.BOOLEAN: lambda raw: units.parse_boolean(unquote(raw)),
    Kind.INTEGER: lambda raw: units.parse_integer(unquote(raw)),
    Kind.PERCENT: _percent,
    Kind.INTERVAL: lambda raw: units.parse_interval(unquote(raw)),
    Kind.INTERVALS: lambda raw: units.parse_intervals(unquote(raw)),
    Kind.RATE: lambda raw: units.parse_rate(unquote(raw)),
    Kind.SIZE: lambda raw: units.parse_size(unquote(raw)),
    Kind.VOLUME_RATE: lambda raw: units.parse_volume_rate(unquote(raw)),
    Kind.BOOLEAN_OR_INTERVAL: _boolean_or_interval,
    Kind.TEXT: unquote,
    Kind.TEXTS: split_list,
    Kind.ADDRESS: _address,
    Kind.ADDRESSES: lambda raw: tuple(_address(entry) for entry in split_list(raw)),
    Kind.IP: lambda raw: str(parse_address(unquote(raw))),
    Kind.HOST_PORT: parse_host_port,
    Kind.PORT: lambda raw: _port(unquote(raw)),
    Kind.FILE: split_words,
    Kind.DIRECTORY: split_words,
    Kind.HOST_NAME: _host_name,
    Kind.DOMAIN_PATTERN: lambda raw: DomainPattern.parse(unquote(raw)),
    Kind.NETWORK_INTEGER: _network_limit(units.parse_integer),
    Kind.NETWORK_RATE: _network_limit(units.parse_rate),
    Kind.NETWORK_VOLUME_RATE: _network_limit(units.parse_volume_rate),
    Kind.PATTERN_INTEGER: _pattern_limit,
    Kind.DAILY: _daily,
    Kind.WORDS: split_words,
}
