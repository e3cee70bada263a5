"""An SMTP server on a real socket that behaves well until its script says otherwise.

A script says what happens at a point of the conversation: `banner`, `EHLO`, `HELO`, `STARTTLS`, `AUTH`,
`answer` (to 334), `MAIL`, `RCPT`, `DATA`, `body` (when it begins to come in), `dot`, `RSET`, `QUIT`.
At each point stands one action or a tuple of actions; a list gives one entry per occurrence and the usual
behaviour after its end. A plain string is a reply line (CRLF is added).

    Script(MAIL="250 ok", RCPT=["250 ok", "550 5.1.1 no"], dot=("250 ok", CLOSE))

Pauses (`Drip`, `Late`) are for scripts whose point is slowness; closing the server cuts them short.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "CLOSE",
    "HALF_CLOSE",
    "HANDSHAKE",
    "HANG",
    "RESET",
    "SILENT",
    "TLS",
    "Drip",
    "Late",
    "Raw",
    "Received",
    "Script",
    "ScriptedServer",
]


class _Action:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


#: Close in good order; reset (RST); say nothing and wait for the client to leave; close our sending half
#: only; say nothing to this command, but go on listening; 220 and a TLS handshake; the handshake alone.
CLOSE, RESET, HANG, HALF_CLOSE, SILENT, TLS, HANDSHAKE = map(
    _Action, ["CLOSE", "RESET", "HANG", "HALF_CLOSE", "SILENT", "TLS", "HANDSHAKE"]
)


@dataclass(frozen=True)
class Raw:
    """Exactly these bytes."""

    data: bytes


@dataclass(frozen=True)
class Drip:
    """These bytes one by one, `pause` seconds apart (0: as fast as they go out one by one)."""

    data: bytes
    pause: float = 0.0


@dataclass(frozen=True)
class Late:
    """The same action, a little later."""

    action: Any
    pause: float = 0.05


Step = Any


class Script:
    """What one connection does; see the module."""

    def __init__(self, *, offers: Sequence[str] = ("PIPELINING", "8BITMIME", "DSN"), **points: Step) -> None:
        self.offers = offers
        self.points = points

    def at(self, point: str, occurrence: int) -> Step | None:
        step = self.points.get(point)
        if isinstance(step, list):
            return step[occurrence] if occurrence < len(step) else None
        return step


@dataclass
class Received:
    """One message as it came in, or an attempt that got as far as MAIL."""

    originator: str
    recipients: list[str] = field(default_factory=list)
    body: bytes | None = None  # in wire form with the final dot; None without DATA
    helo: str = ""
    peer: str = ""
    tls: bool = False
    connection: int = 0
    answer: str = ""  # to the final dot


class _Gone(Exception):
    """This connection is over."""


class ScriptedServer:
    """`async with ScriptedServer(script, ...) as server`: one script per connection, the last one repeats."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.scripts = scripts or (Script(),)
        self.host = host
        self.port = 0
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.commands: list[str] = []
        self.attempts: list[Received] = []
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def accepted(self) -> list[Received]:
        """Messages whose body came in as a whole."""
        return [attempt for attempt in self.attempts if attempt.body is not None]

    def seen(self, verb: str) -> bool:
        """Whether that command has come in."""
        return any(command.startswith(verb) for command in self.commands)

    async def __aenter__(self) -> ScriptedServer:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        for task in list(self._tasks):
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        number = self.connections
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        script = self.scripts[min(number, len(self.scripts) - 1)]
        talk = _Talk(self, script, reader, writer, number, self._tls)
        try:
            await talk.run()
        except (_Gone, ConnectionError, ssl.SSLError, asyncio.IncompleteReadError, TimeoutError):
            pass
        except asyncio.CancelledError:
            pass  # the server is being closed; a task of start_server must not end cancelled
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.transport.abort()


