"""From a real settle log to real files, with crashes in between."""

from __future__ import annotations

import asyncio
import csv
import errno
import os
import shlex
import sys
from pathlib import Path

import pytest

from mta.config.snapshot import Snapshot
from mta.events.runner import EventRunner
from mta.spool.settlelog import Cursor, read_cursor, read_cursors
from tests.support.event_log import EventLog, HandClock, snapshot_of

COLUMNS = "records d\nrecord-fields d rcpt,recordId"


class Events:
    """An events process without the process."""

    def __init__(self, log: EventLog, text: str, *more: EventLog) -> None:
        self.clock = HandClock()
        self.snapshot: Snapshot = snapshot_of(text)
        self.partitions = [log.path, *(one.path for one in more)]
        self.runner = self.make()

    def make(self) -> EventRunner:
        return EventRunner(
            snapshot=lambda: self.snapshot, partitions=lambda: self.partitions, clock=self.clock
        )

    async def start(self) -> asyncio.Task[None]:
        """Let it live until the test ends it."""
        task = asyncio.create_task(self.runner.run())
        await asyncio.sleep(0)
        return task

    async def life(self) -> None:
        """Start, write everything, end."""
        self.runner = self.make()
        self.runner.stop()
        await self.runner.run()

    def crash(self) -> None:
        """Start, write everything, and be killed before the cursor is kept."""
        self.runner = self.make()
        self.runner._open()
        while self.runner._round():
            pass
        for output in self.runner._outputs:
            assert not output.is_settled
            if output.file:
                output.file.close()


def rows(directory: Path, stem: str = "acct") -> list[list[str]]:
    """All records of all files, in order, without the header lines."""
    found = []
    for path in sorted(directory.glob(f"{stem}-*.csv")):
        with path.open(newline="") as file:
            lines = list(csv.reader(file))
        assert lines[0][0] == "type"
        found += lines[1:]
    return found


def written(directory: Path, stem: str = "acct") -> list[Path]:
    return sorted(directory.glob(f"{stem}-*.csv"))


def newest(directory: Path) -> list[str]:
    with written(directory)[-1].open(newline="") as file:
        return [row[1] for row in csv.reader(file)][1:]


def executable(path: Path, command: str) -> Path:
    path.write_text(f"#!/bin/sh\nexec {command}\n")
    path.chmod(0o755)
    return path


def recipients(directory: Path, stem: str = "acct") -> list[str]:
    return [row[1] for row in rows(directory, stem)]


