"""Engine 1: kill -9 under load, by role, round after round, on one spool.

`group` is the machine's power switch for the process tree: supervisor, workers and events process at once,
and the service is started again as after a reboot. `worker`, `events` and `supervisor` are single
processes: the first two are started again by the supervisor while the load goes on; without the third the
others end by themselves. With several workers `worker` is one of them and `workers` all.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.reliability.arena import Arena, Load, WaitingTime
from tests.reliability.ledger import judge
from tests.reliability.plan import Findings, Plan
from tests.support.service import START_SECONDS, has_ended

__all__ = ["KillLoop"]

_ROLES = ("group", "worker", "events", "worker", "supervisor", "worker", "group")
_ROLES_OF_SEVERAL = ("worker", "workers", "worker", "group", "worker", "events", "supervisor")
#: A worker that dies again and again is started later and later: then a new supervisor is due.
_MOST_IN_A_ROW = 3
_RESTARTED = ("worker", "workers", "events")
#: Acknowledged recipients before a kill, so many that a kill's duplicates are a small share of them;
#: that means something from the full form on.
_FEWEST, _MOST, _MOST_SHORT = 200, 5000, 1200
#: A machine that others keep busy takes as many as it can in so many seconds, and is asked so often.
_LONGEST_ROUND, _LOOK_AGAIN = 10.0, 50
#: Of all deliveries, where a kill comes after some thousands of them.
_MOST_DUPLICATES = 0.005
#: Everything must have its fate so long after the last kill.
_TAKEN_AGAIN = 30.0
_PATIENCE, _PATIENCE_SHORT = 120.0, 50.0


class KillLoop:
    """`rounds` kills of a service with so many workers, then one judgement over all of them."""

    def __init__(self, workers: int = 1) -> None:
        self.name = "kill" if workers == 1 else "workers"
        self._workers = workers

    async def run(self, plan: Plan) -> Findings:
        rounds = plan.choose(*((200, 14) if self._workers == 1 else (100, 8)))
        dice, findings = plan.dice(self.name), Findings(self.name)
        plan.progress.begin(self.name, rounds)
        roles: Counter[str] = Counter()
        windows: list[float] = []
        known = _ROLES if self._workers == 1 else _ROLES_OF_SEVERAL
        extra = f"workers {self._workers}" if self._workers > 1 else ""
        began, in_a_row = time.monotonic(), 0
        async with Arena(plan.directory, extra=extra) as arena:
            arena.evidence.has_several_workers = self._workers > 1
            for number in range(rounds):
                if plan.is_time_up():
                    break
                role = known[number] if number < len(known) else dice.choice(known)
                if in_a_row >= _MOST_IN_A_ROW:
                    role = "group"
                in_a_row = 0 if role in ("group", "supervisor") else in_a_row + 1
                roles[role] += 1
                windows.append(
                    await self._round(arena, number, role, dice, _MOST_SHORT if plan.is_short else _MOST)
                )
                # What is known so far stays known: looking through it for garbage would hold up the receiver
                # that lives here for as long as a second, its replies unsent.
                gc.freeze()
                plan.progress.step(text=f"{role}, {len(arena.evidence.acknowledged)} acknowledged")
            each = (time.monotonic() - began) / max(1, roles.total())
            try:
                await arena.until_settled(_PATIENCE_SHORT if plan.is_short else _PATIENCE)
            except (AssertionError, TimeoutError):
                findings.notes.append("not everything was settled in time: " + arena.log()[-2000:])
            if await arena.stop() != 0:
                findings.breaches.append("the service ended with an error: " + arena.log()[-2000:])
            arena.take_records()
        verdict = judge(arena.evidence)
        findings.breaches += verdict.breaches() + complaints(plan.directory / "service.log")
        findings.stop_early(roles.total(), rounds, plan)
        findings.figures = {"rounds": roles.total(), "kills": dict(roles), **verdict.figures()}
        findings.figures["seconds a round"] = round(each, 2)
        findings.figures["window p99 as published, ms, worst"] = round(max(windows, default=0.0) * 1000, 1)
        if verdict.share >= _MOST_DUPLICATES:
            findings.miss(f"{verdict.share:.2%} of the deliveries came twice", plan)
        return findings

    async def _round(self, arena: Arena, number: int, role: str, dice: random.Random, most: int) -> float:
        """One load, one kill; returns the service's own window p99, in seconds."""
        load = arena.injector(
            f"k{number}-",
            recipients=dice.choice((1, 1, 2, 3)),
            sessions=dice.choice((5, 20, 40)),
            # Those who came to a worker that has just died are not the round's business.
            reconnects=role in _RESTARTED or self._workers > 1,
        )
        window = 0.0
        async with asyncio.TaskGroup() as company:
            company.create_task(load.run())
            await self._go_on(load, _FEWEST, _PATIENCE_SHORT)
            children = await arena.children()
            async with contextlib.AsyncExitStack() as stack:
                waiting = {
                    name: await stack.enter_async_context(WaitingTime(pid))
                    for name, pid in children.items()
                    if name.startswith("worker")
                }
                await self._go_on(load, dice.randint(1, most - _FEWEST), _PATIENCE_SHORT)
                window = float((await arena.ask("show.status"))["duplicateWindowP99"])
                await asyncio.sleep(dice.random() * 0.1)
                for watch in waiting.values():
                    watch.look()
                await self._kill(arena, role, dice, waiting)
            if role in _RESTARTED:
                await self._go_on(load, dice.randint(10, 200))
                load.stop()
        arena.note_load(load)
        if role in ("group", "supervisor"):
            await arena.start()
        return window

    async def _go_on(self, load: Load, count: int, seconds: float = _TAKEN_AGAIN) -> None:
        """So much more mail is taken, after a restart if need be; less where that takes too long for a round.

        It is a failure when nothing at all is taken for so many `seconds`.
        """
        began, wanted = time.monotonic(), len(load.acknowledged) + count
        while (so_far := len(load.acknowledged)) < wanted and time.monotonic() - began < _LONGEST_ROUND:
            with contextlib.suppress(TimeoutError):
                await load.until(min(wanted, so_far + _LOOK_AGAIN), seconds)
            if len(load.acknowledged) == so_far:
                words = f"{so_far} taken, refusals={dict(load.refusals)} broken={load.broken}"
                raise AssertionError(f"no mail was taken for {seconds:.0f} s: {words}")

    async def _kill(
        self, arena: Arena, role: str, dice: random.Random, waiting: Mapping[str, WaitingTime]
    ) -> None:
        if role == "group":
            struck = time.time()
            arena.kill()
            arena.note_kill(role, waits=_longest(waiting, waiting), struck=struck)
            await arena.wait()
            return
        children = await arena.children()
        if role == "supervisor":
            os.kill(arena.pid, signal.SIGKILL)
            await _until_ended(list(children.values()))
            arena.note_kill(role, waits=_longest(waiting, waiting))
            await arena.wait()
            return
        victims = [
            name for name in sorted(children) if name.startswith("events" if role == "events" else "worker")
        ]
        if role == "worker":
            victims = [dice.choice(victims)]
        struck = time.time()
        killed = [name for name in victims if _strike(children[name])]
        if role != "events" and killed:
            arena.note_kill(role, killed, _longest(waiting, killed), struck)


def _longest(waiting: Mapping[str, WaitingTime], names: Iterable[str]) -> list[tuple[float, float]]:
    """The looks at the process among `names` that has waited most for a processor."""
    found = [waiting[name].looks for name in names if name in waiting and waiting[name].looks]
    return max(found, key=lambda looks: looks[-1][1] - looks[0][1], default=[])


def _strike(pid: int) -> bool:
    """Kill a process; False when it has ended since it was listed, as one in its last moments does."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


async def _until_ended(pids: list[int]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not all(has_ended(pid) for pid in pids):
        if time.monotonic() > deadline:
            raise AssertionError("children outlive their supervisor")
        await asyncio.sleep(0.002)


def complaints(log: Path) -> list[str]:
    """Lines of the service's log that no kill excuses; a traceback with its end."""
    found = []
    lines = log.read_text(errors="replace").splitlines()
    for number, line in enumerate(lines):
        if "Traceback" in line:
            rest = itertools.takewhile(lambda line: not line[:4].isdigit(), lines[number : number + 60])
            found.append("in the log: " + " | ".join(list(rest)[-5:])[-600:])
        elif "contradiction" in line or "CRITICAL" in line or "quarantine" in line:
            found.append(f"in the log: {line[:300]}")
    return found[:10]
