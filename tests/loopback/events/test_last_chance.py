"""An output that could not write gets one more chance before the events process ends."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

from mta.events.runner import EventRunner
from tests.support.event_log import EventLog, HandClock, snapshot_of


async def test_records_that_waited_for_a_disk_are_written_at_the_end(tmp_path: Path) -> None:
    directory = tmp_path / "disk"
    snapshot = snapshot_of(f"<acct-file {directory}/acct.csv>\nrecords d\n</acct-file>")
    log = EventLog(tmp_path)
    sent = log.put(3)
    runner = EventRunner(snapshot=lambda: snapshot, partitions=lambda: [log.path], clock=HandClock())
    life = asyncio.create_task(runner.run())
    async with asyncio.timeout(10.0):
        while not runner.stats()["blocked"]:
            await asyncio.sleep(0.01)

    # The clock stands still: the regular next try is not due.
    directory.mkdir()
    runner.stop()
    await life

    (file,) = directory.glob("acct*.csv")
    with file.open(newline="") as lines:
        assert [row["rcpt"] for row in csv.DictReader(lines)] == sent
    assert not runner.stats()["blocked"]
    log.close()
