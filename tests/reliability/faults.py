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

_CASES: dict[str, Callable[[Path, bool], Awaitable[list[str]]]] = {
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
            place.mkdir()
            try:
                async with asyncio.timeout(_PATIENCE):
                    breaches = await case(place, plan.is_short)
            except cases.Impossible as why:
                findings.figures[name] = f"left out: {why}"
            except Exception as error:
                findings.figures[name] = "BROKEN"
                findings.breaches.append(f"{name}: {type(error).__name__} {str(error)[-1500:]}")
            else:
                findings.figures[name] = "BROKEN" if breaches else "kept"
                findings.breaches += [f"{name}: {breach}" for breach in breaches]
            shutil.rmtree(place, ignore_errors=True)
            plan.progress.step(text=name)
        return findings
