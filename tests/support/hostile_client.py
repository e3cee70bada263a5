"""What a hostile client says, and what is to come of it: the rows of the tables of the abuse tests."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from tests.support.inbound import Caller

__all__ = ["DATA", "ENVELOPE", "HELLO", "LIMITS", "USERS", "Row", "blob", "heard", "smuggled"]

HELLO = b"EHLO x\r\n"
ENVELOPE = HELLO + b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
DATA = ENVELOPE + b"DATA\r\n"

#: Limits that are quickly reached.
LIMITS = (
    "always-allow-relaying yes\nmax-message-size 100K\nmax-rcpt-per-message 5\nmax-message-hops 3\n"
    "allow-unencrypted-plain-auth yes\nprocess-x-virtual-mta yes\nprocess-x-job yes"
)
USERS = "<smtp-user app>\npassword s3cret\n</smtp-user>"


@dataclass(frozen=True, slots=True)
class Row:
    """`codes` are those of all replies to `talk`, in order. `stored` messages are on disk then, and the
    connection is open (`RSET` gets 250) unless it `ends`. `case` is the number in the catalogue of abuse.
    """

    case: str
    name: str
    talk: bytes
    codes: str
    ends: bool = False
    stored: int = 0
    source: str = LIMITS
    text: str = USERS
    tls: bool = False

    def __str__(self) -> str:
        return f"{self.case} {self.name}"


def smuggled(mark: bytes) -> bytes:
    """Content in which `mark` would end the message for a server that is easily taken in."""
    return (
        b"A: b\r\n\r\nfirst" + mark + b"MAIL FROM:<evil@x.example>\r\nRCPT TO:<victim@y.example>\r\nDATA\r\n"
        b"A: c\r\n\r\nsecond\r\n.\r\n"
    )


def blob(*parts: str) -> bytes:
    """The base64 of a login."""
    return base64.b64encode("\0".join(parts).encode())


async def heard(caller: Caller, count: int) -> str:
    """The codes of so many replies; shorter when the server hangs up before."""
    codes = []
    for _ in range(count):
        reply = await caller.reply()
        if not reply:
            break
        codes.append(reply[:3])
    return " ".join(codes)
