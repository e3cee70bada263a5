"""Who waits for a slot (smtp-await-slot): connections in the order in which they came.

Nothing was said to them yet, and what they say already waits in their own buffers. How long they may stand
here is their own matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from mta.ingress.relaying import SourcePolicy

__all__ = ["WaitingLine"]

G = TypeVar("G")


class WaitingLine(Generic[G]):
    """First come, first served, among those who may come in at all."""

    def __init__(self) -> None:
        self._waiting: dict[G, tuple[str, SourcePolicy]] = {}
        self._addresses: Counter[str] = Counter()

    def join(self, guest: G, ip: str, policy: SourcePolicy, *, places: int, of_one: int) -> bool:
        """Stand at the end; False when the line has no place left, or none for this address."""
        if len(self._waiting) >= places or self._addresses[ip] >= of_one:
            return False
        self._waiting[guest] = ip, policy
        self._addresses[ip] += 1
        return True

    def leave(self, guest: G) -> None:
        """Step out; nothing when this one does not wait."""
        ip, _ = self._waiting.pop(guest, ("", None))
        if ip:
            self._addresses[ip] -= 1
            if not self._addresses[ip]:
                del self._addresses[ip]

    def first(self, may_enter: Callable[[str, SourcePolicy], bool]) -> G | None:
        """The one who has waited longest of those who may enter by address and settings."""
        return next((guest for guest, who in self._waiting.items() if may_enter(*who)), None)

    def __iter__(self) -> Iterator[G]:
        return iter(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<WaitingLine waiting={len(self)}>"
