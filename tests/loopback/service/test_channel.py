"""Two ends of a channel over a real socket pair."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from mta.errors import StreamError
from mta.service.channel import Channel, CommandFailed

pytestmark = pytest.mark.both_loops


async def echo(command: str, arguments: dict[str, Any]) -> Any:
    if command == "refuse":
        raise CommandFailed("not today")
    if command == "hang":
        await asyncio.Event().wait()
    return [command, arguments]


class Pair:
    """A channel whose other end answers with `echo`."""

    def __init__(self) -> None:
        self.near = Channel(echo)
        self.far = Channel(echo)

    async def __aenter__(self) -> Pair:
        here, there = socket.socketpair()
        self._company = asyncio.TaskGroup()
        company = await self._company.__aenter__()
        self._tasks = [company.create_task(self.near.run(here)), company.create_task(self.far.run(there))]
        await self.near.opened.wait()
        await self.far.opened.wait()
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await self._company.__aexit__(None, None, None)


async def test_a_question_is_answered_with_its_own_data() -> None:
    async with Pair() as pair:
        async with asyncio.TaskGroup() as company:
            first = company.create_task(pair.near.ask("a", timeout=5, x=1))
            second = company.create_task(pair.far.ask("b", timeout=5))
        assert first.result() == ["a", {"x": 1}]
        assert second.result() == ["b", {}]


async def test_a_refusal_reaches_the_asker_as_text() -> None:
    async with Pair() as pair:
        with pytest.raises(CommandFailed, match="not today"):
            await pair.near.ask("refuse", timeout=5)


async def test_silence_ends_after_the_timeout() -> None:
    async with Pair() as pair:
        with pytest.raises(StreamError, match=r"hang: no answer within 0\.05 s"):
            await pair.near.ask("hang", timeout=0.05)


async def test_a_question_to_a_process_that_goes_fails_at_once() -> None:
    async with Pair() as pair:
        async with asyncio.TaskGroup() as company:
            question = company.create_task(asking(pair.near))
            await asyncio.sleep(0)
            pair.far.close()
        assert "gone" in question.result()


async def test_rubbish_ends_the_channel_without_an_answer() -> None:
    here, there = socket.socketpair()
    channel = Channel(echo)
    with there:
        there.sendall(b"no newline at the end of the stream")
        there.shutdown(socket.SHUT_WR)
        await channel.run(here)
        assert not channel.is_open


async def test_asking_a_closed_channel_says_who_is_missing() -> None:
    with pytest.raises(StreamError, match="status: the process is not there"):
        await Channel(echo).ask("status", timeout=1)


async def asking(channel: Channel) -> str:
    try:
        await channel.ask("hang", timeout=5)
    except StreamError as failure:
        return str(failure)
    return "answered"
