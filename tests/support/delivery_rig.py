"""All of delivery but the far end: real scheduler, dialer and sessions; spool and route in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mta.clock import SystemClock
from mta.delivery.dialer import Dialer
from mta.delivery.dispatcher import Dispatcher
from mta.delivery.opener import Opener
from mta.delivery.policy import DeliveryPolicy
from mta.delivery.settlement import Settlement
from mta.delivery.signing import SigningJob
from mta.errors import RouteError
from mta.message.canonical import Signable
from mta.message.envelope import Envelope, Recipient
from mta.message.event import Event, decode_event
from mta.queue.hosts import HostLimits
from mta.queue.key import RECIPIENT_BITS, QueueKey
from mta.queue.policy import EgressSource, QueuePolicy, VmtaPolicy
from mta.queue.reaction import ReplyRules
from mta.queue.scheduler import Scheduler
from mta.routing.router import Target
from tests.support.inbound import snapshot_of

__all__ = ["HASTY", "PATIENT", "DeliveryRig", "KeptMessage", "MemoryStore", "policy_of"]

#: For servers that answer or go: no deadline should strike, however busy the machine is.
PATIENT = DeliveryPolicy(
    connect_timeout=10.0,
    greeting_timeout=10.0,
    command_timeout=10.0,
    data_send_timeout=10.0,
    data_termination_timeout=10.0,
)
#: For servers that keep us waiting: the deadline is what the test is about.
HASTY = DeliveryPolicy(
    connect_timeout=0.15,
    greeting_timeout=0.15,
    command_timeout=0.15,
    data_send_timeout=0.15,
    data_termination_timeout=0.15,
)


def policy_of(*lines: str) -> DeliveryPolicy:
    """What a `<domain>` with these lines makes of deliveries."""
    text = "\n".join(("<domain *>", *lines, "</domain>"))
    return DeliveryPolicy.from_settings(snapshot_of(text).effective("example.net", "{default}"))


BODY = b"From: a@example.com\r\nSubject: test\r\n\r\nhello\r\n..dots\r\n"


@dataclass
class KeptMessage:
    envelope: Envelope
    body: bytes


class MemoryStore:
    """What delivery uses of a spool partition."""

    def __init__(self) -> None:
        self.messages: dict[int, KeptMessage] = {}
        self.waiting: set[tuple[int, int]] = set()
        self.events: list[Event] = []
        self.deferrals: list[tuple[int, int, int, float]] = []
        self.load_error: Exception | None = None
        self.changed = asyncio.Event()

    def load(self, message: int) -> KeptMessage:
        if self.load_error is not None:
            raise self.load_error
        return self.messages[message]

    def settle(self, message: int, recipient: int, event: bytes) -> None:
        self.waiting.remove((message, recipient))  # a second settlement is a bug: KeyError
        if event:
            self.record(event)
        self.changed.set()

    def defer(self, message: int, recipient: int, *, attempts: int, due: float, event: bytes | None) -> None:
        assert (message, recipient) in self.waiting
        self.deferrals.append((message, recipient, attempts, due))
        if event:
            self.record(event)
        self.changed.set()

    def record(self, event: bytes) -> None:
        self.events.append(decode_event(event))
        self.changed.set()


class PlainSigner:
    """Puts `head` in front of every message; with `is_slow` only after the next turns of the loop."""

    def __init__(self) -> None:
        self.head = b""
        self.is_slow = False

    def headers(
        self, envelope: Envelope, body: bytes, message: int, domain: str | None = None
    ) -> bytes | SigningJob:
        job = SigningJob((message, 0), Signable(body), (), 0.0, [], [], None, [])
        return job if self.is_slow else self.head

    def prepare(self, job: SigningJob, done: Callable[[bytes], None]) -> None:
        asyncio.get_running_loop().call_later(0.01, done, self.head)


class FixedRoutes:
    """The same targets for every queue, or the same error."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = tuple(targets)
        self.error: RouteError | None = None
        self.age: float | None = None

    def no_mx_age(self, key: QueueKey) -> float | None:
        return self.age

    def cached(self, key: QueueKey) -> tuple[Target, ...] | None:
        return None

    async def route(self, key: QueueKey) -> tuple[Target, ...]:
        if self.error is not None:
            raise self.error
        return self.targets


class PlainCategories:
    def category(self, status: str, diag: str) -> str:
        return "other"


@dataclass
class Returned:
    recipient: int
    event: Event
    message: int


