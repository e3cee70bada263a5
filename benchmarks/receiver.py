"""A receiver that costs little CPU: `python -m benchmarks.receiver PORT [--delay-ms 100] [--tls]`.

It takes every message and throws it away. smtp-sink has delays in whole seconds only and no TLS, and reads
octet by octet; this one looks for the end of a message only where it can be. Prints counters as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import ssl
import sys
import time
from dataclasses import dataclass
from typing import cast

import uvloop

from mta.sink.certificate import server_context

__all__ = ["Counters", "Manner", "Peer", "main", "serve"]

END = b"\r\n.\r\n"
#: Behind the end of a message comes at most the next envelope, of one recipient.
ENVELOPE = 4096
REFRESH = 0.01
GREETING = b"220 receiver.bench.example ESMTP\r\n"
HELLO = b"250-receiver.bench.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n%s250 ENHANCEDSTATUSCODES\r\n"
TAKEN = b"250 2.0.0 taken\r\n"
REPLIES = {
    b"MAIL": b"250 2.1.0 ok\r\n",
    b"RCPT": b"250 2.1.5 ok\r\n",
    b"DATA": b"354 go on\r\n",
    b"QUIT": b"221 2.0.0 bye\r\n",
    b"STAR": b"220 2.0.0 go on\r\n",
}


class Counters:
    """What came so far, told on standard output soon after it has grown."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.messages = self.connections = self.open = self.peak = 0
        self.first_at = self.last_at = 0.0
        self._loop, self._is_due = loop, False

    def message(self) -> None:
        self.messages += 1
        self.last_at = time.monotonic()
        if self.messages == 1:
            self.first_at = self.last_at
        if not self._is_due:
            self._is_due = True
            self._loop.call_later(REFRESH, self._tell)

    def opened(self) -> None:
        self.connections += 1
        self.open += 1
        self.peak = max(self.peak, self.open)

    def _tell(self) -> None:
        self._is_due = False
        names = "messages", "first_at", "last_at", "connections", "peak"
        os.write(1, json.dumps({name: getattr(self, name) for name in names}).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class Manner:
    """How slowly it answers (seconds; before the final reply or `each` turn of replies), and its TLS."""

    delay: float = 0.0
    each: bool = False
    context: ssl.SSLContext | None = None


class Peer(asyncio.Protocol):
    """One client."""

    def __init__(self, counters: Counters, manner: Manner) -> None:
        self._counters, self._manner = counters, manner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._rest = b""
        self._in_message = self._is_known = False
        self._encrypting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._is_known:  # after STARTTLS it is the same client
            self._is_known = True
            self._counters.opened()
            self._answer(GREETING, is_slow=self._manner.each)

    def connection_lost(self, exc: Exception | None) -> None:
        self._counters.open -= 1

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        replies = b""
        is_slow = self._manner.each
        while data:
            if self._in_message:
                # The client has one body under way: its end is near the end of what came.
                at = data.rfind(END, max(0, len(data) - ENVELOPE))
                if at < 0:
                    data = data[-(len(END) - 1) :]
                    break
                data = data[at + len(END) :]
                self._in_message = False
                self._counters.message()
                replies += TAKEN
                is_slow = True
                continue
            line, newline, following = data.partition(b"\r\n")
            if not newline:
                break
            data = following
            verb = line[:4].upper()
            replies += REPLIES.get(verb) or self._hello(verb)
            if verb == b"DATA":
                self._in_message = True
                data = b"\r\n" + data  # an empty message ends with its first line
        self._rest = data
        if replies:
            self._answer(replies, is_slow=is_slow)

    def _hello(self, verb: bytes) -> bytes:
        if verb in {b"EHLO", b"HELO"}:
            offers_tls = self._manner.context is not None and self._encrypting is None
            return HELLO % (b"250-STARTTLS\r\n" if offers_tls else b"")
        return b"250 2.0.0 ok\r\n"

    def _answer(self, replies: bytes, *, is_slow: bool) -> None:
        if is_slow and self._manner.delay:
            self._loop.call_later(self._manner.delay, self._write, replies)
        else:
            self._write(replies)

    def _write(self, replies: bytes) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(replies)
        if replies.endswith(REPLIES[b"QUIT"]):
            self._transport.close()
        elif replies.endswith(REPLIES[b"STAR"]) and self._manner.context is not None:
            self._encrypting = self._loop.create_task(self._encrypt(self._manner.context))

    async def _encrypt(self, context: ssl.SSLContext) -> None:
        with contextlib.suppress(OSError):
            encrypted = await self._loop.start_tls(self._transport, self, context, server_side=True)
            if encrypted is not None:
                self._transport = encrypted


async def serve(port: int, manner: Manner) -> None:
    """Take mail on 127.0.0.1 until SIGTERM."""
    loop = asyncio.get_running_loop()
    counters = Counters(loop)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    server = await loop.create_server(lambda: Peer(counters, manner), "127.0.0.1", port, backlog=4096)
    gc.freeze()
    async with server:
        await ended.wait()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.receiver", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--delay-at", choices=("dot", "each"), default="dot")
    parser.add_argument("--tls", action="store_true", help="offers STARTTLS with a certificate of its own")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    manner = Manner(
        options.delay_ms / 1000, options.delay_at == "each", server_context() if options.tls else None
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.port, manner))
    return 0


if __name__ == "__main__":
    sys.exit(main())
