"""A connection that is ready for mail: the transport, and what must be known and recorded about it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from mta.errors import ConnectError
from mta.smtp.extensions import Extensions
from mta.smtp.reply import Reply

__all__ = ["Connection", "DialFailure", "TargetLike"]


class TargetLike(Protocol):
    """One address of one MX host; `mta.routing.router.Target` is one."""

    @property
    def host(self) -> str: ...
    @property
    def ip(self) -> str: ...
    @property
    def port(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Connection:
    """After EHLO, STARTTLS and AUTH. `mta_name` is `host (ip)`, as accounting prints the remote."""

    transport: asyncio.Transport
    host: str
    ip: str
    port: int
    source_ip: str
    mta_name: str
    extensions: Extensions
    tls_protocol: str = ""
    tls_cipher: str = ""

    def __repr__(self) -> str:
        tls = f" {self.tls_protocol}" if self.tls_protocol else ""
        return f"<Connection to {self.mta_name} port {self.port} from {self.source_ip}{tls}>"


class DialFailure(ConnectError):
    """No connection came about at any target; what to record is that of the last one tried.

    `is_refusal` says that every target answered our greeting with a permanent no.
    """

    def __init__(
        self, reply: Reply, *, mta_name: str = "", ip: str = "", source_ip: str = "", is_refusal: bool = False
    ) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.mta_name = mta_name
        self.ip = ip
        self.source_ip = source_ip
        self.is_refusal = is_refusal
