"""How the mock receiver is to behave."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from mta.sink.answers import Answers
from mta.sink.counters import Delivery
from mta.sink.script import Script

__all__ = ["ReceiverOptions", "Tls", "hello_replies"]


class Tls(enum.Enum):
    """Whether and how the receiver encrypts."""

    OFF = "off"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


@dataclass(slots=True, kw_only=True)
class ReceiverOptions:
    """How it behaves. Times are seconds; 0 means no limit.

    `latency` passes before the reply to the final dot, or before every reply with `every_reply`. `delivered`
    is called for each accepted message, with its text unless `with_bodies` is off.
    """

    host_name: str = "sink.example"
    pipelining: bool = True
    eight_bit: bool = True
    smtputf8: bool = True
    tls: Tls = Tls.OFF
    max_size: int = 0
    latency: float = 0.0
    every_reply: bool = False
    max_connections: int = 0
    max_connections_per_ip: int = 0
    max_messages_per_connection: int = 0
    max_recipients: int = 0
    answers: Answers = field(default_factory=Answers)
    script: Script = field(default_factory=Script)
    delivered: Callable[[Delivery], None] | None = None
    with_bodies: bool = True


def hello_replies(options: ReceiverOptions) -> tuple[bytes, bytes]:
    """The EHLO reply in clear, and once encrypted."""
    words = [
        options.host_name,
        "ENHANCEDSTATUSCODES",
        f"SIZE {options.max_size}" if options.max_size else "SIZE",
    ]
    words += ["PIPELINING"] if options.pipelining else []
    words += ["8BITMIME"] if options.eight_bit else []
    words += ["SMTPUTF8"] if options.smtputf8 else []
    encrypted = "".join(f"250-{word}\r\n" for word in words[:-1]) + f"250 {words[-1]}\r\n"
    if options.tls is not Tls.STARTTLS:
        return encrypted.encode(), encrypted.encode()
    name, rest = encrypted.split("\r\n", 1)
    return f"{name}\r\n250-STARTTLS\r\n{rest}".encode(), encrypted.encode()
