"""One inbound connection below the commands: bytes in, lines and content out, replies in order, deadlines,
TLS.

A subclass of aiosmtpd's SMTP that does its own reading: no stream reader, no task and no future per
connection, one timer that looks at the clock. Commands are plain calls; where aiosmtpd's coroutines are used
(AUTH) they are driven from here, one line at a time.

What a client can make us hold is bounded: a command line by `LINE_LIMIT`, unread commands by `BACKLOG`
(then we stop reading), unread replies by the transport's buffer (then we stop reading, too), content by the
readers in `smtp.data` and by a budget that all connections share.

Deadlines: a complete command every smtp-command-timeout; inside a message something every
smtp-data-timeout, and after the first such time `SLOWEST` octets a second on average. A client that does
not read its replies falls under the first. When slots are scarce, idle clients get `CROWDED_PATIENCE`; a
client without a slot that may wait for one (smtp-await-slot) gets `SLOT_PATIENCE`.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import ssl
from collections.abc import Coroutine
from typing import Any, cast

from aiosmtpd.smtp import SMTP

from mta.ingress.exchange import NextLine
from mta.ingress.reception import ALL_TAKEN, Reception, Rules
from mta.ingress.relaying import SourcePolicy
from mta.smtp.data import ChunkReader, DataReader
from mta.smtp.reply import Reply

__all__ = ["Mode", "Wire"]

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
#: How long a client waits for a slot: a minute less than it waits for the greeting (RFC 5321 4.5.3.2.1).
SLOT_PATIENCE = 240.0
#: The timer looks at least this often.
GLANCE = 30.0
HANDSHAKE_PATIENCE = 30.0
#: What a client gets to read our last words.
PARTING_PATIENCE = 5.0
#: Content is fed from the backlog in pieces of this size.
_PIECE = 65_536

_TIMEOUT = Reply(421, "4.4.2 Timeout, closing connection", "4.4.2")
_NO_MEMORY = Reply(452, "4.3.1 Too many messages are arriving at once, try again later", "4.3.1")
_INTERNAL = Reply(421, "4.3.0 Internal error, closing connection", "4.3.0")
_TOO_LONG = Reply(500, "5.5.2 Command line is too long", "5.5.2")
_ENDLESS = Reply(421, "4.7.0 Command line without an end, closing connection", "4.7.0")
_BARE = Reply(500, "5.5.2 Command lines must end in CR LF", "5.5.2")

#: What holds for a connection before it is known where it comes from.
_UNKNOWN_SOURCE = SourcePolicy()


class Mode(enum.Enum):
    """What the next octets are."""

    COMMANDS = enum.auto()
    LOGIN = enum.auto()  #: the answer to a 334
    DATA = enum.auto()
    CHUNK = enum.auto()
    WAITING = enum.auto()  #: not for now: a message is on its way to the disk
    HANDSHAKE = enum.auto()
    OUTSIDE = enum.auto()  #: not for now: the client waits for a slot
    CLOSING = enum.auto()


# Members as plain names: an attribute of an enum class takes four times as long (Python 3.11).
_COMMANDS, _LOGIN, _DATA, _CHUNK, _WAITING, _HANDSHAKE, _OUTSIDE, _CLOSING = Mode


class Wire(SMTP):
    """Subclasses give `take_command`, `take_content` and `greet`."""

    # More than thirty attributes are too many for the interpreter to share their names between objects: each
    # connection would have a dictionary of its own, and look-ups of methods would not be remembered.
    # fmt: off
    __slots__ = (
        "_buffer", "_content_began", "_coroutine", "_data_reader", "_entered_group", "_handle_hooks",
        "_has_ended", "_held", "_is_choked", "_is_paused", "_is_processing", "_out", "_position",
        "_progress_at", "_reader", "_time", "_timer", "_tls", "_upgrade", "awaits_slot", "is_tls", "loop",
        "mode", "policy", "reader", "received_on", "reception", "rules", "session", "source_ip",
        "source_name", "transport",
    )
    # fmt: on
    # A hundred microseconds of introspection a connection are what SMTP.__init__ would add.
    def __init__(
        self, reception: Reception, *, source_name: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        self.reception = reception
        self.loop = reception.loop
        self.transport: asyncio.Transport | None = None
        self.rules: Rules = reception.rules()
        self.source_name = source_name
        self.policy = _UNKNOWN_SOURCE
        self.mode = _COMMANDS
        self.source_ip = ""
        self.received_on = ""
        self.is_tls = False
        #: Whether to wait for a slot; None is what the rules say.
        self.awaits_slot: bool | None = None
        self._data_reader = DataReader(None)
        self.reader: DataReader | ChunkReader = self._data_reader
        self._time = reception.loop.time
        self._tls = tls
        self._entered_group: str | None = None
        self._buffer = b""
        self._position = 0
        self._out: list[bytes] = []
        self._is_processing = False
        self._is_choked = False
        self._is_paused = False
        self._has_ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._upgrade: asyncio.Task[None] | None = None
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._held = 0
        self._progress_at = 0.0
        self._content_began = 0.0
        # What aiosmtpd's AUTH looks at.
        self.session = None
        self._handle_hooks: dict[str, Any] = {}
        self._reader = cast(Any, NextLine())

    # ---- what subclasses give

    def greet(self) -> None:
        """The client is in: say 220."""
        raise NotImplementedError

    def take_command(self, line: bytes) -> None:
        """One command line, without its end."""
        raise NotImplementedError

    def take_content(self) -> None:
        """`self.reader` has a complete message or chunk."""
        raise NotImplementedError

    def after_login(self) -> None:
        """An AUTH exchange is over."""
        raise NotImplementedError

    def refused_connection(self, reply: Reply) -> None:
        """Somebody was not let in or had to go."""
        self.reception.rejects.connection(reply, source_ip=self.source_ip, received_on=self.received_on)
        if self.policy.log_connections:
            log.info("client=%s refused: %s", self.source_ip, reply)

    # ---- events of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.source_ip = _address(transport.get_extra_info("peername"))
        self.received_on = _address(transport.get_extra_info("sockname"))
        if transport.get_extra_info("ssl_object") is not None:
            self._secured()
        self.policy = self.rules.policy(self.source_ip, self.source_name)
        self._progress_at = self._time()
        refusal = self.reception.enter(self, self.source_ip, self.policy)
        if refusal is None:
            self._begin()
        elif refusal is not ALL_TAKEN or not self._waits_outside():
            self.close(refusal)

    def _waits_outside(self) -> bool:
        """Stand in line for a slot, unless that is not wanted or there is no room."""
        is_wanted = self.rules.awaits_slot if self.awaits_slot is None else self.awaits_slot
        if not is_wanted or not self.reception.line_up(self, self.source_ip, self.policy):
            return False
        self.mode = _OUTSIDE
        self._timer = self.loop.call_later(SLOT_PATIENCE, self.close, ALL_TAKEN)
        if self.policy.log_connections:
            log.info("client=%s waits for a slot", self.source_ip)
        return True

    def come_in(self) -> None:
        """There is a slot after all: go on where connections begin."""
        if self._timer is not None:
            self._timer.cancel()
        self.rules = self.reception.rules()
        self.policy = self.rules.policy(self.source_ip, self.source_name)
        self.mode = _COMMANDS
        self._progress_at = self._time()
        refusal = self.reception.enter(self, self.source_ip, self.policy)
        if refusal is not None:
            self.close(refusal)
            return
        self._begin()
        self.process()

    def _begin(self) -> None:
        """The client has a slot."""
        self._entered_group = self.policy.group
        if self.policy.log_connections:
            log.info("client=%s connected to %s", self.source_ip, self.received_on)
        self._timer = self.loop.call_later(min(GLANCE, self.policy.command_timeout), self._watch)
        self.greet()
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._coroutine is not None:
            self._coroutine.close()
            self._coroutine = None
        if self.transport is None:
            return
        self.transport = None
        if self.mode is _OUTSIDE:
            self.reception.step_out(self)
        is_waiting = self.mode is _WAITING
        self.mode = _CLOSING
        self._buffer = b""
        if not is_waiting:
            # A message on its way to the disk still counts; `accepted` lets it go.
            self.release()
        if self._entered_group is not None:
            self.reception.leave(self, self.source_ip, self._entered_group)
        if self.policy.log_connections:
            log.info("client=%s disconnected", self.source_ip)

    def eof_received(self) -> bool:
        self._has_ended = True
        # Inside TLS the other half can't stay open. Without it, whoever has sent everything may still listen.
        return self.mode is _WAITING and not self.is_tls

    def pause_writing(self) -> None:
        self._is_choked = True
        self._pause()

    def resume_writing(self) -> None:
        self._is_choked = False
        if self.transport is not None and self.mode is not _CLOSING:
            self.process()

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
        if self._held:
            self.reception.receiving -= self._held
            self._held = 0
        self.reader.clear()

    # ---- replies

    def answer_now(self, octets: bytes) -> None:
        """The reply that the client has been waiting for; then take what it has sent meanwhile."""
        if self._buffer or self._out or self._has_ended or not self.policy.replies_directly:
            self._out.append(octets)
            self.process()
        elif self.transport is not None:
            self.transport.write(octets)

    def reply(self, reply: Reply) -> None:
        """Answer a command; replies leave in the order in which they are given."""
        self._out.append(b"%d %b\r\n" % (reply.code, reply.text.encode("utf-8")))

    def say(self, octets: bytes) -> None:
        """Answer with complete reply lines."""
        self._out.append(octets)

    def _flush(self) -> None:
        out = self._out
        if out:
            self._out = []
            if not self.policy.replies_directly:
                out = self._overseen(out)
            if self.transport is not None:
                self.transport.write(b"".join(out))

    def _overseen(self, out: list[bytes]) -> list[bytes]:
        """What of these replies may go out: all before a 4xx that this client is not to hear."""
        if self.policy.log_data:
            log.info("client=%s sent=%r", self.source_ip, b"".join(out))
        if self.policy.hangs_up_on_4xx:
            for number, octets in enumerate(out):
                if octets.startswith(b"4"):
                    if self.transport is not None:
                        self.transport.write(b"".join(out[:number]))
                    self.close()
                    return []
        return out

    def overhear(self, data: bytes) -> None:
        """Log what came in, but no passwords."""
        is_secret = self.mode is _LOGIN or (self.mode is _COMMANDS and b"AUTH" in data.upper())
        log.info("client=%s received=%r", self.source_ip, b"(secret)" if is_secret else data)

    def close(self, reply: Reply | None = None) -> None:
        """Say it, and hang up when it is written."""
        if self.transport is None or self.mode is _CLOSING:
            return
        if reply is not None:
            self.reply(reply)
            if reply.code != 221:
                self.refused_connection(reply)
        self._flush()
        if self.mode is _OUTSIDE:
            self.reception.step_out(self)
        self.mode = _CLOSING
        self._buffer = b""
        self._position = 0
        self.release()
        if self._timer is not None:
            self._timer.cancel()
        # A client that does not read, or a TLS peer that does not say goodbye, must not keep the descriptor.
        self._timer = self.loop.call_later(PARTING_PATIENCE, self.abort)
        self.transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        if self.transport is not None:
            self.transport.abort()

    def drain(self) -> None:
        """Leave when nothing is under way."""
        raise NotImplementedError

    def _pause(self) -> None:
        if not self._is_paused and self.transport is not None:
            self._is_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and self.transport is not None:
            self._is_paused = False
            self.transport.resume_reading()

    # ---- deadlines

    def _watch(self) -> None:
        """The one timer of a connection."""
        if self.transport is None or self.mode is _CLOSING:
            return
        now = self._time()
        deadline = self._deadline()
        if now >= deadline:
            log.info("client=%s timed out in mode=%s", self.source_ip, self.mode.name.lower())
            if self._is_choked or self.mode is _HANDSHAKE:
                self.refused_connection(_TIMEOUT)
                self.abort()
            else:
                self.close(_TIMEOUT)
            return
        self._timer = self.loop.call_later(min(GLANCE, deadline - now), self._watch)

    def _deadline(self) -> float:
        """When patience ends, as things are now."""
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

    # ---- TLS

    def start_tls(self, ready: bytes) -> None:
        """Say `ready` and go on inside TLS; the caller has seen that nothing came behind the command."""
        assert self.transport is not None
        assert self._tls is not None
        # Before the client can answer: its handshake must not be taken for commands.
        self.transport.pause_reading()
        self.mode = _HANDSHAKE
        self.say(ready)
        self._flush()
        self._upgrade = self.loop.create_task(self._handshake(self.transport, self._tls))

    async def _handshake(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        try:
            secured = await self.loop.start_tls(
                transport, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_PATIENCE
            )
        except (OSError, EOFError, TimeoutError) as error:
            log.info("client=%s TLS handshake failed: %s", self.source_ip, error)
            transport.abort()
            # The transport reported to the handshake, which is gone; nobody else will tell us.
            self.connection_lost(None)
            return
        if self.transport is None or secured is None:
            if secured is not None:
                secured.abort()
            return
        self.transport = secured
        self._is_paused = self._is_choked = False
        self._progress_at = self._time()
        self.mode = _COMMANDS
        self._secured()
        self.process()

    def _secured(self) -> None:
        """Everything learned before TLS is forgotten (RFC 3207 4.2)."""
        self.is_tls = True
        assert self.transport is not None
        if self.rules.policy(self.source_ip, self.source_name).log_tls:
            tls = self.transport.get_extra_info("ssl_object")
            log.info("client=%s tls=%s cipher=%s", self.source_ip, tls.version(), tls.cipher()[0])

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

    def __repr__(self) -> str:
        tls = " tls" if self.is_tls else ""
        return f"<{type(self).__name__} {self.source_ip} {self.mode.name.lower()}{tls}>"


def _address(name: Any) -> str:
    """The IP address of a socket name; "" for sockets without one."""
    return str(name[0]).partition("%")[0] if isinstance(name, tuple) and name else ""
