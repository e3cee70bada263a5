"""Jobs: what waits of each, what became of it, and those that the operator has paused.

A job is whatever bears the same job id (the x-job header, `*jobid`). Counting is two dictionary look-ups per
recipient that has one. A paused job's recipients are taken out of their queues and kept here in arrays, so
that they cost the scheduler nothing; what is drawn for delivery meanwhile comes here as well (`Withheld`).
They are on disk like all others: a restart finds them again and keeps them back again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

from mta.delivery.supply import Store, Stored, Withheld
from mta.message.envelope import Envelope
from mta.queue.entries import DeferredEntries, Entry, ReadyEntries
from mta.queue.key import QueueKey

__all__ = ["Job", "JobBook", "JobStore"]

#: Jobs without anything waiting that are remembered for their counters.
FINISHED_KEPT = 1000


@dataclass(slots=True)
class Job:
    """Recipients; `size` is that of all messages that came in, per recipient."""

    waiting: int = 0
    entered: int = 0
    size: int = 0
    delivered: int = 0
    failed: int = 0


class HeldQueue:
    """What is kept back of one job and queue: sixteen bytes a recipient."""

    __slots__ = ("_deferred", "_ready")

    def __init__(self) -> None:
        self._ready = ReadyEntries()
        self._deferred = DeferredEntries()

    def __len__(self) -> int:
        return len(self._ready) + len(self._deferred)

    def __iter__(self) -> Iterator[Entry]:
        yield from self._ready
        yield from self._deferred

    def add(self, entry: Entry) -> None:
        if entry.due:
            self._deferred.add(entry.ref, entry.due, entry.received, entry.attempts, entry.priority)
        else:
            self._ready.append(entry.ref, entry.received, entry.attempts, entry.priority)


class JobBook:
    """All jobs of one worker."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._paused: set[str] = set()
        self._held: dict[tuple[str, QueueKey], HeldQueue] = {}

    # -- counting ---------------------------------------------------------------------------------------

    def enter(self, job_id: str, recipients: int, size: int) -> None:
        """So many recipients of a message of that size came in."""
        job = self._jobs.pop(job_id, None) or Job()
        self._jobs[job_id] = job
        job.waiting += recipients
        job.entered += recipients
        job.size += size * recipients
        if len(self._jobs) > FINISHED_KEPT:
            self._forget_one()

    def ended(self, envelope: Envelope, is_delivered: bool) -> None:
        """One recipient is delivered, or has failed for good. Hot path."""
        job = self._jobs.get(envelope.job_id)
        if job is not None:
            job.waiting -= 1
            if is_delivered:
                job.delivered += 1
            else:
                job.failed += 1

    @property
    def has_any(self) -> bool:
        """Whether there is a job that counts anything."""
        return bool(self._jobs)

    def leave(self, job_id: str) -> None:
        """One recipient waits for another worker, and is counted there."""
        job = self._jobs.get(job_id)
        if job is not None:
            job.waiting -= 1

    def jobs(self) -> dict[str, Job]:
        """Those that have something waiting or are paused."""
        found = {name: job for name, job in self._jobs.items() if job.waiting > 0 or name in self._paused}
        return found | {name: Job() for name in self._paused if name not in found}

    # -- pausing ----------------------------------------------------------------------------------------

    def is_paused(self, job_id: str) -> bool:
        return job_id in self._paused

    @property
    def paused(self) -> list[str]:
        return sorted(self._paused)

    def pause(self, job_id: str) -> bool:
        """Keep back what is yet to come; returns whether that is new."""
        is_new = job_id not in self._paused
        self._paused.add(job_id)
        return is_new

    def resume(self, job_id: str) -> list[tuple[QueueKey, Entry]] | None:
        """Let go; returns what was kept back, None when the job was not paused."""
        if job_id not in self._paused:
            return None
        self._paused.remove(job_id)
        places = [place for place in self._held if place[0] == job_id]
        return [(key, entry) for name, key in places for entry in self._held.pop((name, key))]

    def hold(self, job_id: str, key: QueueKey, entries: Iterable[Entry]) -> None:
        """Keep these back."""
        held = self._held.setdefault((job_id, key), HeldQueue())
        for entry in entries:
            held.add(entry)

    def held(self) -> list[tuple[QueueKey, list[Entry]]]:
        """Everything that is kept back."""
        return [(key, list(held)) for (_, key), held in self._held.items()]

    def held_back(self, job_id: str) -> int:
        """Recipients of a job that are kept back."""
        return sum(len(held) for (name, _), held in self._held.items() if name == job_id)

    def remove(self, key: QueueKey, refs: Set[int]) -> list[int]:
        """Take these out, if they are here; returns what was taken."""
        removed: list[int] = []
        for place in [place for place in self._held if place[1] == key]:
            entries = list(self._held.pop(place))
            removed += [entry.ref for entry in entries if entry.ref in refs]
            rest = [entry for entry in entries if entry.ref not in refs]
            if rest:
                self.hold(*place, rest)
        return removed

    def prioritize(self, key: QueueKey, refs: Set[int], priority: int) -> int:
        """Give these another priority, if they are here; returns how many had another one."""
        changed = 0
        for place in [place for place in self._held if place[1] == key]:
            entries = list(self._held.pop(place))
            meant = [entry.ref in refs and entry.priority != priority for entry in entries]
            changed += sum(meant)
            self.hold(
                *place,
                (
                    entry._replace(priority=priority) if is_meant else entry
                    for entry, is_meant in zip(entries, meant, strict=True)
                ),
            )
        return changed

    # -- restarts ---------------------------------------------------------------------------------------

    def snapshot_state(self) -> dict[str, Any]:
        """What an operator would hate to lose, as JSON."""
        return {"paused": self.paused}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Take over what `snapshot_state` gave."""
        self._paused.update(str(name) for name in state.get("paused", ()))

    def _forget_one(self) -> None:
        """Drop the job that has had nothing new for longest and has nothing waiting."""
        for name, job in self._jobs.items():
            if job.waiting <= 0:
                del self._jobs[name]
                return

    def __repr__(self) -> str:
        return f"<JobBook {len(self._jobs)} jobs, {len(self._paused)} paused>"


class JobStore:
    """The spool as delivery sees it: messages of paused jobs are not given out, nor others outside of the
    windows of their schedule."""

    def __init__(self, store: Store, book: JobBook, check: Callable[[Stored], None]) -> None:
        """`check` raises Withheld for a message with a schedule that keeps it back now."""
        self._load = store.load
        self._book = book
        self._check = check

    def load(self, message: int) -> Stored:
        """Raises Withheld for what is kept back, and what the spool raises. Hot path."""
        stored = self._load(message)
        envelope = stored.envelope
        if envelope.job_id and self._book.is_paused(envelope.job_id):
            raise Withheld(stored, partial(self._book.hold, envelope.job_id))
        if envelope.schedule:
            self._check(stored)
        return stored
