"""Places that are fewer than the workers: who has one, and who waits for one, first come, first served.

A limit of connections that can't be divided (`mx-connection-limit 1` at two workers, `max-smtp-out 2` of a
roll-up at three) is lent as places: a worker has one of them or none, and opens one connection with it. Like
a lease (`leases.py`), a place that is asked back counts until its holder says that it has let go; so there
are never more connections than the limit says. What a dead process had returns when it is dead.

Nobody starves: who wants a place and has none stands in a line. As long as the line is longer than there are
free places, those who have had theirs for the longest are asked to let go, which they do after a fair turn
(`queue/hosts.py`); with more to send they stand behind everybody else then. A place that has become free is
kept for the first in the line, and whoever has to do something about it is named in `calls`.

A worker that a reload has reached before the others may speak of another limit: each is judged by the one it
knows. No worker has more than one place, so that nobody has more than what a divided limit gives at least.

Pure: `now` comes in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mta.service.leases import LEASE_SECONDS

__all__ = ["STANDING_SECONDS", "PlaceBook"]

#: Who stands in a line and hasn't been heard of for so long has lost its turn.
STANDING_SECONDS = 5.0


class PlaceBook:
    """All places of the service; workers say twice a second what they have and want."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._calls: set[str] = set()

    def renew(self, worker: str, demands: Mapping[str, Iterable[int]], now: float) -> dict[str, int]:
        """What a worker may have open now of each that it names: one connection, or none.

        `demands` says how many it has or may open, whether it wants one, and the limit it knows.
        """
        answers = {}
        for name, (holding, wanted, limit) in demands.items():
            place = self._places.get(name)
            if place is None:
                place = self._places[name] = _Place()
            self._calls |= place.forget(now)
            before = place.state()
            answers[name] = place.renew(worker, holding > 0, wanted > 0, limit, now)
            if place.state() != before:
                self._calls |= place.to_call()
            if place.is_empty():
                del self._places[name]
        self._calls.discard(worker)
        return answers

    def give_back(self, worker: str) -> None:
        """The worker is gone, and everything it had with it."""
        for name, place in list(self._places.items()):
            if place.drop(worker):
                self._calls |= place.to_call()
            if place.is_empty():
                del self._places[name]

    def calls(self) -> set[str]:
        """The workers for whom the next `renew` has news, named once."""
        calls, self._calls = self._calls, set()
        return calls

    def holders(self, name: str) -> list[str]:
        """Who has one, for the longest time first."""
        place = self._places.get(name)
        return [] if place is None else list(place.holders)

    def __repr__(self) -> str:
        taken = sum(len(place.holders) for place in self._places.values())
        return f"<PlaceBook {taken} places of {len(self._places)} limits are taken>"


class _Place:
    """One limit: who has a place, who waits for one, and what each of them thinks the limit is."""

    __slots__ = ("holders", "limits", "line", "until")

    def __init__(self) -> None:
        self.holders: dict[str, None] = {}
        self.line: dict[str, None] = {}
        self.limits: dict[str, int] = {}
        self.until: dict[str, float] = {}

    def renew(self, worker: str, is_holding: bool, is_wanted: bool, limit: int, now: float) -> int:
        self.limits[worker] = limit
        if is_holding:
            self.line.pop(worker, None)
            self.holders.setdefault(worker)
        elif not is_wanted:
            self.drop(worker)
            return 0
        elif worker in self.holders and worker in self._asked_back():
            del self.holders[worker]  # it has let go
        is_given = False
        if worker not in self.holders:
            self.line.setdefault(worker)
            is_given = self._is_free_for(worker)
            if is_given:
                del self.line[worker]
                self.holders[worker] = None
        has_one = worker in self.holders
        self.until[worker] = now + (LEASE_SECONDS if has_one else STANDING_SECONDS)
        # Whoever gets one has a turn with it, however many wait.
        return int(is_given or (has_one and worker not in self._asked_back()))

    def drop(self, worker: str) -> bool:
        """Forget a worker; returns whether it was here."""
        was_here = self.until.pop(worker, None) is not None
        self.holders.pop(worker, None)
        self.line.pop(worker, None)
        self.limits.pop(worker, None)
        return was_here

    def forget(self, now: float) -> set[str]:
        """Drop those who have been silent for too long; returns who may have something of it."""
        silent = [worker for worker, until in self.until.items() if until < now]
        for worker in silent:
            self.drop(worker)
        return self.to_call() if silent else set()

    def to_call(self) -> set[str]:
        """Who has to hear of it: those who should let go, and those who may come."""
        return self._asked_back() | {worker for worker in self.line if self._is_free_for(worker)}

    def state(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return tuple(self.holders), tuple(self.line)

    def is_empty(self) -> bool:
        return not self.until

    def _is_free_for(self, worker: str) -> bool:
        ahead = list(self.line).index(worker)
        return len(self.holders) + ahead < self.limits[worker]

    def _asked_back(self) -> set[str]:
        """The holders who have had theirs for the longest, as many as others lack one."""
        lacking = [
            len(self.holders) + ahead + 1 - self.limits[worker] for ahead, worker in enumerate(self.line)
        ]
        too_many = [len(self.holders) - self.limits[worker] for worker in self.holders]
        surplus = max((0, *lacking, *too_many))
        return set(list(self.holders)[:surplus])
