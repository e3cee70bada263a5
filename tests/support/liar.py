"""A name server that sends whatever a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import dns.message
import dns.rrset

__all__ = ["Liar"]

#: Called with the query and with the honest answer; returns the packets to send.
Lie = Callable[[dns.message.Message, dns.message.Message], list[bytes]]


class Liar(asyncio.DatagramProtocol):
    """UDP only; the honest answer is one MX, `10 mx.liar.example`, for any name."""

    def __init__(self, lie: Lie) -> None:
        self._lie = lie
        self._transport: asyncio.DatagramTransport | None = None
        self.address = ("", 0)

    async def __aenter__(self) -> Liar:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        self.address = self._transport.get_extra_info("sockname")[:2]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._transport is not None
        self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        assert self._transport is not None
        query = dns.message.from_wire(data)
        answer = dns.message.make_response(query)
        name = query.question[0].name
        answer.answer.append(dns.rrset.from_text(name, 300, "IN", "MX", "10 mx.liar.example."))
        for packet in self._lie(query, answer):
            self._transport.sendto(packet, addr)
