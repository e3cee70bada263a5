"""How much mail came in and went out: totals, the last hour and minute, and the best ones so far.

Pure counting. Adding is two integer additions; the sliding sums are made when somebody asks. The last hour
is kept in minutes and the last minute in seconds, so an answer is exact to one of those.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Flow", "Traffic", "Volume"]

SECONDS = 60
MINUTES = 60


class Volume(NamedTuple):
    """Recipients, messages and bytes."""

    recipients: int = 0
    messages: int = 0
    size: int = 0

    def shown(self) -> dict[str, int]:
        """As monitors expect it: kb are KiB."""
        return {"rcp": self.recipients, "msg": self.messages, "kb": self.size // 1024}


class _Ring:
    """Volumes of the last `count` periods of `length` seconds."""

    def __init__(self, count: int, length: float) -> None:
        self._length = length
        self._period = -1
        self._cells: list[list[int]] = [[0, 0, 0] for _ in range(count)]
        self.top = Volume()

    def cell(self, now: float) -> list[int]:
        self._turn(now)
        return self._cells[self._period % len(self._cells)]

    def total(self, now: float) -> Volume:
        self._turn(now)
        total = Volume(*(sum(cell[i] for cell in self._cells) for i in range(3)))
        self.top = Volume(*(max(pair) for pair in zip(self.top, total, strict=True)))
        return total

    def _turn(self, now: float) -> None:
        period = int(now / self._length)
        if period == self._period:
            return
        if self._period >= 0:
            # The best is taken before old periods fall out; between two additions nothing can grow.
            sums = (sum(cell[i] for cell in self._cells) for i in range(3))
            self.top = Volume(*(max(pair) for pair in zip(self.top, sums, strict=True)))
        for past in range(max(self._period + 1, period - len(self._cells) + 1), period + 1):
            self._cells[past % len(self._cells)][:] = (0, 0, 0)
        self._period = max(period, self._period)

    def forget(self) -> None:
        self.top = Volume()
        for cell in self._cells:
            cell[:] = (0, 0, 0)


class Flow:
    """One direction."""

    def __init__(self) -> None:
        self._total = [0, 0, 0]
        self._minute = _Ring(SECONDS, 1.0)
        self._hour = _Ring(MINUTES, 60.0)
        # What came in this second; it goes into the sums above when the next one begins or somebody asks.
        self._recipients = self._messages = self._size = 0
        self._second_ends = 0.0

    def add(self, now: float, recipients: int, messages: int, size: int) -> None:
        """Count; `size` is bytes. Hot path."""
        if now >= self._second_ends:
            self._settle()
            self._second_ends = int(now) + 1.0
        self._recipients += recipients
        self._messages += messages
        self._size += size

    def _settle(self) -> None:
        if self._messages:
            now = self._second_ends - 1.0
            for cell in (self._total, self._minute.cell(now), self._hour.cell(now)):
                cell[0] += self._recipients
                cell[1] += self._messages
                cell[2] += self._size
            self._recipients = self._messages = self._size = 0

    @property
    def total(self) -> Volume:
        self._settle()
        return Volume(*self._total)

    def last_minute(self, now: float) -> Volume:
        self._settle()
        return self._minute.total(now)

    def last_hour(self, now: float) -> Volume:
        self._settle()
        return self._hour.total(now)

    def top_minute(self, now: float) -> Volume:
        self.last_minute(now)
        return self._minute.top

    def top_hour(self, now: float) -> Volume:
        self.last_hour(now)
        return self._hour.top

    def reset(self) -> None:
        self._settle()
        self._total[:] = (0, 0, 0)
        self._minute.forget()
        self._hour.forget()


class Traffic:
    """Both directions, as `show status` prints them."""

    def __init__(self) -> None:
        self.into = Flow()
        self.out = Flow()

    def shown(self, now: float) -> dict[str, dict[str, dict[str, int]]]:
        flows = {"in": self.into, "out": self.out}
        return {
            "total": {name: flow.total.shown() for name, flow in flows.items()},
            "lastHr": {name: flow.last_hour(now).shown() for name, flow in flows.items()},
            "lastMin": {name: flow.last_minute(now).shown() for name, flow in flows.items()},
            "topPerHr": {name: flow.top_hour(now).shown() for name, flow in flows.items()},
            "topPerMin": {name: flow.top_minute(now).shown() for name, flow in flows.items()},
        }

    def reset(self) -> None:
        self.into.reset()
        self.out.reset()
