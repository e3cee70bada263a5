"""The pickup directory: real files, a spool in memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mta.clock import SystemClock
from mta.errors import SpoolFull
from mta.ingress.accept import Acceptance
from mta.ingress.pickup import AT_ONCE, Pickup
from mta.ingress.queueid import QueueIds
from tests.support.inbound import snapshot_of
from tests.support.memory_partition import MemoryPartition

FILE = b"x-sender: a@x.org\nx-receiver: b@y.org\nSubject: hi\n\ntext\n"


class Office:
    """A pickup directory, its bad directory, and what comes out."""

    def __init__(self, path: Path, source: str = "", text: str = "") -> None:
        self.directory, self.bad = path / "pickup", path / "bad"
        self.directory.mkdir()
        self.bad.mkdir()
        self.snapshot = snapshot_of(
            f"pickup {self.directory} {self.bad}\n<source {{pickup}}>\n{source}\n</source>\n{text}"
        )
        self.partition = MemoryPartition(asyncio.get_running_loop())
        clock = SystemClock()
        self.acceptance = Acceptance(
            snapshot=lambda: self.snapshot,
            partition=self.partition,
            clock=clock,
            queue_ids=QueueIds(clock),
            admitted=lambda *facts: None,
        )
        self.pickup = Pickup(snapshot=lambda: self.snapshot, accept=self.acceptance.accept, clock=clock)

    def put(self, name: str, data: bytes = FILE, *, age: float = 10.0) -> Path:
        path = self.directory / name
        path.write_bytes(data)
        moment = path.stat().st_mtime - age
        os.utime(path, (moment, moment))
        return path

    def names(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())


@pytest.fixture
async def make(tmp_path: Path) -> Callable[..., Office]:
    def made(*arguments: Any) -> Office:
        return Office(tmp_path, *arguments)

    return made


async def test_file_becomes_a_message_and_goes(make: Callable[..., Office]) -> None:
    office = make()
    office.put("one")

    assert await office.pickup.look() == 1
    (envelope,) = office.partition.envelopes
    assert (envelope.originator, envelope.source_type) == ("a@x.org", "pickup")
    assert office.partition.bodies[0].endswith(b"Subject: hi\r\n\r\ntext\r\n")
    assert office.names() == []


async def test_file_stays_until_its_message_is_on_the_disk(make: Callable[..., Office]) -> None:
    office = make()
    office.put("one")
    office.partition.is_held = True

    async with asyncio.TaskGroup() as company:
        look = company.create_task(office.pickup.look())
        await office.partition.arrived.wait()
        assert office.names() == ["one"]
        office.partition.commit()
        await look

    assert office.names() == []


async def test_unusable_file_goes_to_the_bad_directory(make: Callable[..., Office]) -> None:
    office = make()
    (office.bad / "one").write_bytes(b"earlier")
    office.put("one", b"nonsense")

    assert await office.pickup.look() == 1
    assert sorted(path.name for path in office.bad.iterdir()) == ["one", "one.1"]
    assert office.partition.stored == []


async def test_refused_message_goes_to_the_bad_directory(make: Callable[..., Office]) -> None:
    office = make("process-x-virtual-mta yes")
    office.put("one", FILE.replace(b"Subject: hi", b"x-virtual-mta: nowhere"))

    await office.pickup.look()
    assert [path.name for path in office.bad.iterdir()] == ["one"]


async def test_file_waits_while_the_spool_is_full(make: Callable[..., Office]) -> None:
    office = make()
    office.put("one")
    office.partition.refuses = SpoolFull("no room")

    assert await office.pickup.look() == 0
    assert office.names() == ["one"]
    office.partition.refuses = None
    assert await office.pickup.look() == 1


async def test_fresh_hidden_temporary_and_odd_files_are_left_alone(make: Callable[..., Office]) -> None:
    office = make()
    office.put("fresh", age=0.0)
    office.put(".hidden")
    office.put("part.tmp")
    os.mkfifo(office.directory / "pipe")
    (office.directory / "folder").mkdir()
    (office.directory / "link").symlink_to(office.put("target.tmp"))

    assert await office.pickup.look() == 0
    assert office.partition.stored == []


async def test_file_that_cannot_be_removed_is_sent_once(
    make: Callable[..., Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    office = make()
    office.put("one")

    def refuse(path: object) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(os, "unlink", refuse)
    for _ in range(3):
        await office.pickup.look()
    assert len(office.partition.stored) == 1


async def test_directory_that_is_missing_is_no_reason_to_stop(make: Callable[..., Office]) -> None:
    office = make()
    office.bad.rmdir()
    office.put("one")

    assert await office.pickup.look() == 0
    office.bad.mkdir()
    assert await office.pickup.look() == 1


async def test_settings_of_the_pickup_source_hold(make: Callable[..., Office]) -> None:
    office = make(
        "bcc archive@x.org\nsuppression-lists no", "<address-list no>\naddress b@y.org\n</address-list>"
    )
    office.put(
        "one", b"XMRG FROM:<a@x.org>\nXDFN n=1\nRCPT TO:<b@y.org>\nRCPT TO:<c@y.org>\nXPRT 1 LAST\n.\n"
    )

    await office.pickup.look()
    (envelope,) = office.partition.envelopes
    assert [(one.address, one.queue_domain) for one in envelope.recipients] == [
        ("c@y.org", "y.org"),
        ("archive@x.org", "x.org"),
        ("b@y.org", "{suppressed}"),
    ]


async def test_many_files_are_taken_in_turns_the_oldest_first(make: Callable[..., Office]) -> None:
    office = make()
    for number in range(AT_ONCE + 5):
        office.put(f"f{number}", FILE.replace(b"hi", b"%d" % number), age=1000.0 - number)

    assert await office.pickup.look() == AT_ONCE
    assert office.names() == [f"f{number}" for number in range(AT_ONCE, AT_ONCE + 5)]
    assert await office.pickup.look() == 5


async def test_it_looks_by_itself(make: Callable[..., Office]) -> None:
    office = make("", "pickup-retry-interval 1s")
    task = asyncio.create_task(office.pickup.run())
    office.put("one")
    async with asyncio.timeout(10):
        await office.partition.arrived.wait()
    while office.names():
        await asyncio.sleep(0)
    task.cancel()
