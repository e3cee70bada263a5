"""A small authoritative name server for tests and the demonstration: UDP and TCP, a zone in memory.

It answers what `zone` says, remembers what was asked, and misbehaves on demand (SERVFAIL, silence,
truncation). It is not a resolver, knows no delegation and no DNSSEC.
"""

from __future__ import annotations

import asyncio
import struct
from typing import NamedTuple, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from mta.sink.zone import Behaviour, Node, Zone

__all__ = ["Nameserver", "Query"]

#: A chain longer than this is a loop (RFC 1034 3.6.2 leaves the number to the server).
CNAME_LIMIT = 8
UDP_SIZE = 1232


class Query(NamedTuple):
    """One question that arrived: name without the final dot, type as text, `udp` or `tcp`."""

    name: str
    type: str
    transport: str


class Nameserver:
    """Listens on one address for UDP and TCP; `zone` may be changed or replaced while it runs.

    `queries` holds every question in order of arrival; `delay` seconds pass before each answer.
    """

    def __init__(self, zone: Zone, *, negative_ttl: int = 60, delay: float = 0.0) -> None:
        self.zone = zone
        self.queries: list[Query] = []
        self.delay = delay
        self._negative_ttl = negative_ttl
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._clients: set[asyncio.Transport] = set()
        self._address = ("", 0)

    def __repr__(self) -> str:
        return f"<Nameserver {self._address[0]}:{self._address[1]} queries={len(self.queries)}>"

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; the same port for UDP and TCP."""
        return self._address

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> tuple[str, int]:
        """Begin to answer and return the address. OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        for attempt in range(20):
            self._tcp = await loop.create_server(lambda: StreamAnswers(self), host, port)
            found = self._tcp.sockets[0].getsockname()
            try:
                # The free TCP port that the system found may be somebody's UDP port.
                self._udp, _ = await loop.create_datagram_endpoint(
                    lambda: DatagramAnswers(self), local_addr=(host, found[1])
                )
            except OSError:
                self._tcp.close()
                if port or attempt == 19:
                    raise
                continue
            self._address = (host, found[1])
            break
        return self._address

    def close(self) -> None:
        """Stop; open TCP connections are dropped."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        for client in tuple(self._clients):
            client.abort()

    async def __aenter__(self) -> Nameserver:
        if self._tcp is None:
            await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def connected(self, transport: asyncio.Transport) -> None:
        self._clients.add(transport)

    def disconnected(self, transport: asyncio.Transport) -> None:
        self._clients.discard(transport)

    def answer(self, wire: bytes, transport: str) -> bytes | None:
        """The answer to one query in wire form, or nothing (garbage, or a name that is to be silent)."""
        try:
            query = dns.message.from_wire(wire)
        except (dns.exception.DNSException, ValueError):
            return None
        if not query.question or query.flags & dns.flags.QR:
            return None
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self.queries.append(Query(name, dns.rdatatype.to_text(question.rdtype), transport))
        response = dns.message.make_response(query, our_payload=UDP_SIZE)
        response.flags |= dns.flags.AA
        if not self._fill(response, question.name, question.rdtype, transport):
            return None
        if transport == "tcp":
            return response.to_wire(max_size=65535)
        # 512 bytes unless the client says otherwise (RFC 6891 6.2.3).
        limit = max(query.payload, 512) if query.edns >= 0 else 512
        try:
            return response.to_wire(max_size=limit)
        except dns.exception.TooBig:
            response.answer.clear()
            response.authority.clear()
            response.flags |= dns.flags.TC
            return response.to_wire(max_size=limit)

    def _fill(
        self,
        response: dns.message.Message,
        name: dns.name.Name,
        kind: dns.rdatatype.RdataType,
        transport: str,
    ) -> bool:
        """Put records or an error into the response; False = stay silent."""
        for _ in range(CNAME_LIMIT):
            node = self.zone.find(lower(name))
            behaviour = Behaviour.NXDOMAIN if node is None else node.behaviour
            if behaviour is Behaviour.TIMEOUT:
                return False
            if behaviour is Behaviour.TRUNCATE and transport == "udp":
                response.flags |= dns.flags.TC
                return True
            if behaviour in REFUSALS:
                response.set_rcode(REFUSALS[behaviour])
                if behaviour is Behaviour.NXDOMAIN:
                    self._deny(response, name)
                return True
            target = self._records(response, name, kind, cast(Node, node))
            if target is None:
                return True
            name = target
        return True

    def _records(
        self, response: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType, node: Node
    ) -> dns.name.Name | None:
        """Answer from one node; returns where a CNAME leads when the type asked for lies there."""
        found = node.rrsets.get(kind)
        alias = node.rrsets.get(dns.rdatatype.CNAME) if found is None else None
        chosen = found if found is not None else alias
        if chosen is None:
            self._deny(response, name)
            return None
        copied = dns.rrset.from_rdata_list(name, chosen.ttl, list(chosen))
        response.answer.append(copied)
        return None if alias is None else cast(dns.name.Name, alias[0].target)

    def _deny(self, response: dns.message.Message, name: dns.name.Name) -> None:
        """The SOA that tells how long "there is none" holds (RFC 2308)."""
        labels = name.labels[-3:] if len(name.labels) > 2 else name.labels
        text = f"ns.invalid. hostmaster.invalid. 1 3600 600 86400 {self._negative_ttl}"
        soa = dns.rrset.from_text(
            dns.name.Name(labels), self._negative_ttl, dns.rdataclass.IN, dns.rdatatype.SOA, text
        )
        response.authority.append(soa)


REFUSALS = {
    Behaviour.NXDOMAIN: dns.rcode.NXDOMAIN,
    Behaviour.SERVFAIL: dns.rcode.SERVFAIL,
    Behaviour.REFUSED: dns.rcode.REFUSED,
}


class DatagramAnswers(asyncio.DatagramProtocol):
    """One query, one datagram."""

    def __init__(self, server: Nameserver) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        answer = self._server.answer(data, "udp")
        if answer is None:
            return
        if self._server.delay:
            asyncio.get_running_loop().call_later(self._server.delay, self._send, answer, addr)
        else:
            self._send(answer, addr)

    def error_received(self, exc: Exception) -> None:
        """A client that has gone is no business of ours."""

    def _send(self, answer: bytes, addr: tuple[str | int, ...]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(answer, addr)


class StreamAnswers(asyncio.Protocol):
    """Queries with a two-byte length before each (RFC 1035 4.2.2)."""

    def __init__(self, server: Nameserver) -> None:
        self._server = server
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.connected(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._server.disconnected(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 2:
            (length,) = struct.unpack_from("!H", self._buffer)
            if len(self._buffer) < 2 + length:
                return
            wire, self._buffer = self._buffer[2 : 2 + length], self._buffer[2 + length :]
            answer = self._server.answer(wire, "tcp")
            if answer is None:
                continue
            framed = struct.pack("!H", len(answer)) + answer
            if self._server.delay:
                asyncio.get_running_loop().call_later(self._server.delay, self._send, framed)
            else:
                self._send(framed)

    def _send(self, framed: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(framed)


def lower(name: dns.name.Name) -> dns.name.Name:
    """Names are compared without regard to case; dnspython's hash agrees, the wildcard search needs it."""
    return dns.name.Name(tuple(label.lower() for label in name.labels))
