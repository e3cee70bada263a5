"""What MX records mean: order, null MX, ourselves, and addresses that no mail may go to.

Pure: records in, hosts or a RouteError out (RFC 5321 5.1, RFC 7505).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from random import Random

from mta.errors import RouteError
from mta.routing.resolver import MxRecord

__all__ = ["HOSTS_LIMIT", "exchange_levels", "is_forbidden", "reason_forbidden", "without_ourselves"]

#: Hosts of one domain that are looked at. A thousand MX of one preference are somebody's joke.
HOSTS_LIMIT = 20

NULL_MX = "."

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def exchange_levels(domain: str, records: Iterable[MxRecord], random: Random) -> list[list[str]]:
    """The hosts by preference, best first, in random order among equals (RFC 5321 5.1).

    Hosts given as addresses are ignored: an MX names a host. Raises RouteError for a null MX (RFC 7505), and
    when no usable host is left.
    """
    records = list(records)
    hosts = [record for record in records if record.host not in (NULL_MX, "") and not is_address(record.host)]
    if not hosts:
        if any(record.host in (NULL_MX, "") for record in records):
            raise RouteError(f"{domain} accepts no mail (null MX)", temporary=False, status="5.1.10")
        raise RouteError(f"the MX of {domain} names no host", temporary=False, status="5.4.4")
    levels: dict[int, list[str]] = {}
    for record in hosts:
        level = levels.setdefault(record.preference, [])
        if record.host not in level:
            level.append(record.host)
    ordered = [levels[preference] for preference in sorted(levels)]
    for level in ordered:
        random.shuffle(level)
    return limited(ordered)


def limited(levels: list[list[str]]) -> list[list[str]]:
    """The best hosts, as many as are looked at."""
    kept: list[list[str]] = []
    room = HOSTS_LIMIT
    for level in levels:
        if room > 0:
            kept.append(level[:room])
            room -= len(level)
    return kept


def without_ourselves(domain: str, levels: list[list[str]], own_names: Collection[str]) -> list[list[str]]:
    """Drop the level where we are named and everything behind it: those would hand the mail to us.

    Raises RouteError when nothing is left: the mail has arrived where it came from (RFC 5321 5.1).
    """
    kept: list[list[str]] = []
    for level in levels:
        if any(host in own_names for host in level):
            break
        kept.append(level)
    if not kept:
        raise loop(domain)
    return kept


def loop(domain: str) -> RouteError:
    """The route leads back to this host."""
    return RouteError(f"mail for {domain} loops back to this host", temporary=False, status="5.4.6")


def is_address(text: str) -> bool:
    """Whether a host is written as an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_forbidden(ip: str) -> bool:
    """Whether an address from a stranger's DNS may not be connected to."""
    return bool(reason_forbidden(ip))


def reason_forbidden(ip: str) -> str:
    """What kind of address it is that a stranger's DNS must not lead us to; "" for an ordinary one.

    A domain that points at such an address would make us connect to ourselves or to machines behind our own
    firewall.
    """
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv6Address):
        inner = embedded(address)
        if inner is not None:
            return reason_forbidden(str(inner))
    if address.is_loopback:
        return "loopback"
    if address.is_unspecified or (address.version == 4 and address.packed[0] == 0):
        return "unspecified"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "multicast"
    if address.is_reserved:
        return "reserved"
    return "" if address.is_global else "private"


def embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for: mapped, 6to4, Teredo, NAT64 (RFC 6052)."""
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
