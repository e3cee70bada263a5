"""Asks the DNS, and remembers what it said.

Answers live as long as their TTL allows (within bounds), "no such name" and "no such record" as long as the
zone's SOA allows (RFC 2308), failures for a few seconds. However many ask for one name at once, one question
goes out. When no server answers, an answer that has run out within the last day is better than none
(RFC 8767). The cache is bounded; what was not used for longest goes first.

Several servers are asked in turn, one after the other until one answers, all within one deadline.

Not here: what an answer means for mail (mx.py), validation of signatures (a local validating resolver's job).
"""

from __future__ import annotations

import asyncio
import enum
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from mta.clock import Clock
from mta.errors import NetworkError, NoDescriptors
from mta.routing.dnsquery import EDNS_SIZE, exchange, make_question

__all__ = ["Answer", "MxRecord", "Resolver", "ResolverStats", "Status", "system_nameservers"]

#: Bounds of what a zone may ask for (seconds): a TTL of 0 would ask anew for every message.
SHORTEST_TTL, LONGEST_TTL = 5.0, 86400.0
LONGEST_NEGATIVE_TTL = 3600.0
NEGATIVE_TTL_WITHOUT_SOA = 60.0
FAILURE_TTL = 10.0
#: A want of our own, of descriptors for example, may be over with the next connection that ends.
SHORTAGE_TTL = 1.0
STALE_FOR = 86400.0

CACHE_LIMIT = 100_000

#: CNAMEs followed over several answers; resolvers send the whole chain in one.
CHAIN_LIMIT = 8

#: A server that does not answer is asked last for so long.
SERVER_REST = 30.0


class Status(enum.Enum):
    """How a look-up ended."""

    FOUND = "found"
    NO_DATA = "no such record"
    NO_NAME = "no such name"
    FAILED = "no answer"


class MxRecord(NamedTuple):
    """One MX: the smaller preference comes first; the host is in lower case, without the final dot."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the DNS said about a name, and until when that holds; `text` explains a failure."""

    status: Status
    mx: tuple[MxRecord, ...] = ()
    addresses: tuple[str, ...] = ()
    expires_at: float = 0.0
    text: str = ""
    stale_until: float = 0.0
    texts: tuple[str, ...] = ()  #: of TXT records, the strings of each joined
    is_local: bool = False  #: it failed because we could not even ask


@dataclass(slots=True)
class ResolverStats:
    """Counts since the start."""

    hits: int = 0
    misses: int = 0
    shared: int = 0
    stale: int = 0
    failures: int = 0
    questions: int = 0


Key = tuple[str, dns.rdatatype.RdataType]


