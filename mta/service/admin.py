"""The control socket: where `mta show …`, `mta pause …` and monitors of all kinds ask.

One JSON object a line, answered in order; the shapes are in `mta/cli/control.py`. The file is 0600 and
belongs to the service's account: who may open it may do everything, nobody else may do anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from mta.errors import MtaError
from mta.service.channel import CommandFailed

__all__ = ["AdminSocket"]

log = logging.getLogger(__name__)

#: Requests are commands with a few filters.
MAX_REQUEST = 64 * 1024
#: An operator's tool that stops reading or writing is let go.
PATIENCE = 120.0
MAX_CLIENTS = 64

Answer = Callable[[str, dict[str, Any]], Awaitable[Any]]


class AdminSocket:
    """Serves `answer(command, arguments)` at `path` ("" serves nobody)."""

    def __init__(self, path: str, answer: Answer) -> None:
        self._path = path
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Begin to serve. Raises MtaError when another instance serves here or the path can't be used."""
        if not self._path:
            return
        self._remove_stale()
        old = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_REQUEST)
        except OSError as failure:
            raise MtaError(f"{self._path}: {failure.strerror or failure}") from None
        finally:
            os.umask(old)

    async def close(self) -> None:
        """Stop serving and remove the socket's file."""
        if self._server is None:
            return
        self._server.close()
        for client in list(self._clients):
            client.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _remove_stale(self) -> None:
        """A socket that nobody answers is left over from a crash."""
        try:
            if not stat.S_ISSOCK(os.stat(self._path).st_mode):
                raise MtaError(f"{self._path} exists and is no socket")
        except FileNotFoundError:
            return
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self._path)
            except OSError:
                os.unlink(self._path)
            else:
                raise MtaError(f"{self._path}: another instance is running")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MAX_CLIENTS:
            writer.close()
            return
        self._clients.add(writer)
        try:
            while True:
                async with asyncio.timeout(PATIENCE):
                    line = await reader.readline()
                if not line.endswith(b"\n"):
                    return
                answer = await self._reply(line)
                writer.write(msgspec.json.encode(answer) + b"\n")
                async with asyncio.timeout(PATIENCE):
                    await writer.drain()
        except (OSError, ValueError, TimeoutError):
            return
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _reply(self, line: bytes) -> dict[str, Any]:
        try:
            request = msgspec.json.decode(line)
            command = request.pop("command")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {"ok": False, "error": 'not a request: one JSON object a line with a "command"'}
        try:
            return {"ok": True, "data": await self._answer(str(command), request)}
        except CommandFailed as refusal:
            return {"ok": False, "error": str(refusal), **refusal.details}
        except MtaError as failure:
            return {"ok": False, "error": str(failure)}
        except Exception as failure:  # an operator's question must not end the service
            log.exception("command=%s failed", command)
            return {"ok": False, "error": f"internal error: {type(failure).__name__}"}
