"""A process that fills and drains a partition as fast as it can and says what is safe, until it is killed.

    python -m tests.support.spoolchild DIRECTORY PREFIX

Lines on standard output: `a NAME` acknowledged, `s NAME` its settlement is on disk, `d NAME N` its N-th
deferral is on disk, `!` trouble. They are written after the fact, so a line is a promise.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import uvloop

from mta.errors import SpoolError
from mta.spool.pace import Pace
from mta.spool.partition import Partition, SpoolOptions
from mta.spool.settlelog import EventReader, read_cursor, write_cursor
from tests.support.spool import envelope


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


class Child:
    def __init__(self, directory: Path, prefix: str) -> None:
        self.directory, self.prefix, self.count = directory, prefix, 0
        self.random = random.Random(prefix)
        options = SpoolOptions(
            segment_size=64 << 10, settle_size=16 << 10, memory_pool=50_000, pace=Pace(inline_limit=8)
        )
        self.loop = asyncio.get_running_loop()
        self.partition = Partition.open(directory, options=options, loop=self.loop)
        self.waiting: dict[int, tuple[str, int]] = {}
        for one in self.partition.recovered():
            self.partition.load(one.message)
            self.waiting[one.message] = (one.envelope.queue_id, one.waiting[0].attempts)
        self.reader = EventReader(directory)
        say("ready")

    def fill(self) -> None:
        for _ in range(self.random.randrange(1, 30)):
            self.count += 1
            name = f"{self.prefix}-{self.count}"
            body = name.encode() * self.random.choice((1, 10, 200, 900))
            self.partition.accept(envelope(name), [body], lambda m, e, name=name: self.accepted(name, m, e))
        self.loop.call_later(0.001, self.fill)

    def accepted(self, name: str, message: int, error: SpoolError | None) -> None:
        if error is not None:
            say(f"! {error}")
            return
        say(f"a {name}")
        self.waiting[message] = (name, 0)

    def drain(self) -> None:
        lines: list[str] = []
        for message, (name, attempts) in list(self.waiting.items()):
            choice = self.random.random()
            if choice < 0.6:
                self.partition.settle(message, 0, b"e " + name.encode() * 3)
                del self.waiting[message]
                lines.append(f"s {name}")
            elif choice < 0.7:
                attempts += 1
                self.partition.defer(message, 0, attempts=attempts, due=float(attempts), event=b"t")
                self.waiting[message] = (name, attempts)
                lines.append(f"d {name} {attempts}")
        self.partition.flush(lambda error: self.drained(error, lines))

    def drained(self, error: SpoolError | None, lines: list[str]) -> None:
        if error is None and lines:
            say("\n".join(lines))
        elif error is not None:
            say(f"! {error}")
        _, cursor = self.reader.read(read_cursor(self.directory), 1000)
        write_cursor(self.directory, cursor)
        self.partition._upkeep.look()
        self.loop.call_later(0.001, self.drain)


async def main() -> None:
    child = Child(Path(sys.argv[1]), sys.argv[2])
    child.fill()
    child.drain()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
