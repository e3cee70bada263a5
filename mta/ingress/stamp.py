"""The lines that we put on top of a message: Received (RFC 5321 4.4), Date and Message-ID where they are
missing.

They go in front of the message, so that its own bytes stay where they are. What comes from outside is cut
down to characters that can't end a comment or a line.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

__all__ = ["Stamp"]

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNSAFE = re.compile(r"[^A-Za-z0-9._:\[\]-]")
#: First halves of Received lines that are remembered.
_FRONTS = 1024


class _Fronts(dict[tuple[str, str, str], str]):
    """First halves of Received lines by HELO name, IP address and protocol: few clients send most mail."""

    def __init__(self, by: str) -> None:
        self._by = by

    def __missing__(self, client: tuple[str, str, str]) -> str:
        helo, source_ip, protocol = client
        origin = f"from {_UNSAFE.sub('?', helo) or 'unknown'} ([{source_ip}])\r\n\t" if source_ip else ""
        if len(self) >= _FRONTS:
            self.clear()
        front = self[client] = f"Received: {origin}by {self._by} (mta) with {protocol} id "
        return front


class Stamp:
    """Writes the lines in the name of one host. Hot path: one Received line a message, about 1 µs."""

    def __init__(self, host_name: str) -> None:
        self._by = _UNSAFE.sub("?", host_name)
        self._second = -1
        self._date = self._end = ""
        self._fronts = _Fronts(self._by)

    def received(
        self, helo: str, source_ip: str, protocol: str, queue_id: str, recipient: str, now: float
    ) -> bytes:
        """Our Received line; without its `from` part when `source_ip` is "".

        `recipient` is "" unless the message has exactly one: a list of recipients is nobody's business.
        """
        front = self._fronts[helo, source_ip, protocol]
        if int(now) != self._second:
            self.date(now)
        if recipient and recipient.isascii() and recipient.isprintable():
            return f"{front}{queue_id}\r\n\tfor <{recipient}>{self._end}".encode()
        return f"{front}{queue_id}{self._end}".encode()

    def date_line(self, now: float) -> bytes:
        return f"Date: {self.date(now)}\r\n".encode("ascii")

    def message_id_line(self, queue_id: str) -> bytes:
        return f"Message-ID: <{queue_id}@{self._by}>\r\n".encode("ascii")

    def date(self, now: float) -> str:
        """A moment as mail writes it (RFC 5322 3.3), in UTC; made once a second."""
        second = int(now)
        if second != self._second:
            moment = datetime.fromtimestamp(second, UTC)
            self._date = (
                f"{_DAYS[moment.weekday()]}, {moment.day} {_MONTHS[moment.month - 1]} {moment.year} "
                f"{moment:%H:%M:%S} +0000"
            )
            self._end = f";\r\n\t{self._date}\r\n"
            self._second = second
        return self._date
