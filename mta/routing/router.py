"""Where a queue's mail goes: hosts and addresses in the order to try them.

    address literal  →  that address
    smtp-hosts       →  those hosts, whatever the DNS says of the domain; local addresses allowed
    else             →  MX, or the domain's own address when it has none (implicit MX)

A route lives as long as the shortest answer it was made from. Every call shuffles equal hosts anew, so that
connections spread over them. Raises RouteError: permanent when the DNS says clearly that there is no way
(no such domain, null MX, a loop, only forbidden addresses), temporary whenever asking again may help, or when
we are what is missing: hosts with IPv6 addresses only, and no IPv6 source.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple, Protocol

import dns.rdatatype

from mta.clock import Clock
from mta.errors import RouteError
from mta.routing.mx import exchange_levels, is_address, loop, reason_forbidden, without_ourselves
from mta.routing.policy import HostRoute, RoutePolicy
from mta.routing.resolver import Answer, Resolver, Status

__all__ = ["Destination", "Router", "Target"]

#: Addresses of one host that are used at a time (a host with a hundred is somebody's joke).
ADDRESSES_LIMIT = 5

CACHE_LIMIT = 50_000

#: How long a route without any DNS answer in it is kept.
FIXED_ROUTE_TTL = 3600.0


class Target(NamedTuple):
    """One address to try; `preference` counts levels from 0, equal ones are equally good."""

    host: str
    ip: str
    port: int
    preference: int

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.ip


class Destination(Protocol):
    """What mail is for: a queue's key, of which only the domain matters here."""

    @property
    def domain(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Route:
    """The hosts by preference, each with its addresses, and until when that holds."""

    levels: tuple[tuple[tuple[Target, ...], ...], ...]
    expires_at: float


class Router:
    """Finds and remembers routes.

    `own_names` are this server's host names, `own_addresses` the (ip, port) pairs it listens on: a route that
    leads there is a loop.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        clock: Clock,
        own_names: Collection[str] = (),
        own_addresses: Collection[tuple[str, int]] = (),
        random: Random | None = None,
    ) -> None:
        self._resolver = resolver
        self._clock = clock
        self._own_names = frozenset(name.lower().rstrip(".") for name in own_names)
        self._own_addresses = frozenset(own_addresses)
        self._random = random or Random()
        self._routes: OrderedDict[tuple[str, RoutePolicy], Route] = OrderedDict()

    def cached(self, key: Destination, policy: RoutePolicy) -> tuple[Target, ...] | None:
        """The targets if they are known; None when `route` has to be asked."""
        name = (key.domain, policy)
        route = self._routes.get(name)
        if route is None or route.expires_at <= self._clock.now():
            return None
        self._routes.move_to_end(name)
        return self._in_order(route)

    async def route(self, key: Destination, policy: RoutePolicy) -> tuple[Target, ...]:
        """The targets, best first; never empty. Raises RouteError."""
        known = self.cached(key, policy)
        if known is not None:
            return known
        route = await self._find(key.domain, policy)
        self._routes[key.domain, policy] = route
        while len(self._routes) > CACHE_LIMIT:
            self._routes.popitem(last=False)
        return self._in_order(route)

    def no_mx_age(self, key: Destination, policy: RoutePolicy) -> float | None:
        """How old mail may get, because the domain has no MX; None when that doesn't matter."""
        if policy.no_mx_age is None or policy.levels or key.domain.startswith("["):
            return None
        answer = self._resolver.cached((key.domain, dns.rdatatype.MX))
        return policy.no_mx_age if answer is not None and answer.status is Status.NO_DATA else None

    def asking(self, resolver: Resolver) -> Router:
        """Another one that knows nothing yet and asks this resolver."""
        return Router(
            resolver,
            clock=self._clock,
            own_names=self._own_names,
            own_addresses=self._own_addresses,
            random=self._random,
        )

    def flush(self) -> None:
        """Forget all routes."""
        self._routes.clear()

    def __repr__(self) -> str:
        return f"<Router {len(self._routes)} routes>"

    # -- inside -----------------------------------------------------------------------------------------

    def _in_order(self, route: Route) -> tuple[Target, ...]:
        levels = route.levels
        if len(levels) == 1 and len(levels[0]) == 1:
            return levels[0][0]
        targets: list[Target] = []
        for level in levels:
            hosts = list(level)
            self._random.shuffle(hosts)
            for addresses in hosts:
                targets.extend(addresses)
        return tuple(targets)

    async def _find(self, domain: str, policy: RoutePolicy) -> Route:
        if policy.levels:
            return await self._explicit(domain, policy)
        if domain.startswith("["):
            return self._literal(domain, policy)
        levels, expires_at = await self._exchanges(domain, policy)
        hosts = [[HostRoute(host, policy.port) for host in level] for level in levels]
        return await self._reach(domain, hosts, policy, expires_at, may_be_local=policy.allow_local)

    def _literal(self, domain: str, policy: RoutePolicy) -> Route:
        """`user@[192.0.2.1]` (RFC 5321 4.1.3): the sender chose the address, so it is a stranger's."""
        text = domain.strip("[]")
        if text[:5].lower() == "ipv6:":
            text = text[5:]
        try:
            ip = str(ipaddress.ip_address(text))
        except ValueError:
            raise RouteError(f"{domain} is no address", temporary=False, status="5.1.2") from None
        reason = "" if policy.allow_local else reason_forbidden(ip)
        if reason:
            raise RouteError(f"{domain} is a {reason} address", temporary=False, status="5.4.4")
        target = Target(domain, ip, policy.port, 0)
        return self._checked(domain, [[(target,)]], self._clock.now() + FIXED_ROUTE_TTL)

    async def _explicit(self, domain: str, policy: RoutePolicy) -> Route:
        """The hosts of `smtp-hosts`; `lookup-mx:` entries are replaced by what that domain's MX names."""
        levels: list[list[HostRoute]] = []
        expires_at = self._clock.now() + FIXED_ROUTE_TTL
        for level in policy.levels:
            levels.append([HostRoute(e.host, e.port or policy.port) for e in level if not e.is_domain])
            for entry in (e for e in level if e.is_domain):
                found, until = await self._exchanges(entry.host, policy)
                expires_at = min(expires_at, until)
                port = entry.port or policy.port
                levels[-1] += [HostRoute(host, port) for host in found[0]]
                levels += [[HostRoute(host, port) for host in hosts] for hosts in found[1:]]
        return await self._reach(domain, levels, policy, expires_at, may_be_local=True)

    async def _exchanges(self, domain: str, policy: RoutePolicy) -> tuple[list[list[str]], float]:
        """Host names by preference from the MX records, or the domain itself when it has none."""
        answer = await self._resolver.mx(domain)
        if answer.status is Status.FOUND:
            levels = exchange_levels(domain, answer.mx, self._random)
            return without_ourselves(domain, levels, self._own_names), answer.expires_at
        if answer.status is Status.NO_NAME:
            # The resolver names what is missing: the domain itself, or what it is an alias of.
            is_alias = not answer.text.startswith(f"{domain} ")
            text = f"{domain}: {answer.text}" if is_alias else answer.text
            raise RouteError(text, temporary=False, status="5.1.2")
        if answer.status is Status.FAILED:
            raise no_answer(f"MX of {domain}", answer)
        if policy.bounce_upon_no_mx:
            raise RouteError(f"{domain} has no MX record", temporary=False, status="5.4.4")
        return without_ourselves(domain, [[domain]], self._own_names), answer.expires_at

    async def _reach(
        self,
        domain: str,
        levels: list[list[HostRoute]],
        policy: RoutePolicy,
        expires_at: float,
        *,
        may_be_local: bool,
    ) -> Route:
        """Look up the addresses of all hosts at once and keep those that may be connected to."""
        names = {host.host for level in levels for host in level if not is_address(host.host)}
        answers: dict[str, Answer] = {}
        if names:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    name: group.create_task(self._resolver.addresses(name, ipv6=policy.use_ipv6))
                    for name in names
                }
            answers = {name: task.result() for name, task in tasks.items()}
        reached: list[list[tuple[Target, ...]]] = []
        refused = ""
        for preference, level in enumerate(levels):
            reached.append([])
            for host in level:
                ips = answers[host.host].addresses if host.host in answers else (host.host,)
                kept, reason = allowed(ips, may_be_local=may_be_local)
                refused = refused or (reason and f"{host.host} has a {reason} address")
                if kept:
                    targets = tuple(Target(host.host, ip, host.port, preference) for ip in kept)
                    reached[-1].append(targets)
        if not any(reached):
            error = unreachable(domain, answers.values(), refused)
            is_family = not (error.temporary or refused or policy.use_ipv6)
            if is_family and await self._are_ipv6(names, may_be_local):
                text = f"hosts of {domain} have only IPv6 addresses, and no source address is one"
                raise RouteError(text, temporary=True, status="4.4.4")
            raise error
        until = min((answer.expires_at for answer in answers.values()), default=expires_at)
        return self._checked(domain, reached, min(expires_at, until))

    async def _are_ipv6(self, hosts: Iterable[str], may_be_local: bool) -> bool:
        """Whether one of the hosts could be reached from an IPv6 address: the fault is ours, then."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._resolver.addresses(host, ipv6=True)) for host in hosts]
        found = [ip for task in tasks for ip in task.result().addresses if ":" in ip]
        return bool(allowed(found, may_be_local=may_be_local)[0])

    def _checked(self, domain: str, levels: list[list[tuple[Target, ...]]], expires_at: float) -> Route:
        """Drop the level that leads to one of our own listeners and everything behind it."""
        kept: list[tuple[tuple[Target, ...], ...]] = []
        for level in levels:
            if any((target.ip, target.port) in self._own_addresses for host in level for target in host):
                break
            if level:
                kept.append(tuple(level))
        if not kept:
            raise loop(domain)
        return Route(tuple(kept), expires_at)


def allowed(ips: Iterable[str], *, may_be_local: bool) -> tuple[list[str], str]:
    """The addresses that may be connected to, and why one of them may not."""
    kept: list[str] = []
    refused = ""
    for ip in ips:
        reason = "" if may_be_local else reason_forbidden(ip)
        if reason:
            refused = reason
        else:
            kept.append(ip)
    return kept[:ADDRESSES_LIMIT], refused


def no_answer(what: str, answer: Answer) -> RouteError:
    """The DNS did not say; 4.3.0 when that is our own fault, 4.4.3 when it is the name servers'."""
    status = "4.3.0" if answer.is_local else "4.4.3"
    return RouteError(f"{what}: {answer.text}", temporary=True, status=status)


def unreachable(domain: str, answers: Iterable[Answer], refused: str) -> RouteError:
    """No host of the domain has an address that can be used."""
    failures = [answer for answer in answers if answer.status is Status.FAILED]
    if failures:
        return no_answer(f"hosts of {domain}", failures[0])
    if refused:
        return RouteError(f"mail for {domain}: {refused}", temporary=False, status="5.4.4")
    return RouteError(f"no host of {domain} has an address", temporary=False, status="5.4.4")
