"""Negative controls: faults planted on purpose, to be found. A test that can't fail proves nothing.

no file sync        the power goes: mail that was acknowledged is gone
no directory sync   the same on a disk that forgets names
early 250           the process is killed between the 250 and the disk
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.reliability.actor import configuration
from tests.reliability.disk import LoopDisk, no_mounting
from tests.reliability.nursery import Nursery
from tests.reliability.plan import Findings, Plan
from tests.reliability.powercuts import cut_ten_times, live_and_cut
from tests.reliability.tracer import has_strace, trace
from tests.reliability.witness import Promises, examine

__all__ = ["Controls"]

#: So many tries at most: chance plays a part.
_TRIES = 15

Control = Callable[[Plan, Nursery], Awaitable[list[str]]]


class Controls:
    """Each planted fault against the engine that is there for it."""

    name = "controls"

    async def run(self, plan: Plan) -> Findings:
        findings = Findings(self.name)
        controls: dict[str, Control] = {
            "no file sync": _no_sync,
            "no directory sync": _no_directory_sync,
            "early 250": _early,
        }
        plan.progress.begin(self.name, len(controls))
        caught = 0
        async with Nursery() as nursery:
            for name, control in controls.items():
                if plan.is_time_up():
                    findings.notes.append(f"time was up before {name!r}")
                    continue
                found = await control(plan, nursery)
                caught += bool(found)
                if found:
                    findings.figures[name] = f"caught: {found[0][:120]}"
                else:
                    findings.breaches.append(f"the planted fault {name!r} was not found")
                plan.progress.step(text=name)
        findings.figures["caught"] = f"{caught} of {len(controls)}"
        return findings


async def _no_sync(plan: Plan, nursery: Nursery) -> list[str]:
    if no_mounting():
        return _mean(plan, "sync")
    dice = plan.dice("no sync")
    try:
        with LoopDisk(plan.directory / "disk") as disk:
            for _ in range(_TRIES):
                found = await live_and_cut(nursery, disk, Promises(), dice, {"PLANTED": "sync"})
                if found:
                    return found
    except OSError:
        return _mean(plan, "sync")
    return []


async def _no_directory_sync(plan: Plan, nursery: Nursery) -> list[str]:
    return _mean(plan, "sync_directory")


def _mean(plan: Plan, skipped: str) -> list[str]:
    for number in range(_TRIES):
        found = cut_ten_times(plan.directory, f"{plan.seed}/{number}", skipped=skipped)
        if found:
            return found
    return []


async def _early(plan: Plan, nursery: Nursery) -> list[str]:
    """Killed at the first syncs of a scenario that says 250 before them."""
    if has_strace():
        return await _early_without_strace(plan, nursery)
    for nth in range(1, _TRIES):
        place = plan.directory / f"early-{nth}"
        place.mkdir()
        (place / "mta.conf").write_text(configuration(place))
        run = await trace(
            nursery,
            "accept",
            place,
            place / "strace.log",
            inject=f"pwritev2:signal=KILL:when={nth}",
            environment={"PLANTED": "early"},
        )
        found = await examine(place, Promises.of(run.said))
        if found:
            return found
    return []


async def _early_without_strace(plan: Plan, nursery: Nursery) -> list[str]:
    if no_mounting():
        return []
    dice = plan.dice("early")
    with LoopDisk(plan.directory / "disk") as disk:
        for _ in range(_TRIES):
            found = await live_and_cut(nursery, disk, Promises(), dice, {"PLANTED": "early"})
            if found:
                return found
            await asyncio.sleep(0)
    return []
