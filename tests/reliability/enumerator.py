"""Engine 2: every call to the kernel that a scenario makes on its files fails once, in every way it can.

For each scenario a traced run tells the points. Then, once for each point: the process is killed there, or
the call has EIO, ENOSPC or EMFILE; and once for each write, it takes only half. Then the spool is opened
again and held against what was promised (`witness`). The full form does all points, the short one a sample.
What has been done is kept in a file of the plan's state directory, so that a long run can be resumed.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mta.message.envelope import decode_envelope
from mta.spool.files import Files
from mta.spool.heads import HeadReader
from mta.spool.record import decode_accept_head
from mta.spool.recovery import survey
from tests.reliability.actor import SCENARIOS, configuration
from tests.reliability.plan import Findings, Plan
from tests.reliability.tracer import ERRORS, Point, Run, has_strace, points, trace
from tests.reliability.witness import Promises, examine

__all__ = ["Enumerator", "Task"]

_WRITES = frozenset({"pwritev2", "pwritev", "pwrite64"})
_AT_ONCE = 2
_EX_TEMPFAIL = 75


class Task(NamedTuple):
    """One scenario with one fault at one point."""

    scenario: str
    fault: str
    point: Point

    @property
    def key(self) -> str:
        return f"{self.scenario} {self.fault} {self.point.call}:{self.point.nth}"


def tasks_of(scenario: str, found: list[Point]) -> list[Task]:
    """Everything that can go wrong at these points."""
    tasks = [Task(scenario, "kill", point) for point in found]
    for error, calls in ERRORS.items():
        tasks += [Task(scenario, error, point) for point in found if point.call in calls]
    writes = sum(point.call in _WRITES for point in found)
    tasks += [Task(scenario, "short", Point("pwritev2", nth)) for nth in range(1, writes + 1)]
    return tasks


class Enumerator:
    """`rounds` bounds the points of each scenario (0 in the full form: all)."""

    name = "calls"

    async def run(self, plan: Plan) -> Findings:
        findings = Findings(self.name)
        findings.skipped = has_strace()
        if findings.skipped:
            return findings
        most = plan.choose(full=0, short=14)
        done, tasks, every = _done(plan), list[Task](), Counter[str]()
        for scenario in sorted(SCENARIOS.keys() - {"live"}):
            found = await self._points(plan.directory, scenario)
            some = tasks_of(scenario, found)
            every[scenario] = len(some)
            if most and most < len(some):
                some = plan.dice(f"{self.name}/{scenario}").sample(some, most)
            tasks += some
        counts: Counter[str] = Counter()
        plan.progress.begin(self.name, len(tasks))
        queue = iter(tasks)
        async with asyncio.TaskGroup() as company:
            for number in range(_AT_ONCE):
                company.create_task(self._work(plan, number, queue, done, counts, findings))
        findings.figures = {
            "scenarios": dict(every),
            "points": len(tasks),
            "of all points": f"{len(tasks) / sum(every.values()):.1%}",
            **dict(sorted(counts.items())),
        }
        return findings

    async def _points(self, directory: Path, scenario: str) -> list[Point]:
        """What an undisturbed run does; also the check that it keeps its promises then."""
        place = await self._prepare(directory / f"sound-{scenario}", scenario)
        run = await trace(["tests.reliability.actor", scenario, str(place)], directory / "sound.log")
        assert run.code == 0, f"{scenario} does not even work without a fault: {run.errors}"
        promises = Promises.of(run.said)
        breaches = await examine(place, promises)
        assert not breaches, f"{scenario} breaks promises without a fault: {breaches}"
        shutil.rmtree(place)
        return points(run.log, place)

    async def _prepare(self, place: Path, scenario: str) -> Path:
        """A fresh directory; for `recover` with the spool of a process that was killed."""
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        (place / "mta.conf").write_text(configuration(place))
        if scenario == "recover":
            await trace(["tests.reliability.actor", "defer", str(place)], place / "before.log")
        return place

    async def _work(
        self,
        plan: Plan,
        number: int,
        queue: Iterator[Task],
        done: set[str],
        counts: Counter[str],
        findings: Findings,
    ) -> None:
        for task in queue:
            if task.key in done:
                counts["resumed"] += 1
            else:
                breaches = await self._try(plan.directory / f"try-{number}", task, counts)
                if len(findings.breaches) < 50:
                    findings.breaches += [f"{task.key}: {breach}" for breach in breaches[:2]]
                if not breaches:
                    _note(plan, task)
            plan.progress.step(text=task.key)

    async def _try(self, place: Path, task: Task, counts: Counter[str]) -> list[str]:
        await self._prepare(place, task.scenario)
        before = await _waiting(place) if task.scenario == "recover" else set()
        inject, environment = "", dict(os.environ)
        if task.fault == "short":
            environment["SHORT_WRITE"] = str(task.point.nth)
        else:
            what = "signal=KILL" if task.fault == "kill" else f"error={task.fault}"
            inject = f"{task.point.call}:{what}:when={task.point.nth}"
        try:
            run = await trace(
                ["tests.reliability.actor", task.scenario, str(place)],
                place / "strace.log",
                inject=inject,
                environment=environment,
            )
        except TimeoutError:
            counts["hung"] += 1
            return ["the process hangs"]
        has_struck = task.fault == "short" or "INJECTED" in run.log or "killed by SIGKILL" in run.log
        counts[task.fault if has_struck else "not reached"] += 1
        promises = Promises.of(run.said)
        promises.before = before
        counts["acknowledged"] += len(promises.acknowledged)
        return _manners(task, run, promises) + await examine(place, promises)


def _manners(task: Task, run: Run, promises: Promises) -> list[str]:
    """A failed call is no reason to fall over, except before the spool is open, and then with a reason."""
    if task.fault == "kill" or promises.ended:
        return []
    if run.code == _EX_TEMPFAIL and "ready" not in run.said and any(line[0] == "!" for line in run.said):
        return []
    return [f"ended with {run.code}: {run.errors.strip()[-400:]}"]


async def _waiting(place: Path) -> set[str]:
    """The names that wait before a recovery; read without opening, so that nothing is repaired."""
    found = survey(Files(), place / "spool")
    heads = HeadReader({segment.number: segment for segment in found.accepts})
    names = set()
    for message in found.index.all_waiting():
        where = found.index.place(message)
        if where is not None and found.index.waiting(message):
            envelope = decode_envelope(decode_accept_head(heads.read(message, where))[2])
            names.add(envelope.originator.partition("@")[0])
    found.close()
    return names


def _state(plan: Plan) -> Path | None:
    return plan.state / "calls.jsonl" if plan.state else None


def _done(plan: Plan) -> set[str]:
    """Tasks that an earlier run has done well."""
    path = _state(plan)
    if path is None or not path.exists():
        return set()
    return {json.loads(line) for line in path.read_text().splitlines()}


def _note(plan: Plan, task: Task) -> None:
    path = _state(plan)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps(task.key) + "\n")
