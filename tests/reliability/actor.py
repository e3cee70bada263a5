"""A process that acts out one scenario on a spool and says what it promised, until something stops it.

    python -m tests.reliability.actor SCENARIO DIRECTORY

It uses the product's own parts from acceptance to accounting, without sockets, so that the same system calls
come in the same order each time. Lines on standard output, each written after the fact:

    a NAME QUEUEID    acknowledged: what would be 250 to a client
    x NAME            refused
    s NAME I          the settlement of its I-th recipient is on disk
    d NAME I N        so is the deferral after N attempts
    o N               the operator's N-th setting is kept
    ready, end        the spool is open; the scenario is through
    ! TEXT            a promise could not be given
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from mta.clock import SystemClock
from mta.config.load import load
from mta.config.snapshot import Snapshot
from mta.errors import SpoolError
from mta.events.runner import EventRunner
from mta.ingress.accept import Acceptance, AcceptResult, Submission
from mta.ingress.queueid import QueueIds
from mta.ingress.relaying import SourcePolicy
from mta.ingress.returns import Returns
from mta.message.envelope import Envelope
from mta.message.event import Event, encode_event
from mta.service.operatorstate import OperatorState
from mta.spool.files import Files
from mta.spool.pace import Pace
from mta.spool.partition import Partition, SpoolOptions

__all__ = ["SCENARIOS", "act", "configuration", "content"]

_POLICY = SourcePolicy(allow_relaying=True, add_received=False)
#: Small files, so that a short scenario fills some; two waiting messages already go to the thread.
_SEGMENT, _SETTLE, _INLINE = 32 << 10, 8 << 10, 2


def configuration(directory: Path) -> str:
    """What the actor's configuration file says."""
    return f"""
host-name mta.example.org
<acct-file {directory}/acct.csv>
    records d, b, t, r
    record-fields d rcpt,recordId
    record-fields b rcpt,recordId
    record-fields t rcpt,recordId
    record-fields r rcpt,recordId
</acct-file>
"""


