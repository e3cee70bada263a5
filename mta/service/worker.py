"""The composition root: every part of one worker is made here and joined to the others.

    conversation → reception → acceptance → partition → scheduler → dispatcher → session → settlement
                                   ▲                                                          │
                                   └────────────────────── returns ◀──────────────────────────┘

What a lower floor needs from above it is handed in here as a function (`admitted`, `returns`, `sent`,
policies). The worker owns one spool partition and everything that waits in it; it ends with a sync.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import platform
import socket
from collections.abc import Iterable, Iterator
from dataclasses import replace

from mta.clock import Clock
from mta.config.categories import default_categories
from mta.config.snapshot import Snapshot
from mta.delivery.dialer import Dialer
from mta.delivery.dispatcher import Dispatcher
from mta.delivery.opener import Opener
from mta.delivery.policy import DeliveryPolicy
from mta.delivery.settlement import Settlement
from mta.delivery.signing import Signer
from mta.delivery.trace import Tracer
from mta.errors import SpoolError
from mta.ingress.accept import Acceptance
from mta.ingress.cold import ColdQuota
from mta.ingress.copies import Copies
from mta.ingress.listener import Listener
from mta.ingress.pickup import Pickup
from mta.ingress.queueid import QueueIds
from mta.ingress.reception import Reception
from mta.ingress.reject import Rejects
from mta.ingress.returns import Returns
from mta.message.envelope import Envelope
from mta.queue.classify import Classifier
from mta.queue.entries import Entry
from mta.queue.key import RECIPIENT_BITS, QueueKey
from mta.queue.notice import Notice
from mta.queue.policy import UNLIMITED, VmtaPolicy
from mta.queue.scheduler import Scheduler
from mta.routing.router import Router
from mta.service.borrower import Borrower, Doors, Lender
from mta.service.crew import Crew
from mta.service.jobs import JobBook, JobStore
from mta.service.layout import Layout
from mta.service.leasedscheduler import LeasedScheduler
from mta.service.notices import Notices
from mta.service.operatorstate import OperatorState
from mta.service.policybook import PolicyBook
from mta.service.premises import spool_directory
from mta.service.rollup import Rollups
from mta.service.routes import QueueRoutes, make_resolver
from mta.service.statekeeper import StateKeeper
from mta.service.traffic import Traffic
from mta.service.trash import Trash
from mta.spool.files import Files
from mta.spool.options import SpoolOptions
from mta.spool.partition import Partition
from mta.spool.stored import Recovered, Waiting

__all__ = ["Worker"]

log = logging.getLogger(__name__)

#: Messages recovered in one turn of the loop: some milliseconds, so that new mail and deliveries go on
#: while a large spool is read.
RECOVERED_AT_ONCE = 200
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
        self.snapshot = snapshot
        self.clock = clock
        self.traffic = Traffic()
        self.name = name
        self.is_recovering = True
        self._book = PolicyBook(snapshot)
        self._classifier = make_classifier(snapshot)
        self._stopped = asyncio.Event()
        self._found: Iterator[Recovered] = iter(())
        directory = spool_directory(snapshot) / name
        options = SpoolOptions.from_settings(snapshot.top, snapshot.spools[0].settings)
        if files is not None:
            options = replace(options, files=files)
        self.partition = Partition.open(directory, options=options, loop=loop)
        self.partition.on_broken = self._spool_broke
        self.alarms: list[str] = []
        self.state = OperatorState(
            directory / STATE_FILE,
            (directory.with_name(str(other)) / STATE_FILE for other in range(workers) if str(other) != name),
        )
        self.borrower: Borrower | None = None
        if lender is None:
            self.scheduler = Scheduler(
                policies=lambda key: self._book.queue(key),
                vmtas=lambda vmta: self._book.vmta(vmta),
                total_max_smtp_out=most_connections(snapshot),
                sizes=self.partition.size,
                noticed=self._notice,
            )
        else:
            self.scheduler = leased = LeasedScheduler(
                policies=lambda key: self._book.queue(key),
                vmtas=lambda vmta: self._book.vmta(vmta),
                wanting=self._want_more,
                parts=sum(post.delivers for post in layout.posts),
                sizes=self.partition.size,
                noticed=self._notice,
            )
        self.scheduler.restore_state(self.state.load("scheduler"), clock.now())
        self.keeper = StateKeeper(changes=lambda: self.scheduler.changes, save=self._save_queues, clock=clock)
        self.jobs = JobBook()
        self.jobs.restore_state(self.state.load("jobs"))
        self.trash = Trash(self._delete, loop=loop)
        self.crew = Crew(
            int(name),
            layout,
            partition=self.partition,
            options=options,
            scheduler=self.scheduler,
            enter=self._enter,
            adopted=adopted,
            clock=clock,
            loop=loop,
        )
        queue_ids = QueueIds(clock, int(name))
        self.acceptance = Acceptance(
            snapshot=lambda: self.snapshot,
            partition=self.crew.spool,
            clock=clock,
            queue_ids=queue_ids,
            # Where there are colleagues, each share is admitted by its owner.
            admitted=self._admit if self.crew.is_alone else self._count_taken,
            host_name=platform.node(),
            cold=ColdQuota(self.state, clock, part=own_part(layout, int(name)), parts=listening(layout)),
        )
        self.pickup = Pickup(snapshot=lambda: self.snapshot, accept=self.acceptance.accept, clock=clock)
        # One worker looks after the directory, so that no file is taken twice.
        self._picks_up = self.crew.post.listens and own_part(layout, int(name)) == 0
        keeps_rejects = bool(snapshot.reject_files)
        rejects = Rejects(self.partition.record if keeps_rejects else None, clock=clock, queue_ids=queue_ids)
        self.listener = Listener(
            Reception(
                snapshot=lambda: self.snapshot,
                acceptance=self.acceptance,
                rejects=rejects,
                clock=clock,
                loop=loop,
                host_name=platform.node(),
            )
        )
        if lender is not None:
            self.borrower = Borrower(
                lender,
                scheduler=leased,
                doors=Doors(self.listener.reception),
                lent=lambda: self.dispatcher.wake(),
                clock=clock,
            )
        self.notices = Notices(
            accept=self.acceptance.accept,
            snapshot=lambda: self.snapshot,
            queue_ids=queue_ids,
            clock=clock,
            host_name=platform.node(),
        )
        self.returns = Returns(
            accept=self.acceptance.accept,
            load=lambda message: self.partition.load(message).body,
            snapshot=lambda: self.snapshot,
            queue_ids=queue_ids,
            clock=clock,
            loop=loop,
            host_name=platform.node(),
        )
        self.settlement = Settlement(
            scheduler=self.scheduler,
            store=self.partition,
            categories=lambda: self._classifier,
            rules=lambda key: self._book.rules(key),
            policies=lambda key: self._book.delivery(key),
            returns=self.returns,
            clock=clock,
            name=name,
            sent=self._count_sent,
            ended=self.jobs.ended,
            copies=Copies(
                accept=self.acceptance.accept, load=lambda message: self.partition.load(message).body
            ),
        )
        self.resolver = make_resolver(snapshot, clock)
        self.router = Router(
            self.resolver,
            clock=clock,
            own_names=snapshot.top.texts("host-name"),
            own_addresses=[(listener.host, listener.port) for listener in snapshot.listeners],
        )
        self.signer = Signer(snapshot, clock, loop)
        store = JobStore(self.partition, self.jobs)
        self.rollups = self._make_rollups()
        self.routes = QueueRoutes(self.router, lambda key: self._book.route(key), lambda: self.rollups)
        self.dialer = Dialer(clock=clock)
        opener = Opener(
            scheduler=self.scheduler,
            store=store,
            routes=self.routes,
            dialer=self.dialer,
            settlement=self.settlement,
            rules=lambda key: self._book.rules(key),
            policies=lambda key: self._book.delivery(key),
            host_name=self.host_name,
            clock=clock,
        )
        self.dispatcher = Dispatcher(
            scheduler=self.scheduler,
            store=store,
            opener=opener,
            settlement=self.settlement,
            signer=self.signer,
            policies=lambda key: self._book.delivery(key),
            clock=clock,
        )
        self.tracer = Tracer(
            scheduler=self.scheduler,
            store=self.partition,
            routes=self.routes,
            dialer=self.dialer,
            settlement=self.settlement,
            signer=self.signer,
            policies=lambda key: self._book.delivery(key),
            host_name=self.host_name,
            fatal=self.dispatcher.contradiction,
            clock=clock,
        )

    def __repr__(self) -> str:
        return f"<Worker {self.name} {self.partition!r} {self.dispatcher!r}>"

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
        if self.crew.post.listens:
            await self.listener.start(self.snapshot, sockets)

    async def run(self) -> None:
        """Take, keep and deliver mail until `stop` or `drain` is through."""
        try:
            async with asyncio.TaskGroup() as company:
                company.create_task(self.dispatcher.run())
                recovery = company.create_task(self._recover())
                adoption = company.create_task(self._adopt(recovery))
                borrowing = company.create_task(self._borrow())
                if self._picks_up:
                    company.create_task(self.pickup.run())
                keeping = company.create_task(self.keeper.run())
                # Delivery may be through before the last client is: the spool stays open for both.
                await self._stopped.wait()
                keeping.cancel()
                recovery.cancel()
                adoption.cancel()
                borrowing.cancel()
        finally:
            self.signer.close()
            self.partition.close()
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
            company.create_task(self.pickup.stop())
            company.create_task(self.dispatcher.drain(deadline))
            company.create_task(self.tracer.stop())
            company.create_task(self.listener.drained(seconds * DRAIN_SHARE))
        self.trash.empty()
        # Reports that still wait for the spool belong to outcomes that are about to be settled.
        self.returns.flush()
        await self.crew.finish(SHARE_SECONDS)
        self.crew.close()
        await self._flush()
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
        self.signer.reload(snapshot)
        self._classifier = classifier
        self._book = PolicyBook(snapshot)
        self.snapshot = snapshot
        self.crew.follow(layout)
        self.router.flush()
        self.rollups = self._make_rollups()
        self.scheduler.reconfigure(self.clock.now(), most_connections(snapshot))
        if self.borrower is not None:
            self.borrower.doors.apply()
            self.borrower.hurry()
        self.dispatcher.wake()

    def save_state(self) -> None:
        """Keep what the operator did, for the next start."""
        self._save_queues()
        self.state.save("jobs", self.jobs.snapshot_state())

    def _save_queues(self, *, with_rates: bool = False) -> None:
        self.state.save("scheduler", self.scheduler.snapshot_state(with_rates=with_rates))

    def _notice(self, notice: Notice) -> None:
        self.notices(notice)

    def host_name(self) -> str:
        """What we call ourselves where nothing else is configured."""
        return self.snapshot.host_name() or platform.node()

    def delivery_policy(self, key: QueueKey) -> DeliveryPolicy:
        """How to speak to the receivers of a queue."""
        return self._book.delivery(key)

    def vmta_policy(self, vmta: str) -> VmtaPolicy:
        """The sources and limits of a virtual MTA."""
        return self._book.vmta(vmta)

    def _make_rollups(self) -> Rollups | None:
        """The roll-ups of the configuration in force, None where it has none."""
        if not self.snapshot.rollups:
            return None
        return Rollups(
            self.snapshot,
            resolver=self.resolver,
            router=self.router,
            policies=lambda key: self._book.route(key),
            clock=self.clock,
        )

    def _key(self, domain: str, vmta: str) -> QueueKey:
        """The queue of a recipient."""
        key = QueueKey(domain, vmta)
        return key if self.rollups is None else self.rollups.key(key)

    def _admit(self, envelope: Envelope, message: int, size: int) -> None:
        """A message is on disk: its recipients enter their queues. Hot path."""
        now = self.clock.now()
        self.traffic.into.add(now, len(envelope.recipients), 1, size)
        if envelope.job_id:
            self.jobs.enter(envelope.job_id, len(envelope.recipients), size)
            if self.jobs.is_paused(envelope.job_id):
                self._hold(envelope, message, [Waiting(i, 0, 0.0) for i in range(len(envelope.recipients))])
                return
        admit, vmta, received = self.scheduler.admit, envelope.vmta, envelope.received
        key_of = QueueKey if self.rollups is None else self._key
        reference = message << RECIPIENT_BITS
        for index, recipient in enumerate(envelope.recipients):
            admit(key_of(recipient.queue_domain, vmta), reference | index, now, received=received)
        self.dispatcher.wake()

    def _enter(self, envelope: Envelope, message: int, waiting: Iterable[Waiting]) -> None:
        """These recipients of a stored message, and no others, enter their queues."""
        now = self.clock.now()
        reference = message << RECIPIENT_BITS
        if envelope.job_id:
            waiting = list(waiting)
            self.jobs.enter(envelope.job_id, len(waiting), self.partition.size(message))
            if self.jobs.is_paused(envelope.job_id):
                self._hold(envelope, message, waiting)
                return
        for recipient, attempts, due in waiting:
            self.scheduler.admit(
                self._key(envelope.recipients[recipient].queue_domain, envelope.vmta),
                reference | recipient,
                now,
                received=envelope.received,
                attempts=attempts,
                due=due or None,
            )
        self.dispatcher.wake()

    def _hold(self, envelope: Envelope, message: int, waiting: Iterable[Waiting]) -> None:
        """Keep the recipients of a paused job back."""
        for recipient, attempts, due in waiting:
            key = QueueKey(envelope.recipients[recipient].queue_domain, envelope.vmta)
            ref = message << RECIPIENT_BITS | recipient
            self.jobs.hold(envelope.job_id, key, [Entry(ref, int(envelope.received), attempts, int(due))])

    def _delete(self, key: QueueKey, ref: int, with_dsn: bool, is_recorded: bool) -> None:
        """An operator's delete becomes final."""
        try:
            envelope = self.partition.envelope(ref >> RECIPIENT_BITS)
        except SpoolError as error:
            log.error("queue=%s message=%d event=not-deleted error=%s", key, ref >> RECIPIENT_BITS, error)
            return
        self.settlement.delete(key, ref, envelope, with_dsn=with_dsn, is_recorded=is_recorded)

    def _spool_broke(self, text: str) -> None:
        """Nothing that is sent from here on could be noted: send nothing. Clients are told to come again, and
        the process stays, so that the operator can look at it; only a restart makes the spool whole."""
        alarm = (
            f"spool {self.partition.directory} is broken ({text}): nothing is accepted or delivered from it"
        )
        self.alarms.append(alarm)
        log.critical("event=alarm text=%r", alarm)
        self.dispatcher.halt("our spool is broken")

    def enter_again(self, key: QueueKey, entry: Entry) -> None:
        """This recipient was taken out of its queue and goes back, or to what is kept of a paused job."""
        job_id = ""
        if self.jobs.paused:
            with contextlib.suppress(SpoolError):
                job_id = self.partition.envelope(entry.ref >> RECIPIENT_BITS).job_id
        if job_id and self.jobs.is_paused(job_id):
            self.jobs.hold(job_id, key, [entry])
            return
        self.scheduler.admit(
            key,
            entry.ref,
            self.clock.now(),
            received=entry.received,
            attempts=entry.attempts,
            due=float(entry.due) or None,
        )

    def _count_taken(self, envelope: Envelope, message: int, size: int) -> None:
        self.traffic.into.add(self.clock.now(), len(envelope.recipients), 1, size)

    def _count_sent(self, recipients: int, size: int) -> None:
        self.traffic.out.add(self.clock.now(), recipients, 1, size)

    async def _recover(self) -> None:
        """Bring what waited on disk back into the queues, a slice at a time."""
        count = 0
        for found in self._found:
            self.crew.recovered(found.envelope, found.message, found.waiting)
            count += 1
            if count % RECOVERED_AT_ONCE == 0:
                await asyncio.sleep(0)
        self.is_recovering = False
        self.crew.knows_all()
        if count:
            log.info("recovered messages=%d", count)

    async def _borrow(self) -> None:
        if self.borrower is not None:
            await self.borrower.run()

    def _want_more(self) -> None:
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


def listening(layout: Layout, below: int | None = None) -> int:
    """How many workers take mail in; only those with smaller numbers when `below` is given."""
    return sum(post.listens for post in layout.posts[:below])


def own_part(layout: Layout, number: int) -> int:
    """Which of the workers that take mail in this one is, from 0."""
    return listening(layout, number)


def most_connections(snapshot: Snapshot) -> int:
    """How many outbound connections the whole service may have."""
    return snapshot.top.integer("total-max-smtp-out") or UNLIMITED


def make_classifier(snapshot: Snapshot) -> Classifier:
    """The operator's bounce categories, or our own list."""
    return Classifier(snapshot.bounce_categories() or default_categories())
