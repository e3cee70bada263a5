"""Delivery: replies, one transaction, one message through a session, and its settlement; no sockets."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator

from mta.clock import SystemClock
from mta.delivery.attempt import Attempt
from mta.delivery.connection import Connection
from mta.delivery.policy import DeliveryPolicy
from mta.delivery.session import Session
from mta.delivery.settlement import Settlement
from mta.errors import Contradiction
from mta.message.envelope import Envelope, Recipient
from mta.queue.key import QueueKey
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.reaction import ReplyRules
from mta.queue.scheduler import Scheduler, Settled
from mta.queue.slot import Slot
from mta.smtp.extensions import Extensions
from mta.smtp.replyparser import ReplyParser
from mta.smtp.transaction import Transaction

REPLIES = (
    b"250 2.0.0 Ok: queued as 4bWzqV2Xk1z1mP\r\n"
    b"250 2.1.0 Ok\r\n"
    b"250 2.1.5 Ok\r\n"
    b"354 End data with <CR><LF>.<CR><LF>\r\n"
)
OFFERS = Extensions(pipelining=True, has_size=True, size=50_000_000, eightbitmime=True, dsn=True)
KEY = QueueKey("example.net", "vmta1")
ENVELOPE = Envelope(
    "4bWzqV2Xk1z1mP", 1.7e9, "sender@example.com", "vmta1", (Recipient("rcpt@example.net", "example.net"),)
)
BODY = (b"Subject: x\r\n\r\n" + (b"0" + b"X" * 77 + b"\r\n") * 128)[:10238] + b"\r\n"


def bench_reply_parser() -> Callable[[], object]:
    """the four replies of one pipelined message, queued under a new name each time"""
    parser = ReplyParser()
    chunks = itertools.cycle([REPLIES.replace(b"4bWzqV2Xk1z1mP", b"4bW%011d" % n) for n in range(5000)])
    return lambda: parser.feed(next(chunks))


def bench_transaction() -> Callable[[], object]:
    """one transaction: commands, four replies, one outcome"""
    queued, sender, recipient, data = ReplyParser().feed(REPLIES)

    def call() -> None:
        transaction = Transaction(ENVELOPE, ENVELOPE.recipients, 10240, OFFERS)
        transaction.start()
        transaction.receive(sender)
        transaction.receive(recipient)
        transaction.receive(data)
        transaction.is_body_sent = True
        transaction.receive(queued)

    return call


class _Wire:
    """A transport that swallows everything."""

    def set_protocol(self, protocol: object) -> None: ...
    def set_write_buffer_limits(self, *, high: int) -> None: ...
    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None: ...
    def writelines(self, parts: object) -> None: ...
    def abort(self) -> None: ...


class _Supply:
    """The same message for ever."""

    def __init__(self, settlement: Settlement | None = None) -> None:
        self._settlement = settlement

    def next_attempt(self, session: Session) -> Attempt:
        return _attempt()

    def conclude(self, session: Session, attempt: Attempt) -> None:
        if self._settlement is not None:
            self._settlement.conclude(session, attempt)

    def closed(self, session: Session) -> None: ...
    def contradiction(self, error: Contradiction) -> None: ...


def _attempt() -> Attempt:
    return Attempt(
        envelope=ENVELOPE,
        recipients=ENVELOPE.recipients,
        size=len(BODY),
        extensions=OFFERS,
        refs=[1 << 16],
        body=BODY,
        held=len(BODY),
        started_at=0.0,
    )


def _scheduler() -> tuple[Scheduler, Slot]:
    scheduler = Scheduler(
        policies=lambda key: QueuePolicy(), vmtas=lambda name: VmtaPolicy(), total_max_smtp_out=10
    )
    scheduler.admit(KEY, 1 << 16, 0.0, received=0.0)
    return scheduler, scheduler.take(0.0)[0]


def _session(supply: _Supply, slot: Slot, loop: asyncio.AbstractEventLoop) -> Session:
    connection = Connection(
        _Wire(),  # type: ignore[arg-type]
        "mx.example.net",
        "192.0.2.1",
        25,
        "192.0.2.9",
        "mx.example.net (192.0.2.1)",
        OFFERS,
    )
    return Session(connection, slot, DeliveryPolicy(), supply, clock=SystemClock(), loop=loop)


def bench_session() -> Iterator[Callable[[], object]]:
    """one message through a session: replies in, body and next envelope out"""
    loop = asyncio.new_event_loop()
    _, slot = _scheduler()
    session = _session(_Supply(), slot, loop)
    session.begin()
    session.data_received(REPLIES.split(b"\r\n", 1)[1])
    yield lambda: session.data_received(REPLIES)
    session.connection_lost(None)
    loop.close()


class _Books:
    """A scheduler and a settle log that accept everything."""

    def settle(self, *arguments: object) -> Settled:
        return Settled(1)

    def put_back(self, *arguments: object) -> None: ...
    def defer(self, *arguments: object, **others: object) -> None: ...
    def record(self, event: bytes) -> None: ...
    def apply(self, *arguments: object) -> list[int]:
        return []


def bench_settlement() -> Iterator[Callable[[], object]]:
    """one delivered recipient: event made, encoded and handed over"""
    loop = asyncio.new_event_loop()
    _, slot = _scheduler()
    books = _Books()
    settlement = Settlement(
        scheduler=books,
        store=books,  # type: ignore[arg-type]
        categories=lambda: None,  # type: ignore[arg-type,return-value]
        rules=lambda key: ReplyRules(QueuePolicy()),
        policies=lambda key: DeliveryPolicy(),
        returns=lambda *arguments: None,
        clock=SystemClock(),
    )
    session = _session(_Supply(), slot, loop)
    attempt = _attempt()
    attempt.start()
    queued, sender, recipient, data = ReplyParser().feed(REPLIES)
    for reply in (sender, recipient, data):
        attempt.receive(reply)
    attempt.is_body_sent = True
    attempt.receive(queued)
    yield lambda: settlement.conclude(session, attempt)
    loop.close()