@dataclass
class DeliveryRig:
    """`async with DeliveryRig(ports) as rig`: admit, then wait for `settled()`; the exit checks for leaks."""

    ports: Sequence[int]
    policy: DeliveryPolicy = PATIENT
    queue: QueuePolicy = field(default_factory=lambda: QueuePolicy(max_smtp_out=1, retry_after=(3600.0,)))
    host: str = "mx.example.net"
    vmta: VmtaPolicy = field(
        default_factory=lambda: VmtaPolicy(sources=(EgressSource("127.0.0.1", "out.example.com"),))
    )
    rules: ReplyRules | None = None
    hosts: HostLimits = field(default_factory=HostLimits)
    queues: dict[str, QueuePolicy] = field(default_factory=dict)  # by domain, for those that differ

    def __post_init__(self) -> None:
        self.clock = SystemClock()
        self.store = MemoryStore()
        self.signer = PlainSigner()
        self.returned: list[Returned] = []
        self.scheduler = Scheduler(
            policies=lambda key: self.queues.get(key.domain, self.queue),
            vmtas=lambda name: self.vmta,
            total_max_smtp_out=100,
            sizes=lambda message: len(self.store.messages[message].body),
            hosts=lambda: self.hosts,
        )
        targets = [Target(self.host, "127.0.0.1", port, place) for place, port in enumerate(self.ports)]
        self.routes = FixedRoutes(targets)
        self.dialer = Dialer(clock=self.clock)
        rules = self.rules or ReplyRules(self.queue)
        self.settlement = Settlement(
            scheduler=self.scheduler,
            store=self.store,
            categories=PlainCategories,
            rules=lambda key: rules,
            policies=lambda key: self.policy,
            returns=self.take_return,
            clock=self.clock,
        )
        self.dispatcher = Dispatcher(
            scheduler=self.scheduler,
            store=self.store,
            opener=Opener(
                scheduler=self.scheduler,
                store=self.store,
                routes=self.routes,
                dialer=self.dialer,
                settlement=self.settlement,
                rules=lambda key: rules,
                policies=lambda key: self.policy,
                host_name=lambda: "default.example.com",
                clock=self.clock,
            ),
            settlement=self.settlement,
            signer=self.signer,
            policies=lambda key: self.policy,
            clock=self.clock,
        )
        self._next = 1
        self._run: asyncio.Task[None] | None = None

    def admit(
        self,
        *addresses: str,
        body: bytes = BODY,
        domain: str = "example.net",
        vmta: str = "v1",
        notify: int = 0,
        received: float | None = None,
        **envelope: object,
    ) -> int:
        """One message into the queue `domain/vmta`; returns its number."""
        message = self._next
        self._next += 1
        addresses = addresses or ("b@example.net",)
        received = self.clock.now() if received is None else received
        made = Envelope(
            queue_id=f"Q{message}",
            received=received,
            originator="a@example.com",
            vmta=vmta,
            recipients=tuple(Recipient(address, domain, notify) for address in addresses),
        )
        if envelope:
            made = Envelope(**{**{name: getattr(made, name) for name in made.__struct_fields__}, **envelope})
        self.store.messages[message] = KeptMessage(made, body)
        for index in range(len(addresses)):
            self.store.waiting.add((message, index))
            self.scheduler.admit(
                QueueKey(domain, vmta),
                message << RECIPIENT_BITS | index,
                self.clock.now(),
                received=received,
            )
        self.dispatcher.wake()
        return message

    def take_return(
        self, envelope: Envelope, recipient: int, event: Event, message: int, settle: Callable[[], None]
    ) -> None:
        self.returned.append(Returned(recipient, event, message))
        settle()

    @property
    def events(self) -> list[Event]:
        return self.store.events

    def kinds(self) -> list[str]:
        """The types of the events so far, sorted."""
        return sorted(event.type for event in self.events)

    async def until(self, count: int, limit: float = 30.0) -> list[Event]:
        """Wait until there are that many events; returns them in the order of message and recipient."""
        async with asyncio.timeout(limit):
            while len(self.events) < count:
                self.store.changed.clear()
                await self.store.changed.wait()
        return sorted(self.events, key=lambda event: (event.queue_id, event.recipient))

    def open(self) -> int:
        """Connections that the scheduler thinks are open."""
        return sum(row.connections for row in self.scheduler.queues(self.clock.now()))

    async def until_idle(self, limit: float = 30.0) -> None:
        """Wait until no connection is open or being opened."""
        async with asyncio.timeout(limit):
            while self.open():
                await self.turn()

    async def until_still(self, limit: float = 30.0) -> None:
        """Wait until nothing is in flight and no queue has anything that it may send now."""
        async with asyncio.timeout(limit):
            while True:
                await self.turn()
                now = self.clock.now()
                rows = list(self.scheduler.queues(now))
                if all(not row.in_flight and (not row.ready or row.state == "retry") for row in rows):
                    return

    async def until_idle_after(self, count: int) -> None:
        """Wait for that many events, and then until no connection is left."""
        await self.until(count)
        await self.until_idle()

    async def turn(self) -> None:
        """Let something happen."""
        passed = asyncio.Event()
        asyncio.get_running_loop().call_later(0.005, passed.set)
        await passed.wait()

    async def __aenter__(self) -> DeliveryRig:
        self._run = asyncio.create_task(self.dispatcher.run())
        return self

    async def __aexit__(self, kind: object, *rest: object) -> None:
        assert self._run is not None
        await self.dispatcher.drain(self.clock.now() + 2.0)
        await self._run
        if kind is None:
            assert self.open() == 0, "a slot has leaked"
            rows = self.scheduler.queues(self.clock.now())
            assert sum(row.in_flight for row in rows) == 0, "a recipient is in flight for ever"

    def with_policy(self, **changes: object) -> DeliveryPolicy:
        return replace(self.policy, **changes)  # type: ignore[arg-type]
