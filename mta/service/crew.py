"""What makes a worker one of several: the layout, the ways to its colleagues, and mail on its way to them.

    client ──▶ acceptance ──▶ Handover ──▶ our partition, or Colleague ──▶ Intake of the owner
                                 │ not taken                    ▲
                                 ▼                              │
                            our partition ──▶ Passage ──────────┘◀── Adoption of an orphan

With one worker there is no socket, no division and no look at a domain: `spool` is the partition itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from mta.clock import Clock
from mta.errors import SpoolError
from mta.ingress.accept import SpoolWriter
from mta.message.envelope import Envelope
from mta.queue.entries import Entry
from mta.queue.key import RECIPIENT_BITS, RECIPIENT_MASK, QueueKey
from mta.queue.scheduler import Scheduler
from mta.service.adoption import Adoption
from mta.service.colleagues import SOCKET_NAME, Colleague
from mta.service.handover import Enter, Handover
from mta.service.intake import Intake
from mta.service.jobs import JobBook
from mta.service.layout import Layout, Post
from mta.service.passage import Passage
from mta.service.share import Share, Verdict
from mta.service.sharedqueue import is_shared
from mta.spool.options import SpoolOptions
from mta.spool.partition import Partition
from mta.spool.stored import Waiting

__all__ = ["Crew"]

log = logging.getLogger(__name__)

#: Seconds between two looks for mail of domains that another worker has claimed meanwhile.
MOVING_INTERVAL = 1.0
#: Seconds between two looks for answers while we end, and for colleagues while we begin.
ANSWER_INTERVAL = 0.01
#: How long (seconds) a worker that begins waits for its colleagues: they begin at the same time, as a rule.
MEETING = 0.5


class Crew:
    """One worker's place among all; `spool` is where acceptance stores mail."""

    def __init__(
        self,
        number: int,
        layout: Layout,
        *,
        partition: Partition,
        options: SpoolOptions,
        scheduler: Scheduler,
        enter: Enter,
        jobs: JobBook,
        adopted: Iterable[int],
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`enter` takes the recipients it is given, and no others; `adopted` are numbers of orphans."""
        self.number = number
        self.layout = layout
        self._partition = partition
        self._scheduler = scheduler
        self._enter = enter
        self._jobs = jobs
        self._clock = clock
        self._moving: asyncio.Task[None] | None = None
        spool = partition.directory.parent
        self.colleagues = {
            post.number: Colleague(post.number, spool / str(post.number) / SOCKET_NAME, loop=loop)
            for post in layout.posts
            if post.number != number
        }
        orphans = tuple(adopted)
        self.intake = Intake(
            partition=partition,
            admit=self._admit,
            clock=clock,
            loop=loop,
            is_alone=not self.colleagues and not orphans,
        )
        self.passage = Passage(
            number,
            partition=partition,
            layout=lambda: self.layout,
            offer=self._offer,
            at_home=enter,
            names=self.intake.names,
            loop=loop,
        )
        self.handover = Handover(
            number,
            partition=partition,
            layout=lambda: self.layout,
            colleagues=self.colleagues,
            enter=enter,
            admit=self._admit,
            passage=self.passage,
            names=self.intake.names,
        )
        self.adoptions = [
            Adoption(
                spool / str(orphan),
                number,
                options=options,
                layout=lambda: self.layout,
                offer=self._offer,
                loop=loop,
            )
            for orphan in orphans
        ]

    def __repr__(self) -> str:
        return f"<Crew of {len(self.layout)}: {self.number} {self.handover!r} {self.passage!r}>"

    @property
    def is_alone(self) -> bool:
        return not self.colleagues

    @property
    def post(self) -> Post:
        return self.layout.posts[self.number]

    @property
    def spool(self) -> SpoolWriter:
        if self.is_alone:
            return self._partition
        return self.handover

    async def open(self) -> None:
        """Take shares, and look for the others. Raises OSError.

        Waits for them for a moment: what came in before they can be reached would have to be kept for them,
        and passed on later.
        """
        if self.is_alone:
            return
        await self.intake.open(self._partition.directory / SOCKET_NAME)
        for colleague in self.colleagues.values():
            colleague.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MEETING):
                # Once in a life: not worth an event for each of them.
                while not all(colleague.is_up for colleague in self.colleagues.values()):  # noqa: ASYNC110
                    await asyncio.sleep(ANSWER_INTERVAL)

    def drain(self) -> None:
        """Begin to end: what waits for others goes on waiting, but answers are still heard."""
        self.passage.rest()
        for adoption in self.adoptions:
            adoption.rest()

    async def finish(self, seconds: float) -> None:
        """Wait until every share has been answered, but no longer than that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # Rare and short: not worth an event for every share.
                while any(c.waiting for c in self.colleagues.values()):  # noqa: ASYNC110
                    await asyncio.sleep(ANSWER_INTERVAL)

    def close(self) -> None:
        """Take nothing more from anybody; what is on its way stays here."""
        if self._moving is not None:
            self._moving.cancel()
        self.intake.close()
        for colleague in self.colleagues.values():
            colleague.close()
        self.passage.close()

    def keep_names(self) -> None:
        """The last thing of an end in good order, when all that was said is on disk: leave to the next life
        which shares we have had."""
        self.intake.keep_names()

    def lose_names(self) -> None:
        """Our spool has broken: leave nothing of what we say to have to the next life."""
        self.intake.names.lose()

    async def adopt(self) -> None:
        """Empty the partitions that nobody owns any more, one after the other."""
        for adoption in self.adoptions:
            await adoption.run()

    def recovered(self, envelope: Envelope, message: int, waiting: Iterable[Waiting]) -> None:
        """This message was found on our disk: into our queues, or to its owner."""
        if self.is_alone:
            if self.adoptions:
                self.intake.remember(envelope, message)
            self._enter(envelope, message, waiting)
            return
        self.intake.remember(envelope, message)
        mine = []
        for found in waiting:
            owner = self.layout.owner(envelope.recipients[found.recipient].queue_domain)
            if owner == self.number:
                mine.append(found)
            else:
                self.passage.add(owner, message, found.recipient, found.attempts, found.due)
        if mine:
            self._enter(envelope, message, mine)

    def knows_all(self) -> None:
        """The whole disk has been read."""
        self.intake.knows_all = True

    def follow(self, layout: Layout) -> None:
        """Claims have changed: what isn't ours any more goes to its new owner."""
        if layout == self.layout:
            return
        self.layout = layout
        if self._moving is None or self._moving.done():
            self._moving = asyncio.get_running_loop().create_task(self._move())

    async def _move(self) -> None:
        """Take out of our queues what belongs to others, until nothing of theirs is under way here."""
        while True:
            is_over = True
            now = self._clock.now()
            for status in list(self._scheduler.queues(now)):
                strangers = self._strangers(status.key)
                if strangers is None:
                    continue
                is_over = is_over and not status.connections
                for owner, entries in strangers.items():
                    for ref in self._scheduler.remove(status.key, entries.keys()):
                        self._leave_job(ref >> RECIPIENT_BITS)
                        self.passage.add_ref(owner, ref, entries[ref].attempts, float(entries[ref].due))
                await asyncio.sleep(0)
            if is_over:
                return
            await asyncio.sleep(MOVING_INTERVAL)

    def _leave_job(self, message: int) -> None:
        """A recipient of this message counts at its new owner from now on."""
        if self._jobs.has_any:
            with contextlib.suppress(SpoolError):
                self._jobs.leave(self._partition.envelope(message).job_id)

    def _strangers(self, key: QueueKey) -> dict[int, dict[int, Entry]] | None:
        """What waits in a queue and belongs to others, by owner; None when nothing there can.

        A roll-up's queue is at every worker, and its mail belongs to whoever owns the recipient's domain.
        """
        owner = self.layout.owner(key.domain)
        if not is_shared(key):
            if owner == self.number:
                return None
            return {owner: {entry.ref: entry for entry in self._scheduler.entries(key)}}
        found: dict[int, dict[int, Entry]] = {}
        for entry in self._scheduler.entries(key):
            with contextlib.suppress(SpoolError):
                envelope = self._partition.envelope(entry.ref >> RECIPIENT_BITS)
                owner = self.layout.owner(envelope.recipients[entry.ref & RECIPIENT_MASK].queue_domain)
                if owner != self.number:
                    found.setdefault(owner, {})[entry.ref] = entry
        return found or None

    def _admit(self, envelope: Envelope, message: int, waiting: tuple[Waiting, ...]) -> None:
        """All recipients of a message that was just stored; `waiting` are those tried before.

        While a reload is under way somebody may still take us for the owner of what we own no more.
        """
        if not waiting and self.layout.sole_owner(envelope.recipients) == self.number:
            self._enter(envelope, message, None)
            return
        owners = [self.layout.owner(recipient.queue_domain) for recipient in envelope.recipients]
        tried = {found.recipient: found for found in waiting}
        mine = []
        for index, owner in enumerate(owners):
            found = tried.get(index) or Waiting(index, 0, 0.0)
            if owner == self.number:
                mine.append(found)
            else:
                self.passage.wait_with(owner)
                self.passage.add(owner, message, *found)
        if mine:
            self._enter(envelope, message, mine)

    def _offer(self, owner: int, share: Share, done: Callable[[Verdict], None]) -> None:
        if owner == self.number:
            self.intake.take(share, done, again=True)
        else:
            self.colleagues[owner].offer(share, done, again=True)
