"""A connection from TCP to the answer to EHLO: the socket, and the protocol that drives the first words.

Callbacks and one timer; what the words mean is `mta.smtp.opening`'s business. Each step has a limit of its
own: the connection, the greeting, each answer. Whoever waits for `done` then looks at `failure`; when there
is none the `deadline` goes on to whoever gets the transport.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Final, cast

from mta.clock import Clock
from mta.delivery.deadline import Deadline
from mta.delivery.dialogue import Dialogue
from mta.delivery.policy import DeliveryPolicy
from mta.smtp.opening import OUT_OF_TURN, Opening
from mta.smtp.reply import Reply
from mta.smtp.transaction import internal_reply

__all__ = ["Greeter", "connect", "source_socket"]

#: Linux: choose the local port when the destination is known, so that a source address can have more
#: connections than it has ports. Not in the socket module of Python 3.11.
IP_BIND_ADDRESS_NO_PORT: Final = 24


def source_socket(family: int, source_ip: str) -> socket.socket:
    """A TCP socket that connects from `source_ip` ("" = any). Raises OSError for what isn't ours."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if source_ip:
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source_ip, 0))
    except BaseException:
        sock.close()
        raise
    return sock


async def connect(
    sock: socket.socket, ip: str, port: int, *, limit: float, loop: asyncio.AbstractEventLoop
) -> None:
    """Connect within `limit` seconds; raises OSError, TimeoutError among them."""
    address = (ip, port)
    error = sock.connect_ex(address)
    if error == errno.EINPROGRESS:
        # A near host's answer is there by now, and nothing has to be waited for.
        error = sock.connect_ex(address)
    if error in (errno.EALREADY, errno.EINPROGRESS):
        async with asyncio.timeout(limit):
            await loop.sock_connect(sock, address)
    elif error:
        raise OSError(error, os.strerror(error))


class Greeter(asyncio.Protocol):
    """Holds the transport until the server awaits mail, or has failed."""

    transport: asyncio.Transport

    def __init__(
        self,
        opening: Opening,
        policy: DeliveryPolicy,
        *,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        dialogue: Dialogue | None = None,
    ) -> None:
        self.failure: Reply | None = None
        self.done: asyncio.Future[None] = loop.create_future()
        self._opening = opening
        self._policy = policy
        self._clock = clock
        self._dialogue = dialogue
        #: Its timer runs on when all is well; whoever has no use for it cancels it.
        self.deadline = Deadline(self._overdue, clock=clock, loop=loop)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._allow(self._policy.greeting_timeout)

    def data_received(self, data: bytes) -> None:
        if self._dialogue is not None:
            self._dialogue.received(data)
        opening = self._opening
        if self.done.done():
            self.failure = self.failure or OUT_OF_TURN
            return
        command = opening.receive(data)
        if command:
            if self._dialogue is not None:
                self._dialogue.sent(command)
            self.transport.write(command)
            self._allow(self._policy.command_timeout)
        elif opening.failure is not None:
            self._end(opening.failure)
        elif opening.is_ready:
            self._end(None)

    def eof_received(self) -> bool:
        self._lost()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()

    def _lost(self) -> None:
        # Also when all was well until now: nobody can send mail over it any more.
        lost = internal_reply(451, "4.4.2", f"connection lost ({self._opening.awaits})")
        self._end(self.failure or lost)

    def _allow(self, seconds: float) -> None:
        now = self._clock.now()
        self.deadline.move(now + seconds, now)

    def _overdue(self) -> None:
        self._end(internal_reply(451, "4.4.1", f"no answer in time ({self._opening.awaits})"))

    def _end(self, failure: Reply | None) -> None:
        if failure is not None:
            self.deadline.cancel()
        self.failure = failure
        if not self.done.done():
            self.done.set_result(None)

    def __repr__(self) -> str:
        return f"<Greeter {self._opening!r}>"
