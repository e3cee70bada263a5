"""Engine 5: what machines do to a service: full disks, failing disks, no descriptors, clocks that are set.

Each case runs the real service in an `Arena`, does one thing to it under load, and holds everything against
everything at the end. A case that this machine can't play is left out, with the reason in the report.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.reliability import cases
from tests.reliability.plan import Findings, Plan

__all__ = ["Faults"]

Case = Callable[[Path, bool], Awaitable[list[str]]]

_CASES: dict[str, Case] = {
    "disk full": cases.disk_full,
    "inodes full": cases.inodes_full,
    "remounted read-only": cases.read_only,
    "EIO from a sync": cases.failing_sync,
    "no descriptors": cases.no_descriptors,
    "clock set forward and back": cases.clock_set,
    "restart with another date": cases.other_date,
    "rotation by everybody": cases.rotation_race,
    "broken configurations": cases.broken_reloads,
    "wrong file modes": cases.wrong_modes,
    "two instances": cases.two_instances,
}
_PATIENCE = 120.0


class Faults:
    """All cases, once; `rounds` means nothing here."""

    name = "faults"

    async def run(self, plan: Plan) -> Findings:
        findings = Findings(self.name)
        plan.progress.begin(self.name, len(_CASES))
        for done, (name, case) in enumerate(_CASES.items()):
            if plan.is_time_up():
                findings.stop_early(done, len(_CASES), plan)
                break
            place = plan.directory / name.replace(" ", "-")
            try:
                try:
                    breaches = await self._play(case, place, plan)
                except TimeoutError:
                    if plan.is_short:
                        raise
                    # A machine that stood still for a minute fails once, a service that hangs twice.
                    findings.notes.append(f"{name}: not in time, tried once more")
                    breaches = await self._play(case, place, plan)
            except cases.Impossible as why:
                findings.figures[name] = f"left out: {why}"
            except TimeoutError:
                findings.figures[name] = "not in time"
                findings.miss(f"{name}: did not come to its end in time", plan)
            except Exception as error:
                findings.figures[name] = "BROKEN"
                findings.breaches.append(f"{name}: {type(error).__name__} {str(error)[-1500:]}")
            else:
                findings.figures[name] = "BROKEN" if breaches else "kept"
                findings.breaches += [f"{name}: {breach}" for breach in breaches]
            plan.progress.step(text=name)
        return findings

    async def _play(self, case: Case, place: Path, plan: Plan) -> list[str]:
        """One case in a directory of its own; its breaches. TimeoutError when it does not come to its end."""
        place.mkdir()
        try:
            async with asyncio.timeout(_PATIENCE):
                return await case(place, plan.is_short)
        finally:
            shutil.rmtree(place, ignore_errors=True)
