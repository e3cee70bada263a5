"""What the mock receiver counts and hands out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["ClientTotals", "Delivery", "Totals"]


class Delivery(NamedTuple):
    """One message that was accepted.

    `recipients` are those accepted. `size` is octets as on the wire, without the final dot; `data` is that
    same text (CRLF, dots still doubled), empty unless the receiver keeps it. `tls` is the protocol version,
    "" in clear.
    """

    id: str
    sender: str
    recipients: tuple[str, ...]
    client: str
    greeting: str
    connection: int
    size: int
    data: bytes
    tls: str


@dataclass(slots=True)
class ClientTotals:
    """What one client address did; `open` and `peak` are connections at a time, `greeting` its last EHLO."""

    connections: int = 0
    refused: int = 0
    open: int = 0
    peak: int = 0
    messages: int = 0
    greeting: str = ""


@dataclass(slots=True)
class Totals:
    """Counters since the start. `accepted`, `deferred` and `refused` are recipients."""

    connections: int = 0
    refused_connections: int = 0
    open: int = 0
    peak: int = 0
    tls: int = 0
    transactions: int = 0  # final dots
    messages: int = 0  # of which accepted
    bytes: int = 0
    accepted: int = 0
    deferred: int = 0
    refused: int = 0
    lost: int = 0  # connections that broke between 354 and the final dot
    quits: int = 0
    first_at: float = 0.0  # first and last message, by the event loop's clock
    last_at: float = 0.0
