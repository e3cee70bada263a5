"""From a scheduler's permit to a connection: the route, the dialling, and what to do when there is none.

no such domain, null MX          everything that waits fails
DNS does not answer              the queue waits (retry-after-dns-error)
no descriptor for a socket       the queue waits for some seconds: the fault is ours, and passes
hosts we have no address for     the queue waits (retry-after): IPv6 alone, and no IPv6 source
nobody answers, 4xx greeting     the queue waits (retry-after), a tq record is written; at a domain without MX
                                 what is older than bounce-upon-no-mx says fails
every host greets with 5xx       what waits fails, as bounce-upon-5xx-greeting says
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from random import Random
from typing import Protocol

from mta.clock import Clock
from mta.delivery.connection import Connection, DialFailure, Facts, HostsCrowded, TargetLike
from mta.delivery.dialer import Dialer
from mta.delivery.local import LocalDelivery
from mta.delivery.policy import DeliveryPolicy
from mta.delivery.settlement import Settlement, permanent
from mta.delivery.supply import Draws, Store, take_stored
from mta.errors import RouteError
from mta.queue.entries import Entry
from mta.queue.key import QueueKey
from mta.queue.reaction import RETRY_QUEUE, Judgement, Reaction, ReplyRules
from mta.queue.slot import Slot
from mta.smtp.reply import Reply
from mta.smtp.transaction import internal_reply, is_internal

__all__ = ["Opener", "RolledUp", "Routes"]

log = logging.getLogger(__name__)

#: Messages that fail because of one refusing greeting; the next ones ask again. A whole queue would be too
#: much for one word of one host, and a connection for each would be hammering at a closed door.
REFUSED_AT_ONCE = 100
#: A wait after a DNS error is longer by up to this part of itself.
DNS_JITTER = 0.1
#: The status of what fails for want of descriptors or memory here, and the longest wait (seconds) after that:
#: one of our connections may end at any moment.
SHORTAGE = "4.3.0"
SHORTAGE_WAIT = 5.0
#: Messages failed in one turn of the loop.
FAILED_AT_ONCE = 50


class RolledUp(RouteError):
    """The mail of this queue belongs into the queue of an MX roll-up; `name` is that queue's domain."""

    def __init__(self, name: str) -> None:
        super().__init__(f"its mail belongs into the queue {name}", temporary=True, status="4.4.4")
        self.name = name


class Routes(Protocol):
    """Where a queue's mail goes: the router with the queue's own policy. Raises RouteError and RolledUp."""

    def cached(self, key: QueueKey) -> Sequence[TargetLike] | None: ...
    async def route(self, key: QueueKey) -> Sequence[TargetLike]: ...
    def no_mx_age(self, key: QueueKey) -> float | None: ...


class Permits(Draws, Protocol):
    """The part of the scheduler that gives connections out."""

    def opened(self, slot: Slot, now: float) -> None: ...
    def failed(self, slot: Slot, now: float, text: str, *, retry_after: float | None = None) -> float: ...
    def enter(self, slot: Slot, host: str, ip: str) -> bool: ...
    def crowded(self, slot: Slot, now: float) -> None: ...
    def release(self, slot: Slot, now: float) -> None: ...
    def hand_over(self, slot: Slot, key: QueueKey, now: float) -> None: ...
    def entries(self, key: QueueKey) -> list[Entry]: ...
    def remove(self, key: QueueKey, refs: Set[int]) -> list[int]: ...


