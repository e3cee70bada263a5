"""An HAProxy for tests: reads the PROXY header, connects where it says, and passes everything on."""

from __future__ import annotations

import asyncio
import ipaddress
import struct

__all__ = ["SmallProxy"]


class SmallProxy:
    """`asked` are the (version, source, source port, destination, port) of all connections."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str, int, str, int]] = []
        self.peers: list[str] = []

    async def __aenter__(self) -> SmallProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peers.append(writer.get_extra_info("peername")[0])
        start = await reader.readexactly(12)
        if start == b"\r\n\r\n\x00\r\nQUIT\n":
            command, family, length = struct.unpack("!BBH", await reader.readexactly(4))
            assert (command, family) in ((0x21, 0x11), (0x21, 0x21))
            rest = await reader.readexactly(length)
            half = 4 if family == 0x11 else 16
            source, target = (ipaddress.ip_address(rest[at : at + half]) for at in (0, half))
            source_port, port = struct.unpack("!HH", rest[2 * half :])
            self.asked.append((2, str(source), source_port, str(target), port))
        else:
            words = (start + await reader.readline()).decode("ascii").split()
            assert words[:2] in (["PROXY", "TCP4"], ["PROXY", "TCP6"])
            self.asked.append((1, words[2], int(words[4]), words[3], int(words[5])))
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.asked[-1][3:])
        except OSError:
            writer.transport.abort()
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(_pass_on(reader, far_writer))
            group.create_task(_pass_on(far_reader, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.transport.abort()
