"""Two processes talking over a socket: one JSON object a line, requests answered by number.

Not for mail: only commands, answers and heartbeats travel here. A peer that closes or sends rubbish ends
the channel; every question still open then fails with StreamError.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from mta.errors import MtaError, StreamError

__all__ = ["Channel", "CommandFailed", "Handler"]

log = logging.getLogger(__name__)

#: A page of a queue listing is the largest thing that travels; more is a peer out of its mind.
MAX_LINE = 64 * 1024 * 1024

Handler = Callable[[str, dict[str, Any]], Awaitable[Any]]


class CommandFailed(MtaError):
    """The other side understood and says no; the text is for the operator, `details` for programs."""

    def __init__(self, text: str, **details: Any) -> None:
        super().__init__(text)
        self.details = details


class _Message(msgspec.Struct):
    """What travels: a command with arguments, or the answer to one."""

    id: int | None = None
    command: str | None = None
    arguments: dict[str, Any] = {}
    ok: bool = False
    data: Any = None
    error: str = ""


_decoder = msgspec.json.Decoder(_Message)


class Channel:
    """One end. `handler(command, arguments)` answers the other side's requests.

    `run()` reads until the other side closes; `ask()` may be used by anybody meanwhile.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._writer: asyncio.StreamWriter | None = None
        self.opened = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return self._writer is not None and not self._writer.is_closing()

    async def run(self, sock: socket.socket) -> None:
        """Serve the channel until the other side is gone."""
        reader, self._writer = await asyncio.open_unix_connection(sock=sock, limit=MAX_LINE)
        self.opened.set()
        try:
            async with asyncio.TaskGroup() as answers:
                await self._read(reader, answers)
        finally:
            self._writer.close()
            self._fail_all()

    async def ask(self, command: str, *, timeout: float, **arguments: Any) -> Any:
        """Send a command and return its data.

        Raises CommandFailed when the other side refuses, StreamError when it is gone or silent for
        `timeout` seconds.
        """
        if not self.is_open:
            raise StreamError(f"{command}: the process is not there")
        self._number += 1
        number = self._number
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._send({"id": number, "command": command, "arguments": arguments})
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise StreamError(f"{command}: no answer within {timeout:g} s") from None
        finally:
            del self._waiting[number]

    def tell(self, command: str, **arguments: Any) -> None:
        """Send a command that wants no answer; lost when the other side is gone."""
        if self.is_open:
            self._send({"command": command, "arguments": arguments})

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._writer is not None
        self._writer.write(msgspec.json.encode(message) + b"\n")

    async def _read(self, reader: asyncio.StreamReader, answers: asyncio.TaskGroup) -> None:
        while True:
            try:
                line = await reader.readline()
            except (OSError, ValueError):  # reset, or a line beyond the limit
                return
            if not line.endswith(b"\n"):
                return
            try:
                message = _decoder.decode(line)
            except (ValueError, RecursionError) as failure:
                log.error("channel ends: the other side sends rubbish: %s", failure)
                return
            if message.command is not None:
                answers.create_task(self._answer(message))
            else:
                self._take_answer(message)

    async def _answer(self, message: _Message) -> None:
        command = str(message.command)
        answer: dict[str, Any] = {"id": message.id}
        try:
            answer |= {"ok": True, "data": await self._handler(command, message.arguments)}
        except MtaError as failure:
            answer |= {"ok": False, "error": str(failure)}
        except Exception as failure:  # a question must not end the process that is asked
            log.exception("command=%s failed", command)
            answer |= {"ok": False, "error": f"internal error: {type(failure).__name__}"}
        if message.id is not None and self.is_open:
            self._send(answer)

    def _take_answer(self, message: _Message) -> None:
        future = self._waiting.get(message.id) if message.id is not None else None
        if future is None or future.done():
            return
        if message.ok:
            future.set_result(message.data)
        else:
            future.set_exception(CommandFailed(message.error))

    def _fail_all(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(StreamError("the process has gone"))
