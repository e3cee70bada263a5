"""A whole inbound side on a loopback port, and a client that says exactly what it is told to.

The configuration is text in the operator's language, the spool is in memory, everything else is real.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from types import TracebackType

from mta.clock import SystemClock
from mta.config.load import load_text
from mta.config.snapshot import Snapshot
from mta.ingress.accept import Acceptance
from mta.ingress.cold import ColdQuota, ColdStore
from mta.ingress.listener import Listener
from mta.ingress.queueid import QueueIds
from mta.ingress.reception import RECEIVE_MEMORY, Reception
from mta.ingress.reject import Rejects
from mta.message.envelope import Envelope
from tests.support.memory_partition import MemoryPartition

__all__ = ["OPEN", "Caller", "Inbound", "snapshot_of"]

#: What a trusted application's machine gets.
OPEN = "always-allow-relaying yes"


def snapshot_of(text: str = "", *, source: str = OPEN, epoch: int = 1) -> Snapshot:
    """A configuration with one source for everybody; `text` is the rest of it."""
    loaded = load_text(f"<source 0/0>\n{source}\n</source>\nhost-name mx.test\n{text}\n", epoch=epoch)
    errors = [problem for problem in loaded.problems if problem.severity.name == "ERROR"]
    assert loaded.snapshot is not None, errors
    return loaded.snapshot


class Inbound:
    """`async with Inbound(...) as inbound: async with inbound.caller() as caller: ...`"""

    def __init__(
        self,
        text: str = "",
        *,
        source: str = OPEN,
        tls: ssl.SSLContext | None = None,
        is_immediate_tls: bool = False,
        source_name: str = "",
        receive_memory: int = RECEIVE_MEMORY,
        cold: ColdStore | None = None,
    ) -> None:
        self._cold = cold
        self.snapshot = snapshot_of(text, source=source)
        self.admitted: list[Envelope] = []
        self._tls = tls
        self._is_immediate_tls = is_immediate_tls
        self._source_name = source_name
        self._receive_memory = receive_memory

    async def __aenter__(self) -> Inbound:
        loop = asyncio.get_running_loop()
        clock = SystemClock()
        queue_ids = QueueIds(clock)
        self.partition = MemoryPartition(loop)
        self.acceptance = Acceptance(
            snapshot=lambda: self.snapshot,
            partition=self.partition,
            clock=clock,
            queue_ids=queue_ids,
            admitted=lambda envelope, message, size: self.admitted.append(envelope),
            cold=None if self._cold is None else ColdQuota(self._cold, clock),
        )
        self.reception = Reception(
            snapshot=lambda: self.snapshot,
            acceptance=self.acceptance,
            rejects=Rejects(self.partition.record, clock=clock, queue_ids=queue_ids),
            clock=clock,
            loop=loop,
            host_name="localhost",
            receive_memory=self._receive_memory,
        )
        self.listener = Listener(self.reception)
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        self.port: int = sock.getsockname()[1]
        await self.listener.serve(
            sock, source_name=self._source_name, tls=self._tls, is_immediate_tls=self._is_immediate_tls
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.listener.close()
        await self.listener.drained(0.2)
        await self.reception.empty.wait()

    def caller(self, **options: object) -> Caller:
        return Caller(self.port, **options)  # type: ignore[arg-type]


class Caller:
    """A raw client; everything is awaited with a deadline."""

    def __init__(
        self, port: int, *, tls: ssl.SSLContext | None = None, greeting: bool = True, address: str = ""
    ) -> None:
        self._port = port
        self._tls = tls
        self._greeting = greeting
        self._address = address
        self.greeting = ""

    async def __aenter__(self) -> Caller:
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1",
            self._port,
            ssl=self._tls,
            local_addr=(self._address, 0) if self._address else None,
            limit=2**20,
        )
        if self._greeting:
            self.greeting = await self.reply()
        return self

    async def __aexit__(self, *failure: object) -> None:
        self.writer.transport.abort()

    def reset(self) -> None:
        """Break the connection off with a TCP reset."""
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.writer.transport.abort()

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def flush(self) -> None:
        async with asyncio.timeout(20):
            await self.writer.drain()

    async def reply(self) -> str:
        """The next reply, its lines joined by " / "; "" at the end of the connection."""
        lines: list[str] = []
        async with asyncio.timeout(20):
            while True:
                try:
                    line = (await self.reader.readline()).decode()
                except ConnectionError:
                    return ""
                if not line:
                    return ""
                lines.append(line.rstrip("\r\n"))
                if line[3:4] != "-":
                    return " / ".join(lines)

    async def replies(self, count: int) -> list[str]:
        return [await self.reply() for _ in range(count)]

    async def ask(self, *commands: bytes | str) -> str:
        """Send commands one by one; the last reply."""
        answer = ""
        for command in commands:
            self.send((command.encode() if isinstance(command, str) else command) + b"\r\n")
            answer = await self.reply()
        return answer

    async def codes(self, *commands: bytes | str) -> list[str]:
        """Send commands one by one; code and enhanced code of every reply."""
        return [_codes(await self.ask(command)) for command in commands]

    async def hello(self) -> str:
        return await self.ask("EHLO client.test")

    async def envelope(self, *recipients: str) -> None:
        """EHLO to RCPT, all of it accepted."""
        assert (await self.hello()).startswith("250")
        assert (await self.ask("MAIL FROM:<sender@example.com>")).startswith("250")
        for recipient in recipients or ("rcpt@example.net",):
            assert (await self.ask(f"RCPT TO:<{recipient}>")).startswith("250")

    async def content(self, octets: bytes) -> str:
        """DATA, this content in wire form, the final dot; the last reply."""
        assert (await self.ask("DATA")).startswith("354")
        self.send(octets + b".\r\n")
        return await self.reply()

    async def is_closed(self) -> bool:
        """Whether the server hangs up without another word."""
        return await self.reply() == ""


def _codes(reply: str) -> str:
    words = reply.replace("-", " ", 1).split(" ")
    enhanced = words[1] if len(words) > 1 and words[1].count(".") == 2 and words[1][0] in "245" else ""
    return f"{words[0]} {enhanced}".strip()
