"""One attempt to get a connection ready for mail: TCP, greeting, EHLO, STARTTLS, AUTH.

aiosmtplib does the talking; what it lacks is added here: a bound source address, a deadline for each phase as
a whole (its own are per reply), and no patience with bytes that nobody asked for: an answer that is already
there before its question was put by somebody else (STARTTLS injection, CVE-2021-38371 and its kin).

aiosmtplib's `SMTP._create_connection` is replaced and its protocol's `_buffer` looked at; both are private,
so the dependency is pinned to one minor release and tests/loopback/delivery/test_dialer.py proves the pair.
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
    SMTPConnectResponseError,
    SMTPException,
    SMTPHeloError,
    SMTPResponseException,
    SMTPServerDisconnected,
)
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from mta.config.proxy import Proxy
from mta.delivery.connection import Connection, DialFailure, TargetLike
from mta.delivery.dialogue import Dialogue
from mta.delivery.policy import DeliveryPolicy
from mta.delivery.proxying import proxy_header
from mta.delivery.tls import server_name
from mta.smtp.extensions import PLAIN_SMTP, Extensions
from mta.smtp.reply import Reply
from mta.smtp.replyparser import parse_text
from mta.smtp.status import find_enhanced
from mta.smtp.transaction import internal_reply

__all__ = ["Handshake", "ProxyDown", "TlsBroken"]

#: Linux: choose the local port when the destination is known, so that a source address can have more
#: connections than it has ports. Not in the socket module of Python 3.11.
IP_BIND_ADDRESS_NO_PORT: Final = 24


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
        proxy: Proxy | None = None,
    ) -> None:
        """`tls` is the context for STARTTLS where it is offered; None for plain text. Through a `proxy` the
        source address is one of its own."""
        self._target = target
        self._policy = policy
        self._tls = tls
        self._client = _Client(target, source_ip, host_name, policy, proxy)
        self.mta_name = f"{target.host} ({target.ip})"
        self._extensions = PLAIN_SMTP

    def watch(self, dialogue: Dialogue) -> None:
        """Have everything that is said written down."""
        self._client.dialogue = dialogue

    async def perform(self) -> Connection:
        """Raises DialFailure (TlsBroken for STARTTLS); leaves nothing open then."""
        try:
            async with self._phase("greeting", self._policy.connect_timeout + self._policy.greeting_timeout):
                await self._client.connect()
            await self._greet()
            await self._encrypt()
            await self._log_in()
            async with self._phase("handing over"):
                return self._hand_over()
        except BaseException:
            self._client.abort()
            raise

    async def _greet(self) -> None:
        client = self._client
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

    async def _encrypt(self) -> None:
        tls, policy = self._tls, self._policy
        if tls is None or not self._extensions.starttls:
            if policy.tls.require:
                raise self._failure(internal_reply(451, "4.7.10", "TLS is required and not offered"))
            return
        client = self._client
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
        await self._greet()

    async def _log_in(self) -> None:
        policy, client = self._policy, self._client
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

    def _hand_over(self) -> Connection:
        policy, client = self._policy, self._client
        transport = client.release()
        tls = transport.get_extra_info("ssl_object")
        cipher = tls.cipher() if tls is not None else None
        return Connection(
            transport=transport,
            host=self._target.host,
            ip=self._target.ip,
            port=self._target.port,
            source_ip=client.source_ip,
            mta_name=self.mta_name,
            extensions=self._extensions.without(
                pipelining=policy.ignore_pipelining,
                eightbitmime=policy.ignore_8bitmime,
                dsn=policy.ignore_dsn,
            ),
            tls_protocol=(tls.version() or "") if tls is not None else "",
            tls_cipher=cipher[0] if cipher else "",
        )

    # -- failures --------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _phase(self, name: str, limit: float | None = None) -> AsyncIterator[None]:
        """Everything inside happens within `limit` seconds; what aiosmtplib raises becomes a DialFailure."""
        try:
            async with asyncio.timeout(self._policy.command_timeout if limit is None else limit):
                yield
        except TimeoutError as error:
            raise self._failure(internal_reply(451, "4.4.1", f"no answer in time ({name})")) from error
        except SMTPConnectResponseError as error:
            is_refusal = 500 <= error.code <= 599
            raise self._failure(_server_reply(error), is_refusal=is_refusal) from error
        except SMTPResponseException as error:
            if name == "STARTTLS":
                raise
            raise self._failure(_server_reply(error)) from error
        except SMTPServerDisconnected as error:
            raise self._failure(internal_reply(451, "4.4.2", f"connection lost ({name})")) from error
        except _ProxyFailed as error:
            raise self._failure(internal_reply(451, "4.4.1", str(error)), kind=ProxyDown) from error
        except _ConnectFailed as error:
            raise self._failure(internal_reply(451, "4.4.1", str(error))) from error
        except SMTPException as error:
            raise self._failure(internal_reply(451, "4.4.2", f"{_words(error)} ({name})")) from error

    def _failure(
        self, reply: Reply, *, is_refusal: bool = False, kind: type[DialFailure] = DialFailure
    ) -> DialFailure:
        return kind(
            reply,
            mta_name=self.mta_name,
            ip=self._target.ip,
            source_ip=self._client.source_ip,
            is_refusal=is_refusal,
        )


class _ConnectFailed(Exception):
    """TCP gave no connection; the text says why."""


class _ProxyFailed(Exception):
    """The same, before the target came into it."""


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
    """aiosmtplib's client for one target, bound to a source address; it never asks DNS."""

    def __init__(
        self,
        target: TargetLike,
        source_ip: str,
        host_name: str,
        policy: DeliveryPolicy,
        proxy: Proxy | None = None,
    ) -> None:
        super().__init__(
            hostname=target.ip, port=target.port, local_hostname=host_name, timeout=None, start_tls=False
        )
        self._target_host = target.host
        self._policy = policy
        self._proxy = proxy
        self.source_ip = source_ip
        self.dialogue: Dialogue | None = None

    async def _create_connection(self, timeout: float | None) -> SMTPResponse:
        loop = asyncio.get_running_loop()
        protocol = self._make_protocol(loop)
        try:
            async with asyncio.timeout(self._policy.connect_timeout):
                sock = await self._open_socket(loop)
                self.transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
        except TimeoutError:
            raise self._no_connection("connection timed out") from None
        except OSError as error:
            raise self._no_connection(_words(error)) from error
        self.protocol = protocol
        if self._proxy is None:
            self.source_ip = self.transport.get_extra_info("sockname")[0]
        async with asyncio.timeout(self._policy.greeting_timeout):
            response = await protocol.read_response()
        if response.code != 220:
            raise SMTPConnectResponseError(response.code, response.message)
        return response

    def _make_protocol(self, loop: asyncio.AbstractEventLoop) -> _SetupProtocol:
        if self.dialogue is None:
            return _SetupProtocol(loop=loop, connection_lost_callback=self._on_connection_lost)
        watched = _WatchedSetup(loop=loop, connection_lost_callback=self._on_connection_lost)
        watched.dialogue = self.dialogue
        self.dialogue.note(
            f"connecting to {self._target_host} ({self.hostname}) port {self.port}"
            f"{f' from {self.source_ip}' if self.source_ip else ''}"
        )
        return watched

    async def _open_socket(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        assert self.hostname is not None
        assert self.port is not None
        proxy = self._proxy
        if proxy is not None:
            return await self._open_through(proxy, loop)
        is_v6 = ":" in self.hostname
        sock = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.source_ip:
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((self.source_ip, 0))
            await loop.sock_connect(sock, (self.hostname, self.port))
        except BaseException:
            sock.close()
            raise
        return sock

    async def _open_through(self, proxy: Proxy, loop: asyncio.AbstractEventLoop) -> socket.socket:
        """A socket to the proxy that has told it where to connect to."""
        assert self.hostname is not None
        assert self.port is not None
        found = await loop.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM)
        family, kind, _, _, address = found[0]
        sock = socket.socket(family, kind)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if proxy.local_ip:
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((proxy.local_ip, 0))
            await loop.sock_connect(sock, address)
            await loop.sock_sendall(sock, proxy_header(proxy, self.hostname, self.port))
        except BaseException:
            sock.close()
            raise
        return sock

    def _no_connection(self, words: str) -> Exception:
        if self._proxy is None:
            return _ConnectFailed(words)
        return _ProxyFailed(f"proxy {self._proxy.host}:{self._proxy.port}: {words}")

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
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)  # the event loops put words of their own into strerror
    return parse_text(str(error).encode("utf-8", "replace"))[:200] or type(error).__name__
