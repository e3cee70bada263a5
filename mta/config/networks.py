"""Networks as operators write them, and the table that finds the blocks of a client address.

`0/0` and `*` are everything, IPv6 included: whoever denies relaying to the whole world means all of it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Generic, TypeVar

__all__ = ["EVERYTHING", "Address", "Network", "NetworkTable", "parse_address", "parse_network"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

EVERYTHING: tuple[Network, ...] = (ipaddress.IPv4Network("0.0.0.0/0"), ipaddress.IPv6Network("::/0"))

T = TypeVar("T")


def parse_address(text: str) -> Address:
    """One IPv4 or IPv6 address, `[...]` and `IPv6:` allowed; ValueError else.

    IPv4 in its IPv6-mapped form becomes plain IPv4, so that one `<source>` covers both kinds of socket.
    """
    bare = text.strip().removeprefix("[").removesuffix("]")
    if bare[:5].lower() == "ipv6:":
        bare = bare[5:]
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address") from None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if isinstance(mapped, ipaddress.IPv4Address) else address


def parse_network(text: str) -> tuple[Network, ...]:
    """The networks that `text` stands for: `10/8`, `192.168.0.0/16`, `::1`, `0/0`, `*`; ValueError else.

    Short forms may leave out octets. Bits behind the prefix length are ignored, as operators write
    `10.1.2.3/24` and mean the whole network.
    """
    word = text.strip().removeprefix("[").removesuffix("]")
    if word in ("*", "0/0"):
        return EVERYTHING
    host, slash, length = word.partition("/")
    if host[:5].lower() == "ipv6:":
        host = host[5:]
    if ":" not in host and slash and host.count(".") < 3:
        host += ".0" * (3 - host.count("."))
    try:
        return (ipaddress.ip_network(f"{host}/{length}" if slash else host, strict=False),)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address or network such as 10.0.0.0/8") from None


class NetworkTable(Generic[T]):
    """Values filed under networks; immutable once built. Look-ups cost one dict access per prefix length."""

    def __init__(self, entries: Iterable[tuple[Network, T]]) -> None:
        self._by_length: dict[int, dict[int, dict[int, list[T]]]] = {4: {}, 6: {}}
        for network, value in entries:
            lengths = self._by_length[network.version]
            row = lengths.setdefault(network.prefixlen, {})
            row.setdefault(int(network.network_address), []).append(value)
        for version, lengths in self._by_length.items():
            self._by_length[version] = dict(sorted(lengths.items()))

    def matching(self, address: Address) -> list[T]:
        """The values of all networks that hold `address`, shortest prefix first."""
        number, bits = int(address), address.max_prefixlen
        found: list[T] = []
        for length, row in self._by_length[address.version].items():
            found += row.get(number >> (bits - length) << (bits - length), ())
        return found
