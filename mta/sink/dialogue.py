"""The writing half of a connection to the mock receiver: replies in order, at once, later, or byte by byte.

It knows nothing of SMTP. What is sent between two calls of `flush` leaves in one write; a delay holds it and
everything after it back.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections import deque
from typing import cast

__all__ = ["Dialogue"]


class Dialogue(asyncio.Protocol):
    """Base of the receiver's sessions; subclasses read, this writes."""

    def __init__(self) -> None:
        self.is_ending = False
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._loop: asyncio.AbstractEventLoop = cast(asyncio.AbstractEventLoop, None)
        self._out: list[bytes] = []
        self._delay = 0.0
        self._held: deque[tuple[float, bytes]] = deque()  # (when, what); when never decreases
        self._timer: asyncio.TimerHandle | None = None
        self._upgrade: ssl.SSLContext | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_ending = True
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def is_upgrading(self) -> bool:
        """Whether a TLS handshake is going on."""
        return self._task is not None and self._upgrade is not None

    def encrypted(self) -> None:
        """Called when an upgrade to TLS has succeeded."""

    def now(self) -> float:
        """Seconds by the event loop's clock."""
        return self._loop.time()

    # --- what a session calls while it handles one read

    def send(self, reply: bytes) -> None:
        """Queue a reply in wire form for the next flush."""
        self._out.append(reply)

    def delay(self, seconds: float) -> None:
        """Hold this flush back; the longest delay asked for counts."""
        if seconds > self._delay:
            self._delay = seconds

    def drip(self, reply: bytes, interval: float) -> None:
        """Send a reply one byte every `interval` seconds, behind everything before it."""
        self.flush()
        when = max(self._held[-1][0] if self._held else 0.0, self._loop.time())
        for octet in reply:
            when += interval
            self._held.append((when, bytes((octet,))))
        self._arm()

    def end(self) -> None:
        """Hang up once everything queued has been sent; whatever still arrives is ignored."""
        self.is_ending = True

    def reset(self) -> None:
        """Hang up with RST, at once."""
        self.is_ending = True
        raw = self.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def abort(self) -> None:
        """Drop the connection without ceremony."""
        self.is_ending = True
        self.transport.abort()

    def upgrade(self, context: ssl.SSLContext) -> None:
        """Go over to TLS after the next flush; what the client sent behind STARTTLS is dropped unread."""
        self._upgrade = context
        self.is_ending = True
        self.transport.pause_reading()

    def flush(self, delay: float = 0.0) -> None:
        """Write what was sent since the last flush, `delay` seconds later if that is more than asked for."""
        if delay > self._delay:
            self._delay = delay
        out = self._out
        if out:
            reply = b"".join(out) if len(out) > 1 else out[0]
            out.clear()
            if self._delay or self._held:
                due = self._loop.time() + self._delay
                self._held.append((max(due, self._held[-1][0]) if self._held else due, reply))
                self._arm()
            elif not self.transport.is_closing():
                self.transport.write(reply)
        self._delay = 0.0
        if self.is_ending and not self._held:
            self._conclude()

    # --- later

    def _arm(self) -> None:
        if self._timer is None and self._held:
            self._timer = self._loop.call_at(self._held[0][0], self._release)

    def _release(self) -> None:
        self._timer = None
        # A timer may fire a little early: what is due within the clock's step goes now.
        horizon = self._loop.time() + 0.001
        ready = []
        while self._held and self._held[0][0] <= horizon:
            ready.append(self._held.popleft()[1])
        if ready and not self.transport.is_closing():
            self.transport.write(b"".join(ready))
        if self._held:
            self._arm()
        elif self.is_ending:
            self._conclude()

    def _conclude(self) -> None:
        if self._upgrade is None:
            self.transport.close()
        elif self._task is None:
            self._task = self._loop.create_task(self._start_tls(self._upgrade))

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        try:
            upgraded = await self._loop.start_tls(self.transport, self, context, server_side=True)
        except (TimeoutError, OSError):
            self.transport.abort()
            return
        finally:
            self._upgrade = None
        if upgraded is None:
            return
        self.transport = upgraded
        self.is_ending = False
        self.encrypted()
        upgraded.resume_reading()
