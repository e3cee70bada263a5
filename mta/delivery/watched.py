"""A session that is overheard: for `mta trace`, and for queues whose dialogue goes to the log."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from mta.delivery.attempt import Attempt
from mta.delivery.connection import Connection
from mta.delivery.dialogue import Dialogue
from mta.delivery.session import Session

__all__ = ["WatchedSession"]


class WatchedSession(Session):
    """A session that is overheard."""

    def __init__(self, connection: Connection, *parts: Any, **more: Any) -> None:
        """`connection.dialogue` hears it; there has to be one."""
        super().__init__(connection, *parts, **more)
        dialogue = connection.dialogue
        assert dialogue is not None
        self._dialogue: Dialogue = dialogue
        self._transport = cast(asyncio.Transport, _WatchedTransport(connection.transport, dialogue))

    def data_received(self, data: bytes) -> None:
        self._dialogue.received(data)
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.is_quitting:
            self._dialogue.note("connection lost" if exc is None else f"connection lost: {exc}")
        super().connection_lost(exc)

    def _begin_body(self, attempt: Attempt) -> None:
        self._dialogue.begin_data()
        super()._begin_body(attempt)


class _WatchedTransport:
    """The transport, with what is written to it overheard."""

    def __init__(self, transport: asyncio.Transport, dialogue: Dialogue) -> None:
        self._transport = transport
        self._dialogue = dialogue

    def write(self, data: bytes) -> None:
        self._dialogue.sent(bytes(data))
        self._transport.write(data)

    def writelines(self, parts: list[bytes]) -> None:
        for part in parts:
            self._dialogue.sent(bytes(part))
        self._transport.writelines(parts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
