"""What both sides said on one connection, line by line, for an operator to read.

    >>> MAIL FROM:<a@example.org>          what we said
    <<< 250 2.1.0 Ok                       what the receiver said
    connecting to 192.0.2.1 port 25        what we did

Passwords are not shown, the message only when asked for. Bounded, whatever the receiver sends.
"""

from __future__ import annotations

from typing import NamedTuple

from mta.clock import Clock

__all__ = ["Dialogue", "Line"]

#: Longer lines are cut, later ones left out.
LINE_LIMIT = 2000
LINES_LIMIT = 5000

SENT, RECEIVED = ">>> ", "<<< "


class Line(NamedTuple):
    """`time` in epoch seconds."""

    time: float
    text: str


class Dialogue:
    """Collects `lines`; with `with_data` the message's own as well."""

    def __init__(self, *, clock: Clock, with_data: bool = False) -> None:
        self.lines: list[Line] = []
        self._clock = clock
        self._with_data = with_data
        self._partial = {SENT: b"", RECEIVED: b""}
        self._data = -1  # octets of the message so far; -1 outside of it
        self._is_logging_in = False

    def note(self, text: str) -> None:
        """Something happened that neither side said."""
        if len(self.lines) < LINES_LIMIT:
            self.lines.append(Line(self._clock.wall(), text[:LINE_LIMIT]))
        elif len(self.lines) == LINES_LIMIT:
            self.lines.append(Line(self._clock.wall(), "(the rest is left out)"))

    def begin_data(self) -> None:
        """What is sent from here on, up to the receiver's next word, is the message."""
        self._data = max(self._data, 0)

    def sent(self, data: bytes) -> None:
        """Octets that we wrote."""
        if self._data >= 0:
            self._data += len(data)
            if not self._with_data:
                return
        self._take(SENT, data)

    def received(self, data: bytes) -> None:
        """Octets that the receiver wrote."""
        if self._data >= 0:
            if not self._with_data:
                self.note(f"{SENT}({self._data} octets of message, with the final dot)")
            self._data = -1
        self._take(RECEIVED, data)

    def __repr__(self) -> str:
        return f"<Dialogue of {len(self.lines)} lines>"

    def _take(self, side: str, data: bytes) -> None:
        *whole, rest = (self._partial[side] + data).split(b"\n")
        for line in whole:
            self._say(side, line.rstrip(b"\r"))
        if len(rest) > LINE_LIMIT:
            self._say(side, rest)
            rest = b""
        self._partial[side] = rest

    def _say(self, side: str, line: bytes) -> None:
        if side == SENT and self._data < 0:
            line = self._without_secrets(line)
        elif side == RECEIVED and not line.startswith(b"334"):
            self._is_logging_in = False
        text = line[:LINE_LIMIT].decode("utf-8", "backslashreplace")
        if not text.isprintable():
            text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        self.note(side + text)

    def _without_secrets(self, line: bytes) -> bytes:
        if self._is_logging_in:
            return b"(secret)"
        words = line.split()
        if words and words[0].upper() == b"AUTH":
            self._is_logging_in = True
            return b" ".join([*words[:2], b"(secret)"]) if len(words) > 2 else line
        return line
