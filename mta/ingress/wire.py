"""What comes in on one connection: octets become lines and content, one after the other.

Commands are plain calls; where aiosmtpd's coroutines are used (AUTH) they are driven from here, one line at
a time. What surrounds it, from the slot to the end, is `connection`.

What a client can make us hold is bounded: a command line by `LINE_LIMIT`, unread commands by `BACKLOG`
(then we stop reading), content by the readers in `smtp.data` and by a budget that all connections share.

Deadlines: a complete command every smtp-command-timeout; inside a message something every
smtp-data-timeout, and after the first such time `SLOWEST` octets a second on average. A client that does
not read its replies falls under the first. When slots are scarce, idle clients get `CROWDED_PATIENCE`.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Coroutine
from typing import Any, cast

from mta.ingress.connection import Connection, Mode
from mta.ingress.exchange import NextLine
from mta.ingress.reception import Reception
from mta.smtp.data import ChunkReader, DataReader
from mta.smtp.reply import Reply

__all__ = ["Wire"]

log = logging.getLogger(__name__)

#: Octets of one command line; RFC 5321 asks for 512, extensions add to it (RFC 4954 alone: 12,288 for AUTH).
LINE_LIMIT = 4096
LOGIN_LINE_LIMIT = 12_288
#: Octets of a line without an end after which we stop listening.
ENDLESS_LINE = 16_384
#: Octets of pipelined commands that wait while we don't listen.
BACKLOG = 65_536
#: Replies that are gathered before they are written and others have their turn: so many among all who have
#: more commands than that waiting, but no fewer than these for one of them.
REPLIES_AT_ONCE, FEWEST_AT_ONCE = 256, 16
#: Octets a second.
SLOWEST = 500
CROWDED_PATIENCE = 30.0
#: Content is fed from the backlog in pieces of this size.
_PIECE = 65_536

_NO_MEMORY = Reply(452, "4.3.1 Too many messages are arriving at once, try again later", "4.3.1")
_INTERNAL = Reply(421, "4.3.0 Internal error, closing connection", "4.3.0")
_TOO_LONG = Reply(500, "5.5.2 Command line is too long", "5.5.2")
_ENDLESS = Reply(421, "4.7.0 Command line without an end, closing connection", "4.7.0")
_BARE = Reply(500, "5.5.2 Command lines must end in CR LF", "5.5.2")

# As in `connection`: plain names, because they are looked at for every packet.
_COMMANDS, _LOGIN, _DATA, _CHUNK, _WAITING, _HANDSHAKE, _OUTSIDE, _CLOSING = Mode


class Wire(Connection):
    """Subclasses give `take_command` and `take_content`."""

    # fmt: off
    __slots__ = (
        "_buffer", "_content_began", "_coroutine", "_data_reader", "_handle_hooks", "_has_ended", "_held",
        "_is_processing", "_position", "_reader", "reader", "session",
    )
    # fmt: on

    def __init__(
        self, reception: Reception, *, source_name: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(reception, source_name=source_name, tls=tls)
        self._data_reader = DataReader(None)
        self.reader: DataReader | ChunkReader = self._data_reader
        self._buffer = b""
        self._position = 0
        self._is_processing = False
        self._has_ended = False
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._held = 0
        self._content_began = 0.0
        # What aiosmtpd's AUTH looks at.
        self.session = None
        self._handle_hooks: dict[str, Any] = {}
        self._reader = cast(Any, NextLine())

    # ---- what subclasses give

    def take_command(self, line: bytes) -> None:
        """One command line, without its end."""
        raise NotImplementedError

    def take_content(self) -> None:
        """`self.reader` has a complete message or chunk."""
        raise NotImplementedError

    def after_login(self) -> None:
        """An AUTH exchange is over."""
        raise NotImplementedError

    # ---- events of the transport

    def data_received(self, data: bytes) -> None:
        """The general way in; subclasses take short cuts for what is usual."""
        if self.mode is _CLOSING:
            return
        self._buffer = self._buffer[self._position :] + data
        self._position = 0
        if self.is_listening:
            self.process()
        elif len(self._buffer) > BACKLOG:
            self._pause()

    def eof_received(self) -> bool:
        self._has_ended = True
        # Inside TLS the other half can't stay open. Without it, whoever has sent everything may still listen.
        return self.mode is _WAITING and not self.is_tls

    def connection_lost(self, error: Exception | None) -> None:
        if self._coroutine is not None:
            self._coroutine.close()
            self._coroutine = None
        super().connection_lost(error)

    # ---- reading

    @property
    def is_listening(self) -> bool:
        """Whether the next octets may be looked at now."""
        mode = self.mode
        if mode is _WAITING or mode is _HANDSHAKE or mode is _OUTSIDE or mode is _CLOSING:
            return False
        return not self._is_choked

    @property
    def has_backlog(self) -> bool:
        return self._position < len(self._buffer)

    def keep(self, data: bytes, used: int) -> None:
        """Octets behind a message, for `process`."""
        self._buffer = data
        self._position = used

    def process(self) -> None:
        """Take everything that is there, as long as we listen."""
        if self._is_processing:
            return
        self._is_processing = True
        try:
            while self.is_listening and self._step():
                count = len(self._out)
                if count >= FEWEST_AT_ONCE and count * (1 + self.reception.busy) >= REPLIES_AT_ONCE:
                    self._yield()
                    return
        except Exception:
            log.exception("client=%s connection given up", self.source_ip)
            self.close(_INTERNAL)
        finally:
            self._is_processing = False
        self._flush()
        if not self.has_backlog:
            self._buffer = b""
            self._position = 0
        if self.is_listening:
            self._resume()
            if self._has_ended and self.transport is not None:
                self.transport.close()

    def _yield(self) -> None:
        """Let others have their turn: who pipelines thousands of commands must not hold them up.

        A crowd of such clients holds them up no longer than one would: they share the replies of a turn.
        """
        self._flush()
        self._pause()
        self.reception.busy += 1
        self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self.reception.busy -= 1
        if self.transport is not None and self.mode is not _CLOSING:
            self.process()

    def _step(self) -> bool:
        """One line or piece of content; False when there is none."""
        if self.mode is _DATA or self.mode is _CHUNK:
            piece = self._buffer[self._position : self._position + _PIECE]
            if not piece:
                return False
            self.feed(piece)
            return True
        line = self._next_line()
        if line is None:
            return False
        if not line:
            return True
        if self.mode is _LOGIN:
            self.drive(line)
        else:
            self._progress_at = self._time()
            self.take_command(line[:-2])
        return True

    def feed(self, piece: bytes) -> None:
        """Content from the backlog."""
        used = self.reader.feed(piece)
        self._progress_at = self._time()
        if used < 0:
            self._position += len(piece)
            self.account()
        else:
            self._position += used
            self.take_content()

    def _next_line(self) -> bytes | None:
        """A line with its CR LF; empty when it was answered here; None when there is no whole line."""
        limit = LOGIN_LINE_LIMIT if self.mode is _LOGIN else LINE_LIMIT
        start = self._position
        end = self._buffer.find(b"\n", start) + 1
        if not end:
            waiting = len(self._buffer) - start
            if waiting > ENDLESS_LINE:
                self.close(_ENDLESS)
            return None
        self._position = end
        line = self._buffer[start:end]
        if len(line) > LOGIN_LINE_LIMIT or (len(line) > limit and line[:5].upper() != b"AUTH "):
            self.fault(_TOO_LONG)
            return b""
        if not line.endswith(b"\r\n"):
            self.fault(_BARE)
            return b""
        return line

    def fault(self, reply: Reply) -> None:
        """The client made a mistake; subclasses count."""
        self.reply(reply)

    def overhear(self, data: bytes) -> None:
        """Log what came in, but no passwords."""
        is_secret = self.mode is _LOGIN or (self.mode is _COMMANDS and b"AUTH" in data.upper())
        log.info("client=%s received=%r", self.source_ip, b"(secret)" if is_secret else data)

    def discard(self) -> None:
        self._buffer = b""
        self._position = 0
        if self.mode is not _WAITING:
            # A message on its way to the disk still counts; `accepted` lets it go.
            self.release()

    # ---- content in memory

    def begin_content(self, mode: Mode, reader: DataReader | ChunkReader) -> None:
        """From here on the client sends a message."""
        self.reader = reader
        self.mode = mode
        self._content_began = self._progress_at

    def account(self) -> None:
        """Count what the reader holds into the shared budget."""
        held = self.reader.held
        self.reception.receiving += held - self._held
        self._held = held
        if held and self.reception.receiving > self.reception.receive_memory:
            self.reader.refuse(_NO_MEMORY)
            self.account()
        limit = self.reader.max_size or self.reception.receive_memory
        if self.reader.size > 2 * limit + _PIECE:
            # It has been refused for long; whoever goes on sending will not read the reply either.
            self.close(self.reader.refusal or _NO_MEMORY)

    def release(self) -> None:
        """The message is out of our hands."""
        self.reader.clear()
        if self._held:
            self.account()

    # ---- patience

    def deadline(self) -> float:
        if self.mode is _WAITING:
            # Not the client's fault; the disk has no deadline here.
            self._progress_at = self._time()
        is_content = self.mode is _DATA or self.mode is _CHUNK
        patience = self.policy.data_timeout if is_content else self.policy.command_timeout
        if self.reception.is_crowded:
            patience = min(patience, CROWDED_PATIENCE)
        deadline = self._progress_at + patience
        if is_content:
            deadline = min(deadline, self._content_began + patience + self.reader.size / SLOWEST)
        return deadline

    # ---- coroutines of aiosmtpd

    async def push(self, status: str | bytes) -> None:
        """How aiosmtpd's methods reply."""
        self._out.append((status.encode("utf-8") if isinstance(status, str) else status) + b"\r\n")

    def begin_login(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run an AUTH exchange; its further lines come from the client."""
        self._coroutine = coroutine
        self.drive(None)

    def drive(self, line: bytes | None) -> None:
        """Let the coroutine have the line it waits for."""
        assert self._coroutine is not None
        self._progress_at = self._time()
        try:
            self._coroutine.send(cast(Any, line))
        except StopIteration:
            self._coroutine = None
            self.mode = _COMMANDS
            self.after_login()
        else:
            self.mode = _LOGIN
