"""How stored recipients enter their queues: just accepted, handed over, found at a restart, or brought back.

A recipient of a paused job goes to what is kept of that job instead.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from operator import itemgetter

from mta.clock import Clock
from mta.errors import SpoolError
from mta.message.envelope import NORMAL_PRIORITY, Envelope, Notify
from mta.queue.entries import Entry
from mta.queue.key import RECIPIENT_BITS, QueueKey
from mta.queue.scheduler import Scheduler
from mta.service.delays import Delays
from mta.service.jobs import JobBook
from mta.service.priorities import Priorities
from mta.service.rollup import Rollups
from mta.service.schedules import Schedules
from mta.service.traffic import Traffic
from mta.spool.partition import Partition
from mta.spool.stored import Waiting

__all__ = ["Admission"]

_DELAY = int(Notify.DELAY)
#: A message that has just come in, its number, and the octets of its content.
Fresh = tuple[Envelope, int, int]
_size = itemgetter(2)


class Admission:
    """The way from one worker's partition into its queues."""

    def __init__(
        self,
        *,
        partition: Partition,
        scheduler: Scheduler,
        jobs: JobBook,
        priorities: Priorities,
        schedules: Schedules,
        delays: Delays,
        traffic: Traffic,
        clock: Clock,
    ) -> None:
        self._partition = partition
        self._scheduler = scheduler
        self._jobs = jobs
        self._priorities = priorities
        self._schedules = schedules
        self._delays = delays
        self._count = traffic.into.add
        self._clock = clock
        # What the commit has stored that is being completed: ours from the start, or handed over to us.
        self._fresh: list[Fresh] = []
        self._shares: list[Fresh] = []
        #: Says that there may be something to deliver; the dispatcher is made later than we are.
        self.wake: Callable[[], None] = _nobody
        #: The roll-ups of the configuration in force; None where it has none.
        self.rollups: Rollups | None = None

    def __repr__(self) -> str:
        return f"<Admission to {self._scheduler!r}>"

    def key(self, domain: str, vmta: str) -> QueueKey:
        """The queue of a recipient."""
        key = QueueKey(domain, vmta)
        return key if self.rollups is None else self.rollups.key(key)

    def stored(self, envelope: Envelope, message: int, size: int) -> None:
        """A message is on disk: its recipients enter their queues when its commit is through. Hot path."""
        self._fresh.append((envelope, message, size))

    def committed(self) -> None:
        """A commit is through: what it has stored enters the queues."""
        if not self._fresh and not self._shares:
            return
        now = self._clock.now()
        fresh, self._fresh = self._fresh, []
        shares, self._shares = self._shares, []
        if fresh:
            recipients = sum([len(envelope.recipients) for envelope, _, _ in fresh])
            self._count(now, recipients, len(fresh), sum(map(_size, fresh)))
        self._enter_all(fresh + shares, now)

    def _enter_all(self, fresh: list[Fresh], now: float) -> None:
        """Let the recipients of new messages wait, those of a queue in one go."""
        arrivals: defaultdict[tuple[str, str], dict[int, int]] = defaultdict(dict)
        for envelope, message, size in fresh:
            if (
                envelope.job_id
                or envelope.schedule
                or envelope.is_personal
                or envelope.priority != NORMAL_PRIORITY
            ) and self._is_seen_to(envelope, message, size, now):
                continue
            vmta, received = envelope.vmta, int(envelope.received)
            for ref, recipient in enumerate(envelope.recipients, message << RECIPIENT_BITS):
                arrivals[recipient.queue_domain, vmta][ref] = received
                if recipient.notify & _DELAY:
                    self._delays.watch(envelope, ref)
        for (domain, vmta), refs in arrivals.items():
            self._scheduler.admit_fresh(self.key(domain, vmta), refs, now)
        self.wake()

    def _is_seen_to(self, envelope: Envelope, message: int, size: int, now: float) -> bool:
        """See to a new message that may have to wait for more than its turn; False when that is all."""
        everybody = [Waiting(index, 0, 0.0) for index in range(len(envelope.recipients))]
        if envelope.job_id:
            self._jobs.enter(envelope.job_id, len(everybody), size)
            if self._jobs.is_paused(envelope.job_id):
                self._hold(envelope, message, everybody)
                return True
        if envelope.schedule or envelope.is_personal or envelope.priority != NORMAL_PRIORITY:
            self._admit(envelope, message, everybody, now)
            return True
        return False

    def handed_in(self, envelope: Envelope, message: int, size: int) -> None:
        """A message is stored, some of it perhaps at a colleague; its owners admit it."""
        self._count(self._clock.now(), len(envelope.recipients), 1, size)

    def dropped(self, recipients: int, size: int) -> None:
        """A message that came to the dummy."""
        self._count(self._clock.now(), recipients, 1, size)

    def enter(self, envelope: Envelope, message: int, waiting: Iterable[Waiting] | None) -> None:
        """These recipients of a stored message, and no others, enter their queues; None: all, untried, of one
        whose commit is being completed."""
        if waiting is None:
            size = self._partition.size(message) if envelope.job_id else 0
            self._shares.append((envelope, message, size))
            return
        if envelope.job_id:
            waiting = list(waiting)
            self._jobs.enter(envelope.job_id, len(waiting), self._partition.size(message))
            if self._jobs.is_paused(envelope.job_id):
                self._hold(envelope, message, waiting)
                return
        self._admit(envelope, message, waiting, self._clock.now())

    def again(self, key: QueueKey, entry: Entry) -> None:
        """This recipient was taken out of its queue and goes back."""
        job_id = ""
        if self._jobs.paused:
            with contextlib.suppress(SpoolError):
                job_id = self._partition.envelope(entry.ref >> RECIPIENT_BITS).job_id
        if job_id and self._jobs.is_paused(job_id):
            self._jobs.hold(job_id, key, [entry])
            return
        self._scheduler.admit(
            key,
            entry.ref,
            self._clock.now(),
            received=entry.received,
            attempts=entry.attempts,
            due=float(entry.due) or None,
            priority=entry.priority,
        )

    def _admit(self, envelope: Envelope, message: int, waiting: Iterable[Waiting], now: float) -> None:
        """Let these wait in their queues, those of a scheduled message until they may go."""
        for recipient, attempts, due in waiting:
            key = self.key(envelope.recipients[recipient].queue_domain, envelope.vmta)
            ref = message << RECIPIENT_BITS | recipient
            priority = self._priorities.of(key, envelope, recipient)
            if envelope.schedule:
                self._schedules.admit(envelope, key, ref, attempts=attempts, due=due, priority=priority)
                continue
            self._scheduler.admit(
                key,
                ref,
                now,
                received=envelope.received,
                attempts=attempts,
                due=due or None,
                priority=priority,
            )
            if envelope.recipients[recipient].notify & _DELAY:
                self._delays.watch(envelope, ref)
        self.wake()

    def _hold(self, envelope: Envelope, message: int, waiting: Iterable[Waiting]) -> None:
        """Keep the recipients of a paused job back."""
        for recipient, attempts, due in waiting:
            key = QueueKey(envelope.recipients[recipient].queue_domain, envelope.vmta)
            ref = message << RECIPIENT_BITS | recipient
            priority = self._priorities.of(key, envelope, recipient)
            entry = Entry(ref, int(envelope.received), attempts, int(due), priority)
            self._jobs.hold(envelope.job_id, key, [entry])
            if envelope.recipients[recipient].notify & _DELAY:
                self._delays.watch(envelope, ref)


def _nobody() -> None:
    """Whom `wake` calls as long as there is nobody to deliver."""
