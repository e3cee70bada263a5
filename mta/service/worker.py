"""The composition root: every part of one worker is made here and joined to the others.

    Inbound ──▶ Crew ──▶ Partition ──▶ Admission ──▶ Scheduler ──▶ Outbound
       ▲       (ours? theirs?)                                        │
       └───────────────── returns, copies, notices ◀──────────────────┘

What a lower floor needs from above it is handed to it as a function (`admitted`, `wake`, `sent`, policies).
The worker owns one spool partition and everything that waits in it; it ends with a sync.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Iterable, Iterator
from dataclasses import replace

from mta.clock import Clock
from mta.config.snapshot import Snapshot
from mta.errors import SpoolError
from mta.message.envelope import Envelope
from mta.queue.key import RECIPIENT_BITS, RECIPIENT_MASK, QueueKey
from mta.queue.parking import Park
from mta.queue.policy import UNLIMITED
from mta.queue.scheduler import Scheduler
from mta.service.admission import Admission
from mta.service.borrower import Borrower, Doors, Lender
from mta.service.crew import Crew
from mta.service.delays import Delays
from mta.service.handover import TURNS_TO_GATHER
from mta.service.inbound import Inbound, listening
from mta.service.inforce import InForce, make_classifier
from mta.service.jobs import JobBook
from mta.service.layout import Layout
from mta.service.leasedscheduler import LeasedScheduler
from mta.service.memory import give_back_memory
from mta.service.operatorstate import OperatorState
from mta.service.outbound import Outbound
from mta.service.premises import spool_directory
from mta.service.priorities import Priorities
from mta.service.processors import processors_available
from mta.service.schedules import Schedules
from mta.service.statekeeper import StateKeeper
from mta.service.traffic import Traffic
from mta.service.trash import Trash
from mta.service.turns import take_turns
from mta.spool.files import Files
from mta.spool.options import SpoolOptions
from mta.spool.partition import Partition
from mta.spool.shelf import DiskShelf
from mta.spool.stored import Recovered

__all__ = ["Worker"]

log = logging.getLogger(__name__)

#: Part of the drain that connections may use; the rest is for the last sync.
DRAIN_SHARE = 0.9
STATE_FILE = "operator.sqlite"
#: What colleagues get at the end to answer for shares of ours; then we keep them.
SHARE_SECONDS = 1.0


class Worker:
    """One partition and all that works on it; everything runs on one event loop."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        name: str,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        workers: int = 1,
        adopted: Iterable[int] = (),
        lender: Lender | None = None,
        files: Files | None = None,
    ) -> None:
        """Opens the spool, and reads keys. Raises SpoolError and ConfigError.

        `name` is the worker's number of `workers`; `adopted` are partitions without a worker to be emptied.
        `lender` lends what limits of the whole service allow; one worker alone needs none.
        """
        layout = Layout.of(snapshot, count=workers)
        self.in_force = InForce(snapshot)
        self.clock = clock
        self.traffic = Traffic()
        self.name = name
        self.is_recovering = True
        self._processors = processors_available()  # before this process is kept to a part of them
        self.alarms: list[str] = []
        self._stopped = asyncio.Event()
        self._found: Iterator[Recovered] = iter(())
        self.most_in_memory = self._most_in_memory(workers)
        options = self._open_spool(workers, files, loop)
        # Queues that come back may want more than they have: who borrows asks for all of it at the start.
        self.borrower: Borrower | None = None
        self._take_up_queues(layout, loop, is_leased=lender is not None)
        self._open_ways(layout, options, adopted, loop)
        self.borrower = self._make_borrower(lender)

    def _open_spool(self, workers: int, files: Files | None, loop: asyncio.AbstractEventLoop) -> SpoolOptions:
        """What is ours on disk: the partition, what operators did, and the shelf of long queues."""
        snapshot, name = self.snapshot, self.name
        options = SpoolOptions.from_settings(snapshot.top, snapshot.spools[0].settings)
        options = replace(
            options, memory_pool=options.memory_pool // workers, most_in_memory=self.most_in_memory
        )
        if workers > 1:
            options = replace(options, pace=replace(options.pace, turns_to_gather=TURNS_TO_GATHER))
        if files is not None:
            options = replace(options, files=files)
        directory = spool_directory(snapshot) / name
        self.partition = Partition.open(directory, options=options, loop=loop)
        self.partition.on_broken = self._spool_broke
        self.state = OperatorState(
            directory / STATE_FILE,
            (directory.with_name(str(other)) / STATE_FILE for other in range(workers) if str(other) != name),
        )
        self.shelf = DiskShelf(directory, options.files)
        return options

    def _take_up_queues(self, layout: Layout, loop: asyncio.AbstractEventLoop, *, is_leased: bool) -> None:
        """What decides over mail that waits, as operators and the last run have left it."""
        state, clock = self.state, self.clock
        self.scheduler = self._make_scheduler(layout, is_leased=is_leased)
        self.scheduler.restore_state(state.load("scheduler"), clock.now())
        self.keeper = StateKeeper(changes=lambda: self.scheduler.changes, save=self._save_queues, clock=clock)
        self.jobs = JobBook()
        self.jobs.restore_state(state.load("jobs"))
        self.priorities = Priorities()
        self.priorities.restore_state(state.load("priorities"))
        self.trash = Trash(self._delete, loop=loop)
        self.schedules = Schedules(self.scheduler, clock)
        self.delays = Delays(
            spool=self.partition, every=self._reminds_every, remind=self._remind, clock=clock
        )

    def _open_ways(
        self,
        layout: Layout,
        options: SpoolOptions,
        adopted: Iterable[int],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """How mail gets into the queues, from clients and colleagues, and out of them."""
        self.admission = Admission(
            partition=self.partition,
            scheduler=self.scheduler,
            jobs=self.jobs,
            priorities=self.priorities,
            schedules=self.schedules,
            delays=self.delays,
            traffic=self.traffic,
            clock=self.clock,
        )
        self.partition.on_committed = self.admission.committed
        self.crew = Crew(
            int(self.name),
            layout,
            partition=self.partition,
            options=options,
            scheduler=self.scheduler,
            enter=self.admission.enter,
            jobs=self.jobs,
            adopted=adopted,
            clock=self.clock,
            loop=loop,
        )
        self.inbound = Inbound(
            self.in_force,
            crew=self.crew,
            partition=self.partition,
            admission=self.admission,
            state=self.state,
            clock=self.clock,
            loop=loop,
        )
        self.listener = self.inbound.listener
        self.outbound = Outbound(
            self.in_force,
            name=self.name,
            scheduler=self.scheduler,
            partition=self.partition,
            jobs=self.jobs,
            schedules=self.schedules,
            inbound=self.inbound,
            sent=self.traffic.out.add,
            spare_processors=layout.spare_processors(int(self.name), self._processors),
            clock=self.clock,
            loop=loop,
        )
        self.dispatcher = self.outbound.dispatcher
        self.admission.wake = self.dispatcher.wake
        self.admission.rollups = self.outbound.directions.rollups

    def _make_scheduler(self, layout: Layout, *, is_leased: bool) -> Scheduler:
        """With the limits as they are written, or as parts of them are lent to us."""
        park = Park(self.shelf, lambda: self.most_in_memory, lambda: self.partition.recipients)
        if is_leased:
            return LeasedScheduler(
                policies=self.in_force.queue,
                vmtas=self.in_force.vmta,
                wanting=self.want_more,
                parts=sum(post.delivers for post in layout.posts),
                part=sum(post.delivers for post in layout.posts[: int(self.name)]),
                sizes=self.partition.size,
                noticed=lambda notice: self.inbound.notices(notice),
                hosts=self.in_force.hosts,
                park=park,
            )
        return Scheduler(
            policies=self.in_force.queue,
            vmtas=self.in_force.vmta,
            total_max_smtp_out=most_connections(self.snapshot),
            sizes=self.partition.size,
            noticed=lambda notice: self.inbound.notices(notice),
            hosts=self.in_force.hosts,
            park=park,
        )

    def _most_in_memory(self, workers: int) -> int:
        """How many recipients our queues may keep in mind, 0 for all: an equal part of the whole."""
        return -(-self.snapshot.top.integer("max-recipients-in-memory") // workers)

    def _make_borrower(self, lender: Lender | None) -> Borrower | None:
        if lender is None or not isinstance(self.scheduler, LeasedScheduler):
            return None
        return Borrower(
            lender,
            scheduler=self.scheduler,
            doors=Doors(self.inbound.reception, listening(self.crew.layout)),
            lent=self.dispatcher.wake,
            clock=self.clock,
        )

    def __repr__(self) -> str:
        return f"<Worker {self.name} {self.partition!r} {self.dispatcher!r}>"

    @property
    def snapshot(self) -> Snapshot:
        """The configuration in force."""
        return self.in_force.snapshot

    async def start(self, sockets: list[socket.socket]) -> None:
        """Open the doors; `sockets` are those of the configuration's listeners, in order.

        A worker that only delivers has none. Raises OSError when colleagues couldn't reach us.
        """
        # Looked for before anything new can arrive, which must not be found as well.
        found = self.partition.recovered()
        self._found = itertools.chain(list(itertools.islice(found, 1)), found)
        await self.crew.open()
        if self.borrower is not None:
            await self.borrower.renew()
        await self.inbound.start(sockets)

    async def run(self) -> None:
        """Take, keep and deliver mail until `stop` or `drain` is through."""
        try:
            async with asyncio.TaskGroup() as company:
                company.create_task(self.dispatcher.run())
                recovery = company.create_task(self._recover())
                adoption = company.create_task(self._adopt(recovery))
                borrowing = company.create_task(self._borrow())
                if self.inbound.picks_up:
                    company.create_task(self.inbound.pickup.run())
                keeping = company.create_task(self.keeper.run())
                reminding = company.create_task(self.delays.run())
                precaching = company.create_task(self.outbound.directions.precache.run())
                # Delivery may be through before the last client is: the spool stays open for both.
                await self._stopped.wait()
                keeping.cancel()
                reminding.cancel()
                precaching.cancel()
                recovery.cancel()
                adoption.cancel()
                borrowing.cancel()
        finally:
            self.outbound.signer.close()
            self.partition.close()
            self.shelf.close()
            try:
                self._save_queues(with_rates=True)
            except OSError as failure:
                log.error("event=state-not-kept error=%r", str(failure))
            self.state.close()

    async def drain(self, seconds: float) -> None:
        """Take nothing new, finish what is under way within `seconds`, make everything durable, and end."""
        deadline = self.clock.now() + seconds * DRAIN_SHARE
        self.crew.drain()
        self.listener.close()
        async with asyncio.TaskGroup() as company:
            company.create_task(self.inbound.pickup.stop())
            company.create_task(self.dispatcher.drain(deadline))
            company.create_task(self.outbound.tracer.stop())
            company.create_task(self.listener.drained(seconds * DRAIN_SHARE))
        self.trash.empty()
        # Reports that still wait for the spool belong to outcomes that are about to be settled.
        self.inbound.returns.flush()
        await self.crew.finish(SHARE_SECONDS)
        self.crew.close()
        await self._flush()
        self.crew.keep_names()
        self._stopped.set()

    async def stop(self) -> None:
        """End soon: the supervisor is gone, or wants us to go."""
        if not self._stopped.is_set():
            await self.drain(5.0)

    def reload(self, snapshot: Snapshot) -> None:
        """Follow another configuration from now on. Raises ConfigError, and changes nothing, when its keys
        can't be used."""
        classifier = make_classifier(snapshot)
        layout = Layout.of(snapshot, count=len(self.crew.layout))
        self.listener.reload(snapshot)
        self.outbound.signer.reload(snapshot)
        self.outbound.signer.spare = layout.spare_processors(int(self.name), self._processors)
        self.in_force.follow(snapshot, classifier)
        self.crew.follow(layout)
        self.outbound.directions.follow()
        self.admission.rollups = self.outbound.directions.rollups
        self.most_in_memory = self._most_in_memory(len(self.crew.layout))
        self.partition.keep_in_memory(self.most_in_memory)
        self.scheduler.reconfigure(self.clock.now(), most_connections(snapshot))
        if self.borrower is not None:
            self.borrower.doors.apply()
            self.borrower.hurry()
        self.dispatcher.wake()

    def save_state(self) -> None:
        """Keep what the operator did, for the next start."""
        self._save_queues()
        self.state.save("jobs", self.jobs.snapshot_state())
        self.state.save("priorities", self.priorities.snapshot_state())

    def _save_queues(self, *, with_rates: bool = False) -> None:
        self.state.save("scheduler", self.scheduler.snapshot_state(with_rates=with_rates))

    def _delete(self, key: QueueKey, ref: int, with_dsn: bool, is_recorded: bool) -> None:
        """An operator's delete becomes final."""
        try:
            envelope = self.partition.envelope(ref >> RECIPIENT_BITS)
        except SpoolError as error:
            log.error("queue=%s message=%d event=not-deleted error=%s", key, ref >> RECIPIENT_BITS, error)
            return
        self.outbound.settlement.delete(key, ref, envelope, with_dsn=with_dsn, is_recorded=is_recorded)

    def _reminds_every(self, envelope: Envelope, recipient: int) -> float | None:
        domain = envelope.recipients[recipient].queue_domain
        return self.snapshot.effective(domain, envelope.vmta).interval("notify-of-delay-every")

    def _remind(self, envelope: Envelope, ref: int) -> None:
        """Tell a sender what the queue waits for."""
        key = self.admission.key(envelope.recipients[ref & RECIPIENT_MASK].queue_domain, envelope.vmta)
        recent = self.scheduler.recent(key)
        # What the operator has paused or limited is nobody else's business.
        words = recent[0][2] if recent else "no attempt could be made yet"
        self.outbound.settlement.remind(key, ref, envelope, words)

    def _spool_broke(self, text: str) -> None:
        """Nothing that is sent from here on could be noted: send nothing. Clients are told to come again, and
        the process stays, so that the operator can look at it; only a restart makes the spool whole."""
        alarm = (
            f"spool {self.partition.directory} is broken ({text}): nothing is accepted or delivered from it"
        )
        self.alarms.append(alarm)
        log.critical("event=alarm text=%r", alarm)
        self.dispatcher.halt("our spool is broken")
        self.crew.lose_names()

    async def _recover(self) -> None:
        """Bring what waited on disk back into the queues, while new mail and deliveries go on."""
        crew = self.crew
        count = await take_turns(
            self._found,
            lambda found: crew.recovered(found.envelope, found.message, found.waiting),
            self.clock,
        )
        self.is_recovering = False
        self._found = iter(())
        give_back_memory()
        self.crew.knows_all()
        if count:
            log.info("recovered messages=%d", count)

    async def _borrow(self) -> None:
        if self.borrower is not None:
            await self.borrower.run()

    def want_more(self) -> None:
        """Ask at once for our parts of what workers share."""
        if self.borrower is not None:
            self.borrower.hurry()

    async def _adopt(self, recovery: asyncio.Task[None]) -> None:
        """Empty orphans; only who has read its own disk recognises what it already has of theirs."""
        await recovery
        await self.crew.adopt()

    async def _flush(self) -> None:
        done: asyncio.Future[SpoolError | None] = asyncio.get_running_loop().create_future()
        self.partition.flush(done.set_result)
        failure = await done
        if failure is not None:
            log.error("spool: the last outcomes could not be written: %s", failure)


def most_connections(snapshot: Snapshot) -> int:
    """How many outbound connections the whole service may have."""
    return snapshot.top.integer("total-max-smtp-out") or UNLIMITED
