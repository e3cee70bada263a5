"""One attempt to get a connection ready for mail: TCP, greeting, EHLO, STARTTLS, AUTH.

The first words are `greeter.py`'s. For STARTTLS and AUTH aiosmtplib takes the connection over; what it lacks
is added here: a deadline for each phase as a whole (its own are per reply), and no patience with bytes that
nobody asked for: an answer that is already there before its question was put by somebody else (STARTTLS
injection, CVE-2021-38371 and its kin).

aiosmtplib's `SMTP` is given a connection that it has not opened, and its protocol's `_buffer` is looked at;
both are private, so the dependency is pinned to one minor release and tests/loopback/delivery/test_dialer.py
proves the pair.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Final, cast

from aiosmtplib import SMTP
from aiosmtplib.errors import (
    SMTPException,
    SMTPHeloError,
    SMTPResponseException,
    SMTPServerDisconnected,
)
from aiosmtplib.protocol import SMTPProtocol

from mta.clock import Clock
from mta.config.proxy import Proxy
from mta.delivery.connection import Connection, DialFailure, TargetLike
from mta.delivery.deadline import Deadline
from mta.delivery.dialogue import Dialogue
from mta.delivery.greeter import Greeter, connect, source_socket
from mta.delivery.policy import DeliveryPolicy
from mta.delivery.proxying import addresses_of, connect_to_any, proxy_header
from mta.delivery.tls import server_name
from mta.errors import is_shortage
from mta.smtp.extensions import PLAIN_SMTP, Extensions
from mta.smtp.opening import Offers, Opening
from mta.smtp.reply import Reply
from mta.smtp.replyparser import parse_text
from mta.smtp.status import find_enhanced
from mta.smtp.transaction import internal_reply

__all__ = ["Handshake", "ProxyDown", "TlsBroken"]

_LOST: Final = internal_reply(451, "4.4.2", "connection lost (greeting)")


class TlsBroken(DialFailure):
    """STARTTLS was begun and failed: this connection is lost, another one in plain text may work."""


class ProxyDown(DialFailure):
    """The proxy on the way gave no connection; nothing is known about the target."""


class Handshake:
    """One attempt at one target."""

    def __init__(
        self,
        target: TargetLike,
        *,
        source_ip: str,
        host_name: str,
        policy: DeliveryPolicy,
        tls: ssl.SSLContext | None,
        offers: Offers,
        clock: Clock,
        proxy: Proxy | None = None,
    ) -> None:
        """`tls` is the context for STARTTLS where it is offered; None for plain text. Through a `proxy` the
        source address is one of its own."""
        self._target = target
        self._policy = policy
        self._tls = tls
        self._proxy = proxy
        self._source_ip = source_ip
        self._host_name = host_name
        self._clock = clock
        self._opening = Opening(host_name, offers)
        self._dialogue: Dialogue | None = None
        self.mta_name = f"{target.host} ({target.ip})"
        self._extensions = PLAIN_SMTP

    def watch(self, dialogue: Dialogue) -> None:
        """Have everything that is said written down."""
        self._dialogue = dialogue

    async def perform(self) -> Connection:
        """Raises DialFailure (TlsBroken for STARTTLS); leaves nothing open then."""
        loop = asyncio.get_running_loop()
        policy = self._policy
        greeter = Greeter(self._opening, policy, clock=self._clock, loop=loop, dialogue=self._dialogue)
        transport: asyncio.Transport | None = None
        deadline: Deadline | None = greeter.deadline
        try:
            transport = await self._connect(greeter, loop)
            await greeter.done
            if greeter.failure is not None:
                raise self._failure(greeter.failure, is_refusal=self._opening.is_refusal)
            self._extensions = self._opening.extensions
            if (
                policy.auth_username
                or policy.tls.require
                or (self._tls is not None and self._extensions.starttls)
            ):
                greeter.deadline.cancel()
                deadline = None
                transport = await self._go_on(transport)
            elif transport.is_closing():
                raise self._failure(internal_reply(451, "4.4.2", "connection lost (EHLO)"))
            return self._connection(transport, deadline)
        except BaseException:
            greeter.deadline.cancel()
            if transport is not None:
                # At once: closing in good order would wait for a peer that may never answer.
                transport.abort()
            raise

    async def _connect(self, greeter: Greeter, loop: asyncio.AbstractEventLoop) -> asyncio.Transport:
        """A TCP connection, which the greeter has begun to talk on."""
        target, proxy = self._target, self._proxy
        if self._dialogue is not None:
            source = f" from {self._source_ip}" if self._source_ip else ""
            self._dialogue.note(f"connecting to {target.host} ({target.ip}) port {target.port}{source}")
        try:
            if proxy is not None:
                sock = await self._open_through(proxy, loop)
            else:
                sock = source_socket(socket.AF_INET6 if ":" in target.ip else socket.AF_INET, self._source_ip)
                try:
                    await connect(sock, target.ip, target.port, limit=self._policy.connect_timeout, loop=loop)
                    self._source_ip = sock.getsockname()[0]
                except BaseException:
                    sock.close()
                    raise
        except TimeoutError as error:
            raise self._no_connection("connection timed out") from error
        except OSError as error:
            if isinstance(error, ConnectionResetError) and proxy is None:
                raise self._failure(_LOST) from error
            if is_shortage(error):
                raise self._failure(internal_reply(451, "4.3.0", _words(error))) from error
            raise self._no_connection(_words(error)) from error
        try:
            transport, _ = await loop.create_connection(lambda: greeter, sock=sock)
        except OSError as error:
            raise self._failure(_LOST) from error  # it went as soon as it had come
        return transport

    async def _open_through(self, proxy: Proxy, loop: asyncio.AbstractEventLoop) -> socket.socket:
        """A socket to the proxy that has told it where to connect to."""
        async with asyncio.timeout(self._policy.connect_timeout):
            sock = await connect_to_any(await addresses_of(proxy, loop), proxy.local_ip, loop)
            try:
                await loop.sock_sendall(sock, proxy_header(proxy, self._target.ip, self._target.port))
            except BaseException:
                sock.close()
                raise
        return sock

    def _no_connection(self, words: str) -> DialFailure:
        proxy = self._proxy
        if proxy is None:
            return self._failure(internal_reply(451, "4.4.1", words))
        reply = internal_reply(451, "4.4.1", f"proxy {proxy.host}:{proxy.port}: {words}")
        return self._failure(reply, kind=ProxyDown)

    # -- STARTTLS and AUTH -----------------------------------------------------------------------------

    async def _go_on(self, transport: asyncio.Transport) -> asyncio.Transport:
        client = _Client(self._target, self._host_name)
        try:
            async with self._phase("handing over"):
                client.adopt(transport, self._dialogue)
            await self._encrypt(client)
            await self._log_in(client)
            async with self._phase("handing over"):
                return client.release()
        except BaseException:
            client.abort()
            raise

    async def _greet(self, client: _Client) -> None:
        async with self._phase("EHLO"):
            try:
                response = await client.ehlo()
            except SMTPHeloError as error:
                if not 500 <= error.code <= 599 or not client.is_connected:
                    raise
                await client.helo()
                self._extensions = PLAIN_SMTP
            else:
                self._extensions = Extensions.parse(response.message.split("\n")[1:])

    async def _encrypt(self, client: _Client) -> None:
        tls, policy = self._tls, self._policy
        if tls is None or not self._extensions.starttls:
            if policy.tls.require:
                raise self._failure(internal_reply(451, "4.7.10", "TLS is required and not offered"))
            return
        try:
            async with self._phase("STARTTLS"):
                await client.upgrade(tls, server_name(self._target.host))
        except DialFailure as failure:
            raise self._failure(failure.reply, kind=TlsBroken) from failure
        except SMTPResponseException as error:
            if policy.tls.require or error.code in (-1, 421) or not client.is_connected:
                raise self._failure(_server_reply(error), kind=TlsBroken) from error
            return  # it says no in good order: go on in plain text
        except (ssl.SSLError, OSError, ValueError) as error:
            reply = internal_reply(451, "4.7.5", f"TLS handshake failed: {_words(error)}")
            raise self._failure(reply, kind=TlsBroken) from error
        await self._greet(client)

    async def _log_in(self, client: _Client) -> None:
        policy = self._policy
        if not policy.auth_username:
            return
        offered = self._extensions.auth
        may_show_password = client.is_encrypted or policy.use_unencrypted_plain_auth
        async with self._phase("AUTH"):
            if "CRAM-MD5" in offered:
                await client.auth_crammd5(policy.auth_username, policy.auth_password)
            elif "PLAIN" in offered and may_show_password:
                await client.auth_plain(policy.auth_username, policy.auth_password)
            elif "LOGIN" in offered and may_show_password:
                await client.auth_login(policy.auth_username, policy.auth_password)
            else:
                raise self._failure(internal_reply(451, "4.7.4", "no way to log in that we may use"))

    def _connection(self, transport: asyncio.Transport, deadline: Deadline | None) -> Connection:
        policy, extensions = self._policy, self._extensions
        if policy.ignore_pipelining or policy.ignore_8bitmime or policy.ignore_dsn:
            extensions = extensions.without(
                pipelining=policy.ignore_pipelining,
                eightbitmime=policy.ignore_8bitmime,
                dsn=policy.ignore_dsn,
            )
        tls = transport.get_extra_info("ssl_object")
        cipher = tls.cipher() if tls is not None else None
        return Connection(
            transport=transport,
            host=self._target.host,
            ip=self._target.ip,
            port=self._target.port,
            source_ip=self._source_ip,
            mta_name=self.mta_name,
            extensions=extensions,
            tls_protocol=(tls.version() or "") if tls is not None else "",
            tls_cipher=cipher[0] if cipher else "",
            is_pix=self._opening.is_pix,
            deadline=deadline,
        )

    # -- failures --------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _phase(self, name: str) -> AsyncIterator[None]:
        """Everything inside happens within the time of a command; what aiosmtplib raises becomes a
        DialFailure."""
        try:
            async with asyncio.timeout(self._policy.command_timeout):
                yield
        except TimeoutError as error:
            raise self._failure(internal_reply(451, "4.4.1", f"no answer in time ({name})")) from error
        except SMTPResponseException as error:
            if name == "STARTTLS":
                raise
            raise self._failure(_server_reply(error)) from error
        except SMTPServerDisconnected as error:
            raise self._failure(internal_reply(451, "4.4.2", f"connection lost ({name})")) from error
        except SMTPException as error:
            raise self._failure(internal_reply(451, "4.4.2", f"{_words(error)} ({name})")) from error

    def _failure(
        self, reply: Reply, *, is_refusal: bool = False, kind: type[DialFailure] = DialFailure
    ) -> DialFailure:
        return kind(
            reply,
            mta_name=self.mta_name,
            ip=self._target.ip,
            source_ip=self._source_ip,
            is_refusal=is_refusal,
        )


class _SetupProtocol(SMTPProtocol):
    """aiosmtplib's protocol, which refuses to ask anything while an unasked answer lies there."""

    def write(self, data: bytes) -> None:
        if self._buffer:
            raise SMTPServerDisconnected("the server spoke out of turn")
        super().write(data)


