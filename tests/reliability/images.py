"""Engine 4: damaged spools. The start never fails, no damaged message is sent, every sound one is.

A few sound spools are made, copied while they are in use as a crash would leave them. Each round damages a
copy at random, opens it, takes out everything that waits, and opens it again. `Partition` is the product's
own; only its syncs are left out, which no damage to files can tell.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from mta.errors import SpoolCorrupt, SpoolError
from tests.reliability.damage import Image, damage, read_image, write_image
from tests.reliability.oracle import Oracle
from tests.reliability.plan import Findings, Plan
from tests.support.spool import Spool

__all__ = ["TornImages"]

_SOUND = 12
_SEGMENT, _SETTLE = 64 << 10, 16 << 10


class Sound(NamedTuple):
    """A spool without damage: its files, what they say, and each message's content by its name."""

    image: Image
    oracle: Oracle
    bodies: dict[str, bytes]


class Sent(NamedTuple):
    """What came out of a damaged spool."""

    recipients: Counter[tuple[int, int]]
    damaged: list[str]
    refused: int


class TornImages:
    """`rounds` images."""

    name = "images"

    async def run(self, plan: Plan) -> Findings:
        rounds = plan.choose(full=2000, short=150)
        findings, totals, kinds = Findings(self.name), Counter[str](), Counter[str]()
        dice = plan.dice(self.name)
        plan.progress.begin(self.name, rounds)
        sound = [make_sound(plan.directory / f"sound-{number}", dice) for number in range(_SOUND)]
        alarms, done = _Alarms(), 0
        with alarms:
            for number in range(rounds):
                if plan.is_time_up():
                    break
                done += 1
                await asyncio.sleep(0)  # a signal is heard here
                one = dice.choice(sound)
                image, what = damage(one.image, random.Random(f"{plan.seed}/{number}"))
                kinds.update(word.split()[0] for word in what.split(", "))
                for breach in self._judge(plan.directory / "torn", one, image, alarms, totals):
                    findings.breaches.append(f"image {number} ({what}): {breach}")
                plan.progress.step()
        findings.breaches = findings.breaches[:50]
        findings.stop_early(done, rounds, plan)
        findings.figures = {"images": done, "damage": dict(sorted(kinds.items())), **totals}
        return findings

    def _judge(
        self, directory: Path, sound: Sound, image: Image, alarms: _Alarms, totals: Counter[str]
    ) -> list[str]:
        wanted, done = sound.oracle.due(image)
        shutil.rmtree(directory, ignore_errors=True)
        write_image(image, directory)
        alarms.count = 0
        try:
            spool = Spool(directory, segment_size=_SEGMENT, settle_size=_SETTLE)
        except Exception as error:
            totals["starts failed"] += 1
            return [f"the start failed: {error!r}"]
        breaches = []
        try:
            sent = take_out(spool, sound.bodies)
            again = spool.reopen()
        except Exception as error:
            return [f"the spool could not be used: {error!r}"]
        finally:
            spool.partition.close()
        missing = wanted - sent.recipients.keys()
        returned = done & sent.recipients.keys()
        lost = len(set(_waiting(sound.oracle)) - sent.recipients.keys())
        totals["sound recipients"] += len(wanted)
        totals["sent"] += len(sent.recipients)
        totals["damaged and kept back"] += sent.refused
        totals["images that lost something"] += bool(lost)
        totals["alarms"] += alarms.count
        if sent.damaged:
            breaches.append(f"damaged messages were sent: {sent.damaged[:3]}")
        if missing:
            breaches.append(f"{len(missing)} sound recipients were not sent to: {sorted(missing)[:3]}")
        if returned:
            breaches.append(f"{len(returned)} settled recipients came back: {sorted(returned)[:3]}")
        if max(sent.recipients.values(), default=1) > 1:
            breaches.append("a recipient was given out twice in one start")
        if again:
            breaches.append(f"{len(again)} messages came back after they were settled")
        if sent.refused and not alarms.count:
            breaches.append("damage was met without a word")
        return breaches


def make_sound(directory: Path, dice: random.Random) -> Sound:
    """A spool with full, half-full, freed and compacted files, as it lies on the disk in mid-use."""
    spool = Spool(directory, segment_size=_SEGMENT, settle_size=_SETTLE, memory_pool=50_000)
    bodies: dict[str, bytes] = {}
    waiting: list[tuple[int, int]] = []
    for _ in range(dice.randint(2, 6)):
        for _ in range(dice.randint(5, 30)):
            name, people = f"m{len(bodies)}", dice.choice((1, 1, 1, 3))
            payload = dice.randbytes(dice.choice((0, 20, 300, 2000, 9000, 40_000)))
            bodies[name] = hashlib.sha256(payload).hexdigest().encode() + b"\r\n" + payload
            message = spool.put(bodies[name], name=name, recipients=people)
            waiting += [(message, recipient) for recipient in range(people)]
        dice.shuffle(waiting)
        for _ in range(int(len(waiting) * dice.choice((0.1, 0.5, 0.9)))):
            message, recipient = waiting.pop()
            spool.settle(message, recipient, b"e" * dice.randint(0, 300))
        for message, recipient in waiting[: dice.randint(0, 10)]:
            spool.partition.defer(message, recipient, attempts=1, due=1.0, event=b"t" * 50)
        spool.rest(dice.randint(0, 3))
        if dice.random() < 0.3:
            spool.reopen()
    assert spool.flush() is None
    image = read_image(directory)
    spool.partition.close()
    shutil.rmtree(directory)
    return Sound(image, Oracle.of(image), bodies)


def take_out(spool: Spool, bodies: dict[str, bytes]) -> Sent:
    """Load and settle everything that waits, as delivery would; deliveries are counted."""
    recipients: Counter[tuple[int, int]] = Counter()
    damaged: list[str] = []
    refused = 0
    for one in spool.partition.recovered():
        try:
            stored = spool.partition.load(one.message)
        except SpoolCorrupt:
            refused += 1
            continue
        except SpoolError as error:
            damaged.append(f"{one.message}: {error}")
            continue
        name = stored.envelope.queue_id
        if stored.body != bodies.get(name):
            damaged.append(name)
        for waiting in one.waiting:
            recipients[one.message, waiting.recipient] += 1
            spool.settle(one.message, waiting.recipient)
    spool.flush()
    return Sent(recipients, damaged, refused)


def _waiting(oracle: Oracle) -> list[tuple[int, int]]:
    return [
        (message, recipient)
        for message, count in oracle.recipients.items()
        for recipient in range(count)
        if (message, recipient) not in oracle.settled
    ]


class _Alarms(logging.Handler):
    """Counts what the spool says at level ERROR and above."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1

    def __enter__(self) -> _Alarms:
        log = logging.getLogger("mta.spool")
        self._was = log.propagate
        log.addHandler(self)
        log.propagate = False
        return self

    def __exit__(self, *_: object) -> None:
        log = logging.getLogger("mta.spool")
        log.removeHandler(self)
        log.propagate = self._was
