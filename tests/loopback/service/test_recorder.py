"""The events process without the process: one writes at a time, whoever else was started."""

from __future__ import annotations

import asyncio
import csv
import socket
from pathlib import Path
from typing import Any

from mta.service.channel import Channel
from mta.service.recorder import Recorder
from tests.support.event_log import EventLog, HandClock, snapshot_of


class Events:
    """A recorder and the supervisor's end of its channel."""

    def __init__(self, directory: Path) -> None:
        text = (
            f"<spool {directory}/spool>\n</spool>\n<acct-file {directory}/acct.csv>\nrecords d\n</acct-file>"
        )
        self.recorder = Recorder(directory / "mta.conf", snapshot_of(text), clock=HandClock())
        self.channel = Channel(self._hear)

    async def _hear(self, command: str, arguments: dict[str, Any]) -> None:
        return None

    async def __aenter__(self) -> Events:
        ours, theirs = socket.socketpair()
        self.life = asyncio.create_task(self.recorder.run(theirs))
        self._talk = asyncio.create_task(self.channel.run(ours))
        await self.channel.opened.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()
        await self._talk

    async def ask(self, command: str) -> Any:
        return await self.channel.ask(command, timeout=10.0)

    async def end(self) -> None:
        self.channel.close()
        async with asyncio.timeout(10.0):
            assert await self.life == 0


def recipients(directory: Path) -> list[str]:
    found: list[str] = []
    for path in sorted(directory.glob("acct*.csv")):
        with path.open(newline="") as file:
            found += [row["rcpt"] for row in csv.DictReader(file)]
    return found


async def test_a_second_events_process_keeps_its_hands_off_until_the_first_is_gone(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    async with Events(tmp_path) as first:
        sent = log.put(3)
        await first.ask("finish")
        async with Events(tmp_path) as second:
            sent += log.put(3)
            # Whatever it is asked, it writes nothing, and moves no cursor.
            assert await second.ask("finish") is None
            assert await second.ask("rotate") == []
            assert await second.ask("reopen") == []
            assert recipients(tmp_path) == sent[:3]

            await first.ask("finish")
            assert recipients(tmp_path) == sent
            await first.end()
            sent += log.put(3)
            async with asyncio.timeout(10.0):
                while recipients(tmp_path) != sent:
                    await second.ask("finish")
    log.close()


async def test_one_that_waits_ends_when_told_to(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    async with Events(tmp_path), Events(tmp_path) as second:
        await second.end()
    log.close()
