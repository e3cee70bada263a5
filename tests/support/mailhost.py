"""A stock aiosmtpd server: a peer for commands that submit mail and know nothing of us."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiosmtpd.smtp import SMTP, Envelope, Session

__all__ = ["Letter", "MailHost", "mail_host"]

_DSN = ("RET", "ENVID", "NOTIFY", "ORCPT")


@dataclass
class Letter:
    """One message as it came in; `parameters` are those of DSN (RFC 3461), in order."""

    sender: str
    recipients: list[str]
    content: bytes
    options: list[str]
    parameters: list[str]


@dataclass
class MailHost:
    """What came in, and what to answer: `replies` by address, or by "DATA" or "connect"."""

    letters: list[Letter] = field(default_factory=list)
    replies: dict[str, str] = field(default_factory=dict)
    parameters: list[str] = field(default_factory=list)
    sessions: int = 0
    port: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [responses[0], "250-DSN", *responses[1:]]

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        reply = self.replies.get(address, "250 OK")
        if reply.startswith("250"):
            envelope.mail_from = address or "<>"  # it takes an empty one for none
            envelope.mail_options.extend(options)
        return reply

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        reply = self.replies.get(address, "250 OK")
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        reply = self.replies.get("DATA", "250 2.0.0 queued as ABC")
        if reply.startswith("250"):
            assert isinstance(envelope.content, bytes)
            assert envelope.mail_from is not None
            self.letters.append(
                Letter(
                    envelope.mail_from.replace("<>", ""),
                    envelope.rcpt_tos,
                    envelope.content,
                    envelope.mail_options,
                    self.parameters,
                )
            )
        self.parameters = []
        return reply


class DsnSmtp(SMTP):
    """aiosmtpd refuses the parameters of RFC 3461; here they are noted and taken away."""

    def _getparams(self, params: Sequence[str]) -> dict[str, str | bool] | None:
        known = [param for param in params if param.partition("=")[0] in _DSN]
        self.event_handler.parameters += known
        left: dict[str, str | bool] | None = super()._getparams([one for one in params if one not in known])
        return left


@asynccontextmanager
async def mail_host() -> AsyncIterator[MailHost]:
    """A running server on a port of its own, in the test's loop: call commands in another thread."""
    host = MailHost()
    loop = asyncio.get_running_loop()

    def session() -> SMTP:
        host.sessions += 1
        return DsnSmtp(host, enable_SMTPUTF8=True, loop=loop, hostname="mailhost.test")

    server = await loop.create_server(session, "127.0.0.1", 0)
    host.port = server.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        server.close()
        await server.wait_closed()
