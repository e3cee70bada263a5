"""Engine 1: kill -9 under load, by role, round after round, on one spool.

`group` is the machine's power switch for the process tree: supervisor, worker and events process at once, and
the service is started again as after a reboot. `worker`, `events` and `supervisor` are single processes: the
first two are started again by the supervisor while the load goes on; without the third the others end by
themselves.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

from tests.reliability.arena import Arena
from tests.reliability.ledger import judge
from tests.reliability.plan import Findings, Plan
from tests.support.service import START_SECONDS, has_ended

__all__ = ["KillLoop"]

_ROLES = ("group", "group", "worker", "worker", "worker", "events", "supervisor")
#: Acknowledged recipients before a kill; the share of duplicates means something from the full form on.
_FEWEST, _MOST, _MOST_SHORT = 50, 5000, 1500
#: Of all deliveries, where a kill comes after some thousands of them.
_MOST_DUPLICATES = 0.005
#: Everything must have its fate so long after the last kill.
_PATIENCE = 120.0


class KillLoop:
    """`rounds` kills, then one judgement over all of them."""

    name = "kill"

    async def run(self, plan: Plan) -> Findings:
        rounds = plan.choose(full=200, short=14)
        dice, findings = plan.dice(self.name), Findings(self.name)
        plan.progress.begin(self.name, rounds)
        roles: Counter[str] = Counter()
        windows: list[float] = []
        async with Arena(plan.directory) as arena:
            for number in range(rounds):
                role = _ROLES[number % len(_ROLES)] if number < len(_ROLES) else dice.choice(_ROLES)
                roles[role] += 1
                windows.append(
                    await self._round(arena, number, role, dice, _MOST_SHORT if plan.is_short else _MOST)
                )
                plan.progress.step(text=f"{role}, {len(arena.evidence.acknowledged)} acknowledged")
            try:
                await arena.until_settled(_PATIENCE)
            except (AssertionError, TimeoutError):
                findings.notes.append("not everything was settled in time: " + arena.log()[-2000:])
            if await arena.stop() != 0:
                findings.breaches.append("the service ended with an error: " + arena.log()[-2000:])
            arena.take_records()
        verdict = judge(arena.evidence)
        findings.breaches += verdict.breaches() + complaints(plan.directory / "service.log")
        findings.figures = {"rounds": rounds, "kills": dict(roles), **verdict.figures()}
        findings.figures["window p99 as published, ms, worst"] = round(max(windows, default=0.0) * 1000, 1)
        if verdict.share >= _MOST_DUPLICATES and not plan.is_short:
            findings.breaches.append(f"{verdict.share:.2%} of the deliveries came twice")
        return findings

    async def _round(self, arena: Arena, number: int, role: str, dice: random.Random, most: int) -> float:
        """One load, one kill; returns the service's own window p99, in seconds."""
        load = arena.injector(
            f"k{number}-",
            recipients=dice.choice((1, 1, 2, 3)),
            sessions=dice.choice((5, 20, 40)),
            reconnects=role in ("worker", "events"),
        )
        window = 0.0
        async with asyncio.TaskGroup() as company:
            company.create_task(load.run())
            await load.until(dice.randint(_FEWEST, most))
            window = float((await arena.ask("show.status"))["duplicateWindowP99"])
            await asyncio.sleep(dice.random() * 0.1)
            await self._kill(arena, role)
            if role in ("worker", "events"):
                await load.until(len(load.acknowledged) + dice.randint(10, 200))
                load.stop()
        arena.note_load(load)
        if role in ("group", "supervisor"):
            await arena.start()
        return window

    async def _kill(self, arena: Arena, role: str) -> None:
        if role == "group":
            arena.kill()
            arena.note_kill(role)
            await arena.wait()
            return
        children = await arena.children()
        if role == "supervisor":
            os.kill(arena.pid, signal.SIGKILL)
            await _until_ended(list(children.values()))
            arena.note_kill(role)
            await arena.wait()
            return
        victims = [pid for name, pid in children.items() if name.startswith(role)]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        if role == "worker":
            arena.note_kill(role)


async def _until_ended(pids: list[int]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not all(has_ended(pid) for pid in pids):
        if time.monotonic() > deadline:
            raise AssertionError("children outlive their supervisor")
        await asyncio.sleep(0.002)


def complaints(log: Path) -> list[str]:
    """Lines of the service's log that no kill excuses."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        if "Traceback" in line or "contradiction" in line or "CRITICAL" in line or "quarantine" in line:
            found.append(f"in the log: {line[:300]}")
    return found[:10]
