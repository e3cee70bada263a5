"""The load generator: `python -m benchmarks.source PORT --messages N --sessions S --size OCTETS`.

Every session sends one message after the other, each to a recipient of its own, a command at a time (as
smtp-source does) or pipelined. One process, callbacks only; prints one line of JSON at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from dataclasses import dataclass, field
from typing import cast

import uvloop

__all__ = ["Source", "domain_of", "main", "message_of"]


def message_of(size: int) -> bytes:
    """A message of about `size` octets in wire form, with its final dot."""
    header = (
        b"From: <source@bench.example>\r\nTo: <rcpt@bench.example>\r\nSubject: benchmark\r\n"
        b"Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@bench.example>\r\n\r\n"
    )
    line = b"x" * 76 + b"\r\n"
    return header + line * max(1, (size - len(header)) // len(line)) + b".\r\n"


def domain_of(number: int) -> str:
    """The recipient domain of that number. Every other one is below b.bench.example: half of them for half of
    the workers."""
    return f"d{number}.{'ab'[number % 2]}.bench.example"


@dataclass(slots=True)
class Source:
    """The work that all sessions share."""

    messages: int
    body: bytes
    domain: str
    pipelining: bool
    done: asyncio.Event
    domains: int = 1
    sessions: int = 0
    begun: int = 0
    accepted: int = 0
    errors: list[str] = field(default_factory=list)

    def next_recipient(self) -> bytes | None:
        """The next message's recipient; None when there are no more."""
        if self.begun >= self.messages:
            return None
        self.begun += 1
        domain = self.domain if self.domains == 1 else domain_of(self.begun % self.domains)
        return f"r{self.begun}@{domain}".encode()

    def fail(self, text: str) -> None:
        self.errors.append(text)
        self.done.set()

    def ended(self) -> None:
        self.sessions -= 1
        if not self.sessions:
            self.done.set()


class Session(asyncio.Protocol):
    """One connection. `_waits` is how many replies the last thing we sent deserves."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._steps: list[bytes] = []
        self._waits = 1
        self._rest = b""
        self._in_message = False
        source.sessions += 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._steps = [b"EHLO source.bench.example\r\n"]

    def connection_lost(self, exc: Exception | None) -> None:
        if self._in_message:
            self._source.fail(f"connection lost: {exc}")
        self._source.ended()

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        for line in data[:end].split(b"\r\n"):
            if not line or line[3:4] == b"-":
                continue
            if line[:1] not in b"23":
                self._source.fail(line.decode("utf-8", "replace"))
                self._transport.abort()
                return
            self._waits -= 1
        if not self._waits:
            self._go_on()

    def _go_on(self) -> None:
        if not self._steps:
            if self._in_message:
                self._source.accepted += 1
                self._in_message = False
            recipient = self._source.next_recipient()
            if recipient is None:
                self._transport.write(b"QUIT\r\n")
                self._transport.close()
                return
            self._in_message = True
            self._steps = [
                b"MAIL FROM:<source@bench.example>\r\n",
                b"RCPT TO:<%s>\r\n" % recipient,
                b"DATA\r\n",
                self._source.body,
            ]
            if self._source.pipelining:
                self._steps[:3] = [b"".join(self._steps[:3])]
        step = self._steps.pop(0)
        self._waits = 3 if self._in_message and len(self._steps) == 1 and self._source.pipelining else 1
        self._transport.write(step)


async def inject(port: int, source: Source, sessions: int, host: str) -> None:
    """Open the sessions and return when everything was accepted or something went wrong."""
    loop = asyncio.get_running_loop()
    for _ in range(sessions):
        await loop.create_connection(lambda: Session(source), host, port)
    await source.done.wait()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.source", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--messages", "-m", type=int, default=1000)
    parser.add_argument("--sessions", "-s", type=int, default=20)
    parser.add_argument("--size", "-l", type=int, default=10_240)
    parser.add_argument("--domain", default="bench.example")
    parser.add_argument("--domains", type=int, default=1, help="so many, by turns, instead of --domain")
    parser.add_argument("--pipelining", action="store_true")
    options = parser.parse_args()

    async def work() -> Source:
        source = Source(
            options.messages,
            message_of(options.size),
            options.domain,
            options.pipelining,
            asyncio.Event(),
            options.domains,
        )
        gc.freeze()
        await inject(options.port, source, options.sessions, options.host)
        return source

    begun, cpu = time.monotonic(), time.process_time()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        source = runner.run(work())
    told = {"begun": begun, "ended": time.monotonic(), "accepted": source.accepted}
    print(json.dumps(told | {"cpu": time.process_time() - cpu}))
    if source.errors:
        print(source.errors[0], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
