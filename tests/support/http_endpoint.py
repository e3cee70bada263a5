"""An HTTP endpoint that answers as told, and remembers what was posted."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CLOSES", "CREATED", "HttpEndpoint", "Posted", "answer"]


def answer(status: str, body: bytes = b"", *lines: str) -> bytes:
    """A whole answer."""
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines))
    return head.encode() + b"\r\n" + body


CREATED = answer("200 OK", b"taken")
#: An answer, and then the end of the connection without a word.
CLOSES = b"close " + CREATED


@dataclass
class Posted:
    """One request: its first line, its header fields by lower-case name, its body, and its connection."""

    line: str
    fields: dict[str, str]
    body: bytes
    connection: int


class HttpEndpoint:
    """`async with HttpEndpoint(answers) as endpoint`: the last answer repeats; b"" answers nothing and waits
    until `go_on` is set, and then says 200."""

    def __init__(self, answers: Sequence[bytes] = (CREATED,), tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers)
        self.posted: list[Posted] = []
        self.connections = 0
        self.arrived = asyncio.Event()
        self.go_on = asyncio.Event()
        self._tls = tls
        self.url = ""

    async def __aenter__(self) -> HttpEndpoint:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{port}/in?x=1"
        return self

    async def __aexit__(self, *rest: object) -> None:
        self.go_on.set()
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while True:
                first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
                fields = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
                }
                body = await reader.readexactly(int(fields["content-length"]))
                self.posted.append(Posted(first, fields, body, number))
                self.arrived.set()
                said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if not said:
                    await self.go_on.wait()
                    said = CREATED
                writer.write(said.removeprefix(b"close "))
                await writer.drain()
                if said.startswith(b"close "):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort() if self.go_on.is_set() else writer.close()