class _Talk:
    """One connection."""

    def __init__(
        self,
        server: ScriptedServer,
        script: Script,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        number: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.server = server
        self.script = script
        self.reader = reader
        self.writer = writer
        self.number = number
        self.tls = tls
        self.is_tls = False
        self.helo = ""
        self.seen: dict[str, int] = {}
        self.current: Received | None = None
        self.answering: Received | None = None  # whose final dot the next reply answers
        self.accepted = 0
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer = writer.get_extra_info("peername")[0]

    async def run(self) -> None:
        await self.point("banner", "220 test.example ESMTP")
        while True:
            line = (await self.reader.readline()).decode("utf-8", "replace")
            if not line:
                return
            line = line.rstrip("\r\n")
            self.server.commands.append(line)
            await self.command(line)

    async def command(self, line: str) -> None:
        verb = line.split(" ")[0].split(":")[0].upper()
        if verb == "EHLO":
            self.helo = line[5:]
            offers = [*self.script.offers]
            lines = ["test.example", *offers]
            usual = "\r\n".join(
                f"250{'-' if place < len(lines) - 1 else ' '}{text}" for place, text in enumerate(lines)
            )
            await self.point("EHLO", usual)
        elif verb == "HELO":
            self.helo = line[5:]
            await self.point("HELO", "250 test.example")
        elif verb == "STARTTLS":
            await self.point("STARTTLS", TLS)
        elif verb == "MAIL":
            await self.mail(line)
        elif verb == "RCPT":
            await self.rcpt(line)
        elif verb == "DATA":
            await self.data()
        elif verb == "RSET":
            self.current = None
            await self.point("RSET", "250 2.0.0 reset")
        elif verb == "QUIT":
            await self.point("QUIT", ("221 2.0.0 bye", CLOSE))
        elif verb == "AUTH":
            said = await self.point("AUTH", "235 2.7.0 welcome")
            while said.startswith("334"):
                await self.reader.readline()
                said = await self.point("answer", "235 2.7.0 welcome")
        else:
            await self.say("500 5.5.2 what?")

    async def mail(self, line: str) -> None:
        if self.current is not None:
            await self.say("503 5.5.1 nested MAIL")
            return
        self.accepted = 0
        attempt = Received(
            line.partition("<")[2].partition(">")[0],
            helo=self.helo,
            peer=self.peer,
            tls=self.is_tls,
            connection=self.number,
        )
        self.server.attempts.append(attempt)
        reply = await self.point("MAIL", "250 2.1.0 sender ok")
        if reply.startswith("2"):
            self.current = attempt

    async def rcpt(self, line: str) -> None:
        if self.current is None and "RCPT" not in self.script.points:
            await self.say("503 5.5.1 MAIL first")
            return
        reply = await self.point("RCPT", "250 2.1.5 recipient ok")
        if reply.startswith("2") and self.current is not None:
            self.accepted += 1
            self.current.recipients.append(line.partition("<")[2].partition(">")[0])

    async def data(self) -> None:
        usual = "354 go ahead" if self.accepted else "554 5.5.1 no valid recipients"
        reply = await self.point("DATA", usual)
        if not reply.startswith("354"):
            return
        current = self.current or Received("")
        self.current = None
        if self.script.at("body", self.seen.get("body", 0)) is not None:
            await self.reader.readexactly(1)
            await self.point("body", SILENT)
            await self.reader.readuntil(b".\r\n")
            return
        lines: list[bytes] = []
        while not lines or lines[-1] != b".\r\n":
            lines.append(await self.reader.readline())
            if not lines[-1]:
                raise _Gone
        current.body = b"".join(lines)
        self.answering = current
        await self.point("dot", "250 2.0.0 queued")

    async def point(self, name: str, usual: Step) -> str:
        """Do what the script says here; returns the reply line, if it was one."""
        occurrence = self.seen.get(name, 0)
        self.seen[name] = occurrence + 1
        step = self.script.at(name, occurrence)
        return await self.act(usual if step is None else step)

    async def act(self, step: Step) -> str:
        said = ""
        for action in step if isinstance(step, tuple) else (step,):
            said = await self.one(action) or said
        return said

    async def one(self, action: Step) -> str:
        if isinstance(action, str):
            await self.say(action)
            return action.rpartition("\n")[2]
        if isinstance(action, Raw | Drip):
            self.answered(action.data.decode("latin-1"))
        if isinstance(action, Raw):
            self.writer.write(action.data)
            await self.writer.drain()
            return action.data.decode("latin-1")
        if isinstance(action, Drip):
            for place in range(len(action.data)):
                self.writer.write(action.data[place : place + 1])
                await self.writer.drain()
                await self.pause(action.pause)
            return action.data.decode("latin-1")
        if isinstance(action, Late):
            await self.pause(action.pause)
            return await self.one(action.action)
        if action is TLS:
            await self.say("220 2.0.0 go")
            await self.encrypt()
        elif action is HANDSHAKE:
            await self.encrypt()
        elif action is HALF_CLOSE:
            self.writer.write_eof()
            await self.reader.read()
            raise _Gone
        elif action is HANG:
            while await self.reader.read(65536):
                pass
            raise _Gone
        elif action is RESET:
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
            raise _Gone
        elif action is CLOSE:
            self.writer.close()
            raise _Gone
        return ""

    def answered(self, words: str) -> None:
        """These words are the reply to the final dot, if one is due."""
        if self.answering is not None:
            self.answering.answer, self.answering = words, None

    async def say(self, line: str) -> None:
        self.answered(line)
        self.writer.write(line.encode() + b"\r\n")
        await self.writer.drain()

    async def pause(self, seconds: float) -> None:
        """Let time pass (0: the next turn of the loop come)."""
        passed = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, passed.set)
        await passed.wait()

    async def encrypt(self) -> None:
        assert self.tls is not None
        await self.writer.start_tls(self.tls, ssl_handshake_timeout=2)
        self.is_tls = True
        self.script = Script(
            offers=[offer for offer in self.script.offers if offer != "STARTTLS"], **self.script.points
        )
