"""Opening a connection: the first words, and a whole handshake over loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import cast

import uvloop

from benchmarks.micro.harness import Work
from mta.clock import SystemClock
from mta.delivery.dialer import Dialer
from mta.delivery.policy import DeliveryPolicy
from mta.routing.router import Target
from mta.smtp.opening import Offers, Opening

GREETING = b"220 mx.example.net ESMTP Postfix\r\n"
ANSWER = (
    b"250-mx.example.net\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-ETRN\r\n250-STARTTLS\r\n"
    b"250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n"
)
AT_ONCE = 50


def bench_known() -> Callable[[], object]:
    """greeting and EHLO of a receiver that has said the same before"""
    return _words(Offers())


def bench_unknown() -> Callable[[], object]:
    """greeting and EHLO of a receiver that says something new"""

    def call() -> None:
        _words(Offers())()

    return call


def _words(offers: Offers) -> Callable[[], object]:
    def call() -> None:
        opening = Opening("out.example.com", offers)
        opening.receive(GREETING)
        opening.receive(ANSWER)

    return call


class _Server(asyncio.Protocol):
    """Greets and answers EHLO."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(GREETING)

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER.replace(b"250-STARTTLS\r\n", b""))


def bench_handshake() -> Iterator[Work]:
    """one connection up to the answer to EHLO over loopback, both sides in this process"""
    loop = uvloop.new_event_loop()
    listening = socket.create_server(("127.0.0.1", 0))
    server = loop.run_until_complete(loop.create_server(_Server, sock=listening))
    port = listening.getsockname()[1]
    dialer, policy = Dialer(clock=SystemClock()), DeliveryPolicy()
    targets = [Target("mx.example.net", "127.0.0.1", port, 0)]

    async def dial() -> None:
        for _ in range(AT_ONCE):
            connection = await dialer.dial(
                targets, source_ip="127.0.0.1", host_name="out.example.com", policy=policy
            )
            connection.transport.abort()

    yield Work(lambda: loop.run_until_complete(dial()), operations=AT_ONCE)
    server.close()
    loop.run_until_complete(server.wait_closed())
    loop.close()