def content(name: str, size: int) -> bytes:
    """A message that tells from its own text whether it is whole."""
    text = name.encode() + b"."
    return b"Subject: %s\r\n\r\n" % name.encode() + text * (size // len(text)) + b"\r\n"


def say(line: str) -> None:
    try:
        os.write(1, line.encode() + b"\n")
    except OSError:
        os.write(1, line.encode() + b"\n")  # a fault that was meant for a file: threads count differently


class ShortFiles(Files):
    """The `short`-th write takes only half of what it is given, as a full buffer or a signal may make it."""

    def __init__(self, short: int) -> None:
        self._left = short

    def write(self, descriptor: int, parts: Sequence[bytes | memoryview], at: int) -> int:
        self._left -= 1
        if self._left == 0:
            whole = b"".join(parts)
            parts = [whole[: len(whole) // 2]]
        return super().write(descriptor, parts, at)


class PlantedFiles(Files):
    """For a negative control: no file is ever synced."""

    def sync(self, descriptor: int) -> None:
        return

    def kernel_sync(self) -> None:
        return


class Actor:
    """An open spool with everything around it that makes promises."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = SystemClock()
        self.snapshot = self._load()
        short, planted = int(os.environ.get("SHORT_WRITE", "0")), os.environ.get("PLANTED", "")
        files = PlantedFiles() if planted == "sync" else ShortFiles(short) if short else Files()
        options = SpoolOptions(
            segment_size=_SEGMENT,
            settle_size=_SETTLE,
            memory_pool=10_000,
            pace=Pace(inline_limit=_INLINE),
            files=files,
            clock=self.clock,
        )
        loop = asyncio.get_running_loop()
        self.partition = Partition.open(directory / "spool", options=options, loop=loop)
        self.envelopes: dict[int, Envelope] = {}
        self.names: dict[int, str] = {}
        for one in self.partition.recovered():
            self.partition.load(one.message)
            self.envelopes[one.message] = one.envelope
            if one.envelope.originator:
                self.names[one.message] = one.envelope.originator.partition("@")[0]
        ids = QueueIds(self.clock)
        self.acceptance = Acceptance(
            snapshot=lambda: self.snapshot,
            partition=self.partition,
            clock=self.clock,
            queue_ids=ids,
            admitted=self._admitted,
        )
        self.returns = Returns(
            accept=self.acceptance.accept,
            load=lambda message: self.partition.load(message).body,
            snapshot=lambda: self.snapshot,
            queue_ids=ids,
            clock=self.clock,
            loop=loop,
        )
        self.count = 0
        self.is_closed = False
        self.is_early = planted == "early"
        self.events = 0

    def _load(self) -> Snapshot:
        snapshot = load(self.directory / "mta.conf").snapshot
        assert snapshot is not None, "the configuration can't be read"
        return snapshot

    def _admitted(self, envelope: Envelope, message: int, size: int) -> None:
        self.envelopes[message] = envelope
        if envelope.originator:
            self.names[message] = envelope.originator.partition("@")[0]

    # -- steps -----------------------------------------------------------------------------------------

    async def accept(self, *sizes: int, recipients: int = 1) -> list[int]:
        """Messages handed in at the same time; the numbers of those that were taken."""
        answers: asyncio.Queue[None] = asyncio.Queue()

        def answered(name: str, result: AcceptResult) -> None:
            say(f"x {name}" if result.refusal else f"a {name} {result.queue_id}")
            answers.put_nowait(None)

        before = set(self.names)
        for size in sizes:
            self.count += 1
            name = f"{self.directory.name}-{os.getpid()}-{self.count}"
            data = content(name, size)
            people = [(f"{name}.{index}@d{index % 2}.example", 0, "") for index in range(recipients)]
            submission = Submission(f"{name}@example.org", people, [data], len(data), _POLICY)
            if self.is_early:
                say(f"a {name} planted")
            self.acceptance.accept(submission, lambda result, name=name: answered(name, result))  # type: ignore[misc]
        for _ in sizes:
            await answers.get()
        return sorted(set(self.names) - before)

    async def flush(self) -> bool:
        """Whether everything said so far is on disk."""
        done: asyncio.Future[SpoolError | None] = asyncio.get_running_loop().create_future()
        self.partition.flush(done.set_result)
        error = await done
        if error is not None:
            say(f"! {error}")
        return error is None

    def event(self, kind: str, message: int, index: int) -> Event:
        """The record of an outcome."""
        self.events += 1
        recipient = self.envelopes[message].recipients[index].address
        number = f"{os.getpid()}-{self.events}"
        action = "failed" if kind == "b" else "relayed"
        return Event(
            kind, number, self.clock.wall(), recipient=recipient, dsn_action=action, dsn_status="5.1.1"
        )

    async def settle(self, messages: list[int], index: int = 0) -> None:
        """Delivered."""
        for message in messages:
            self.partition.settle(message, index, encode_event(self.event("d", message, index)))
        if await self.flush():
            for message in messages:
                say(f"s {self.names[message]} {index}")

    async def defer(self, messages: list[int], attempts: int) -> None:
        """Put off."""
        for message in messages:
            event = encode_event(self.event("t", message, 0))
            self.partition.defer(message, 0, attempts=attempts, due=1.0, event=event)
        if await self.flush():
            for message in messages:
                say(f"d {self.names[message]} 0 {attempts}")

    async def bounce(self, messages: list[int], index: int = 0) -> None:
        """Failed for good: a DSN, and then the outcome."""
        settled: list[int] = []
        for message in messages:
            event = self.event("b", message, index)

            def settle(message: int = message, event: Event = event) -> None:
                self.partition.settle(message, index, encode_event(event))
                settled.append(message)

            self.returns(self.envelopes[message], index, event, message, settle)
        for _ in range(500):
            if not self.returns.stats().waiting or self.partition.stats().broken:
                break
            await asyncio.sleep(0.001)
        known = settled.copy()
        if await self.flush():
            for message in known:
                say(f"s {self.names[message]} {index}")

    async def come_to_rest(self) -> None:
        """A disk that was full for a moment has been asked again before the process goes away."""
        for _ in range(0 if self.is_closed else 40):
            done: asyncio.Future[SpoolError | None] = asyncio.get_running_loop().create_future()
            self.partition.flush(done.set_result)
            error = await done
            if broken := self.partition.stats().broken:
                say(f"! {broken}")
            if error is None or broken:
                return
            await asyncio.sleep(0.05)

    async def rest(self) -> None:
        """Let the housekeeping look, and finish what it begins."""
        self.partition._upkeep.look()
        quiet = 0
        while quiet < 3:
            await asyncio.sleep(0.001)
            quiet = 0 if self.partition.is_busy else quiet + 1


async def accept(actor: Actor) -> None:
    await actor.accept(200)
    await actor.accept(3000, recipients=3)
    await actor.accept(20_000)
    await actor.accept(*([1500] * 6))
    await actor.accept(*([900] * 25), recipients=2)
    await actor.accept(70_000)


async def deliver(actor: Actor) -> None:
    messages = await actor.accept(*([500] * 8))
    await actor.settle(messages[:1])
    await actor.settle(messages[1:4])
    three = await actor.accept(2000, recipients=3)
    await actor.settle(three, 1)
    await actor.settle(messages[4:])
    await actor.settle(three, 0)
    await actor.settle(three, 2)
    await actor.rest()
    await actor.come_to_rest()
    actor.partition.close()
    actor.is_closed = True


async def defer(actor: Actor) -> None:
    messages = await actor.accept(*([500] * 4))
    await actor.defer(messages, 1)
    await actor.accept(500)
    for attempt in range(2, 30):
        await actor.defer(messages[:2], attempt)
    await actor.settle(messages[:1])


async def bounce(actor: Actor) -> None:
    messages = await actor.accept(*([500] * 5))
    await actor.bounce(messages[:1])
    await actor.bounce(messages[1:4])
    three = await actor.accept(800, recipients=3)
    await actor.bounce(three, 1)
    await actor.settle(three, 0)


async def compact(actor: Actor) -> None:
    for _ in range(4):
        messages = await actor.accept(*([2500] * 14))
        await actor.settle(messages[1:])
        await actor.rest()
    for attempt in range(1, 25):
        await actor.defer(sorted(actor.names)[:1], attempt)
    await actor.rest()
    await actor.accept(2500)


async def rotate(actor: Actor) -> None:
    runner = EventRunner(
        snapshot=lambda: actor.snapshot,
        partitions=lambda: [actor.directory / "spool"],
        clock=actor.clock,
    )
    life = asyncio.create_task(runner.run())
    for _ in range(3):
        await actor.settle(await actor.accept(*([300] * 3)))
        await runner.catch_up()
        runner.rotate()
    runner.stop()
    await life


async def reload(actor: Actor) -> None:
    try:
        state = OperatorState(actor.directory / "state.db")
    except OSError as error:
        say(f"! {error}")
        return
    for number in range(1, 5):
        try:
            state.save("paused", {"number": number})
        except OSError as error:
            say(f"! {error}")
        else:
            say(f"o {number}")
        loaded = load(actor.directory / "mta.conf", epoch=number)
        if loaded.snapshot is not None:
            actor.snapshot = loaded.snapshot
        await actor.accept(400)
    state.close()


async def live(actor: Actor) -> None:
    """Something of everything, by the dice of the environment's SEED, without an end."""
    dice = random.Random(os.environ.get("SEED", ""))
    runner = EventRunner(
        snapshot=lambda: actor.snapshot,
        partitions=lambda: [actor.directory / "spool"],
        clock=actor.clock,
    )
    records = asyncio.create_task(runner.run())
    attempts = 0
    while not records.done():
        await actor.accept(*(dice.choice((10, 700, 4000, 20_000)) for _ in range(dice.randint(1, 12))))
        known = sorted(actor.names)
        dice.shuffle(known)
        attempts += 1
        match dice.randrange(8):
            case 0:
                await actor.bounce(known[:2])
                gone = known[:2]
            case 1:
                await actor.defer(known[:3], attempts)
                gone = []
            case 2:
                await actor.rest()
                gone = []
            case 3:
                await runner.catch_up()
                runner.rotate()
                gone = []
            case _:
                gone = known[: dice.randint(0, len(known))]
                await actor.settle(gone)
        for message in gone:
            del actor.names[message]


async def recover(actor: Actor) -> None:
    """The spool was left by a process that was killed: opening it again was the point."""
    messages = sorted(actor.names)
    await actor.settle(messages[: len(messages) // 2])
    await actor.accept(500)


SCENARIOS: dict[str, Callable[[Actor], Awaitable[None]]] = {
    "accept": accept,
    "deliver": deliver,
    "defer": defer,
    "bounce": bounce,
    "rotate": rotate,
    "reload": reload,
    "compact": compact,
    "recover": recover,
    "live": live,
}


def act(name: str, directory: Path) -> None:
    """One scenario from an opened spool to its end; the process ends with it."""
    asyncio.run(_act(name, directory))


async def _act(name: str, directory: Path) -> None:
    try:
        actor = Actor(directory)
    except (SpoolError, OSError, AssertionError) as error:
        say(f"! {error}")
        os._exit(75)
    say("ready")
    await SCENARIOS[name](actor)
    await actor.come_to_rest()
    say("end")
    os._exit(0)  # as a kill would: nothing is closed


if __name__ == "__main__":
    act(sys.argv[1], Path(sys.argv[2]))
