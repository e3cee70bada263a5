"""kill -9 at random moments: everything acknowledged is there, nothing settled returns.

A killed process loses what is in its memory, nothing else; what the disk loses with the power is not
tested here.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from mta.spool.settlelog import Cursor, EventReader
from tests.support.spool import FaultyFiles, Spool


class Promises:
    """What the child said that is safe, over all its lives."""

    def __init__(self) -> None:
        self.acknowledged: set[str] = set()
        self.settled: set[str] = set()
        self.deferred: dict[str, int] = {}

    def take(self, line: str) -> None:
        what, _, rest = line.partition(" ")
        if what == "a":
            self.acknowledged.add(rest)
        elif what == "s":
            self.settled.add(rest)
        elif what == "d":
            name, _, attempts = rest.partition(" ")
            self.deferred[name] = int(attempts)
        else:
            assert what == "ready", line


def live_and_die(directory: Path, prefix: str, promises: Promises, lines: int) -> None:
    """Run the child until it has said so many lines, then kill it and read what it still had said."""
    command = [sys.executable, "-m", "tests.support.spoolchild", str(directory), prefix]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        for count, line in enumerate(child.stdout):
            promises.take(line.rstrip("\n"))
            if count >= lines:
                break
        child.kill()
        rest = child.stdout.read()
        errors = child.stderr.read()
        # The last line may be cut off by the kill: no promise.
        for line in rest.split("\n")[:-1]:
            promises.take(line)
    assert "Traceback" not in errors, errors


def check(directory: Path, promises: Promises) -> None:
    spool = Spool(directory, files=FaultyFiles(), segment_size=64 << 10, settle_size=16 << 10)
    found = {one.envelope.queue_id: one for one in spool.partition.recovered()}
    promises.settled |= recently_settled(directory)
    assert promises.acknowledged - promises.settled <= found.keys()
    assert not found.keys() & promises.settled
    for name, one in found.items():
        body = spool.partition.load(one.message).body
        assert body == name.encode() * (len(body) // len(name))
        assert one.waiting[0].attempts >= promises.deferred.get(name, 0)
    assert not (directory / "quarantine").exists()
    spool.partition.close()


def recently_settled(directory: Path) -> set[str]:
    """Messages whose settlement was on disk without the child having been able to say so any more."""
    reader = EventReader(directory)
    events, _ = reader.read(Cursor(), 1_000_000)
    reader.close()
    return {event[2:].decode()[: (len(event) - 2) // 3] for event in events if event.startswith(b"e ")}


def rounds(directory: Path, count: int, seed: int) -> None:
    chance, promises = random.Random(seed), Promises()
    for life in range(count):
        live_and_die(directory, f"n{life}", promises, chance.choice((0, 1, 5, 50, 300, 1500)))
        check(directory, promises)
    assert promises.acknowledged


def test_a_killed_process_keeps_every_promise(tmp_path: Path) -> None:
    rounds(tmp_path / "spool", 6, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_process_killed_many_times_keeps_every_promise(tmp_path: Path) -> None:
    rounds(tmp_path / "spool", 150, seed=2)