async def test_every_event_becomes_one_line_in_order(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    events = Events(log, f"<acct-file {tmp_path}/acct.csv>\n{COLUMNS}\n</acct-file>")
    sent = log.put(1200)

    await events.life()

    assert recipients(tmp_path) == sent


async def test_next_life_goes_on_in_the_same_file(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    events = Events(log, f"<acct-file {tmp_path}/acct.csv>\n{COLUMNS}\n</acct-file>")
    sent = log.put(3)
    await events.life()
    sent += log.put(3)
    await events.life()

    assert recipients(tmp_path) == sent
    assert len(written(tmp_path)) == 1


async def test_crash_between_writing_and_the_cursor_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    events = Events(log, f"<acct-file {tmp_path}/acct.csv>\n{COLUMNS}\n</acct-file>")
    sent = log.put(10)
    await events.life()
    sent += log.put(10)
    events.crash()
    assert len(recipients(tmp_path)) == 20

    sent += log.put(5)
    await events.life()

    assert recipients(tmp_path) == sent


async def test_crash_in_the_first_life_repeats_nothing_either(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    events = Events(log, f"<acct-file {tmp_path}/acct.csv>\n{COLUMNS}\n</acct-file>")
    sent = log.put(10)
    events.crash()
    assert recipients(tmp_path) == sent
    await events.life()

    assert recipients(tmp_path) == sent


async def test_record_that_has_to_be_written_twice_keeps_its_id(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    events = Events(log, f"<acct-file {tmp_path}/acct.csv>\n{COLUMNS}\n</acct-file>")
    sent = log.put(10)
    events.crash()
    (tmp_path / ".acct.csv.position").unlink()
    await events.life()

    found = [(row[1], row[2]) for row in rows(tmp_path)]
    assert len(found) == 20
    assert set(found) == {(recipient, f"e{n}") for n, recipient in enumerate(sent, 1)}


async def test_crash_after_the_file_was_taken_away_loses_nothing(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    events = Events(log, f"<acct-file {tmp_path}/acct.csv>\n{COLUMNS}\n</acct-file>")
    sent = log.put(4)
    await events.life()
    sent += log.put(4)
    events.crash()
    for path in written(tmp_path):
        path.rename(tmp_path / f"taken-{path.name}")
    await events.life()

    assert set(recipients(tmp_path, "taken-acct")) | set(recipients(tmp_path)) == set(sent)


async def test_file_goes_over_at_its_size_without_gap_or_repeat(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    text = f"<acct-file {tmp_path}/acct.csv>\nmax-size 1M\n{COLUMNS}, jobId\n</acct-file>"
    events = Events(log, text)
    sent = log.put(3000, job_id="j" * 500)

    await events.life()

    files = written(tmp_path)
    assert len(files) == 2
    assert all(path.stat().st_size <= 1 << 20 for path in files)
    assert recipients(tmp_path) == sent


async def test_file_goes_over_at_its_age_even_when_nothing_happens(tmp_path: Path) -> None:
    done = tmp_path / "done"
    done.mkdir()
    log = EventLog(tmp_path)
    text = f"<acct-file {tmp_path}/acct.csv>\nmove-to {done}\nmove-interval 1h\n{COLUMNS}\n</acct-file>"
    events = Events(log, text)
    task = await events.start()
    sent = log.put(2)
    await events.runner.catch_up()
    events.clock.time += 3601

    await events.runner.catch_up()
    events.runner.reopen()

    assert recipients(done) == sent
    assert not written(tmp_path)
    events.runner.stop()
    await task


async def test_operator_rotates_by_part_of_a_name(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    text = "\n".join(
        f"<acct-file {tmp_path}/{name}.csv>\n{COLUMNS}\n</acct-file>" for name in ("acct", "other")
    )
    events = Events(log, text)
    task = await events.start()
    first = log.put(2)
    await events.runner.catch_up()

    finished = events.runner.rotate("acct.csv")
    second = log.put(1)
    await events.runner.catch_up()

    assert [Path(path).name[-9:] for path in finished] == ["-0000.csv"]
    assert len(written(tmp_path)) == 2
    assert len(written(tmp_path, "other")) == 1
    assert recipients(tmp_path) == recipients(tmp_path, "other") == first + second
    events.runner.stop()
    await task


async def test_file_moved_away_is_replaced_by_a_new_one(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    events = Events(log, f"<acct-file {tmp_path}/acct.csv>\n{COLUMNS}\n</acct-file>")
    task = await events.start()
    first = log.put(2)
    await events.runner.catch_up()
    (path,) = written(tmp_path)
    path.rename(tmp_path / "taken-0.csv")

    assert events.runner.reopen() == []
    second = log.put(1)
    await events.runner.catch_up()

    assert recipients(tmp_path) == second
    assert recipients(tmp_path, "taken") == first
    events.runner.stop()
    await task


async def test_accounting_and_reject_log_each_get_their_own(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    text = f"""
<acct-file {tmp_path}/acct.csv>
records d,r
</acct-file>
<rejectlog-file {tmp_path}/rejects.csv>
records c,r
</rejectlog-file>"""
    events = Events(log, text)
    log.put(1, "d")
    log.put(1, "r")
    log.put(1, "C", text="too many")
    log.put(1, "R", text="relaying denied")
    log.put(1, "t")
    log.put(1, "tq")

    await events.life()

    assert [row[0] for row in rows(tmp_path)] == ["d", "r"]
    assert [row[0] for row in rows(tmp_path, "rejects")] == ["c", "r"]


async def test_several_partitions_are_all_read(tmp_path: Path) -> None:
    first, second = EventLog(tmp_path, "0"), EventLog(tmp_path, "1")
    events = Events(first, f"<acct-file {tmp_path}/acct.csv>\n{COLUMNS}\n</acct-file>", second)
    sent = first.put(3) + second.put(4)

    await events.life()
    await events.life()

    assert sorted(recipients(tmp_path)) == sorted(sent)


async def test_partition_that_appears_later_is_found(tmp_path: Path) -> None:
    first = EventLog(tmp_path, "0")
    events = Events(first, f"<acct-file {tmp_path}/acct.csv>\n{COLUMNS}\n</acct-file>")
    task = await events.start()
    sent = first.put(1)
    await events.runner.catch_up()

    second = EventLog(tmp_path, "1")
    events.partitions.append(second.path)
    sent += second.put(2)
    events.clock.time += 10
    await events.runner.catch_up()

    assert recipients(tmp_path) == sent
    events.runner.stop()
    await task


async def test_replaced_partition_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    events = Events(log, f"<acct-file {tmp_path}/acct.csv>\n{COLUMNS}\n</acct-file>")
    log.put(50)
    await events.life()
    log.close()
    (tmp_path / "spool").rename(tmp_path / "old")
    fresh = EventLog(tmp_path).put(1)

    await events.life()

    assert recipients(tmp_path)[-1:] == fresh
    assert len(recipients(tmp_path)) == 51


async def test_full_disk_stops_one_file_only_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(tmp_path)
    text = "\n".join(
        f"<acct-file {tmp_path}/{name}.csv>\n{COLUMNS}\n</acct-file>" for name in ("acct", "other")
    )
    events = Events(log, text)
    task = await events.start()
    full = events.runner._outputs[0].file
    assert full is not None
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if descriptor == full._descriptor:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    sent = log.put(700)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        await events.runner.catch_up()
        assert events.runner.stats()["blocked"] == {f"{tmp_path}/acct.csv": "No space left on device"}
        assert recipients(tmp_path, "other") == sent
    sent += log.put(10)
    events.clock.time += 60
    await events.runner.catch_up()

    assert recipients(tmp_path) == recipients(tmp_path, "other") == sent
    assert events.runner.stats()["blocked"] == {}
    events.runner.stop()
    await task


async def test_failed_sync_is_not_believed_the_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(tmp_path)
    events = Events(log, f"<acct-file {tmp_path}/acct.csv>\n{COLUMNS}\n</acct-file>")
    task = await events.start()

    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    sent = log.put(5)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", broken)
        await events.runner.catch_up()
    events.clock.time += 60
    events.runner._tick()
    events.clock.time += 60
    await events.runner.catch_up()

    assert newest(tmp_path) == sent
    events.runner.stop()
    await task


def copier(target: Path, stop_after: int = 0) -> str:
    """A program that copies lines to a file and, on request, ends after some of them."""
    source = (
        "import sys, os\n"
        "out = open(sys.argv[1], 'ab', buffering=0)\n"
        "left = int(sys.argv[2]) or 10**9\n"
        "line = b''\n"
        "while left:\n"
        "    octet = os.read(0, 1)\n"
        "    if not octet: break\n"
        "    line += octet\n"
        "    if octet == b'\\n': out.write(line); line = b''; left -= 1\n"
    )
    return shlex.join([sys.executable, "-c", source, str(target), str(stop_after)])


async def test_pipe_gets_header_and_records(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    script = executable(tmp_path / "copy", copier(tmp_path / "out"))
    events = Events(log, f"<acct-file |{script}>\n{COLUMNS}\n</acct-file>")
    sent = log.put(300)

    await events.life()

    lines = (tmp_path / "out").read_text().splitlines()
    assert lines[0] == "type,rcpt,recordId"
    assert [line.split(",")[1] for line in lines[1:]] == sent
    (cursor,) = read_cursors(log.path)
    assert cursor > Cursor()


async def test_pipe_that_dies_is_started_again_and_no_record_lost(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    script = executable(tmp_path / "copy", copier(tmp_path / "out", stop_after=51))
    text = f"<acct-file |{script}>\nretry-interval 5m\n{COLUMNS}\n</acct-file>"
    text += f"\n<acct-file {tmp_path}/acct.csv>\n{COLUMNS}\n</acct-file>"
    events = Events(log, text)
    task = await events.start()
    sent = log.put(120)
    while not events.runner.stats()["blocked"]:
        await events.runner.catch_up()
    sent += log.put(1)
    await events.runner.catch_up()
    assert recipients(tmp_path) == sent

    executable(script, copier(tmp_path / "out"))
    events.clock.time += 299
    await events.runner.catch_up()
    assert events.runner.stats()["blocked"]
    events.clock.time += 2
    await events.runner.catch_up()

    records = [line.split(",") for line in (tmp_path / "out").read_text().splitlines()]
    assert {record[1] for record in records if record[0] == "d"} == set(sent)
    assert len({record[2] for record in records if record[0] == "d"}) == 121
    assert events.runner.stats()["blocked"] == {}
    events.runner.stop()
    await task


async def test_undecodable_event_is_counted_and_left_out(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    events = Events(log, f"<acct-file {tmp_path}/acct.csv>\n{COLUMNS}\n</acct-file>")
    sent = log.put(1)
    log.put_raw(b"no event at all")
    log.put_raw(b"\xdc")
    sent += log.put(1)

    await events.life()

    assert recipients(tmp_path) == sent
    assert events.runner.stats()["damaged"] == 2


async def test_reload_adds_removes_and_changes_files(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    events = Events(log, f"<acct-file {tmp_path}/acct.csv>\n{COLUMNS}\n</acct-file>")
    task = await events.start()
    first = log.put(2)
    await events.runner.catch_up()

    events.snapshot = snapshot_of(
        f"<acct-file {tmp_path}/acct.csv>\nrecords d\nrecord-fields d rcpt\n</acct-file>"
        f"<acct-file {tmp_path}/new.csv>\n{COLUMNS}\n</acct-file>".replace("><", ">\n<")
    )
    events.runner.reload()
    second = log.put(2)
    await events.runner.catch_up()
    events.snapshot = snapshot_of(f"<acct-file {tmp_path}/new.csv>\n{COLUMNS}\n</acct-file>")
    events.runner.reload()
    third = log.put(1)
    await events.runner.catch_up()

    assert recipients(tmp_path) == first + second
    assert rows(tmp_path)[-1] == ["d", second[-1]]
    assert recipients(tmp_path, "new") == second + third
    assert len(read_cursors(log.path)) == 1
    events.runner.stop()
    await task


async def test_renamed_file_takes_up_where_the_old_one_stopped(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    events = Events(log, f"<acct-file {tmp_path}/acct.csv>\n{COLUMNS}\n</acct-file>")
    log.put(2)
    await events.life()
    waiting = log.put(3)
    events.snapshot = snapshot_of(f"<acct-file {tmp_path}/billing.csv>\n{COLUMNS}\n</acct-file>")

    await events.life()

    assert recipients(tmp_path, "billing") == waiting


async def test_without_any_file_the_spool_may_still_delete_its_logs(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    events = Events(log, "")
    log.put(1500)

    await events.life()

    assert read_cursor(log.path, "nobody").number > 0


async def test_status_counts_records(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    events = Events(log, f"<acct-file {tmp_path}/acct.csv>\n{COLUMNS}\n</acct-file>")
    log.put(3)

    await events.life()

    assert events.runner.stats() == {"records": 3, "newest": 1_549_662_845.0, "damaged": 0, "blocked": {}}
    assert repr(events.runner) == "<EventRunner outputs=1 partitions=1>"