class Opener:
    """Opens connections for slots; one per worker."""

    def __init__(
        self,
        *,
        scheduler: Permits,
        store: Store,
        routes: Routes,
        dialer: Dialer,
        settlement: Settlement,
        rules: Callable[[QueueKey], ReplyRules],
        policies: Callable[[QueueKey], DeliveryPolicy],
        host_name: Callable[[], str],
        clock: Clock,
    ) -> None:
        """`host_name` is said in EHLO where a source address has no name of its own."""
        self._scheduler = scheduler
        self._local = LocalDelivery(scheduler=scheduler, store=store, settlement=settlement, clock=clock)
        self._store = store
        self._routes = routes
        self._dialer = dialer
        self._settlement = settlement
        self._rules = rules
        self._policies = policies
        self._host_name = host_name
        self._clock = clock
        self._random = Random()

    async def open(self, slot: Slot) -> Connection | None:
        """A connection for `slot`; None when there is none, and then the slot has been given back."""
        policy = self._policies(slot.key)
        if policy.type != "smtp" and not slot.key.domain.startswith("{"):
            await self._local.deliver(slot, policy)
            return None
        heard: list[Judgement] = []

        def gives_up(failure: DialFailure) -> bool:
            """Every reply counts, also that of a host whose neighbour then takes the mail."""
            judgement = self._judge(slot, failure)
            heard.append(judgement)
            self._settlement.take_measures(slot, judgement, failure.reply, self._clock.now())
            return judgement.is_ordered

        try:
            targets = self._routes.cached(slot.key) or await self._routes.route(slot.key)
            policy.log.resolved(slot.key, targets)
            dialogue = policy.log.dialogue(slot.key, self._clock)
            dialer = self._dialer if dialogue is None else self._dialer.watched(dialogue)
            connection = await dialer.dial(
                targets,
                source_ip=slot.source.ip,
                host_name=slot.source.host_name or self._host_name(),
                proxies=slot.source.proxies,
                policy=policy,
                gives_up=gives_up,
                enters=lambda target: self._scheduler.enter(slot, target.host, target.ip),
            )
        except RolledUp as rolled:
            self._scheduler.hand_over(slot, QueueKey(rolled.name, slot.key.vmta), self._clock.now())
        except RouteError as error:
            await self._no_route(slot, error)
        except HostsCrowded:
            self._scheduler.crowded(slot, self._clock.now())
        except DialFailure as failure:
            await self._no_connection(slot, failure, heard[-1] if heard else RETRY_QUEUE)
        else:
            self._scheduler.opened(slot, self._clock.now())
            return connection if dialogue is None else replace(connection, dialogue=dialogue)
        return None

    def avoid(self, connection: Connection) -> None:
        """Leave that host alone for a while: a rule, or its 421, sends us to the next one."""
        self._dialer.avoid(connection)

    async def _no_route(self, slot: Slot, error: RouteError) -> None:
        log.info("queue=%s event=no-route error=%r", slot.key, str(error))
        if error.temporary:
            reply = internal_reply(451, error.status, str(error))
            self._settlement.queue_failure(slot, reply, Facts())
            wait = self._after_shortage(slot, reply)
            if error.status == "4.4.3":
                # Spread, so that a name server that comes back is not asked by everybody in one second.
                wait = slot.policy.retry_after_dns_error * (1.0 + DNS_JITTER * self._random.random())
            self._scheduler.failed(slot, self._clock.now(), str(error), retry_after=wait)
            return
        await self._fail_waiting(slot, internal_reply(550, error.status, str(error)), Facts(), most=None)

    async def _no_connection(self, slot: Slot, failure: DialFailure, judgement: Judgement) -> None:
        reply, facts = failure.reply, failure.facts
        log.info("queue=%s event=no-connection remote=%r reply=%r", slot.key, facts.mta_name, str(reply))
        # One host that says 5xx beside others that don't answer is no reason to give mail up.
        is_final = failure.is_refusal or judgement.is_ordered
        if judgement.reaction is Reaction.FAILED and is_final:
            await self._fail_waiting(slot, permanent(reply), facts, most=REFUSED_AT_ONCE)
            return
        self._settlement.queue_failure(slot, reply, facts)
        self._give_up_old(slot.key)
        if judgement.disables_source:
            self._scheduler.release(slot, self._clock.now())
            return
        text = f"{facts.mta_name}: {reply}" if facts.mta_name else str(reply)
        self._scheduler.failed(slot, self._clock.now(), text, retry_after=self._after_shortage(slot, reply))

    def _after_shortage(self, slot: Slot, reply: Reply) -> float | None:
        """How long a queue waits for what we ourselves are short of (descriptors, memory); None for any other
        reason, when the queue's own list says it."""
        if not is_internal(reply) or reply.enhanced != SHORTAGE:
            return None
        wait = min(SHORTAGE_WAIT, slot.policy.retry_after_dns_error)
        return wait * (1.0 + DNS_JITTER * self._random.random())

    def _give_up_old(self, key: QueueKey) -> None:
        """Nobody answers at a domain without MX: what has waited long enough for that fails."""
        age = self._routes.no_mx_age(key)
        if age is None:
            return
        before = self._clock.now() - age
        old = {entry.ref for entry in self._scheduler.entries(key) if entry.received <= before}
        if old:
            reply = internal_reply(
                550, "5.4.4", f"{key.domain} has no MX record, and its address does not answer"
            )
            self._settlement.condemn(key, self._scheduler.remove(key, old), reply)

    def _judge(self, slot: Slot, failure: DialFailure) -> Judgement:
        rules = self._rules(slot.key)
        if is_internal(failure.reply):
            return rules.judge_connection(str(failure.reply))
        return rules.judge(None, failure.reply)

    async def _fail_waiting(self, slot: Slot, reply: Reply, facts: Facts, *, most: int | None) -> None:
        """Fail what the queue has ready, at most so many messages, and give the slot back."""
        failed = 0
        try:
            while most is None or failed < most:
                drawn = take_stored(self._scheduler, self._store, slot, self._clock.now())
                if drawn is None:
                    break
                refs, stored = drawn
                self._settlement.fail(slot, stored.envelope, refs, reply, facts)
                failed += 1
                if failed % FAILED_AT_ONCE == 0:
                    await asyncio.sleep(0)
        finally:
            self._scheduler.release(slot, self._clock.now())
