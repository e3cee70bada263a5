"""The way in: one message of 10 KB from MAIL to its 250, over a wire that swallows replies, into a spool that
answers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.micro.samples import HTML_MESSAGE
from mta.clock import SystemClock
from mta.config.load import load_text
from mta.errors import SpoolError
from mta.ingress.accept import Acceptance
from mta.ingress.conversation import Conversation
from mta.ingress.queueid import QueueIds
from mta.ingress.reception import Reception
from mta.ingress.reject import Rejects

CONFIGURATION = """
host-name mta.example.org
<source 0/0>
always-allow-relaying yes
</source>
"""
MAIL = b"MAIL FROM:<sender@example.com>\r\n"
RCPT = b"RCPT TO:<recipient@example.net>\r\n"
DATA = b"DATA\r\n"


class _Spool:
    """Everything is on disk at once."""

    def refusal(self, size: int) -> SpoolError | None:
        return None

    def accept(
        self,
        envelope: bytes,
        body: Sequence[bytes],
        done: Callable[[int, SpoolError | None], None],
        *_: object,
    ) -> None:
        done(1, None)

    def record(self, event: bytes) -> None: ...

    def flush(self, done: Callable[[SpoolError | None], None]) -> None:
        done(None)


class _Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 4711), "sockname": ("192.0.2.2", 25)})
        self.last: Any = b""

    def write(self, data: Any) -> None:
        self.last = data

    def close(self) -> None: ...


def bench_message() -> Iterator[Callable[[], object]]:
    """10 KB, one recipient: MAIL, RCPT, DATA, content, 250"""
    loop = asyncio.new_event_loop()
    snapshot = load_text(CONFIGURATION).snapshot
    assert snapshot is not None
    clock, spool = SystemClock(), _Spool()
    queue_ids = QueueIds(clock)
    acceptance = Acceptance(
        snapshot=lambda: snapshot,
        partition=spool,
        clock=clock,
        queue_ids=queue_ids,
        admitted=lambda envelope, message, size: None,
    )
    reception = Reception(
        snapshot=lambda: snapshot,
        acceptance=acceptance,
        rejects=Rejects(None, clock=clock, queue_ids=queue_ids),
        clock=clock,
        loop=loop,
        host_name="localhost",
    )
    conversation = Conversation(reception)
    wire = _Wire()
    conversation.connection_made(wire)
    take = conversation.data_received
    take(b"EHLO application.example.com\r\n")
    content = HTML_MESSAGE + b".\r\n"

    def call() -> None:
        take(MAIL)
        take(RCPT)
        take(DATA)
        take(content)

    yield call
    assert b"queued as" in wire.last
    conversation.connection_lost(None)
    loop.close()
