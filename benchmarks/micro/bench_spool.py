"""The spool: cycles of put and settle on a real disk, and what a restart and the events process do."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.micro.harness import Work
from mta.errors import SpoolError
from mta.message.envelope import Envelope, Recipient, encode_envelope
from mta.message.event import Event, encode_event
from mta.spool.files import Files
from mta.spool.index import Index
from mta.spool.partition import Partition, SpoolOptions
from mta.spool.recovery import survey
from mta.spool.settlelog import Cursor, EventReader

BODY = os.urandom(10 * 1024)
ENVELOPE = encode_envelope(
    Envelope(
        "bench-0123456789", 1_795_219_200.0, "bounce@sender.example", "vmta1",
        (Recipient("user@receiver.example", "receiver.example"),), source_mta="app.example (10.1.2.3)",
    )
)  # fmt: skip
EVENT = encode_event(
    Event(
        "d", "bench-0123456789-0", 1_795_219_200.5, 1_795_219_200.0, "bounce@sender.example",
        "user@receiver.example", dsn_action="relayed", dsn_status="2.0.0", dsn_diag="smtp;250 2.0.0 OK",
        dsn_mta="mx.receiver.example (192.0.2.7)", queue="receiver.example/vmta1", vmta="vmta1",
    )
)  # fmt: skip

Prepared = Generator[Work, None, None]


class Driver:
    """A partition in a directory of its own, driven by so many writers who each wait for their answer."""

    def __init__(self, *, memory_pool: int = 64 << 20) -> None:
        # Not /tmp, which may be memory: the point is the disk.
        self.directory = Path(tempfile.mkdtemp(prefix=".bench-spool-", dir=Path.cwd()))
        self.loop = uvloop.new_event_loop()
        self.partition = Partition.open(
            self.directory, options=SpoolOptions(memory_pool=memory_pool), loop=self.loop
        )

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    async def cycles(self, writers: int, count: int) -> None:
        """Each writer puts a message, and when that is safe takes it out, settles it and puts the next."""
        done, started, finished = self.loop.create_future(), 0, 0

        def put() -> None:
            nonlocal started
            if started < count:
                started += 1
                self.partition.accept(ENVELOPE, [BODY], stored)

        def stored(message: int, error: SpoolError | None) -> None:
            nonlocal finished
            if error is not None:
                raise error
            self.partition.load(message)
            self.partition.settle(message, 0, EVENT)
            finished += 1
            if finished == count:
                done.set_result(None)
            put()

        for _ in range(writers):
            put()
        await done

    async def fill(self, count: int, body: bytes) -> None:
        stored: asyncio.Future[None] = self.loop.create_future()

        def answered(message: int, error: SpoolError | None) -> None:
            nonlocal count
            count -= 1
            if not count:
                stored.set_result(None)

        for _ in range(count):
            self.partition.accept(ENVELOPE, [body], answered)
        await stored

    async def events(self, count: int) -> None:
        for _ in range(count):
            self.partition.record(EVENT)
        flushed: asyncio.Future[SpoolError | None] = self.loop.create_future()
        self.partition.flush(flushed.set_result)
        await flushed

    def close(self) -> None:
        self.partition.close()
        self.loop.close()
        shutil.rmtree(self.directory)


def cycles(writers: int, *, memory_pool: int = 64 << 20) -> Prepared:
    driver = Driver(memory_pool=memory_pool)
    try:
        driver.run(driver.cycles(writers, 10_000))  # the files are made and the blocks written
        count = writers * 20
        yield Work(lambda: driver.run(driver.cycles(writers, count)), operations=count)
    finally:
        driver.close()


def bench_cycle_1() -> Prepared:
    """put, load, settle of 10 KB, one writer"""
    yield from cycles(1)


def bench_cycle_20() -> Prepared:
    """put, load, settle of 10 KB, 20 writers"""
    yield from cycles(20)


def bench_cycle_200() -> Prepared:
    """put, load, settle of 10 KB, 200 writers"""
    yield from cycles(200)


def bench_cycle_200_from_disk() -> Prepared:
    """the same without the memory pool"""
    yield from cycles(200, memory_pool=0)


def bench_recovery() -> Prepared:
    """one small message of 50,000 at a restart: index only"""
    driver = Driver()
    try:
        driver.run(driver.fill(50_000, b"x" * 200))
        yield Work(lambda: survey(Files(), driver.directory).close(), operations=50_000)
    finally:
        driver.close()


def bench_events() -> Prepared:
    """one event of 20,000 read by the events process"""
    driver = Driver()
    reader = EventReader(driver.directory)
    try:
        driver.run(driver.events(20_000))
        yield Work(lambda: reader.read(Cursor(), 20_000), operations=20_000)
    finally:
        reader.close()
        driver.close()


def bench_index_settle() -> Callable[[], object]:
    """a settled recipient among a million messages"""
    index = Index()
    for message in range(1_000_000):
        index.extend([(message, 1, message, 1, 3)])
    return lambda: index.settle(500_000, 0)
