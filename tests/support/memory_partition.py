"""A spool partition in memory: what ingress needs of one, with every step under the test's control."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from mta.errors import SpoolError
from mta.message.envelope import Envelope, decode_envelope
from mta.message.event import Event, decode_event

__all__ = ["MemoryPartition"]


class MemoryPartition:
    """Commits on the next turn of the loop, at once (`is_immediate`), or when `commit` is called (`is_held`).
    Flushes are answered at once, or by `flushed` when they are held (`holds_flushes`).

    `error` makes commits fail, `refuses` refuses before; `arrived` is set while something waits for a commit.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = loop
        self.is_immediate = loop is None
        self.is_held = False
        self.error: SpoolError | None = None
        self.refuses: SpoolError | None = None
        self.stored: list[tuple[Envelope, bytes]] = []
        self.events: list[Event] = []
        self.arrived = asyncio.Event()
        self.waiting: list[tuple[bytes, bytes, Callable[[int, SpoolError | None], None]]] = []
        self.holds_flushes = False
        self.flushes: list[Callable[[SpoolError | None], None]] = []

    def refusal(self, size: int) -> SpoolError | None:
        return self.refuses

    def accept(
        self,
        envelope: bytes,
        body: Sequence[bytes],
        done: Callable[[int, SpoolError | None], None],
        decoded: Envelope | None = None,
    ) -> None:
        self.waiting.append((envelope, b"".join(body), done))
        self.arrived.set()
        if self.is_immediate:
            self.commit()
        elif not self.is_held and len(self.waiting) == 1:
            assert self.loop is not None
            self.loop.call_soon(self.commit)

    def commit(self) -> None:
        """Everything handed in so far is on disk now."""
        batch, self.waiting = self.waiting, []
        self.arrived.clear()
        for envelope, body, done in batch:
            if self.error is not None:
                done(0, self.error)
                continue
            self.stored.append((decode_envelope(envelope), body))
            done(len(self.stored), None)

    def record(self, event: bytes) -> None:
        self.events.append(decode_event(event))

    def flush(self, done: Callable[[SpoolError | None], None]) -> None:
        self.flushes.append(done)
        if not self.holds_flushes:
            self.flushed()

    def flushed(self, error: SpoolError | None = None) -> None:
        """Everything recorded so far is on disk now, or could not be written."""
        flushes, self.flushes = self.flushes, []
        for done in flushes:
            done(error)

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body in self.stored]

    @property
    def envelopes(self) -> list[Envelope]:
        return [envelope for envelope, _ in self.stored]
