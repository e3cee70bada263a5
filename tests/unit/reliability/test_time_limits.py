"""Engines and their time: one that hangs is told from one that waited in vain, and from a run that is cut."""

from __future__ import annotations

import asyncio
import io
import time
from argparse import Namespace
from pathlib import Path

import pytest

import tests.reliability.__main__ as command
from tests.reliability.plan import Findings, Plan
from tests.reliability.progress import Progress


class Engine:
    """Ends as it is told to."""

    name = "engine"

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    async def run(self, plan: Plan) -> Findings:
        if self._error is not None:
            raise self._error
        await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable")


def plan(directory: Path, deadline: float) -> Plan:
    return Plan(directory, Progress(io.StringIO()), deadline=deadline)


async def test_an_engine_that_hangs_breaks_its_promise(tmp_path: Path) -> None:
    late = time.monotonic() - command._GRACE + 0.02
    findings = await command.within(Engine(), plan(tmp_path, late))

    assert findings.breaches == ["the engine did not end 240 s after its time"]


async def test_an_engine_that_the_end_of_the_run_cuts_short_is_not_to_blame(tmp_path: Path) -> None:
    now = time.monotonic()
    findings = await command.within(Engine(), plan(tmp_path, now + 100.0), now + 0.02)

    assert findings.is_good
    assert findings.warnings == ["the time of the whole run was up before it was judged"]


async def test_what_an_engine_waits_for_in_vain_is_not_taken_for_its_own_end(tmp_path: Path) -> None:
    now = time.monotonic()
    with pytest.raises(TimeoutError, match="the service did not start"):
        await command.within(Engine(TimeoutError("the service did not start")), plan(tmp_path, now), now + 50)


def test_the_short_form_is_bounded_and_passes_over_what_would_come_too_late() -> None:
    long_ago = time.monotonic() - command._SHORT_LIMIT
    options = Namespace(short=True, rounds=0, minutes=0.0, started=long_ago)

    assert command.hard_limit(["kill"], options) == command._SHORT_LIMIT + 5.0
    assert command._SHORT_LIMIT + 5.0 < 300.0
    assert command.minutes(list(command.engines()), options) * 60 < command._SHORT_LIMIT - 45.0
    assert command.is_too_late(options, 3)
    assert not command.is_too_late(options, 0)
    assert not command.is_too_late(Namespace(**{**vars(options), "rounds": 5}), 3)
