"""One thing that happened, as the settle log stores it and accounting prints it.

An event carries everything its accounting line needs, so that the events process never has to open a
message. The encoding is MessagePack by position: fields are only added at the end, with a default. Whoever
reads very many gets the values without the objects (`decode_values`).
Field contents follow powermta accounting (docs/accounting.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import GenericAlias
from typing import Any

import msgspec

__all__ = [
    "EVENT_FIELDS",
    "Event",
    "EventValues",
    "decode_event",
    "decode_values",
    "encode_event",
    "encode_values",
    "values_of",
]


class Event(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """`type` is the record type: d, b, t, tq, r (accounting), or C, R (reject log: connection, recipient).

    `event_id` is unique, and the same when the event is read again after a crash. Times are epoch
    seconds. `dsn_status` is the bare code (5.1.1); `dsn_diag` is `smtp;` and the reply; `text` is the
    reject log's reason. Empty strings stand for "not known".
    """

    type: str
    event_id: str
    time_logged: float
    time_queued: float = 0.0
    originator: str = ""
    recipient: str = ""
    orcpt: str = ""
    dsn_action: str = ""
    dsn_status: str = ""
    dsn_diag: str = ""
    dsn_mta: str = ""
    bounce_category: str = ""
    source_type: str = ""
    source_mta: str = ""
    delivery_type: str = ""
    delivery_source_ip: str = ""
    delivery_destination_ip: str = ""
    esmtp: str = ""  # comma list of the extensions the receiver offered
    size: int = 0
    vmta: str = ""
    job_id: str = ""
    envelope_id: str = ""
    queue: str = ""
    vmta_pool: str = ""
    source_user: str = ""
    received_source_ip: str = ""
    received_destination_ip: str = ""
    tls_protocol: str = ""
    tls_cipher: str = ""
    queue_id: str = ""
    time_first_attempt: float = 0.0
    text: str = ""
    captured: dict[str, str] = {}


#: Serialise for the settle log.
encode_event: Callable[[Event], bytes] = msgspec.msgpack.Encoder().encode
#: Read what `encode_event` wrote. Raises msgspec.DecodeError (a ValueError) on anything else.
decode_event: Callable[[bytes | memoryview], Event] = msgspec.msgpack.Decoder(Event).decode

#: An event as the values of its fields, in their order.
EventValues = tuple[Any, ...]
#: Serialise the values of an event, all of them: what `encode_event` makes of the event.
encode_values: Callable[[EventValues], bytes] = msgspec.msgpack.Encoder().encode
#: The names of the fields.
EVENT_FIELDS: tuple[str, ...] = Event.__struct_fields__
#: The values of an event.
values_of: Callable[[Event], EventValues] = msgspec.structs.astuple

#: Reads the values of an event that has all the fields of today, and no others.
_decode_whole: Callable[[bytes], EventValues] = msgspec.msgpack.Decoder(
    GenericAlias(tuple, tuple(field.type for field in msgspec.structs.fields(Event)))
).decode


def decode_values(encoded: Iterable[bytes]) -> list[EventValues]:
    """Read many at once. Raises as `decode_event` does when any of them is none."""
    encoded = list(encoded)
    try:
        return list(map(_decode_whole, encoded))
    except msgspec.ValidationError:
        # Some may be of another version, with fewer fields or more.
        return [values_of(decode_event(data)) for data in encoded]
