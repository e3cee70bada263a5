"""Keeps the DNS answers of domains fresh that much mail goes to (`<dns>`): no delivery waits for them.

Each round asks anew for the MX records of every domain in the file and for the addresses of its hosts,
whatever their TTL says, and lets the answers hold until the next round is through. The file is read at each
round. What the DNS does not answer in a round stays as it was known, as for everybody (RFC 8767).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.rdatatype

from mta.clock import Clock
from mta.config.domainpattern import normal_domain
from mta.config.settings import Settings
from mta.routing.resolver import Resolver, Status

__all__ = ["Precache", "PrecachedDomain", "read_domains"]

log = logging.getLogger(__name__)

#: Domains that are asked for at a time: a round is no burst.
AT_ONCE = 10
#: Hosts of one domain whose addresses are kept.
MOST_HOSTS = 20
#: A round every second is the most that a name server has to bear.
SHORTEST_INTERVAL = 1.0
#: Octets of the file.
FILE_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class PrecachedDomain:
    """What the last round found out about a domain, and when; hosts and addresses are counted."""

    name: str
    status: Status
    hosts: int
    addresses: int
    asked_at: float


class Precache:
    """The precached domains of one process; `run()` is its life."""

    def __init__(self, resolver: Resolver, settings: Callable[[], Settings], *, clock: Clock) -> None:
        """`settings()` are those of `<dns>` in force."""
        self._resolver = resolver
        self._settings = settings
        self._clock = clock
        self._known: dict[str, PrecachedDomain] = {}
        self._changed = asyncio.Event()

    def __iter__(self) -> Iterator[PrecachedDomain]:
        return iter(self._known.values())

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return f"<Precache {len(self)} domains>"

    def follow(self) -> None:
        """Another configuration is in force: begin a round now."""
        self._changed.set()

    async def run(self) -> None:
        """Round after round, until cancelled."""
        while True:
            self._changed.clear()
            interval = max(self._settings().interval("precached-refresh-interval") or 0.0, SHORTEST_INTERVAL)
            await self.refresh(interval)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._changed.wait()

    async def refresh(self, interval: float) -> None:
        """One round; its answers hold for two times `interval`."""
        settings = self._settings()
        path = settings.path("precached-domains-file")
        domains = () if path is None else read_domains(path, settings.integer("precached-max-domains"))
        self._known = {name: self._known[name] for name in domains if name in self._known}
        for start in range(0, len(domains), AT_ONCE):
            async with asyncio.TaskGroup() as company:
                for domain in domains[start : start + AT_ONCE]:
                    company.create_task(self._ask(domain, 2 * interval))

    async def _ask(self, domain: str, lasting: float) -> None:
        answer = await self._resolver.renew(domain, dns.rdatatype.MX, lasting)
        hosts = [record.host for record in sorted(answer.mx) if record.host][:MOST_HOSTS]
        if answer.status is Status.NO_DATA:
            hosts = [domain]  # RFC 5321 5.1
        addresses = 0
        for host in hosts:
            for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
                addresses += len((await self._resolver.renew(host, kind, lasting)).addresses)
        self._known[domain] = PrecachedDomain(domain, answer.status, len(hosts), addresses, self._clock.now())


def read_domains(path: Path, most: int) -> tuple[str, ...]:
    """The first domains of the file, one a line, `#` begins a comment; none when it can't be read
    (reported)."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            lines = file.read(FILE_LIMIT).splitlines()
    except OSError as error:
        log.error("precached-domains-file %s: %s", path, error.strerror)
        return ()
    names = (normal_domain(line.partition("#")[0].strip()) for line in lines)
    return tuple(dict.fromkeys(filter(None, names)))[: most or None]
