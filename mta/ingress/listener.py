"""Where connections come in: sockets that accept them, and the certificate they are secured with.

The sockets are bound by somebody else (the supervisor while it may, a test); the rules are the reception's.
`close` stops accepting and asks everybody to leave; `drained` waits until they have.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl

from mta.config.snapshot import Listener as ListenerBlock
from mta.config.snapshot import Snapshot
from mta.errors import ConfigError
from mta.ingress.conversation import Conversation
from mta.ingress.reception import Reception

__all__ = ["Listener", "server_tls"]

log = logging.getLogger(__name__)

#: Connections that the kernel keeps while we are busy.
BACKLOG = 1024


class Listener:
    """Any number of listening sockets with one reception behind them."""

    def __init__(self, reception: Reception, dummy: Reception | None = None) -> None:
        """`dummy` receives at the listeners that are one."""
        self.reception = reception
        self._dummy = dummy
        self._receptions = [reception] if dummy is None else [reception, dummy]
        self._servers: list[asyncio.Server] = []
        self._contexts: dict[tuple[str, int], ssl.SSLContext] = {}

    async def serve(
        self,
        sock: socket.socket,
        *,
        source_name: str = "",
        tls: ssl.SSLContext | None = None,
        is_immediate_tls: bool = False,
        awaits_slot: bool | None = None,
    ) -> None:
        """Accept connections from a bound socket; `source_name` is the named `<source>` of the listener.

        `awaits_slot` is the listener's own await-slot, None when it has none.
        """
        await self._serve(self.reception, sock, source_name, tls, is_immediate_tls, awaits_slot)

    async def _serve(
        self,
        reception: Reception,
        sock: socket.socket,
        source_name: str,
        tls: ssl.SSLContext | None,
        is_immediate_tls: bool,
        awaits_slot: bool | None,
    ) -> None:
        def connect() -> Conversation:
            conversation = Conversation(reception, source_name=source_name, tls=tls)
            conversation.awaits_slot = awaits_slot
            return conversation

        if is_immediate_tls:
            server = await self.reception.loop.create_server(
                connect, sock=sock, backlog=BACKLOG, ssl=tls, ssl_handshake_timeout=30.0
            )
        else:
            server = await self.reception.loop.create_server(connect, sock=sock, backlog=BACKLOG)
        self._servers.append(server)

    async def start(self, snapshot: Snapshot, sockets: list[socket.socket]) -> None:
        """Serve all listeners of a configuration; `sockets` are theirs, in the same order.

        Raises ConfigError when a certificate can't be used.
        """
        for block, sock in zip(snapshot.listeners, sockets, strict=True):
            if block.is_dummy:
                if self._dummy is not None:
                    await self._serve(self._dummy, sock, "", None, False, None)
                continue
            tls = server_tls(snapshot, block)
            is_immediate_tls = block.settings.boolean("immediate-tls")
            if tls is None and is_immediate_tls:
                raise ConfigError(
                    f"smtp-listener {block.host}:{block.port}: immediate-tls needs a certificate"
                )
            if tls is not None:
                self._contexts[block.host, block.port] = tls
            await self.serve(
                sock,
                source_name=block.source_name,
                tls=tls,
                is_immediate_tls=is_immediate_tls,
                awaits_slot=(
                    block.settings.boolean("await-slot") if block.settings.is_set("await-slot") else None
                ),
            )

    def reload(self, snapshot: Snapshot) -> None:
        """Use the certificates that the files hold now, for handshakes from here on.

        Raises ConfigError, and changes nothing, when one of them can't be used.
        """
        renewed = [
            (context, _certificate(snapshot, block))
            for block in snapshot.listeners
            if (context := self._contexts.get((block.host, block.port))) is not None
            and server_tls(snapshot, block) is not None
        ]
        for context, (path, password) in renewed:
            context.load_cert_chain(path, password=password)

    def close(self) -> None:
        """Accept nobody any more, and ask those who are here to finish."""
        for server in self._servers:
            server.close()
        for reception in self._receptions:
            reception.is_draining = True
            for guest in (*reception.guests, *reception.line):
                guest.drain()

    async def drained(self, seconds: float) -> None:
        """Wait until everybody has left; who is still here after so many seconds is hung up on."""
        try:
            async with asyncio.timeout(seconds):
                for reception in self._receptions:
                    await reception.empty.wait()
        except TimeoutError:
            for reception in self._receptions:
                for guest in (*reception.guests, *reception.line):
                    guest.abort()

    def __repr__(self) -> str:
        return f"<Listener sockets={len(self._servers)} {self.reception!r}>"


def server_tls(snapshot: Snapshot, block: ListenerBlock | None = None) -> ssl.SSLContext | None:
    """The TLS side of a listener; None when there is no certificate. Reads files; raises ConfigError.

    A listener's own tls-certificate comes before smtp-server-tls-certificate, and its protocol switches and
    ciphers with it. Older protocols than TLS 1.2 are not spoken (RFC 8996).
    """
    path, password = _certificate(snapshot, block)
    if not path:
        return None
    is_own = block is not None and bool(block.settings.words("tls-certificate"))
    prefix, settings = (
        ("tls-", block.settings) if block is not None and is_own else ("smtp-server-tls-", snapshot.top)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    is_old = settings.boolean(prefix + "allow-tlsv1.2")
    is_new = settings.boolean(prefix + "allow-tlsv1.3")
    if not is_old and not is_new:
        raise ConfigError(f"{prefix}allow-tlsv1.2 and {prefix}allow-tlsv1.3 are both off")
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if is_old else ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3 if is_new else ssl.TLSVersion.TLSv1_2
    try:
        if settings.is_set(f"{prefix}ciphers"):
            context.set_ciphers(settings.text(f"{prefix}ciphers"))
    except ssl.SSLError:
        raise ConfigError(f"{prefix}ciphers: OpenSSL knows none of them") from None
    try:
        # Without a password OpenSSL would ask on the terminal; an empty one fails instead.
        context.load_cert_chain(path, password=password)
    except ssl.SSLError as error:
        what = "no PEM file with a certificate and its private key, or another password"
        raise ConfigError(f"{prefix}certificate {path}: {what} ({error.strerror or error})") from None
    except OSError as error:
        raise ConfigError(f"{prefix}certificate {path}: {error.strerror or error}") from None
    return context


def _certificate(snapshot: Snapshot, block: ListenerBlock | None) -> tuple[str, str]:
    """File and password; two empty strings without a certificate."""
    words = block.settings.words("tls-certificate") if block is not None else ()
    words = words or snapshot.top.words("smtp-server-tls-certificate")
    return (words[0], words[1] if len(words) > 1 else "") if words else ("", "")
