"""Engine 2: every call to the kernel that a scenario makes on its files fails once, in every way it can.

For each scenario a traced run tells the points. Then, once for each point: the process is killed there, or
the call has EIO, ENOSPC or EMFILE; and once for each write, it takes only half. Then the spool is opened
again and held against what was promised (`witness`). The full form does all points, the short one a sample.
What has been done is kept in a file of the plan's state directory, so that a long run can be resumed.
"""

from __future__ import annotations

import asyncio
import json
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
from tests.reliability.nursery import Nursery
from tests.reliability.plan import Findings, Plan
from tests.reliability.tracer import ERRORS, Point, Run, has_strace, points, trace
from tests.reliability.witness import Promises, examine

__all__ = ["Enumerator", "Task", "tasks_of"]

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
        counts: Counter[str] = Counter()
        async with Nursery() as nursery:
            for scenario in sorted(SCENARIOS.keys() - {"live"}):
                found = await self._points(nursery, plan.directory, scenario)
                some = tasks_of(scenario, found)
                every[scenario] = len(some)
                if most and most < len(some):
                    some = plan.dice(f"{self.name}/{scenario}").sample(some, most)
                tasks += some
            # In any order: when time is up, something of every scenario has been done.
            plan.dice(self.name).shuffle(tasks)
            plan.progress.begin(self.name, len(tasks))
            queue = iter(tasks)
            async with asyncio.TaskGroup() as company:
                for number in range(_AT_ONCE):
                    desk = _Desk(plan, nursery, plan.directory / f"try-{number}", done, counts, findings)
                    company.create_task(desk.work(queue))
        tried = counts.pop("tried", 0)
        findings.stop_early(tried, len(tasks), plan)
        findings.figures = {
            "scenarios": dict(every),
            "points": tried,
            "of all points": f"{tried / sum(every.values()):.1%}",
            **dict(sorted(counts.items())),
        }
        return findings

    async def _points(self, nursery: Nursery, directory: Path, scenario: str) -> list[Point]:
        """What an undisturbed run does; also the check that it keeps its promises then."""
        place, before = directory / f"sound-{scenario}", directory / "before"
        if scenario == "recover":
            # The spool of a process that is gone, from which every try begins.
            child = await nursery.bear("defer", _fresh(before))
            child.begin()
            await child.ended()
        await prepare(place, scenario)
        run = await trace(nursery, scenario, place, directory / "sound.log")
        assert run.code == 0, f"{scenario} does not even work without a fault: {run.errors}"
        promises = Promises.of(run.said)
        breaches = await examine(place, promises)
        assert not breaches, f"{scenario} breaks promises without a fault: {breaches}"
        shutil.rmtree(place)
        return points(run.log, place)


async def prepare(place: Path, scenario: str) -> set[str]:
    """A fresh directory; for `recover` with a spool in it. Returns who waits there."""
    shutil.rmtree(place, ignore_errors=True)
    if scenario != "recover":
        _fresh(place)
        return set()
    shutil.copytree(place.parent / "before", place)
    (place / "mta.conf").write_text(configuration(place))
    return await _waiting(place)


def _fresh(place: Path) -> Path:
    place.mkdir(parents=True)
    (place / "mta.conf").write_text(configuration(place))
    return place


class _Desk:
    """Where one task after the other is tried; several work at the same time."""

    def __init__(
        self,
        plan: Plan,
        nursery: Nursery,
        place: Path,
        done: set[str],
        counts: Counter[str],
        findings: Findings,
    ) -> None:
        self._plan, self._nursery, self._place = plan, nursery, place
        self._done, self._counts, self._findings = done, counts, findings

    async def work(self, queue: Iterator[Task]) -> None:
        """Until there is nothing more to do, or no time."""
        for task in queue:
            if self._plan.is_time_up():
                return
            self._counts["tried"] += 1
            if task.key in self._done:
                self._counts["resumed"] += 1
            else:
                breaches = await self._try(task)
                if len(self._findings.breaches) < 50:
                    self._findings.breaches += [f"{task.key}: {breach}" for breach in breaches[:2]]
                if not breaches:
                    _note(self._plan, task)
            self._plan.progress.step(text=task.key)

    async def _try(self, task: Task) -> list[str]:
        before = await prepare(self._place, task.scenario)
        inject, environment = "", dict[str, str]()
        if task.fault == "short":
            environment["SHORT_WRITE"] = str(task.point.nth)
        else:
            what = "signal=KILL" if task.fault == "kill" else f"error={task.fault}"
            inject = f"{task.point.call}:{what}:when={task.point.nth}"
        try:
            run = await trace(
                self._nursery,
                task.scenario,
                self._place,
                self._place / "strace.log",
                inject=inject,
                environment=environment,
            )
        except TimeoutError:
            self._counts["hung"] += 1
            return ["the process hangs"]
        has_struck = task.fault == "short" or "INJECTED" in run.log or "killed by SIGKILL" in run.log
        self._counts[task.fault if has_struck else "not reached"] += 1
        promises = Promises.of(run.said)
        promises.before = before
        self._counts["acknowledged"] += len(promises.acknowledged)
        return _manners(task, run, promises) + await examine(self._place, promises)


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
