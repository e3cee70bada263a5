"""Sample mail for the demonstration: messages as people send them, different in size, language and audience.

The same numbers give the same messages. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.header import Header
from email.utils import format_datetime

from mta.sink.record import body_digest

__all__ = ["DOMAINS", "SENDER_DOMAIN", "SampleMessage", "sample_messages"]

SENDER_DOMAIN = "quickstart.example"


@dataclass(frozen=True, slots=True)
class SampleDomain:
    """One receiving domain: how its receiver behaves, and which share of the mail it gets (of 100)."""

    name: str
    address: str
    share: int
    defer: float = 0.0
    refuse: float = 0.0
    latency: float = 0.0
    about: str = ""


#: `address` is the receiver's; "" is a null MX.
DOMAINS = (
    SampleDomain("mailbox.example", "127.0.0.21", 35, about="takes everything"),
    SampleDomain("webmail.example", "127.0.0.22", 25, latency=0.02, about="answers after 20 ms"),
    SampleDomain("office.example", "127.0.0.23", 15, latency=0.05, about="answers after 50 ms"),
    SampleDomain("busy.example", "127.0.0.24", 12, defer=0.15, about="greylists 15 % at first"),
    SampleDomain("strict.example", "127.0.0.25", 10, refuse=0.15, about="refuses 15 %"),
    SampleDomain("nomail.example", "", 3, about="takes no mail (null MX)"),
)

_GREETINGS = (
    ("Your order is on its way", "Thank you for your order. It left our house this morning."),
    ("Grüße aus Zürich", "Schöne Grüße: die Lieferung kommt übermorgen, größer als erwartet."),
    ("Ваш заказ отправлен", "Здравствуйте! Ваш заказ отправлен сегодня утром."),
    ("ご注文ありがとうございます", "ご注文の商品を発送いたしました。"),
    ("Password reset", "Somebody asked for a new password. If that was you, follow the link."),
    ("Newsletter 🎉", "News of the month, with an emoji 🎉 and a line that begins with a dot."),
)
#: Octets of the body, roughly as in transactional mail; every 200th message is large.
_SIZES = (800, 1_500, 3_000, 6_000, 10_000, 10_000, 20_000, 40_000)
_LARGE = 400_000


@dataclass(frozen=True, slots=True)
class SampleMessage:
    """One message ready to be sent: `content` with CRLF, dots not doubled."""

    number: int
    sender: str
    recipients: tuple[str, ...]
    content: bytes
    body: bytes
    needs_smtputf8: bool

    @property
    def message_id(self) -> str:
        return f"<{self.number}.demo@{SENDER_DOMAIN}>"

    @property
    def digest(self) -> str:
        """What the receiver must find (`record.body_digest`)."""
        return body_digest(self.body)


def sample_messages(count: int, *, when: datetime | None = None) -> Iterator[SampleMessage]:
    """The first `count` messages."""
    date = format_datetime(when or datetime.now(UTC))
    for number in range(1, count + 1):
        yield make_message(number, date)


def make_message(number: int, date: str) -> SampleMessage:
    subject, opening = _GREETINGS[number % len(_GREETINGS)]
    recipients = recipients_of(number)
    needs_smtputf8 = any(not recipient.isascii() for recipient in recipients)
    sender = f"news+{number}@{SENDER_DOMAIN}"
    body = body_of_size(_LARGE if number % 200 == 0 else _SIZES[number % len(_SIZES)], opening, number)
    lines = [
        f"From: Quickstart <news@{SENDER_DOMAIN}>",
        f"To: {', '.join(recipients)}" if needs_smtputf8 else f"To: {recipients[0]}",
        f"Subject: {subject if needs_smtputf8 else Header(subject, 'utf-8').encode()}",
        f"Date: {date}",
        f"Message-ID: <{number}.demo@{SENDER_DOMAIN}>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        f"X-Job: {'newsletter' if number % 3 else 'receipts'}",
    ]
    if number % 5 == 0:
        # Most mail goes through the pool, some asks for a virtual MTA by name.
        lines.append("X-Virtual-MTA: vmta2" if number % 10 else "X-Virtual-MTA: vmta1")
    header = "".join(line.replace("\n", "\r\n") + "\r\n" for line in lines) + "\r\n"
    return SampleMessage(number, sender, recipients, header.encode() + body, body, needs_smtputf8)


def recipients_of(number: int) -> tuple[str, ...]:
    """One recipient, or for every tenth message up to five in different domains."""
    people = 1 + (number // 10) % 5 if number % 10 == 0 else 1
    names = (f"reader{number}" if n or number % 25 else f"läser{number}" for n in range(people))
    return tuple(f"{name}.{n}@{domain_for(number * 37 + n * 41)}" for n, name in enumerate(names))


def domain_for(point: int) -> str:
    """The domain at a point of the wheel of shares."""
    point %= 100
    for domain in DOMAINS:
        point -= domain.share
        if point < 0:
            return domain.name
    return DOMAINS[0].name


def body_of_size(size: int, opening: str, number: int) -> bytes:
    """About `size` octets of lines with every trap of the wire: dots in front, UTF-8, an empty line."""
    head = f"{opening}\r\n\r\n.a line with a dot in front\r\n..and with two\r\n.\r\n".encode()
    line = f"Message {number}: The quick brown fox jumps over the lazy dog, naïve café, 100 %.\r\n".encode()
    return head + line * max(1, (size - len(head)) // len(line))
