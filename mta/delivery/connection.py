"""A connection that is ready for mail: the transport, and what must be known and recorded about it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mta.delivery.deadline import Deadline
from mta.delivery.dialogue import Dialogue
from mta.errors import ConnectError
from mta.smtp.extensions import Extensions
from mta.smtp.reply import Reply
from mta.smtp.transaction import internal_reply

__all__ = ["Connection", "DialFailure", "Facts", "TargetLike"]


class TargetLike(Protocol):
    """One address of one MX host; `mta.routing.router.Target` is one."""

    @property
    def host(self) -> str: ...
    @property
    def ip(self) -> str: ...
    @property
    def port(self) -> int: ...


class Facts(NamedTuple):
    """What a record says about the connection; all empty when there was none.

    `mta_name` is the remote as `host (ip)`, `esmtp` the comma list of what it offered. `has_dsn` says that it
    takes over the duty to notify (RFC 3461).
    """

    mta_name: str = ""
    source_ip: str = ""
    destination_ip: str = ""
    esmtp: str = ""
    tls_protocol: str = ""
    tls_cipher: str = ""
    has_dsn: bool = False
    delivery_type: str = "smtp"


@dataclass(frozen=True, slots=True)
class Connection:
    """After EHLO, STARTTLS and AUTH. `mta_name` is `host (ip)`, as accounting prints the remote.

    What is said from here on is told to the `dialogue` as well, if there is one. A `deadline` is there to be
    taken over: its timer runs already.
    """

    transport: asyncio.Transport
    host: str
    ip: str
    port: int
    source_ip: str
    mta_name: str
    extensions: Extensions
    tls_protocol: str = ""
    tls_cipher: str = ""
    dialogue: Dialogue | None = None
    is_pix: bool = False  #: an old PIX firewall stands in between
    deadline: Deadline | None = None

    def facts(self) -> Facts:
        """The same for the record."""
        return Facts(
            self.mta_name,
            self.source_ip,
            self.ip,
            self.extensions.offered,
            self.tls_protocol,
            self.tls_cipher,
            self.extensions.dsn,
        )

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
        self.facts = Facts(mta_name, source_ip, ip)
        self.is_refusal = is_refusal


class HostsCrowded(DialFailure):
    """No host that could be tried has room for one more connection (`mx-connection-limit` and its kin)."""

    def __init__(self) -> None:
        super().__init__(internal_reply(451, "4.4.5", "every host has all the connections it may have"))