class Resolver:
    """A caching stub resolver; used by one event loop."""

    def __init__(
        self,
        nameservers: Sequence[tuple[str, int]],
        *,
        clock: Clock,
        deadline: float = 8.0,
        try_timeout: float = 2.0,
        edns_size: int = EDNS_SIZE,
        cache_limit: int = CACHE_LIMIT,
        over_tcp: bool = False,
        heard: Callable[[str], None] | None = None,
    ) -> None:
        """`over_tcp` asks over TCP at once; `heard` gets the text of every question and answer."""
        if not nameservers:
            raise ValueError("a resolver needs a name server")
        self._servers = tuple(nameservers)
        self._clock = clock
        self._deadline = deadline
        self._try_timeout = try_timeout
        self._edns_size = edns_size
        self._cache_limit = cache_limit
        self._over_tcp = over_tcp
        self._heard = heard
        self._cache: OrderedDict[Key, Answer] = OrderedDict()
        self._in_flight: dict[Key, asyncio.Future[Answer | None]] = {}
        self._resting: dict[tuple[str, int], float] = {}
        self._turn = 0
        self.stats = ResolverStats()

    @property
    def names_cached(self) -> int:
        """Answers in memory."""
        return len(self._cache)

    @property
    def pending(self) -> int:
        """Questions on their way."""
        return len(self._in_flight)

    def forget(self, domain: str = "*") -> int:
        """Drop what is known of a domain (`*`: of all); returns the number of answers dropped."""
        name = domain.lower().rstrip(".")
        gone = [key for key in self._cache if name in ("*", key[0])]
        for key in gone:
            del self._cache[key]
        return len(gone)

    async def mx(self, domain: str) -> Answer:
        """The MX records of a domain."""
        return await self.lookup(domain, dns.rdatatype.MX)

    async def addresses(self, host: str, *, ipv6: bool = False) -> Answer:
        """The addresses of a host: A, and with `ipv6` AAAA as well (first)."""
        if not ipv6:
            return await self.lookup(host, dns.rdatatype.A)
        async with asyncio.TaskGroup() as group:
            four = group.create_task(self.lookup(host, dns.rdatatype.A))
            six = group.create_task(self.lookup(host, dns.rdatatype.AAAA))
        return join(six.result(), four.result())

    async def renew(self, name: str, rdtype: dns.rdatatype.RdataType, lasting: float) -> Answer:
        """Ask although an answer is known; what is found holds for `lasting` seconds at least."""
        answer = await self.lookup(name, rdtype, asks_anew=True)
        if answer.status is Status.FOUND:
            answer = replace(answer, expires_at=max(answer.expires_at, self._until(lasting)))
            self._keep((name.lower().rstrip("."), rdtype), answer)
        return answer

    async def lookup(self, name: str, rdtype: dns.rdatatype.RdataType, *, asks_anew: bool = False) -> Answer:
        """Answer from the cache, from a question already on its way, or from a new one. Never raises.

        `asks_anew` leaves the cache out.
        """
        key = (name.lower().rstrip("."), rdtype)
        while True:
            answer = None if asks_anew else self.cached(key)
            if answer is not None:
                self.stats.hits += 1
                return answer
            underway = self._in_flight.get(key)
            if underway is None:
                break
            self.stats.shared += 1
            # None: whoever asked was cancelled, so one of those who waited has to ask.
            answer = await asyncio.shield(underway)
            if answer is not None:
                return answer
        self.stats.misses += 1
        result: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._in_flight[key] = result
        answer = None
        try:
            answer = await self._ask(key)
            self._keep(key, answer)
            return answer
        finally:
            del self._in_flight[key]
            result.set_result(answer)

    def cached(self, key: Key) -> Answer | None:
        """The answer for a name (lower case, no final dot) if it still holds."""
        answer = self._cache.get(key)
        if answer is None or answer.expires_at <= self._clock.now():
            return None
        self._cache.move_to_end(key)
        return answer

    def flush(self) -> None:
        """Forget everything."""
        self._cache.clear()

    def __len__(self) -> int:
        return len(self._cache)

    def __repr__(self) -> str:
        stats = self.stats
        return f"<Resolver {len(self._cache)} names, {stats.hits} hits, {stats.questions} questions>"

    # -- asking -----------------------------------------------------------------------------------------

    async def _ask(self, key: Key) -> Answer:
        try:
            async with asyncio.timeout(self._deadline):
                return await self._follow(*key)
        except TimeoutError:
            answer = self._failure("no name server answers in time")
        except NoDescriptors as error:
            answer = replace(self._failure(str(error), SHORTAGE_TTL), is_local=True)
        except NetworkError as error:
            answer = self._failure(str(error))
        except ValueError as error:
            return Answer(Status.NO_NAME, expires_at=self._until(FAILURE_TTL), text=str(error))
        return self._stale(key, answer)

    async def _follow(self, name: str, rdtype: dns.rdatatype.RdataType) -> Answer:
        """Ask for the name and for what its CNAMEs lead to."""
        ttl = LONGEST_TTL
        for _ in range(CHAIN_LIMIT):
            response = await self._ask_servers(name, rdtype)
            try:
                chain = response.resolve_chaining()
            except dns.exception.DNSException as error:
                raise NetworkError(f"the answer for {name} contradicts itself: {error}") from error
            ttl = min(ttl, float(chain.minimum_ttl))
            target = chain.canonical_name.to_text(omit_final_dot=True).lower()
            if chain.answer is not None:
                return self._found(chain.answer, ttl)
            if response.rcode() == dns.rcode.NXDOMAIN:
                return self._nothing(Status.NO_NAME, response, ttl, f"{target} does not exist")
            if not chain.cnames or target == name:
                text = f"{target} has no {dns.rdatatype.to_text(rdtype)} record"
                return self._nothing(Status.NO_DATA, response, ttl, text)
            name = target
        raise NetworkError(f"the CNAME chain to {name} is too long")

    async def _ask_servers(self, name: str, rdtype: dns.rdatatype.RdataType) -> dns.message.QueryMessage:
        """The first usable answer. Raises NetworkError when no server gives one."""
        texts: list[str] = []
        while True:
            for server in self._in_order():
                try:
                    return await self._ask_one(name, rdtype, server)
                except NoDescriptors:
                    raise  # no server is to blame
                except NetworkError as error:
                    self._resting[server] = self._clock.now() + SERVER_REST
                    texts.append(str(error))
            # Lost packets are worth a second round; refusals and dead hosts are not.
            if len(texts) >= 2 * len(self._servers) or "does not answer" not in texts[-1]:
                raise NetworkError(texts[-1])

    async def _ask_one(
        self, name: str, rdtype: dns.rdatatype.RdataType, server: tuple[str, int]
    ) -> dns.message.QueryMessage:
        edns_sizes = (self._edns_size, 0) if self._edns_size else (0,)
        for edns_size in edns_sizes:
            self.stats.questions += 1
            question = make_question(name, rdtype, edns_size)
            if self._heard is not None:
                self._heard(f"to {server[0]} port {server[1]}\n{question}")
            response = await exchange(question, server, self._try_timeout, over_tcp=self._over_tcp)
            if self._heard is not None:
                self._heard(f"from {server[0]} port {server[1]}\n{response}")
            code = response.rcode()
            if code in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                self._resting.pop(server, None)
                return response
            # Servers from before EDNS answer so to what they don't know (RFC 6891 7).
            if code not in (dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS):
                break
        raise NetworkError(f"name server {server[0]} answers {dns.rcode.to_text(code)} for {name}")

    def _in_order(self) -> list[tuple[str, int]]:
        """All servers, beginning with another one each time, those that failed lately at the end."""
        self._turn = (self._turn + 1) % len(self._servers)
        now = self._clock.now()
        turned = self._servers[self._turn :] + self._servers[: self._turn]
        return sorted(turned, key=lambda server: self._resting.get(server, 0.0) > now)

    # -- remembering ------------------------------------------------------------------------------------

    def _found(self, records: dns.rrset.RRset, ttl: float) -> Answer:
        expires_at = self._until(min(max(ttl, SHORTEST_TTL), LONGEST_TTL))
        if records.rdtype == dns.rdatatype.MX:
            mx = tuple(
                MxRecord(record.preference, record.exchange.to_text(omit_final_dot=True).lower())
                for record in records
            )
            return Answer(Status.FOUND, mx, expires_at=expires_at, stale_until=expires_at + STALE_FOR)
        if records.rdtype == dns.rdatatype.TXT:
            texts = tuple(b"".join(record.strings).decode("utf-8", "replace") for record in records)
            return Answer(
                Status.FOUND, expires_at=expires_at, stale_until=expires_at + STALE_FOR, texts=texts
            )
        addresses = tuple(record.to_text() for record in records)
        return Answer(
            Status.FOUND, addresses=addresses, expires_at=expires_at, stale_until=expires_at + STALE_FOR
        )

    def _nothing(self, status: Status, response: dns.message.QueryMessage, ttl: float, text: str) -> Answer:
        has_soa = any(records.rdtype == dns.rdatatype.SOA for records in response.authority)
        lasting = ttl if has_soa else NEGATIVE_TTL_WITHOUT_SOA
        lasting = min(max(lasting, SHORTEST_TTL), LONGEST_NEGATIVE_TTL)
        return Answer(status, expires_at=self._until(lasting), text=text)

    def _failure(self, text: str, lasting: float = FAILURE_TTL) -> Answer:
        self.stats.failures += 1
        return Answer(Status.FAILED, expires_at=self._until(lasting), text=text)

    def _stale(self, key: Key, failure: Answer) -> Answer:
        """What was known before the servers failed, if it is not too old."""
        known = self._cache.get(key)
        if known is None or known.stale_until <= self._clock.now():
            return failure
        self.stats.stale += 1
        return replace(known, expires_at=failure.expires_at)

    def _keep(self, key: Key, answer: Answer) -> None:
        self._cache[key] = answer
        self._cache.move_to_end(key)
        while len(self._cache) > self._cache_limit:
            self._cache.popitem(last=False)

    def _until(self, lasting: float) -> float:
        return self._clock.now() + lasting


def join(first: Answer, second: Answer) -> Answer:
    """Both families' addresses in one answer: found if either is, failed if that leaves it open."""
    expires_at = min(first.expires_at, second.expires_at)
    addresses = first.addresses + second.addresses
    if addresses:
        return Answer(Status.FOUND, addresses=addresses, expires_at=expires_at)
    for status in (Status.FAILED, Status.NO_DATA):
        for answer in (first, second):
            if answer.status is status:
                return Answer(status, expires_at=expires_at, text=answer.text, is_local=answer.is_local)
    return first


def system_nameservers(path: Path = Path("/etc/resolv.conf")) -> tuple[tuple[str, int], ...]:
    """The name servers of the machine; this machine itself when there is no such file."""
    try:
        lines: Iterable[str] = path.read_text(errors="replace").splitlines()
    except OSError:
        lines = ()
    words = (line.split() for line in lines)
    servers = tuple((fields[1], 53) for fields in words if len(fields) > 1 and fields[0] == "nameserver")
    return servers or (("127.0.0.1", 53),)
