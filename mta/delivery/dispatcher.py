"""The heart of delivery: asks the scheduler which connections to open, and keeps those that are open at work.

    admit ──▶ wake ──▶ recall: resting sessions draw again
                       take: one task per new connection (route, dial) ──▶ Session
                       expired: recipients out of time are settled
                       next_deadline: one timer

`wake` is cheap and coalesced: whatever happens in one turn of the loop leads to one look at the scheduler.
Messages go from the scheduler straight into the reply callback of a session (`next_attempt`), and results
from there to the settlement (`conclude`); the tasks here only exist while a connection is being opened.

Every slot that is taken comes back: through `Opener.open`, through `closed`, or when its task ends otherwise.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple, Protocol

from mta.clock import Clock
from mta.delivery.attempt import Attempt
from mta.delivery.connection import Connection
from mta.delivery.opener import Opener, Permits
from mta.delivery.policy import DeliveryPolicy
from mta.delivery.session import Session
from mta.delivery.settlement import EXPIRED, Settlement
from mta.delivery.spfgate import SpfGate
from mta.delivery.supply import MessageSigner, Store, Withheld, make_attempt, take_stored
from mta.delivery.watched import WatchedSession
from mta.errors import Contradiction, SpoolCorrupt, SpoolError
from mta.queue.key import RECIPIENT_BITS, QueueKey
from mta.queue.slot import Slot
from mta.routing.spf import SpfResult
from mta.smtp.reply import Reply
from mta.smtp.replyparser import Phrasebook
from mta.smtp.transaction import internal_reply

__all__ = ["Dispatcher", "DispatcherStats"]

log = logging.getLogger(__name__)

#: Asked of the scheduler in one turn of the loop.
SLOTS_AT_ONCE = 64
EXPIRED_AT_ONCE = 64
#: The timer is no finer than this (seconds): deadlines come in crowds.
TICK = 0.002
#: Bodies of messages on their way, in octets; above it no further message is begun until one is through.
BODIES_AT_ONCE = 256 * 1024 * 1024
#: Of the time for draining, the part after which transfers that are not through are cut.
PATIENCE_WITH_TRANSFERS = 0.6


class DispatcherStats(NamedTuple):
    """Connections now: at work, resting, being opened."""

    working: int
    resting: int
    opening: int


class AllPermits(Permits, Protocol):
    """The scheduler as the dispatcher sees it."""

    def take(self, now: float, limit: int = 64) -> list[Slot]: ...
    def recall(self, now: float, limit: int = 64) -> list[Slot]: ...
    def expired(self, now: float, limit: int = 256) -> list[tuple[QueueKey, int]]: ...
    def next_deadline(self, now: float) -> float | None: ...


class Dispatcher:
    """One per worker; `run` is its life. It is the `Supply` of its sessions."""

    def __init__(
        self,
        *,
        scheduler: AllPermits,
        store: Store,
        opener: Opener,
        settlement: Settlement,
        signer: MessageSigner,
        policies: Callable[[QueueKey], DeliveryPolicy],
        clock: Clock,
        spf: SpfGate | None = None,
    ) -> None:
        """`spf` is asked for queues with check-spf-outbound; without it they send unasked."""
        self._spf = spf
        self._scheduler = scheduler
        self._store = store
        self._opener = opener
        self._settlement = settlement
        self._signer = signer
        self._policies = policies
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._group: asyncio.TaskGroup | None = None
        self._opening: dict[asyncio.Task[None], Slot] = {}
        self._sessions: dict[Slot, Session] = {}
        self._stopped = asyncio.Event()
        self._changed = asyncio.Event()  # a session or an opening ended
        self._fatal: BaseException | None = None
        self._phrases = Phrasebook()
        self._is_woken = False
        self._is_draining = False
        self._bodies = 0  # octets on their way
        self._starved: list[Session] = []  # sessions that got no message because of those
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self.most_connections = 0

    # -- life ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Deliver until `drain` is through; raises Contradiction when our own state makes no sense."""
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self.wake()
                await self._stopped.wait()
                self._group = None
                for task in self._opening:
                    task.cancel()
        finally:
            self._group = None
            if self._timer is not None:
                self._timer.cancel()
            self._abort_all("stopped")
        if self._fatal is not None:
            raise self._fatal

    async def drain(self, deadline: float) -> None:
        """Open nothing more and finish what is under way, by `deadline` (steady time); then `run` returns.

        Transfers that are not through in time are cut and count as never tried, except those of queues with
        `allow-cancel-during-transfer no`, which have until the very end. Messages whose final dot is
        out are waited for to the very end; those without an answer then are deferred as uncertain.
        """
        self._is_draining = True
        for task in list(self._opening):
            task.cancel()
        for session in list(self._sessions.values()):
            session.drain()
        started = self._clock.now()
        if not await self._wait_until_empty(started + (deadline - started) * PATIENCE_WITH_TRANSFERS):
            for session in list(self._sessions.values()):
                if session.policy.allow_cancel_during_transfer:
                    session.cut()
            await self._wait_until_empty(deadline)
        self._abort_all("shutting down")
        self._stopped.set()

    def halt(self, words: str) -> None:
        """Stop delivering here and now: no outcome could be kept. What is under way is cut; `run` returns."""
        self._is_draining = True
        for task in list(self._opening):
            task.cancel()
        for session in list(self._sessions.values()):
            session.cut()
        self._abort_all(words)
        self._stopped.set()

    def stats(self) -> DispatcherStats:
        resting = sum(session.is_resting for session in self._sessions.values())
        return DispatcherStats(len(self._sessions) - resting, resting, len(self._opening))

    def __repr__(self) -> str:
        working, resting, opening = self.stats()
        return f"<Dispatcher {working} working, {resting} resting, {opening} opening>"

    # -- looking at the scheduler ----------------------------------------------------------------------

    def wake(self) -> None:
        """Something was admitted, or may have changed: look at the scheduler in this turn of the loop."""
        if not self._is_woken and self._loop is not None:
            self._is_woken = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._is_woken = False
        if self._group is None:
            return
        try:
            self._dispatch(self._clock.now())
        except Contradiction as error:
            self.contradiction(error)

    def _dispatch(self, now: float) -> None:
        scheduler = self._scheduler
        expired = scheduler.expired(now, EXPIRED_AT_ONCE)
        for key, ref in expired:
            self._expire(key, ref, EXPIRED)
        condemned = self._settlement.condemned(EXPIRED_AT_ONCE)
        for key, ref, reply in condemned:
            self._expire(key, ref, reply)
        recalled = taken = 0
        if not self._is_draining and self._bodies < BODIES_AT_ONCE:
            starved, self._starved = self._starved, []
            for starving in starved:
                starving.resume()
            for slot in scheduler.recall(now, SLOTS_AT_ONCE):
                recalled += 1
                session = self._sessions.get(slot)
                if session is not None and slot.is_interrupted:
                    session.cut("a queue of higher priority needs the connection")
                elif session is not None:
                    session.resume()
            for slot in scheduler.take(now, SLOTS_AT_ONCE):
                taken += 1
                self._start(slot)
        if EXPIRED_AT_ONCE in (len(expired), len(condemned)) or SLOTS_AT_ONCE in (recalled, taken):
            self.wake()
        else:
            self._arm(now)

    def _arm(self, now: float) -> None:
        if self._is_draining or self._bodies >= BODIES_AT_ONCE:
            return  # nothing could be done about it; there will be a wake
        when = self._scheduler.next_deadline(now)
        if when is None:
            return
        if self._timer is not None:
            if now < self._timer_at <= when:
                return  # it rings early enough
            self._timer.cancel()
        assert self._loop is not None
        self._timer_at = max(when, now + TICK)
        self._timer = self._loop.call_later(self._timer_at - now, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.wake()

    def _expire(self, key: QueueKey, ref: int, reply: Reply) -> None:
        try:
            stored = self._store.load(ref >> RECIPIENT_BITS)
        except Withheld as withheld:
            stored = withheld.stored  # time goes on for what is held back
        except SpoolError as error:
            # Nothing is known of it any more, or nothing now; what is on disk comes back at a restart.
            kind = "damaged" if isinstance(error, SpoolCorrupt) else "unreadable"
            log.error("queue=%s message=%d event=%s error=%r", key, ref >> RECIPIENT_BITS, kind, str(error))
            return
        self._settlement.expire(key, ref, stored.envelope, reply)

    # -- connections -----------------------------------------------------------------------------------

    def _start(self, slot: Slot) -> None:
        assert self._group is not None
        task = self._group.create_task(self._open(slot))
        self._opening[task] = slot
        self.most_connections = max(self.most_connections, len(self._opening) + len(self._sessions))
        task.add_done_callback(self._opened)

    async def _open(self, slot: Slot) -> None:
        try:
            connection = await self._opener.open(slot)
        except Contradiction as error:
            self.contradiction(error)
        except Exception:
            log.exception("queue=%s event=opening-failed", slot.key)
            self._scheduler.failed(slot, self._clock.now(), "internal error")
        else:
            if connection is not None:
                self._begin(slot, connection)

    def _opened(self, task: asyncio.Task[None]) -> None:
        """The task has ended, whichever way (a task cancelled before it began has not run at all)."""
        slot = self._opening.pop(task)
        if slot not in self._sessions:
            self._scheduler.release(slot, self._clock.now())  # does nothing when it has been given back
        self._changed.set()
        self.wake()

    def _begin(self, slot: Slot, connection: Connection) -> None:
        if self._is_draining:
            connection.transport.abort()
            return
        assert self._loop is not None
        policy = self._policies(slot.key)
        made = Session if connection.dialogue is None else WatchedSession
        session = made(
            connection, slot, policy, self, clock=self._clock, loop=self._loop, phrases=self._phrases
        )
        policy.log.opened(slot.key, connection)
        self._sessions[slot] = session
        session.begin()

    # -- the supply of the sessions --------------------------------------------------------------------

    def next_attempt(self, session: Session) -> Attempt | None:
        if self._bodies >= BODIES_AT_ONCE:
            self._starved.append(session)
            return None
        drawn = take_stored(self._scheduler, self._store, session.slot, session.now)
        if drawn is None:
            self.wake()  # the scheduler may have set a deadline for calling it back
            return None
        refs, stored = drawn
        most = session.most_recipients
        if most and len(refs) > most:
            self._scheduler.put_back(session.slot, refs[most:])
            refs = refs[:most]
        attempt = make_attempt(refs, stored, self._signer, session)
        self._bodies += attempt.held
        if session.policy.check_spf_outbound and self._spf is not None:
            return self._admitted(session, attempt, self._spf)
        return attempt

    def _admitted(self, session: Session, attempt: Attempt, gate: SpfGate) -> Attempt | None:
        """The attempt if SPF lets it go; else it is settled, or put back until that is known."""
        question = (attempt.envelope.originator, session.connection.source_ip)
        verdict = gate.verdict(question)
        if verdict is None:
            self._bodies -= attempt.held
            self._scheduler.put_back(session.slot, attempt.refs)
            if not gate.is_asking(question) and self._group is not None:
                self._group.create_task(self._learn(gate, question, session))
            return None
        if verdict.result is SpfResult.PASS:
            return attempt
        gate.turn_away(attempt, verdict)
        self.conclude(session, attempt)
        return self.next_attempt(session)

    async def _learn(self, gate: SpfGate, question: tuple[str, str], session: Session) -> None:
        await gate.ask(question)
        session.resume()
        self.wake()

    def conclude(self, session: Session, attempt: Attempt) -> None:
        if self._bodies >= BODIES_AT_ONCE:
            self.wake()
        self._bodies -= attempt.held
        if not self._settlement.conclude(session, attempt):
            self.wake()

    def closed(self, session: Session) -> None:
        self._sessions.pop(session.slot, None)
        if session.is_host_unwanted:
            self._opener.avoid(session.connection)
        self._scheduler.release(session.slot, self._clock.now())
        session.policy.log.closed(session.slot.key, session.connection, session.completed)
        self._changed.set()
        self.wake()

    def contradiction(self, error: Contradiction) -> None:
        """Stop at once: the logs decide what is true."""
        log.critical("event=contradiction error=%r", str(error))
        self._fatal = self._fatal or error
        self._stopped.set()

    # -- ends ------------------------------------------------------------------------------------------

    async def _wait_until_empty(self, deadline: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock.now())):
                while self._sessions or self._opening:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _abort_all(self, words: str) -> None:
        reply = internal_reply(451, "4.3.2", words)
        for session in list(self._sessions.values()):
            session.abort(reply)
