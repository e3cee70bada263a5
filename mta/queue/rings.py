"""Rings with levels: everybody on the highest level gets a turn before the levels below it do.

A ring is what goes round: queues of a virtual MTA that want a connection, virtual MTAs with such queues.
The level is the `queue-priority`. Who is on the highest level goes first, members of one level take turns.
So that nobody starves below a level that always wants more, one turn in LOWER_TURN goes to a lower level,
and lower levels take turns among themselves.

With one level (nobody has set a priority) it is a plain double-ended queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Generic, TypeVar

__all__ = ["LOWER_TURN", "Ring"]

#: One turn in so many goes to a lower level than the highest.
LOWER_TURN = 10

Member = TypeVar("Member")


class Ring(Generic[Member]):
    """Members in turn; `take` gives the next one, which comes back by `append` if it wants another turn."""

    __slots__ = ("_levels", "_lower", "_size", "_turn", "top")

    def __init__(self) -> None:
        self._levels: dict[int, deque[Member]] = {}
        self._size = 0
        self._turn = 0
        self._lower = 0
        self.top = -1  # the highest level that has a member, -1 without one

    def append(self, member: Member, level: int) -> None:
        """Stand at the end of one level."""
        members = self._levels.get(level)
        if members is None:
            members = self._levels[level] = deque()
        members.append(member)
        self._size += 1
        if level > self.top:
            self.top = level

    def take(self) -> Member:
        """The member whose turn it is, taken out; there must be one."""
        levels = self._levels
        level = self.top
        if len(levels) > 1:
            self._turn += 1
            if self._turn >= LOWER_TURN:
                self._turn = 0
                lower = sorted(levels)[:-1]
                self._lower += 1
                level = lower[self._lower % len(lower)]
        members = levels[level]
        member = members.popleft()
        self._size -= 1
        if not members:
            del levels[level]
            if level == self.top:
                self.top = max(levels, default=-1)
        return member

    def at_top(self) -> int:
        """How many stand on the highest level."""
        return len(self._levels[self.top]) if self._size else 0

    def counts(self) -> Iterator[tuple[int, int]]:
        """Each level with the number of its members."""
        return ((level, len(members)) for level, members in self._levels.items())

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Member]:
        return chain.from_iterable(self._levels.values())

    def __repr__(self) -> str:
        levels = ", ".join(f"{level}: {len(members)}" for level, members in sorted(self._levels.items()))
        return f"<Ring {levels}>"
