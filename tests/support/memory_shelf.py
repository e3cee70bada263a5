"""A shelf for parked entries in memory, which may be full now and then."""

from __future__ import annotations

__all__ = ["MemoryShelf"]


class MemoryShelf:
    """Holds what is put down; refuses every `refuses`-th piece (0: none)."""

    def __init__(self, refuses: int = 0) -> None:
        self.pieces: dict[int, bytes] = {}
        self.held = 0
        self.puts = 0
        self.looks = 0
        self._refuses = refuses

    def put(self, data: bytes) -> int | None:
        self.puts += 1
        if self._refuses and self.puts % self._refuses == 0:
            return None
        self.pieces[self.puts] = data
        self.held += len(data)
        return self.puts

    def look(self, place: int, size: int) -> bytes:
        self.looks += 1
        data = self.pieces[place]
        assert len(data) == size
        return data

    def drop(self, place: int, size: int) -> None:
        assert len(self.pieces.pop(place)) == size
        self.held -= size
