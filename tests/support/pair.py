"""Two workers' crews in one process, each with a partition of its own on disk and no more of a worker."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from mta.clock import SystemClock
from mta.errors import SpoolError
from mta.message.envelope import Envelope, Recipient, encode_envelope
from mta.queue.scheduler import Scheduler
from mta.service.crew import Crew
from mta.service.jobs import JobBook
from mta.service.layout import Layout, Post
from mta.service.share import Share, Verdict, share_of
from mta.spool.options import SpoolOptions
from mta.spool.partition import Partition
from mta.spool.stored import Waiting

__all__ = [
    "SECONDS",
    "Member",
    "begin_again",
    "brought",
    "damage",
    "delivered_by",
    "envelope",
    "offered",
    "owned_by",
    "pair",
    "share",
]

SECONDS = 10.0


def owned_by(number: int, workers: int = 2) -> str:
    """A domain that this worker owns."""
    layout = Layout([Post(post) for post in range(workers)])
    return next(domain for k in range(1000) if layout.owner(domain := f"d{k}.example") == number)


def envelope(queue_id: str, *domains: str) -> Envelope:
    recipients = tuple(Recipient(f"{queue_id}.{i}@{domain}", domain) for i, domain in enumerate(domains))
    return Envelope(queue_id, 1.0, "s@example.org", "v1", recipients)


def share(message: Envelope, body: bytes = b"body\r\n") -> Share:
    """The share that is the whole of this message."""
    return share_of(message, encode_envelope(message), [body], range(len(message.recipients)))


async def pair(spool: Path) -> tuple[Member, Member]:
    """Two workers that see each other."""
    one, other = await Member(spool, 0).open(), await Member(spool, 1).open()
    await one.until(lambda: one.crew.colleagues[1].is_up and other.crew.colleagues[0].is_up)
    return one, other


async def offered(member: Member, message: Envelope, *, again: bool = False) -> Verdict:
    """What worker 1 answers to a share that this one offers."""
    answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
    member.crew.colleagues[1].offer(share(message), answer.set_result, again=again)
    async with asyncio.timeout(SECONDS):
        return await answer


async def brought(member: Member, message: Envelope, body: bytes = b"body\r\n") -> Verdict:
    """What a worker answers to a share that comes again, from whomever."""
    answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
    member.crew.intake.take(share(message, body), answer.set_result, again=True)
    async with asyncio.timeout(SECONDS):
        return await answer


async def delivered_by(spool: Path, message: Envelope) -> tuple[Member, Member]:
    """Two workers, of which one has offered this, and the other has delivered it."""
    one, other = await pair(spool)
    assert await offered(one, message) is Verdict.TAKEN
    await other.settle_all()
    return one, other


async def begin_again(one: Member, spool: Path) -> Member:
    """Worker 1, which has just ended, is there anew, and worker 0 knows."""
    way = one.crew.colleagues[1]
    await one.until(lambda: not way.is_up)
    other = await Member(spool, 1).open()
    await one.until(lambda: way.is_up)
    return other


def damage(partition: Path, what: bytes) -> None:
    """Change an octet of this text wherever the partition has it."""
    count = 0
    for path in (partition / "segments").iterdir():
        data = path.read_bytes()
        if what in data:
            count += 1
            with path.open("r+b") as file:
                file.seek(data.index(what))
                file.write(bytes([what[0] ^ 1]))
    assert count == 1


class Member:
    """One worker as far as the others notice; `queued` are the addresses that entered its queues."""

    def __init__(self, spool: Path, number: int, *, workers: int = 2, adopted: Sequence[int] = ()) -> None:
        loop = asyncio.get_running_loop()
        options = SpoolOptions()
        self.queued: Counter[str] = Counter()
        self.attempts: dict[str, int] = {}
        self.entered: list[tuple[int, int]] = []
        self.partition = Partition.open(spool / str(number), options=options, loop=loop)
        self.crew = Crew(
            number,
            Layout([Post(post) for post in range(workers)]),
            partition=self.partition,
            options=options,
            scheduler=cast(Scheduler, NoQueues()),
            enter=self._enter,
            jobs=JobBook(),
            adopted=adopted,
            clock=SystemClock(),
            loop=loop,
        )

    async def open(self) -> Member:
        """Begin as a worker does: look what waits, open the socket, read the disk."""
        self.look()
        await self.crew.open()
        self.recover()
        return self

    def look(self) -> None:
        """What waits from here on is new, and not found by `recover`."""
        found = self.partition.recovered()
        self._found = itertools.chain(list(itertools.islice(found, 1)), found)

    def recover(self) -> None:
        for found in self._found:
            self.crew.recovered(found.envelope, found.message, found.waiting)
        self.crew.knows_all()

    async def close(self) -> None:
        """End in good order."""
        self.crew.drain()
        await self.crew.finish(1.0)
        self.crew.close()
        await self._flush()
        self.crew.keep_names()
        self.partition.close()
        await asyncio.sleep(0)

    async def settle_all(self) -> None:
        """Everybody who has entered our queues has got the mail."""
        for message, recipient in self.entered:
            self.partition.settle(message, recipient, b"")
        await self._flush()

    async def die(self) -> None:
        """End as a kill does, and leave what a kill leaves; but what waits for a commit is committed."""
        self.crew.intake.names.die()
        self.crew.close()
        self.partition.close()
        await asyncio.sleep(0)

    async def _flush(self) -> None:
        done: asyncio.Future[SpoolError | None] = asyncio.get_running_loop().create_future()
        self.partition.flush(done.set_result)
        assert await done is None

    async def submit(
        self, message: Envelope, body: bytes = b"Subject: x\r\n\r\nhello\r\n"
    ) -> SpoolError | None:
        """Hand a message in like acceptance does, and wait for the answer."""
        done: asyncio.Future[SpoolError | None] = asyncio.get_running_loop().create_future()
        self.crew.spool.accept(
            encode_envelope(message), [body], lambda _number, error: done.set_result(error), message
        )
        async with asyncio.timeout(SECONDS):
            return await done

    async def until(self, condition: Any, seconds: float = SECONDS) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)

    def _enter(self, message: Envelope, number: int, waiting: Iterable[Waiting] | None) -> None:
        everybody = [Waiting(index, 0, 0.0) for index in range(len(message.recipients))]
        for recipient, attempts, _due in everybody if waiting is None else waiting:
            address = message.recipients[recipient].address
            self.queued[address] += 1
            self.attempts[address] = attempts
            self.entered.append((number, recipient))


class NoQueues:
    """What a crew asks of a scheduler when claims change: there is nothing."""

    def queues(self, now: float) -> list[Any]:
        return []
