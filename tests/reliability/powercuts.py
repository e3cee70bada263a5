"""Engine 3: the power goes. On a real ext4, and on a disk that is meaner than any real one.

`PowerCuts` lets an actor live on a file system of its own, cuts the power at a random moment, mounts again
and holds the disk against every promise so far; the next life goes on from there.

`MeanDisk` does without a kernel: its files (`tests/support/powercut`) keep, lose or tear each sector that was
not synced, and forget names whose directory was not. ext4 is kinder than that: it happens to save the name of
a new file with its content, so only this disk can see that a directory sync is missing.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
from pathlib import Path

from mta.errors import SpoolError
from tests.reliability.actor import configuration
from tests.reliability.disk import LoopDisk, no_mounting
from tests.reliability.nursery import Nursery
from tests.reliability.plan import Findings, Plan
from tests.reliability.witness import Promises, examine
from tests.unit.spool.test_powercut import Life

__all__ = ["MeanDisk", "PowerCuts", "live_and_cut"]

#: Rounds on one file system; its accounting files grow, and are read again after each cut.
_ROUNDS_A_DISK = 50
_LONGEST_LIFE = 0.6


class PowerCuts:
    """`rounds` cuts on a real file system."""

    name = "power"

    async def run(self, plan: Plan) -> Findings:
        findings = Findings(self.name)
        findings.skipped = no_mounting()
        rounds, dice = plan.choose(full=300, short=20), plan.dice(self.name)
        if findings.skipped:
            return findings
        plan.progress.begin(self.name, rounds)
        acknowledged = settled = done = 0
        async with Nursery() as nursery:
            while done < rounds and not plan.is_time_up():
                promises = Promises()
                try:
                    with LoopDisk(plan.directory / f"disk-{done}") as disk:
                        for _ in range(min(_ROUNDS_A_DISK, rounds - done)):
                            if plan.is_time_up():
                                break
                            for breach in await live_and_cut(nursery, disk, promises, dice):
                                findings.breaches.append(f"cut {done}: {breach}")
                            done += 1
                            plan.progress.step(text=f"{len(promises.acknowledged)} acknowledged")
                except OSError as error:
                    if not done:
                        findings.skipped = f"this machine can't: {error}"
                        return findings
                    findings.breaches.append(f"the disk for cut {done}: {error}")
                    break
                finally:
                    acknowledged += len(promises.acknowledged)
                    settled += len(promises.settled)
        findings.stop_early(done, rounds, plan)
        findings.breaches = findings.breaches[:50]
        findings.figures = {"cuts": done, "acknowledged": acknowledged, "settled on disk": settled}
        return findings


async def live_and_cut(
    nursery: Nursery,
    disk: LoopDisk,
    promises: Promises,
    dice: random.Random,
    environment: dict[str, str] | None = None,
) -> list[str]:
    """One life of an actor until the power goes; adds to the promises, and returns the breaches."""
    place = disk.path / "home"
    if not place.exists():
        place.mkdir()
        (place / "mta.conf").write_text(configuration(place))
        disk.settle()
    child = await nursery.bear("live", place, {**(environment or {}), "SEED": str(dice.randrange(10**9))})
    child.begin()
    try:
        async with asyncio.timeout(30):
            await child.first
        await asyncio.sleep(dice.random() ** 2 * _LONGEST_LIFE)
        # The process stops with the disk: one that goes on without it is another fault (see `faults`).
        child.kill(signal.SIGSTOP)
        disk.cut()
    finally:
        child.kill()
        ended = await child.ended()
    said = ended.said.decode(errors="replace").split("\n")[:-1]
    promises.add(Promises.of(said))
    disk.restore()
    breaches = await examine(place, promises)
    disk.settle()
    return breaches


class MeanDisk:
    """`rounds` cuts on a disk that does the worst that a disk may do."""

    name = "meandisk"

    async def run(self, plan: Plan) -> Findings:
        rounds = plan.choose(full=2000, short=200)
        findings, figures = Findings(self.name), [0, 0]
        plan.progress.begin(self.name, rounds)
        done = 0
        while done < rounds and not plan.is_time_up():
            await asyncio.sleep(0)  # a signal is heard here
            findings.breaches += cut_ten_times(plan.directory, f"{plan.seed}/{done // 10}", figures=figures)
            plan.progress.step(min(10, rounds - done))
            done += 10
        findings.stop_early(min(done, rounds), rounds, plan)
        findings.breaches = findings.breaches[:50]
        findings.figures = {"cuts": done, "acknowledged": figures[0], "settled": figures[1]}
        return findings


def cut_ten_times(
    directory: Path, seed: str, *, skipped: str = "", figures: list[int] | None = None
) -> list[str]:
    """Ten lives on one such disk; with `skipped`, calls of that name do nothing. Returns the breach."""
    place = directory / "mean"
    shutil.rmtree(place, ignore_errors=True)
    life = Life(place, random.Random(seed).randrange(2**32))
    if skipped:
        setattr(life.files, skipped, lambda *_: None)
    try:
        for _ in range(10):
            life.round()
    except (AssertionError, KeyError, SpoolError) as error:
        return [f"seed {seed}: {error!r}"]
    finally:
        life.spool.partition.close()
        if figures is not None:
            figures[0] += len(life.acknowledged)
            figures[1] += len(life.settled)
        shutil.rmtree(place, ignore_errors=True)
    return []
