"""`mta trace`: one message of a queue is delivered at once, and the operator reads what was said.

It is a real delivery: signed, settled and accounted for like any other, only that no limit holds it up and
that it has a connection of its own. When no connection comes about nothing has happened: the message waits
where it waited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from mta.clock import Clock
from mta.delivery.attempt import Attempt
from mta.delivery.connection import Connection, DialFailure
from mta.delivery.dialer import Dialer
from mta.delivery.dialogue import Dialogue, Line
from mta.delivery.opener import Permits, Routes
from mta.delivery.policy import DeliveryPolicy
from mta.delivery.session import Session
from mta.delivery.settlement import Settlement
from mta.delivery.spfgate import SpfGate
from mta.delivery.supply import MessageSigner, Store, Stored, make_attempt
from mta.delivery.watched import WatchedSession
from mta.errors import Contradiction, MtaError, RouteError, SpoolError
from mta.queue.key import RECIPIENT_BITS, QueueKey
from mta.queue.seizure import Seized
from mta.routing.spf import SpfResult, SpfVerdict
from mta.smtp.transaction import Fate, Outcome, internal_reply

__all__ = ["Trace", "TraceRefused", "Tracer"]

#: How long one trace may take (seconds); a receiver that tarpits for longer has made its point.
LONGEST = 200.0
TRACES_AT_ONCE = 8


class TraceRefused(MtaError):
    """There is nothing to trace; the text says why."""


@dataclass(slots=True)
class Trace:
    """What came of it: the `result` in one sentence, and whether every recipient was delivered."""

    lines: list[Line]
    result: str
    delivered: bool


class Seizing(Permits, Protocol):
    """The part of the scheduler that gives a message out past its limits."""

    def seize(
        self, key: QueueKey, now: float, *, with_deferred: bool = False, source_ip: str = ""
    ) -> Seized | None: ...
    def surrender(self, seized: Seized, now: float) -> None: ...


class Tracer:
    """Delivers single messages in full view; one per worker."""

    def __init__(
        self,
        *,
        scheduler: Seizing,
        store: Store,
        routes: Routes,
        dialer: Dialer,
        settlement: Settlement,
        signer: MessageSigner,
        policies: Callable[[QueueKey], DeliveryPolicy],
        host_name: Callable[[], str],
        fatal: Callable[[Contradiction], None],
        clock: Clock,
        spf: SpfGate | None = None,
    ) -> None:
        """`fatal` is told when our own state makes no sense; `spf` is asked for queues with
        check-spf-outbound."""
        self._spf = spf
        self._scheduler = scheduler
        self._store = store
        self._routes = routes
        self._dialer = dialer
        self._settlement = settlement
        self._signer = signer
        self._policies = policies
        self._host_name = host_name
        self._fatal = fatal
        self._clock = clock
        self._running: set[asyncio.Task[Any]] = set()

    async def trace(
        self,
        key: QueueKey,
        *,
        with_data: bool = False,
        with_resolution: bool = False,
        with_deferred: bool = False,
        source_ip: str = "",
        longest: float = LONGEST,
    ) -> Trace:
        """Deliver one message of the queue now. Raises TraceRefused when there is none that may be taken."""
        if len(self._running) >= TRACES_AT_ONCE:
            raise TraceRefused(f"{len(self._running)} traces run already; wait for one to end")
        kind = self._policies(key).type
        if kind != "smtp" and not key.domain.startswith("{"):
            raise TraceRefused(f"mail of {key} has no dialogue to show: it leaves by type {kind}")
        task = asyncio.current_task()
        assert task is not None
        seized = self._scheduler.seize(
            key, self._clock.now(), with_deferred=with_deferred, source_ip=source_ip
        )
        if seized is None:
            hint = "" if with_deferred else " that is not in its own retry time (--retry-recipients takes it)"
            raise TraceRefused(f"no recipient waits in {key}{hint}")
        dialogue = Dialogue(clock=self._clock, with_data=with_data)
        visit = _Visit(self, seized, dialogue)
        self._running.add(task)
        try:
            async with asyncio.timeout(longest):
                return await self._visit(visit, with_resolution)
        except TimeoutError:
            result = f"no end after {longest:g} seconds: cut off"
        except (RouteError, SpoolError) as error:
            result = f"not tried: {error}"
        except DialFailure as failure:
            where = f"{failure.facts.mta_name}: " if failure.facts.mta_name else ""
            result = f"no connection: {where}{failure.reply}"
        except asyncio.CancelledError:
            if task.cancelling() and not self._is_stopped(task):
                raise
            result = "cut off: the server is stopping"
        finally:
            self._running.discard(task)
            visit.end()
        dialogue.note(result)
        return Trace(dialogue.lines, result, delivered=False)

    async def stop(self) -> None:
        """End all traces; what was not past its final dot has not been tried."""
        running = list(self._running)
        for task in running:
            self._running.discard(task)
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=2.0)

    def _is_stopped(self, task: asyncio.Task[Any]) -> bool:
        """Whether it was `stop` that cancelled it, and not whoever asked for the trace."""
        if task in self._running:
            return False
        task.uncancel()
        return True

    async def _visit(self, visit: _Visit, with_resolution: bool) -> Trace:
        seized, dialogue = visit.seized, visit.dialogue
        slot = seized.slot
        stored = self._store.load(seized.refs[0] >> RECIPIENT_BITS)
        envelope = stored.envelope
        dialogue.note(f"message {envelope.queue_id} from <{envelope.originator}>, queue {slot.key}")
        targets = self._routes.cached(slot.key) or await self._routes.route(slot.key)
        if with_resolution:
            for target in targets:
                dialogue.note(f"host {target.host} address {target.ip} port {target.port}")
        policy = self._policies(slot.key)
        connection = await self._dialer.watched(dialogue).dial(
            targets,
            source_ip=slot.source.ip,
            host_name=slot.source.host_name or self._host_name(),
            proxies=slot.source.proxies,
            policy=policy,
        )
        self._scheduler.opened(slot, self._clock.now())
        if policy.check_spf_outbound and self._spf is not None:
            sender, ip = envelope.originator, connection.source_ip
            visit.verdict = await self._spf.find((sender, ip))
            dialogue.note(f"SPF of <{sender}> from {ip}: {visit.verdict.result.value}: {visit.verdict.text}")
        outcomes = await visit.run(replace(connection, dialogue=dialogue), stored, policy)
        return Trace(dialogue.lines, *_verdict(outcomes))

    # -- for the visit -----------------------------------------------------------------------------------

    def attempt(self, visit: _Visit, session: Session, stored: Stored) -> Attempt:
        refs = visit.seized.refs
        if stored.envelope.is_personal and len(refs) > 1:
            self._scheduler.put_back(visit.seized.slot, refs[1:])
            refs = refs[:1]
        return make_attempt(refs, stored, self._signer, session)

    def session(self, visit: _Visit, connection: Connection, policy: DeliveryPolicy) -> Session:
        return WatchedSession(
            connection,
            visit.seized.slot,
            policy,
            visit,
            clock=self._clock,
            loop=asyncio.get_running_loop(),
        )

    def settle(self, session: Session, attempt: Attempt) -> None:
        self._settlement.conclude(session, attempt)

    def release(self, seized: Seized, *, was_tried: bool) -> None:
        if was_tried:
            self._scheduler.release(seized.slot, self._clock.now())
        else:
            self._scheduler.surrender(seized, self._clock.now())

    def contradiction(self, error: Contradiction) -> None:
        self._fatal(error)

    def __repr__(self) -> str:
        return f"<Tracer {len(self._running)} running>"


class _Visit:
    """One trace under way; the supply of its session."""

    def __init__(self, tracer: Tracer, seized: Seized, dialogue: Dialogue) -> None:
        self.seized = seized
        self.dialogue = dialogue
        #: What SPF says, where the queue asks.
        self.verdict: SpfVerdict | None = None
        self._tracer = tracer
        self._stored: Stored | None = None
        self._session: Session | None = None
        self._outcomes: list[Outcome] = []
        self._closed = asyncio.Event()
        self._has_ended = False

    async def run(self, connection: Connection, stored: Stored, policy: DeliveryPolicy) -> list[Outcome]:
        """Send the message and say goodbye; returns the outcomes, one per recipient."""
        self._stored = stored
        self._session = self._tracer.session(self, connection, policy)
        self._session.begin()
        await self._closed.wait()
        return self._outcomes

    def end(self) -> None:
        """Whatever has happened, the connection is closed and its permit given back."""
        if self._session is not None and not self._closed.is_set():
            self._session.cut()
            self._session.abort(internal_reply(451, "4.4.2", "trace cut off"))
        if not self._has_ended:
            self._has_ended = True
            self._tracer.release(self.seized, was_tried=self._was_tried)

    @property
    def _was_tried(self) -> bool:
        return any(outcome.fate is not Fate.UNTRIED for outcome in self._outcomes)

    def next_attempt(self, session: Session) -> Attempt | None:
        stored, self._stored = self._stored, None
        if stored is None:
            return None
        session.drain()  # after this one
        attempt = self._tracer.attempt(self, session, stored)
        if self.verdict is None or self.verdict.result is SpfResult.PASS:
            return attempt
        SpfGate.turn_away(attempt, self.verdict)
        self.conclude(session, attempt)
        return None

    def conclude(self, session: Session, attempt: Attempt) -> None:
        self._outcomes = attempt.outcomes
        self._tracer.settle(session, attempt)

    def closed(self, session: Session) -> None:
        self._closed.set()

    def contradiction(self, error: Contradiction) -> None:
        self._tracer.contradiction(error)


def _verdict(outcomes: list[Outcome]) -> tuple[str, bool]:
    """One sentence about all recipients, and whether all of them are delivered."""
    if not outcomes:
        return "not tried: the connection was lost before the message", False
    counts = {fate: sum(outcome.fate is fate for outcome in outcomes) for fate in Fate}
    if counts[Fate.DELIVERED] == len(outcomes):
        return f"delivered: {outcomes[0].reply}", True
    worst = next(outcome for outcome in outcomes if outcome.fate is not Fate.DELIVERED)
    words = ", ".join(f"{count} {fate.value}" for fate, count in counts.items() if count)
    return f"{words}: {worst.reply}", False
