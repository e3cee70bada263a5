"""One inbound connection as such: its slot, replies in order, deadlines, TLS and its end.

A subclass of aiosmtpd's SMTP without its stream reader: no task and no future per connection, one timer that
looks at the clock. `wire` makes something of what comes in; here reading only pauses while a client does not
read its replies, so that what waits for it is bounded by the transport's buffer.

When slots are taken, a client without one that may wait (smtp-await-slot) gets `SLOT_PATIENCE`.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import ssl
from collections.abc import Callable
from typing import Any, cast

from aiosmtpd.smtp import SMTP

from mta.ingress.reception import ALL_TAKEN, Reception, Rules
from mta.ingress.relaying import SourcePolicy
from mta.smtp.reply import Reply

__all__ = ["Connection", "Mode"]

log = logging.getLogger(__name__)

#: How long a client waits for a slot: a minute less than it waits for the greeting (RFC 5321 4.5.3.2.1).
SLOT_PATIENCE = 240.0
#: The timer looks at least this often.
GLANCE = 30.0
HANDSHAKE_PATIENCE = 30.0
#: What a client gets to read our last words.
PARTING_PATIENCE = 5.0

_TIMEOUT = Reply(421, "4.4.2 Timeout, closing connection", "4.4.2")

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
_COMMANDS, _, _, _, _WAITING, _HANDSHAKE, _OUTSIDE, _CLOSING = Mode


class Connection(SMTP):
    """Subclasses read (`wire`) and give `greet` and `drain`."""

    # More than thirty attributes are too many for the interpreter to share their names between objects: each
    # connection would have a dictionary of its own, and look-ups of methods would not be remembered.
    # fmt: off
    __slots__ = (
        "_entered_group", "_is_choked", "_is_paused", "_out", "_progress_at", "_send", "_time", "_timer",
        "_tls", "_upgrade", "awaits_slot", "is_tls", "loop", "mode", "policy", "received_on", "reception",
        "rules", "source_ip", "source_name", "transport",
    )
    # fmt: on

    # A hundred microseconds of introspection a connection are what SMTP.__init__ would add.
    def __init__(
        self, reception: Reception, *, source_name: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        self.reception = reception
        self.loop = reception.loop
        self.transport: asyncio.Transport | None = None
        # To the client as it is, past the replies in `_out`; to nobody without a transport.
        self._send: Callable[[bytes], object] = _nobody
        self.rules: Rules = reception.rules()
        self.source_name = source_name
        self.policy = _UNKNOWN_SOURCE
        self.mode = _COMMANDS
        self.source_ip = ""
        self.received_on = ""
        self.is_tls = False
        #: Whether to wait for a slot; None is what the rules say.
        self.awaits_slot: bool | None = None
        self._time = reception.loop.time
        self._tls = tls
        self._entered_group: str | None = None
        self._out: list[bytes] = []
        self._is_choked = False
        self._is_paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._upgrade: asyncio.Task[None] | None = None
        self._progress_at = 0.0

    # ---- what subclasses give

    def greet(self) -> None:
        """The client is in: say 220."""
        raise NotImplementedError

    def process(self) -> None:
        """Take what has come in, as far as it may be looked at now."""
        raise NotImplementedError

    def discard(self) -> None:
        """What has come in and was not taken yet is of no use any more."""
        raise NotImplementedError

    def deadline(self) -> float:
        """When patience with this client ends, as things are now (by the clock of the loop)."""
        raise NotImplementedError

    def drain(self) -> None:
        """Leave when nothing is under way."""
        raise NotImplementedError

    def refused_connection(self, reply: Reply) -> None:
        """Somebody was not let in or had to go."""
        self.reception.rejects.connection(reply, source_ip=self.source_ip, received_on=self.received_on)
        if self.policy.log_connections:
            log.info("client=%s refused: %s", self.source_ip, reply)

    # ---- a slot

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._send = self.transport.write
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
        if self.transport is None:
            return
        self.transport = None
        self._send = _nobody
        if self.mode is _OUTSIDE:
            self.reception.step_out(self)
        self.discard()
        self.mode = _CLOSING
        if self._entered_group is not None:
            self.reception.leave(self, self.source_ip, self._entered_group)
        if self.policy.log_connections:
            log.info("client=%s disconnected", self.source_ip)

    # ---- replies

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
            self._send(b"".join(out))

    def _overseen(self, out: list[bytes]) -> list[bytes]:
        """What of these replies may go out: all before a 4xx that this client is not to hear."""
        if self.policy.log_data:
            log.info("client=%s sent=%r", self.source_ip, b"".join(out))
        if self.policy.hangs_up_on_4xx:
            for number, octets in enumerate(out):
                if octets.startswith(b"4"):
                    self._send(b"".join(out[:number]))
                    self.close()
                    return []
        return out

    def pause_writing(self) -> None:
        self._is_choked = True
        self._pause()

    def resume_writing(self) -> None:
        self._is_choked = False
        if self.transport is not None and self.mode is not _CLOSING:
            self.process()

    def _pause(self) -> None:
        if not self._is_paused and self.transport is not None:
            self._is_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and self.transport is not None:
            self._is_paused = False
            self.transport.resume_reading()

    # ---- the end

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
        self.discard()
        self.mode = _CLOSING
        if self._timer is not None:
            self._timer.cancel()
        # A client that does not read, or a TLS peer that does not say goodbye, must not keep the descriptor.
        self._timer = self.loop.call_later(PARTING_PATIENCE, self.abort)
        self.transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        if self.transport is not None:
            self.transport.abort()

    def _watch(self) -> None:
        """The one timer of a connection."""
        if self.transport is None or self.mode is _CLOSING:
            return
        now = self._time()
        deadline = self.deadline()
        if now >= deadline:
            log.info("client=%s timed out in mode=%s", self.source_ip, self.mode.name.lower())
            if self._is_choked or self.mode is _HANDSHAKE:
                self.refused_connection(_TIMEOUT)
                self.abort()
            else:
                self.close(_TIMEOUT)
            return
        self._timer = self.loop.call_later(min(GLANCE, deadline - now), self._watch)

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
        self._send = secured.write
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

    def __repr__(self) -> str:
        tls = " tls" if self.is_tls else ""
        return f"<{type(self).__name__} {self.source_ip} {self.mode.name.lower()}{tls}>"


def _nobody(octets: bytes) -> None:
    """What is written to a client that is gone."""


def _address(name: Any) -> str:
    """The IP address of a socket name; "" for sockets without one."""
    return str(name[0]).partition("%")[0] if isinstance(name, tuple) and name else ""