class _WatchedSetup(_SetupProtocol):
    """The same, overheard."""

    dialogue: Dialogue

    def write(self, data: bytes) -> None:
        self.dialogue.sent(data)
        super().write(data)

    def data_received(self, data: bytes) -> None:
        self.dialogue.received(data)
        super().data_received(data)


class _Client(SMTP):
    """aiosmtplib's client on a connection that is open already; it never asks DNS."""

    def __init__(self, target: TargetLike, host_name: str) -> None:
        super().__init__(
            hostname=target.ip, port=target.port, local_hostname=host_name, timeout=None, start_tls=False
        )
        self._target_host = target.host

    def adopt(self, transport: asyncio.Transport, dialogue: Dialogue | None) -> None:
        """Go on with this connection; nothing is awaited on it."""
        if transport.is_closing():
            raise SMTPServerDisconnected("Connection lost")
        loop = asyncio.get_running_loop()
        if dialogue is None:
            protocol = _SetupProtocol(loop=loop, connection_lost_callback=self._on_connection_lost)
        else:
            protocol = _WatchedSetup(loop=loop, connection_lost_callback=self._on_connection_lost)
            protocol.dialogue = dialogue
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        self.protocol, self.transport = protocol, transport

    @property
    def is_encrypted(self) -> bool:
        return self.transport is not None and self.transport.get_extra_info("ssl_object") is not None

    async def upgrade(self, context: ssl.SSLContext, name: str | None) -> None:
        """STARTTLS, and forget what was said before it (RFC 3207 4.2)."""
        protocol = self.protocol
        if protocol is None:
            raise SMTPServerDisconnected("Connection lost")
        if name is None and context.check_hostname:
            raise ValueError(f"no certificate can be valid for {self._target_host}")
        await protocol.start_tls(context, server_hostname=name)
        self.transport = protocol.transport
        self._reset_server_state()

    def release(self) -> asyncio.Transport:
        """Give the transport away; raises SMTPServerDisconnected when it is gone or holds unasked bytes."""
        protocol, transport = self.protocol, self.transport
        if protocol is None or transport is None or transport.is_closing() or protocol._buffer:
            raise SMTPServerDisconnected("Connection lost")
        return cast(asyncio.Transport, transport)

    def abort(self) -> None:
        """Leave at once; closing in good order would wait for a peer that may never answer."""
        transport = self.transport
        if transport is not None:
            cast(asyncio.Transport, transport).abort()
        self.close()


def _server_reply(error: SMTPResponseException) -> Reply:
    """What the server said; aiosmtplib uses code -1 for what isn't a reply."""
    text = " ".join(
        parse_text(line.encode("utf-8", "surrogateescape"))[:512] for line in error.message.split("\n")[:20]
    )
    if not 400 <= error.code <= 599:
        return internal_reply(451, "4.5.0", f"protocol error: {error.code} {text[:200]}")
    return Reply(error.code, text[:4096], find_enhanced(text))


def _words(error: BaseException) -> str:
    """An exception in a few harmless words."""
    if isinstance(error, socket.gaierror):  # its numbers are of a kind of their own
        return error.strerror or "no address"
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)  # the event loops put words of their own into strerror
    return parse_text(str(error).encode("utf-8", "replace"))[:200] or type(error).__name__
