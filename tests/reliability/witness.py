"""What an actor said, and whether its spool still says so afterwards.

The spool is opened with the product's own recovery; what waits, what was settled, what is in the accounting
files after they caught up is held against the promises, line by line.
"""

from __future__ import annotations

import asyncio
import csv
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mta.config.load import load
from mta.errors import SpoolCorrupt, SpoolError
from mta.events.runner import EventRunner
from tests.reliability.actor import content
from tests.support.spool import Spool
from tests.support.steploop import StepLoop

__all__ = ["Promises", "examine", "repeated"]


@dataclass(slots=True)
class Promises:
    """What the actor said; `ended` when it came through to the end."""

    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    settled: set[tuple[str, int]] = field(default_factory=set)
    deferred: dict[tuple[str, int], int] = field(default_factory=dict)
    kept: int = 0
    #: the spool said that the disk has failed
    is_broken: bool = False
    ended: bool = False
    #: what was waiting before the actor began
    before: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, lines: list[str]) -> Promises:
        """Read an actor's output."""
        found = cls()
        for line in lines:
            what, _, rest = line.partition(" ")
            words = rest.split()
            match what:
                case "a":
                    found.acknowledged.add(words[0])
                case "x":
                    found.refused.add(words[0])
                case "s":
                    found.settled.add((words[0], int(words[1])))
                case "d":
                    found.deferred[words[0], int(words[1])] = int(words[2])
                case "o":
                    found.kept = int(words[0])
                case "!":
                    found.is_broken |= "sync failed" in rest or "nput/output error" in rest
                case "end":
                    found.ended = True
        return found

    def add(self, more: Promises) -> None:
        """What another life of the same spool promised."""
        self.acknowledged |= more.acknowledged
        self.refused |= more.refused
        self.settled |= more.settled
        self.deferred.update(more.deferred)
        self.kept = max(self.kept, more.kept)


async def examine(directory: Path, promises: Promises) -> list[str]:
    """Every breach, in words. Opens the spool as the next start would, and catches up with its records."""
    try:
        spool = Spool(directory / "spool", segment_size=32 << 10, settle_size=8 << 10)
    except Exception as error:
        return [f"the next start failed: {error!r}"]
    breaches: list[str] = []
    waiting: dict[str, dict[int, int]] = {}
    reported: set[str] = set()
    try:
        for one in spool.partition.recovered():
            if not one.envelope.originator:
                reported.add(one.envelope.recipients[0].address.partition("@")[0])
                continue
            name = one.envelope.originator.partition("@")[0]
            if name in waiting:
                breaches.append(f"{name} is there twice")
            waiting[name] = {each.recipient: each.attempts for each in one.waiting}
            try:
                body = spool.partition.load(one.message).body
            except (SpoolCorrupt, SpoolError) as error:
                breaches.append(f"{name} can't be read: {error}")
                continue
            if body != content(name, len(body) - len(content(name, 0))):
                breaches.append(f"{name} has other content")
    finally:
        spool.partition.close()
    records = await catch_up(directory, spool.loop)
    rows = {(kind, address) for kind, address, _ in records}
    breaches += _compare(promises, waiting, reported, rows)
    breaches += repeated(records)
    breaches += _operator(directory, promises)
    return breaches


def _compare(
    promises: Promises, waiting: dict[str, dict[int, int]], reported: set[str], rows: set[tuple[str, str]]
) -> list[str]:
    breaches = []
    # Looked up once for each name: a disk has thousands of them after some dozens of cuts.
    recorded = {_who(address) for kind, address in rows if kind in ("d", "b")}
    bounced = {_who(address)[0] for kind, address in rows if kind == "b"}
    receipts = {_who(address)[0] for kind, address in rows if kind == "r"}
    done = {name for name, _ in recorded | promises.settled}
    for name in promises.acknowledged | promises.before:
        if name not in waiting and name not in done:
            breaches.append(f"{name} was acknowledged and is lost")
    # A message is acknowledged when it is safe; a disk that fails then and there costs its receipt.
    for name in promises.acknowledged - receipts if not promises.is_broken else ():
        breaches.append(f"{name} has no receipt")
    # What a failing disk could not take back may return: the client was told to try again, no more.
    for name in promises.refused & waiting.keys() if not promises.is_broken else ():
        breaches.append(f"{name} was refused and is there")
    for name, index in promises.settled:
        if index in waiting.get(name, ()):
            breaches.append(f"{name}.{index} was settled and waits again")
        if (name, index) not in recorded:
            breaches.append(f"{name}.{index} was settled and has no record")
    for (name, index), attempts in promises.deferred.items():
        if waiting.get(name, {}).get(index, attempts) < attempts:
            breaches.append(f"{name}.{index} has forgotten attempts")
    for name in bounced - reported:
        breaches.append(f"{name} bounced and its sender will not hear of it")
    return breaches


def repeated(records: list[tuple[str, str, str]]) -> list[str]:
    """Breaches among (type, recipient, record id): one may stand twice only with its own id.

    A DSN is made again when the settlement that it speaks of was not on disk: to the sender go two messages
    then, each with its own receipt.
    """
    ids: dict[tuple[str, str], set[str]] = {}
    for kind, address, number in records:
        if kind in ("d", "b", "r") and not address.endswith("@example.org"):
            ids.setdefault((kind, address), set()).add(number)
    return [
        f"two {kind} records for {address}: {', '.join(sorted(found))}"
        for (kind, address), found in ids.items()
        if len(found) > 1
    ]


def _operator(directory: Path, promises: Promises) -> list[str]:
    """The settings that an operator was told are kept; one in the making may be there or not."""
    path = directory / "state.db"
    if not promises.kept:
        return []
    with sqlite3.connect(path) as database:
        row = database.execute("SELECT value FROM state WHERE name = 'paused'").fetchone()
    database.close()
    found = int("".join(filter(str.isdigit, row[0]))) if row else 0
    return [] if found >= promises.kept else [f"setting {promises.kept} was kept and {found} is there"]


async def catch_up(directory: Path, clock: StepLoop) -> list[tuple[str, str, str]]:
    """Let the events process write everything; (type, recipient, record id) of every line of every file."""
    snapshot = load(directory / "mta.conf").snapshot
    assert snapshot is not None
    runner = EventRunner(snapshot=lambda: snapshot, partitions=lambda: [directory / "spool"], clock=clock)
    runner.stop()
    await runner.run()
    found: list[tuple[str, str, str]] = []
    for path in sorted(directory.glob("acct*.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                found.append((row["type"], row["rcpt"], row["recordId"]))
    counts = Counter(found)
    assert all(len(key) == 3 for key in counts)
    await asyncio.sleep(0)
    return found


def _who(address: str) -> tuple[str, int]:
    """The name and recipient index in an address."""
    name, _, index = address.partition("@")[0].rpartition(".")
    return name, int(index or 0) if index.isdigit() else 0
