"""Every outcome is on disk a bounded time after it was said, whatever comes between.

The clock is simulated, syncs take time, in the loop and in the thread, and dice say what happens next.
"""

from __future__ import annotations

import itertools
import random
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mta.spool.marks import read_safe_until
from mta.spool.pace import Pace
from tests.support.spool import FaultyFiles, Spool, envelope
from tests.support.steploop import StepLoop

_NAMED = re.compile(rb"<(\d+)>")
_STEP = 0.0005


class TimedFiles(FaultyFiles):
    """Syncs take time: of the loop where they are made in it, until `let_go` where they are in the thread.

    `safe` says when each named outcome was on disk, `busy` from when to when the disk worked.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        super().__init__()
        self.seconds = seconds
        self.safe: dict[int, float] = {}
        self.busy: list[tuple[float, float]] = []
        self.loop = StepLoop()
        self.is_held = self.may_go = False
        self.changed = threading.Condition()
        self._unsynced: dict[int, set[int]] = defaultdict(set)

    def write(self, descriptor: int, parts: Sequence[bytes | memoryview], at: int) -> int:
        written = super().write(descriptor, parts, at)
        self._unsynced[descriptor].update(int(name) for part in parts for name in _NAMED.findall(part))
        return written

    def sync(self, descriptor: int) -> None:
        thread = threading.current_thread()
        names, began = tuple(self._unsynced[descriptor]), self.loop.now()
        if thread is threading.main_thread():
            self.loop._now += self.seconds()
        elif thread.name == "spool-commit":
            with self.changed:
                self.is_held = True
                self.changed.notify_all()
                assert self.changed.wait_for(lambda: self.may_go, 20)
                self.may_go = False
        else:
            return  # a spare file in the making
        self.busy.append((began, self.loop.now()))
        self._unsynced[descriptor].difference_update(names)
        for name in names:
            self.safe.setdefault(name, self.loop.now())

    def let_go(self) -> None:
        with self.changed:
            self.is_held, self.may_go = False, True
            self.changed.notify_all()


class Play:
    """Mail that is taken, outcomes that are said, time that passes; all by dice."""

    def __init__(self, directory: Path, seed: str, pace: Pace, sync: float) -> None:
        self.dice = dice = random.Random(seed)
        usual = (sync / 2, sync, sync, sync * 3)
        self.files = files = TimedFiles(lambda: dice.choice(usual) if dice.random() > 0.03 else 0.05)
        self.spool = Spool(directory, files=files, pace=pace, segment_size=32 << 10, settle_size=8 << 10)
        files.loop = self.loop = self.spool.loop
        self.said: dict[int, float] = {}
        self._names = itertools.count()
        self._waiting: list[tuple[int, int]] = []
        self._ends_at = 0.0
        call_soon = self.loop.call_soon_threadsafe

        def landed(*call: Any) -> None:
            with files.changed:
                call_soon(*call)
                files.changed.notify_all()

        self.loop.call_soon_threadsafe = landed  # type: ignore[method-assign,assignment]

    def scene(self) -> None:
        """Something happens, or nothing."""
        dice = self.dice
        for _ in range(dice.choice((0, 0, 1, 2, 6))):
            body = b"x" * dice.choice((10, 100, 9000))
            self.spool.partition.accept(envelope(recipients=3), [body], self._answered)
        for _ in range(dice.choice((0, 0, 1, 3, 8))):
            self._say()
        if dice.random() < 0.02:
            self.spool.partition.flush(lambda error: None)
        self.pass_time(dice.choice((0.0, _STEP, _STEP, 0.002, 0.005, 0.012, 0.04)))

    def _answered(self, message: int, error: object) -> None:
        assert error is None
        self._waiting += [(message, recipient) for recipient in range(3)]

    def _say(self) -> None:
        if self._waiting:
            message, recipient = self._waiting.pop(self.dice.randrange(len(self._waiting)))
            name = next(self._names)
            self.said[name] = self.loop.now()
            self.spool.settle(message, recipient, b"<%d>" % name + b"e" * self.dice.choice((10, 100, 1500)))

    def pass_time(self, seconds: float) -> None:
        until = self.loop.now() + seconds
        while self.loop.now() < until:
            self.loop.advance(_STEP)
            self._follow_the_thread()
        published = read_safe_until(self.spool.directory)
        for name, moment in self.said.items():
            assert name in self.files.safe or moment > published - 2e-6, "published as safe, and not on disk"

    def _follow_the_thread(self) -> None:
        """The thread comes as far as the clock lets it."""
        files, committer = self.files, self.spool.partition._committer
        while committer._in_flight is not None:
            with files.changed:
                assert files.changed.wait_for(lambda: files.is_held or self.loop._ready, 20)
            if files.is_held:
                self._ends_at = self._ends_at or self.loop.now() + files.seconds()
                if self.loop.now() < self._ends_at:
                    return
                self._ends_at = 0.0
                files.let_go()
            else:
                self.loop.run()

    def waits(self) -> list[float]:
        """Of each outcome: seconds from being said to being on disk in which the disk did not work."""
        found = []
        for name, moment in self.said.items():
            safe = self.files.safe[name]
            worked = sum(max(0.0, min(end, safe) - max(start, moment)) for start, end in self.files.busy)
            found.append(safe - moment - worked)
        return found


@pytest.mark.parametrize("sync", [0.0003, 0.001, 0.004])
@pytest.mark.parametrize("inline_limit", [0, 4, 64])
def test_no_outcome_waits_longer_than_its_delay_and_what_the_disk_works_meanwhile(
    tmp_path: Path, inline_limit: int, sync: float
) -> None:
    pace = Pace(inline_limit=inline_limit)
    play = Play(tmp_path, f"{inline_limit}/{sync}", pace, sync)
    for _ in range(60):
        play.scene()
    play.pass_time(0.3)

    waits = play.waits()
    assert len(waits) > 50
    assert max(waits) <= pace.settle_delay + 2 * _STEP
    play.spool.partition.close()
