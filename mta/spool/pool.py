"""Young messages kept in memory, so that a first attempt needs no read.

Bounded by bytes; the oldest goes first, because a message that was not delivered in its youth waits for
a retry, and by then reading it is cheap beside everything else. Never more than a cache: what is in here is
on disk, or about to be.
"""

from __future__ import annotations

__all__ = ["MemoryPool"]


class MemoryPool:
    """At most `limit` bytes of envelopes and bodies (memory-pool-buffer-size)."""

    def __init__(self, limit: int) -> None:
        self.bytes = 0
        self._limit = limit
        self._young: dict[int, tuple[bytes, bytes]] = {}  # oldest first, as dictionaries keep it

    def __repr__(self) -> str:
        return f"<MemoryPool messages={len(self._young)} bytes={self.bytes}/{self._limit}>"

    def __len__(self) -> int:
        return len(self._young)

    def __contains__(self, message: int) -> bool:
        return message in self._young

    def put(self, message: int, envelope: bytes, body: bytes) -> None:
        """Keep a message, at the expense of the oldest; one that is larger than the pool is not kept."""
        size = len(envelope) + len(body)
        if size > self._limit:
            return
        young = self._young
        self.bytes += size
        while self.bytes > self._limit:
            old = young.pop(next(iter(young)))
            self.bytes -= len(old[0]) + len(old[1])
        young[message] = (envelope, body)

    def find(self, message: int) -> tuple[bytes, bytes] | None:
        """Envelope and body of a message that is still here."""
        return self._young.get(message)

    def drop(self, message: int) -> None:
        """Nobody will ask for this message again."""
        old = self._young.pop(message, None)
        if old is not None:
            self.bytes -= len(old[0]) + len(old[1])
