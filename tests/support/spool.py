"""A partition under the test's thumb: a loop that steps, files that can fail, and short words."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mta.errors import SpoolError
from mta.message.envelope import Envelope, Recipient, encode_envelope
from mta.spool.files import Files, Room
from mta.spool.kernelsync import KernelSync
from mta.spool.pace import Pace
from mta.spool.partition import Partition, Recovered, SpoolOptions
from tests.support.steploop import StepLoop

#: Everything in the loop, nothing in a thread.
INLINE = Pace(inline_limit=1_000_000, slow_sync=1e9, crowd=1e9)


def envelope(name: str = "m", recipients: int = 1, padding: int = 0) -> bytes:
    people = tuple(Recipient(f"u{i}@example.com", "example.com") for i in range(recipients))
    return encode_envelope(Envelope(name, 1.0, "a@example.org", "v", people, job_id="x" * padding))


class FaultyFiles(Files):
    """Real files, until the n-th call of some kind is told to fail.

    Syncs are counted and not done: a test that kills no power can't see the difference, and waits less.

    `fail("sync", 2, errno.EIO)` fails the second sync from now. `capacity` bounds the bytes that creating
    and writing beyond a file's end may claim, as a small disk would. `shorten` makes writes take that many
    bytes at most.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.shorten = 0
        self.capacity: int | None = None
        self.inodes: int | None = None
        self.unreadable: tuple[int, int] | None = None  # offsets, in any file
        self._faults: dict[tuple[str, int], int] = {}

    def fail(self, call: str, nth: int = 1, code: int = errno.EIO) -> None:
        self._faults[call, self.calls[call] + nth] = code

    def _count(self, call: str) -> None:
        self.calls[call] += 1
        code = self._faults.pop((call, self.calls[call]), 0)
        if code:
            raise OSError(code, os.strerror(code))

    def _claim(self, descriptor: int, end: int) -> None:
        if self.capacity is None:
            return
        growth = end - os.fstat(descriptor).st_size
        if growth > self.capacity:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.capacity -= max(0, growth)

    def open(self, path: Path, *, write: bool) -> int:
        self._count("open")
        return super().open(path, write=write)

    def create(self, path: Path) -> int:
        self._count("create")
        return super().create(path)

    def write(self, descriptor: int, parts: Sequence[bytes | memoryview], at: int) -> int:
        self._count("write")
        if self.shorten:
            parts = [b"".join(parts)[: self.shorten]]
        self._claim(descriptor, at + sum(map(len, parts)))
        return super().write(descriptor, parts, at)

    def read(self, descriptor: int, length: int, at: int) -> bytes:
        self._count("read")
        if self.unreadable and at < self.unreadable[1] and at + length > self.unreadable[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(descriptor, length, at)

    def sync(self, descriptor: int) -> None:
        self._count("sync")

    def kernel_sync(self) -> KernelSync | None:
        return None  # its syncs could be neither counted nor made to fail here

    def sync_directory(self, path: Path) -> None:
        self._count("sync_directory")

    def allocate(self, descriptor: int, size: int) -> None:
        self._count("allocate")
        self._claim(descriptor, size)
        super().allocate(descriptor, size)

    def truncate(self, descriptor: int, size: int) -> None:
        self._count("truncate")
        if self.capacity is not None:
            self.capacity += max(0, os.fstat(descriptor).st_size - size)
        super().truncate(descriptor, size)

    def unlink(self, path: Path) -> None:
        self._count("unlink")
        if self.capacity is not None:
            self.capacity += path.stat().st_size
        super().unlink(path)

    def room(self, path: Path) -> Room:
        self._count("room")
        real = super().room(path)
        free = real.free if self.capacity is None else self.capacity
        return Room(free, real.total, real.inodes if self.inodes is None else self.inodes)


class Spool:
    """One partition that can be opened again and again on the same directory."""

    def __init__(
        self,
        directory: Path,
        *,
        files: Files | None = None,
        segment_size: int = 64 << 10,
        settle_size: int = 64 << 10,
        pace: Pace = INLINE,
        **options: object,
    ) -> None:
        self.directory = directory
        self.loop = StepLoop()
        self.files = files or FaultyFiles()
        self.answers: list[tuple[int, SpoolError | None]] = []
        self.options = SpoolOptions(
            files=self.files,
            clock=self.loop,
            segment_size=segment_size,
            settle_size=settle_size,
            pace=pace,
            **options,  # type: ignore[arg-type]
        )
        self.open()

    def open(self) -> None:
        self.partition = Partition.open(self.directory, options=self.options, loop=self.loop)  # type: ignore[arg-type]

    def reopen(self) -> list[Recovered]:
        """Close, open, and give out what waits."""
        self.partition.close()
        self.open()
        return list(self.partition.recovered())

    def accept(
        self,
        body: bytes | list[bytes] = b"body\r\n",
        *,
        name: str = "m",
        recipients: int = 1,
        padding: int = 0,
    ) -> None:
        parts = [body] if isinstance(body, bytes) else body
        self.partition.accept(envelope(name, recipients, padding), parts, self.answered)

    def answered(self, message: int, error: SpoolError | None) -> None:
        self.answers.append((message, error))

    def put(self, body: bytes | list[bytes] = b"body\r\n", **details: object) -> int:
        """Accept one message and see it safe."""
        self.accept(body, **details)  # type: ignore[arg-type]
        self.loop.run_until(lambda: not self.partition.is_busy)
        message, error = self.answers[-1]
        assert error is None, error
        return message

    def flush(self) -> SpoolError | None:
        verdicts: list[SpoolError | None] = []
        self.partition.flush(verdicts.append)
        self.loop.run_until(lambda: bool(verdicts))
        return verdicts[0]

    def rest(self, seconds: int = 3) -> None:
        """Let time pass, and whatever it starts come to an end."""
        for _ in range(seconds * 4):
            self.loop.advance(0.25)
            self.loop.run_until(lambda: not self.partition.is_busy)

    def settle(self, message: int, recipient: int = 0, event: bytes = b"event") -> None:
        self.partition.settle(message, recipient, event)


def names(recovered: list[Recovered]) -> list[str]:
    return [one.envelope.queue_id for one in recovered]
