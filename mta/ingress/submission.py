"""A message as it is handed in, whichever way it came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from mta.ingress.relaying import SourcePolicy
from mta.message.envelope import Personal
from mta.message.schedule import Windows

__all__ = ["NOBODY", "Client", "Submission", "Wish"]


class Wish(NamedTuple):
    """What a mail merge wants for one recipient; "", () and None where it says nothing."""

    vmta: str = ""
    job_id: str = ""
    personal: Personal | None = None
    schedule: Windows = ()


class Client(msgspec.Struct, frozen=True, gc=False):
    """Who hands messages in: what those of one connection have in common.

    `protocol` is the `with` of the Received line, `source_mta` how accounting names the client.
    """

    protocol: str = "ESMTP"
    helo: str = ""
    source_ip: str = ""
    received_on: str = ""
    user: str = ""
    source_mta: str = ""


#: Hands in what doesn't come over a connection.
NOBODY = Client()


class Submission(msgspec.Struct, gc=False):
    """One message as it was handed in. (A Struct because a dataclass takes ten times as long to make.)

    `recipients` are (address, NOTIFY bits, ORCPT); `chunks` the content in wire form, `size` its octets.
    `vmta` forces a virtual MTA or pool, as our own DSNs do.
    """

    originator: str
    recipients: list[tuple[str, int, str]]
    chunks: list[bytes]
    size: int
    source: SourcePolicy
    client: Client = NOBODY
    source_type: str = "smtp"
    is_8bit: bool = False
    is_smtputf8: bool = False
    ret: int = 0
    envelope_id: str = ""
    job_id: str = ""
    vmta: str = ""
    suppress_dsn: bool = False
    wants_verp: bool = False
    #: Recipients to be bounced: address, NOTIFY, ORCPT, and one of the queues that `suppression` names.
    condemned: Sequence[tuple[str, int, str, str]] = ()
    #: Of a mail merge: what each recipient gets, and the octets of each part; every chunk is one part.
    wishes: Sequence[Wish] = ()
    parts: Sequence[int] = ()
