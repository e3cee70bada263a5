"""Young messages kept in memory, so that a first attempt needs no read.

Bounded by bytes; the oldest goes first, because a message that was not delivered in its youth waits for
a retry, and by then reading it is cheap beside everything else. Never more than a cache: what is in here is
on disk, or about to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import cast

from mta.spool.stored import Stored

__all__ = ["MemoryPool"]


class MemoryPool:
    """At most `limit` bytes of envelopes and bodies (memory-pool-buffer-size)."""

    def __init__(self, limit: int) -> None:
        self.bytes = 0
        self._limit = limit
        self._young: dict[int, Stored] = {}  # oldest first, as dictionaries keep it
        self._sizes: dict[int, int] = {}  # of the same messages
        #: a message that is still here, or None
        self.find = self._young.get

    def __repr__(self) -> str:
        return f"<MemoryPool messages={len(self._young)} bytes={self.bytes}/{self._limit}>"

    def __len__(self) -> int:
        return len(self._young)

    def __contains__(self, message: int) -> bool:
        return message in self._young

    def put(self, message: int, stored: Stored, size: int) -> None:
        """Keep a message that takes `size` bytes, at the expense of the oldest; one that is larger than the
        pool is not kept."""
        octets = self.bytes + size
        young = self._young
        if octets > self._limit:
            if size > self._limit:
                return
            while octets > self._limit:
                oldest = next(iter(young))
                del young[oldest]
                octets -= self._sizes.pop(oldest)
        self.bytes = octets
        young[message] = stored
        self._sizes[message] = size

    def put_all(self, messages: Sequence[int], stored: Sequence[Stored | None], sizes: Sequence[int]) -> None:
        """`put` for each of these that is not None. Hot path: all of a commit come in one call."""
        octets = self.bytes + sum(sizes)
        if octets > self._limit or not all(stored):
            for message, one, size in zip(messages, stored, sizes, strict=True):
                if one is not None:
                    self.put(message, one, size)
            return
        self.bytes = octets
        self._young.update(zip(messages, cast(Sequence[Stored], stored), strict=True))
        self._sizes.update(zip(messages, sizes, strict=True))

    def drop_all(self, messages: Sequence[int]) -> None:
        """Nobody will ask for these messages again."""
        forget = self._young.pop
        for message in messages:
            forget(message, None)
        self.bytes -= sum(map(self._sizes.pop, messages, repeat(0)))
