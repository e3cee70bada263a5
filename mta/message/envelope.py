"""The envelope of one accepted message: everything about it but its bytes.

It is written once, with the body, and never changed: what becomes of each recipient is the settle log's
business. The encoding is MessagePack with fields by position, so a field may only ever be added at the
end, with a default.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import msgspec

__all__ = [
    "NORMAL_PRIORITY",
    "Envelope",
    "Notify",
    "Personal",
    "Recipient",
    "Ret",
    "decode_envelope",
    "encode_envelope",
]


#: What a recipient has whose priority nobody has set; they go from 0 to 100.
NORMAL_PRIORITY = 50


class Notify(enum.IntFlag):
    """NOTIFY of RCPT TO (RFC 3461 4.1); nothing set means that the client gave none."""

    NEVER = 1
    SUCCESS = 2
    FAILURE = 4
    DELAY = 8


class Ret(enum.IntEnum):
    """RET of MAIL FROM (RFC 3461 4.3): what a DSN returns."""

    NONE = 0
    FULL = 1
    HDRS = 2


class Personal(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What one recipient gets that the others don't (`mta.message.personal` applies it).

    `originator` replaces the message's, None keeps it; so does `envelope_id` unless it is "". `parts` are the
    numbers of the template's parts that make up the content, in order, from 1; () = all of them. `variables`
    fill the template, by lower-case name. `priority` replaces the message's, None keeps it.
    """

    originator: str | None = None
    envelope_id: str = ""
    parts: tuple[int, ...] = ()
    variables: dict[str, bytes] = {}
    priority: int | None = None


class Recipient(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """One RCPT TO.

    `address` is as the client gave it, without angle brackets. `queue_domain` is the lower-case domain of
    the queue it waits in (after queue-to). `notify` is a `Notify` value.
    """

    address: str
    queue_domain: str
    notify: int = 0
    orcpt: str = ""
    personal: Personal | None = None


class Envelope(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Who sent it, how it came, which virtual MTA sends it on, and to whom.

    `received` is epoch seconds (the clock's steady `now`). `originator` is "" for the null return path.
    `captured` holds the message headers that accounting or suppression ask for, by lower-case name.
    `vmta_pool` is the pool the vMTA was chosen from, "" without one. `copies` is for one worker's part of a
    message in which an address was given several times.
    """

    queue_id: str
    received: float
    originator: str
    vmta: str
    recipients: tuple[Recipient, ...]
    job_id: str = ""
    envelope_id: str = ""
    vmta_pool: str = ""
    ret: int = 0
    is_8bit: bool = False
    is_smtputf8: bool = False
    source_type: str = "smtp"
    source_mta: str = ""  # "helo-name (ip)", as accounting prints it
    source_user: str = ""
    received_on: str = ""  # the local address the client connected to
    source_ip: str = ""
    suppress_dsn: bool = False
    sign: bool = True
    captured: dict[str, str] = {}
    is_personal: bool = False  # some recipient has a `personal`: each one gets a transaction of its own
    template: tuple[int, ...] = ()  # octets of our own lines, then of each part; () = nothing to fill in
    drops_unknown: bool = True  # a field of the template without a value becomes empty
    schedule: tuple[tuple[int, int], ...] = ()  # when it may be sent (`mta.message.schedule`); () = always
    dkim_options: str = ""  # X-DKIM-Options and X-DKIM-Key, as far as the source may use them
    dkim_key: str = ""
    lacks_date: bool = False  # each delivery adds a Date line of its own
    priority: int = NORMAL_PRIORITY  # of its recipients within their queues, 0 to 100, higher ones first
    copies: tuple[int, ...] = ()  # by recipient: how often its address stood before it; () = count them here

    def priority_of(self, recipient: int) -> int:
        """The priority of one recipient as it was when the message came in."""
        personal = self.recipients[recipient].personal if self.is_personal else None
        own = None if personal is None else personal.priority
        return self.priority if own is None else own


#: Serialise for the spool.
encode_envelope: Callable[[Envelope], bytes] = msgspec.msgpack.Encoder().encode
#: Read what `encode_envelope` wrote. Raises msgspec.DecodeError (a ValueError) on anything else.
decode_envelope: Callable[[bytes | memoryview], Envelope] = msgspec.msgpack.Decoder(Envelope).decode
