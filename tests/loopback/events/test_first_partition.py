"""At the first start of a service the spool is made while the events process already runs."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

import pytest

from mta.events.runner import CROWD, CROWDED_POLL, IDLE_AFTER, LONGEST_POLL, POLL, EventRunner
from tests.support.event_log import EventLog, HandClock, snapshot_of


def recipients(directory: Path) -> list[str]:
    found: list[str] = []
    for path in sorted(directory.glob("acct*.csv")):
        with path.open(newline="") as file:
            found += [row["rcpt"] for row in csv.DictReader(file)]
    return found


async def test_a_spool_made_a_moment_ago_is_read_before_we_end(tmp_path: Path) -> None:
    partitions: list[Path] = []
    snapshot = snapshot_of(f"<acct-file {tmp_path}/acct.csv>\nrecords d\n</acct-file>")
    runner = EventRunner(snapshot=lambda: snapshot, partitions=lambda: partitions, clock=HandClock())
    life = asyncio.create_task(runner.run())
    await asyncio.sleep(0)
    log = EventLog(tmp_path)
    sent = log.put(3)
    partitions.append(log.path)

    # The clock stands still: it is not the next regular look that finds it.
    runner.stop()
    await life

    assert recipients(tmp_path) == sent
    log.close()


async def test_the_first_spool_is_found_without_waiting_for_the_regular_look(tmp_path: Path) -> None:
    partitions: list[Path] = []
    snapshot = snapshot_of(f"<acct-file {tmp_path}/acct.csv>\nrecords d\n</acct-file>")
    runner = EventRunner(snapshot=lambda: snapshot, partitions=lambda: partitions, clock=HandClock())
    life = asyncio.create_task(runner.run())
    await asyncio.sleep(0)
    log = EventLog(tmp_path)
    sent = log.put(3)
    partitions.append(log.path)

    async with asyncio.timeout(10.0):
        while recipients(tmp_path) != sent:
            await asyncio.sleep(0.01)

    runner.stop()
    await life
    log.close()


async def test_a_log_that_has_nothing_new_for_a_while_is_looked_at_less_often(tmp_path: Path) -> None:
    clock, looks = HandClock(), list[float]()

    def partitions() -> list[Path]:
        looks.append(clock.now())
        return []

    runner = EventRunner(snapshot=lambda: snapshot_of(""), partitions=partitions, clock=clock)
    life = asyncio.create_task(runner.run())
    await asyncio.sleep(0)
    clock.time += IDLE_AFTER + 1
    looks.clear()
    await asyncio.sleep(LONGEST_POLL + 2 * POLL)

    assert len(looks) <= 3
    runner.stop()
    await life


class Napper(EventRunner):
    """Does not sleep, but says how long it would have; ends at the second time."""

    naps: tuple[float, ...] = ()

    async def _pause(self, seconds: float) -> None:
        self.naps += (seconds,)
        if len(self.naps) == 2:
            self.stop()


async def test_a_log_that_has_much_is_looked_at_less_often(tmp_path: Path) -> None:
    snapshot = snapshot_of(f"<acct-file {tmp_path}/acct.csv>\nrecords d\n</acct-file>")
    log = EventLog(tmp_path)
    sent = log.put(CROWD)
    runner = Napper(snapshot=lambda: snapshot, partitions=lambda: [log.path], clock=HandClock())

    await runner.run()

    assert runner.naps == (CROWDED_POLL, POLL)
    assert recipients(tmp_path) == sent
    log.close()


@pytest.mark.both_loops
async def test_end_does_not_wait_for_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.events.runner.POLL", 3600.0)
    runner = EventRunner(snapshot=lambda: snapshot_of(""), partitions=list, clock=HandClock())
    life = asyncio.create_task(runner.run())
    await asyncio.sleep(0)

    runner.stop()

    await asyncio.wait_for(life, 10.0)
