"""What the configuration says about the way of one queue's mail: `smtp-hosts`, ports, local addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mta.smtp.address import to_ace

if TYPE_CHECKING:
    from mta.config.settings import Settings

__all__ = ["HostRoute", "RoutePolicy", "parse_hosts"]

LOOKUP_MX = "lookup-mx:"
SMTP_PORT = 25


class HostRoute(NamedTuple):
    """One entry of `smtp-hosts`: a host, an address, or (with `is_domain`) a domain whose MX is asked for.

    A port of 0 stands for the queue's default.
    """

    host: str
    port: int = 0
    is_domain: bool = False


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """`levels` are the hosts of `smtp-hosts` by preference, empty when the MX decides.

    `no_mx_age` (seconds; None = never) is how old mail for a domain without MX may get while the domain's own
    address does not take it. `allow_local` lets MX records lead to loopback and private addresses; explicit
    hosts always may.
    """

    levels: tuple[tuple[HostRoute, ...], ...] = ()
    port: int = SMTP_PORT
    allow_local: bool = False
    use_ipv6: bool = False
    bounce_upon_no_mx: bool = False
    no_mx_age: float | None = None

    @classmethod
    def from_settings(cls, settings: Settings, source_ips: Iterable[str] = ()) -> RoutePolicy:
        """Read the effective settings of one queue.

        IPv6 is used when one of the virtual MTA's addresses is an IPv6 one. Raises ValueError for hosts that
        can't be read.
        """
        no_mx = "bounce-upon-no-mx"  # yes, no, or an age
        return cls(
            levels=parse_hosts(settings.text("smtp-hosts")),
            port=settings.integer("default-smtp-port") or SMTP_PORT,
            allow_local=settings.boolean("allow-loopback-mx"),
            use_ipv6=any(":" in ip for ip in source_ips),
            bounce_upon_no_mx=settings.boolean(no_mx) and settings.interval(no_mx) is None,
            no_mx_age=settings.interval(no_mx),
        )


def parse_hosts(text: str) -> tuple[tuple[HostRoute, ...], ...]:
    """Read `a:2525,[192.0.2.1];lookup-mx:example.com`: `,` between equals, `;` before the next choice.

    Raises ValueError with a sentence for the operator.
    """
    levels = (
        tuple(parse_host(entry.strip()) for entry in level.split(",") if entry.strip())
        for level in text.strip().strip('"').split(";")
    )
    return tuple(level for level in levels if level)


def parse_host(entry: str) -> HostRoute:
    """Read one entry of `smtp-hosts`."""
    is_domain = entry.lower().startswith(LOOKUP_MX)
    if is_domain:
        entry = entry[len(LOOKUP_MX) :].strip()
    if entry.startswith("["):
        inner, bracket, rest = entry[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{entry!r} is not [address] or [address]:port")
        if inner[:5].lower() == "ipv6:":
            inner = inner[5:]
        return HostRoute(str(address_of(inner)), port_of(rest[1:], entry))
    if entry.count(":") > 1:
        return HostRoute(str(address_of(entry)))
    host, _, port = entry.partition(":")
    name = to_ace(host.strip().rstrip("."))
    if not name:
        raise ValueError(f"{entry!r} names no host")
    return HostRoute(name, port_of(port, entry), is_domain)


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IP address in brackets."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address") from None


def port_of(text: str, entry: str) -> int:
    """The port behind the colon, 0 for none."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ValueError(f"{entry!r}: {text!r} is not a port")
    return int(text)
