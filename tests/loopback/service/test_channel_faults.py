"""A channel whose other side is out of its mind: it ends, or answers, and takes nobody with it."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

from mta.errors import StreamError
from mta.service.channel import Channel

pytestmark = pytest.mark.both_loops


async def buggy(command: str, arguments: dict[str, Any]) -> Any:
    if command == "bug":
        raise AttributeError("'int' object has no attribute 'strip'")
    return arguments


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"id": "x", "ok": true}',
        b'{"id": 1, "ok": "yes"}',
        b'{"command": 5, "arguments": {}}',
        b'{"command": "a", "arguments": []}',
        b"[" * 50_000,
    ],
)
async def test_rubbish_ends_the_channel_and_nothing_else(line: bytes) -> None:
    here, there = socket.socketpair()
    channel = Channel(buggy)
    async with asyncio.TaskGroup() as company:
        company.create_task(channel.run(here))
        await channel.opened.wait()
        asked = company.create_task(outcome(channel))
        await asyncio.sleep(0)
        there.sendall(line + b"\n")

        assert await asked == "StreamError"
    assert not channel.is_open
    there.close()


async def outcome(channel: Channel) -> str:
    try:
        await channel.ask("anything", timeout=10)
    except StreamError as error:
        return type(error).__name__
    return "answered"


async def test_a_bug_in_an_answer_is_told_and_the_channel_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    here, there = socket.socketpair()
    channel = Channel(buggy)
    async with asyncio.TaskGroup() as company:
        company.create_task(channel.run(here))
        reader, writer = await asyncio.open_unix_connection(sock=there)
        writer.write(b'{"id": 1, "command": "bug"}\n{"id": 2, "command": "a", "arguments": {"x": 1}}\n')
        answers = sorted([json.loads(await reader.readline()) for _ in range(2)], key=lambda one: one["id"])
        writer.close()

    assert answers[0] == {"id": 1, "ok": False, "error": "internal error: AttributeError"}
    assert answers[1] == {"id": 2, "ok": True, "data": {"x": 1}}
    assert "command=bug failed" in caplog.text
