"""Load over SMTP that remembers, recipient by recipient, what the service has promised.

Every recipient is used once. `acknowledged` are those whose message got 250 after its final dot: from then
on they are the service's. `offered` are all whose final dot went out: they may arrive. Nobody else may.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import Callable
from typing import cast

__all__ = ["Injector"]

LINE = b"All work and no play makes a dull line of text in a test of mail, again and again.\r\n"
SECONDS = 60.0


class Injector:
    """Sessions to one port, each handing in message after message until `messages` are out or `stop()`.

    A session that is refused (4xx, 5xx) ends, and the reply is counted in `refusals`; one that breaks off is
    counted in `broken`, and with `reconnects` another takes its place.
    """

    def __init__(
        self,
        port: int,
        *,
        sessions: int = 20,
        messages: int = 1_000_000,
        recipients: int = 1,
        size: int = 2000,
        prefix: str = "r",
        domains: tuple[str, ...] = ("example.com",),
        headers: Callable[[int], str] = lambda number: "",
        sender: str = "app@example.org",
        reconnects: bool = False,
    ) -> None:
        self.acknowledged: set[str] = set()
        self.offered: set[str] = set()
        self.refusals: Counter[str] = Counter()
        self.broken = 0
        self.sender = sender
        self._port = port
        self._sessions = sessions
        self._messages = messages
        self._recipients = recipients
        self._prefix = prefix
        self._domains = domains
        self._headers = headers
        self._body = LINE * (size // len(LINE))
        self._numbers = itertools.count()
        self._reconnects = reconnects
        self._is_stopped = False
        self._progress = asyncio.Event()

    async def run(self) -> None:
        """Until the messages are out, every session has ended, or `stop`."""
        loop = asyncio.get_running_loop()

        async def session() -> None:
            while True:
                try:
                    _, conversation = await loop.create_connection(
                        lambda: Conversation(self), "127.0.0.1", self._port
                    )
                except OSError:
                    self.broken += 1
                    return
                is_broken = await conversation.ended
                self.broken += is_broken
                if not (is_broken and self._reconnects) or self._is_stopped:
                    return

        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as company:
            for _ in range(self._sessions):
                company.create_task(session())

    def stop(self) -> None:
        """Let every session end after the message it has in hand."""
        self._is_stopped = True

    async def until(self, count: int, seconds: float = SECONDS) -> None:
        """Wait until so many recipients have been acknowledged."""
        async with asyncio.timeout(seconds):
            while len(self.acknowledged) < count:
                self._progress.clear()
                await self._progress.wait()

    def next_message(self) -> tuple[list[str], bytes] | None:
        """Recipients and content of one more message; None when there are to be no more."""
        number = next(self._numbers)
        if self._is_stopped or number >= self._messages:
            return None
        domain = self._domains[number % len(self._domains)]
        recipients = [f"{self._prefix}{number}.{index}@{domain}" for index in range(self._recipients)]
        head = f"From: {self.sender}\r\nSubject: {self._prefix}{number}\r\n{self._headers(number)}\r\n"
        return recipients, head.encode() + self._body + b".\r\n"

    def acknowledge(self, recipients: list[str]) -> None:
        """250 after the final dot."""
        self.acknowledged.update(recipients)
        self._progress.set()


class Conversation(asyncio.Protocol):
    """One session. Envelopes are pipelined, the next one right behind the final dot (RFC 2920)."""

    def __init__(self, injector: Injector) -> None:
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._injector = injector
        self._rest = b""
        self._expected = deque([self._greeted])
        self._current: tuple[list[str], bytes] | None = None
        self._sent: list[str] = []
        self._is_leaving = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(not self._is_leaving)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            if line[3:4] == b"-":
                continue
            if not self._expected or line[:3] == b"421":
                self._refuse(line)
                return
            self._expected.popleft()(line)

    def _greeted(self, line: bytes) -> None:
        self._transport.write(b"EHLO injector.example.org\r\n")
        self._expected.append(self._welcomed)

    def _welcomed(self, line: bytes) -> None:
        self._transport.write(self._envelope())

    def _envelope(self) -> bytes:
        self._current = self._injector.next_message()
        if self._current is None:
            self._is_leaving = True
            self._expected.append(self._left)
            return b"QUIT\r\n"
        recipients = self._current[0]
        self._expected += [self._checked] * (1 + len(recipients)) + [self._go_ahead]
        commands = [f"MAIL FROM:<{self._injector.sender}>", *(f"RCPT TO:<{to}>" for to in recipients), "DATA"]
        return "".join(command + "\r\n" for command in commands).encode()

    def _checked(self, line: bytes) -> None:
        if line[:1] != b"2":
            self._refuse(line)

    def _go_ahead(self, line: bytes) -> None:
        if line[:3] != b"354":
            self._refuse(line)
            return
        assert self._current is not None
        self._sent, content = self._current
        self._injector.offered.update(self._sent)
        self._expected.append(self._answered)
        self._transport.write(content + self._envelope())

    def _answered(self, line: bytes) -> None:
        if line[:3] == b"250":
            self._injector.acknowledge(self._sent)
        else:
            self._injector.offered.difference_update(self._sent)
            self._refuse(line)

    def _left(self, line: bytes) -> None:
        self._transport.close()

    def _refuse(self, line: bytes) -> None:
        """The service wants no more of us, or of this message: count it once and go."""
        if not self._is_leaving or line[:3] == b"421":
            self._injector.refusals[line[:9].decode("ascii", "replace")] += 1
        self._is_leaving = True
        self._expected.clear()
        self._transport.close()
