"""The power goes at any moment: nothing acknowledged is lost, nothing settled returns."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mta.errors import SpoolCorrupt
from mta.spool.settlelog import EventReader, read_cursor, write_cursor
from tests.support.powercut import PowerCutFiles
from tests.support.spool import Spool


class Life:
    """Random work on a partition whose disk may lose power, and what was promised."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.base, self.lives = directory, 0
        self.chance = random.Random(seed)
        self.files = PowerCutFiles()
        self.acknowledged: dict[str, bytes] = {}
        self.settled: set[str] = set()
        self.deferred: dict[str, int] = {}
        self.said: list[tuple[str, str, int]] = []
        self.waiting: dict[int, tuple[str, int]] = {}
        self.unsure: set[str] = set()
        self.open(directory / "0")

    def open(self, directory: Path) -> None:
        self.directory = directory
        self.spool = Spool(directory, files=self.files, segment_size=16 << 10, settle_size=8 << 10)

    def work(self, steps: int) -> None:
        for _ in range(steps):
            choice = self.chance.random()
            if choice < 0.4:
                self.accept()
            elif choice < 0.7 and self.waiting:
                self.say()
            elif choice < 0.85:
                if self.spool.flush() is None:
                    self.keep()
                self.read_events()
            else:
                self.spool.rest(1)
                self.keep()

    def accept(self) -> None:
        for _ in range(self.chance.randrange(1, 5)):
            name = f"{self.lives}-{len(self.acknowledged)}"
            body = name.encode() * self.chance.choice((1, 20, 300, 1500))
            message = self.spool.put(body, name=name)
            self.acknowledged[name] = body
            self.waiting[message] = (name, 0)
        if self.chance.random() < 0.3:
            self.spool.accept(b"never answered" * 100, name="unknown")  # the cut may come before the commit

    def say(self) -> None:
        for message in self.chance.sample(sorted(self.waiting), k=max(1, len(self.waiting) // 2)):
            name, attempts = self.waiting[message]
            if self.chance.random() < 0.7:
                self.spool.settle(message, event=b"e" + name.encode() + b"." * 200)
                self.said.append(("settled", name, 0))
                del self.waiting[message]
            else:
                attempts += 1
                self.spool.partition.defer(
                    message, 0, attempts=attempts, due=1.0 * attempts, event=b"t" * 100
                )
                self.said.append(("deferred", name, attempts))
                self.waiting[message] = (name, attempts)

    def keep(self) -> None:
        for what, name, attempts in self.said:
            if what == "settled":
                self.settled.add(name)
            else:
                self.deferred[name] = attempts
        self.said.clear()

    def read_events(self) -> None:
        reader = EventReader(self.directory)
        events, cursor = reader.read(read_cursor(self.directory), 1000)
        reader.close()
        # What another process has seen must be true for ever.
        self.settled |= {event[1:].rstrip(b".").decode() for event in events if event.startswith(b"e")}
        write_cursor(self.directory, cursor)

    def cut(self) -> None:
        self.lives += 1
        after = self.base / str(self.lives)
        self.files.cut(self.directory, after, self.chance)
        self.spool.partition.close()
        shutil.rmtree(self.directory)
        self.files.adopt(after)
        self.open(after)
        self.waiting.clear()
        self.said.clear()
        for one in self.spool.partition.recovered():
            name = one.envelope.queue_id
            assert name not in self.settled, f"{name} is back"
            body = self.spool.partition.load(one.message).body
            if name == "unknown":
                assert body == b"never answered" * 100
                self.spool.settle(one.message)
                continue
            assert body == self.acknowledged[name]
            assert one.waiting[0].attempts >= self.deferred.get(name, 0)
            self.waiting[one.message] = (name, one.waiting[0].attempts)
        there = {name for name, _ in self.waiting.values()}
        # What was settled and not yet known to be on disk may count or not.
        gone = self.acknowledged.keys() - there - self.settled
        assert gone <= self.unsure, f"lost: {gone - self.unsure}"
        self.settled |= gone

    def round(self) -> None:
        self.work(self.chance.randrange(1, 25))
        self.unsure = {name for what, name, _ in self.said if what == "settled"}
        self.cut()


@given(st.integers(0, 2**32))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_nothing_acknowledged_is_lost_and_nothing_settled_returns(tmp_path: Path, seed: int) -> None:
    directory = tmp_path / str(seed)
    life = Life(directory, seed)
    for _ in range(6):
        life.round()
    life.spool.partition.close()
    shutil.rmtree(directory)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_power_cuts(tmp_path: Path) -> None:
    for seed in range(200):
        life = Life(tmp_path / str(seed), seed)
        for _ in range(10):
            life.round()
        life.spool.partition.close()
        shutil.rmtree(tmp_path / str(seed))


@pytest.mark.parametrize("skipped", ["sync", "sync_directory"])
def test_a_program_that_does_not_sync_is_found_out(tmp_path: Path, skipped: str) -> None:
    """The negative control: a test that can't fail proves nothing."""
    failures = 0
    for seed in range(10):
        life = Life(tmp_path / str(seed), seed)
        setattr(life.files, skipped, lambda *_: None)
        try:
            for _ in range(4):
                life.round()
        except (AssertionError, KeyError, SpoolCorrupt):
            failures += 1
        life.spool.partition.close()
    assert failures
