"""A conversation without sockets: octets in, octets out, and time that passes when told to."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from mta.clock import Clock
from mta.ingress.accept import Acceptance
from mta.ingress.conversation import Conversation
from mta.ingress.queueid import QueueIds
from mta.ingress.reception import RECEIVE_MEMORY, Reception
from mta.ingress.reject import Rejects
from mta.message.envelope import Envelope
from tests.support.inbound import OPEN, snapshot_of
from tests.support.memory_partition import MemoryPartition
from tests.support.steploop import StepLoop

__all__ = ["PaperCall", "PaperTransport"]


class PaperTransport:
    """Keeps what is written; the test says when the peer stops reading."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.is_closed = False
        self.is_aborted = False
        self.is_reading = True
        self.writes = 0

    def get_extra_info(self, name: str) -> Any:
        return {"peername": ("192.0.2.1", 40_000), "sockname": ("192.0.2.25", 25)}.get(name)

    def write(self, octets: bytes) -> None:
        assert not self.is_closed, "written behind the end"
        self.writes += 1
        self.written += octets

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True


class PaperCall:
    """One connection: `say` is a segment from the client, `heard` what it was answered since last time."""

    def __init__(
        self,
        text: str = "",
        *,
        source: str = OPEN,
        receive_memory: int = RECEIVE_MEMORY,
        commits: bool = True,
    ) -> None:
        self.snapshot = snapshot_of(text, source=source)
        self.loop = StepLoop()
        self.partition = MemoryPartition()
        self.partition.is_immediate = commits
        self.partition.is_held = not commits
        clock = cast(Clock, self.loop)
        queue_ids = QueueIds(clock)
        self.admitted: list[Envelope] = []
        self.reception = Reception(
            snapshot=lambda: self.snapshot,
            acceptance=Acceptance(
                snapshot=lambda: self.snapshot,
                partition=self.partition,
                clock=clock,
                queue_ids=queue_ids,
                admitted=lambda envelope, message, size: self.admitted.append(envelope),
            ),
            rejects=Rejects(self.partition.record, clock=clock, queue_ids=queue_ids),
            clock=clock,
            loop=cast(asyncio.AbstractEventLoop, self.loop),
            host_name="system.test",
            receive_memory=receive_memory,
        )
        self.transport = PaperTransport()
        self.conversation = Conversation(self.reception)
        self.conversation.connection_made(cast(Any, self.transport))

    def say(self, *segments: bytes) -> None:
        for octets in segments:
            if not self.transport.is_closed:
                self.conversation.data_received(octets)
                self.loop.run()

    def heard(self) -> list[str]:
        """The reply lines since the last time."""
        lines = self.transport.written.decode().split("\r\n")
        assert lines.pop() == ""
        self.transport.written.clear()
        return lines

    def codes(self) -> list[str]:
        """The codes of the replies since the last time, continuation lines left out."""
        return [line[:3] for line in self.heard() if line[3:4] == " "]

    def begin(self, *, data: bool = False) -> None:
        """To behind RCPT, or DATA."""
        self.say(b"EHLO client.test\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n")
        if data:
            self.say(b"DATA\r\n")
        self.heard()

    def hang_up(self) -> None:
        self.conversation.connection_lost(None)
