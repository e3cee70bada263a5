"""The first words of a connection, as a client: greeting, EHLO, HELO for servers that know no other.

RFC 5321 3.1 and 3.2.

Pure. `receive` takes what the server sends and gives what to send next, until `is_ready` or a `failure`:

    220 ──▶ EHLO ──▶ 250 ready             5xx ──▶ HELO ──▶ 250 ready
    anything else is a failure, and so is a byte that comes before its question

Not done here: connecting, time limits, and what follows (STARTTLS, AUTH). A stream that is no SMTP is a
failure too; nothing is raised. Memory is bounded by `ReplyParser`.

Hot path where each message opens a connection: what is usual is recognised at a glance, and what a receiver
offers is read once (`Offers`). benchmarks/micro/bench_opening.py.
"""

from __future__ import annotations

import enum
from typing import Final

from mta.errors import RemoteProtocolError
from mta.smtp.extensions import PLAIN_SMTP, Extensions
from mta.smtp.reply import Reply
from mta.smtp.replyparser import MAX_LINE, ReplyParser
from mta.smtp.transaction import internal_reply

__all__ = ["OUT_OF_TURN", "Offers", "Opening"]

#: Answers to EHLO that are remembered, and how long (octets) each may be.
REMEMBERED: Final = 1000
REMEMBERED_LENGTH: Final = 1024

OUT_OF_TURN: Final = internal_reply(451, "4.4.2", "the server spoke out of turn")


class Offers:
    """Answers to EHLO as they came, and what they mean: hosts of one receiver all say the same."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, Extensions] = {}

    def get(self, answer: bytes) -> Extensions | None:
        """What this whole answer was found to mean."""
        return self._known.get(answer)

    def keep(self, answer: bytes, extensions: Extensions) -> None:
        """Remember it; the oldest is forgotten for it."""
        if len(answer) <= REMEMBERED_LENGTH:
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[answer] = extensions

    def __len__(self) -> int:
        return len(self._known)


class _Stage(enum.Enum):
    """Whose answer is awaited."""

    GREETING = "greeting"
    EHLO = "EHLO"
    HELO = "HELO"
    OVER = "over"


_GREETING, _EHLO, _HELO, _OVER = _Stage


class Opening:
    """One connection's first words; `host_name` is what we call ourselves."""

    __slots__ = (
        "_host_name",
        "_offers",
        "_parser",
        "_stage",
        "extensions",
        "failure",
        "is_pix",
        "is_refusal",
    )

    def __init__(self, host_name: str, offers: Offers) -> None:
        """Raises ValueError for what is no host name."""
        if not (host_name.isascii() and host_name.isprintable()):
            raise ValueError(f"no host name: {host_name!r}")
        self.extensions: Extensions = PLAIN_SMTP
        #: Why no mail can be sent here; None while that is open, and when it can.
        self.failure: Reply | None = None
        #: The failure is a permanent no in place of a greeting.
        self.is_refusal = False
        #: The greeting was starred out, as old PIX firewalls do.
        self.is_pix = False
        self._host_name = host_name
        self._offers = offers
        self._parser: ReplyParser | None = None  # made for what is not usual
        self._stage = _GREETING

    @property
    def is_ready(self) -> bool:
        """The server awaits MAIL (or STARTTLS, or AUTH)."""
        return self._stage is _OVER and self.failure is None

    @property
    def awaits(self) -> str:
        """What the server has not answered yet, for people: greeting, EHLO."""
        return "greeting" if self._stage is _GREETING else "EHLO"

    def receive(self, data: bytes) -> bytes:
        """Take what came; returns the command to send, b"" for none."""
        stage = self._stage
        if self._parser is None:
            if stage is _GREETING and is_plain_greeting(data):
                self._stage = _EHLO
                self.is_pix = data.startswith(b"****", 4)
                return self._command("EHLO")
            if stage is _EHLO and (known := self._offers.get(data)) is not None:
                self._stage, self.extensions = _OVER, known
                return b""
        if stage is _OVER:
            self.failure = self.failure or OUT_OF_TURN
            return b""
        return self._receive(data)

    def _receive(self, data: bytes) -> bytes:
        parser = self._parser = self._parser or ReplyParser()
        is_whole = parser.is_idle
        try:
            replies = parser.feed(data)
        except RemoteProtocolError as error:
            self._fail(internal_reply(451, "4.5.0", f"protocol error: {error}"))
            return b""
        if not replies:
            return b""
        stage = self._stage
        command = self._answered(replies[0], parser.lines)
        if self.failure is None and (len(replies) > 1 or not parser.is_idle):
            self._fail(OUT_OF_TURN)
        if self.failure is not None:
            return b""
        self._parser = None
        if is_whole and stage is _EHLO and self._stage is _OVER:
            self._offers.keep(data, self.extensions)
        return command

    def _answered(self, reply: Reply, lines: tuple[str, ...]) -> bytes:
        """One whole reply to what was asked last."""
        stage, code = self._stage, reply.code
        if stage is _GREETING:
            if code == 220:
                self._stage = _EHLO
                return self._command("EHLO")
            self.is_refusal = reply.is_permanent
        elif code == 250:
            self._stage = _OVER
            if stage is _EHLO:
                self.extensions = Extensions.parse(lines[1:])
            return b""
        elif stage is _EHLO and reply.is_permanent:
            self._stage = _HELO
            return self._command("HELO")
        if reply.is_temporary or reply.is_permanent:
            self._fail(reply)
        else:
            self._fail(internal_reply(451, "4.5.0", f"protocol error: {code} {reply.text[:200]}"))
        return b""

    def _fail(self, reply: Reply) -> None:
        self._stage, self.failure = _OVER, reply

    def _command(self, verb: str) -> bytes:
        return f"{verb} {self._host_name}\r\n".encode("ascii")

    def __repr__(self) -> str:
        state = "ready" if self.is_ready else f"failed: {self.failure}" if self.failure else self.awaits
        return f"<Opening: {state}>"


def is_plain_greeting(data: bytes) -> bool:
    """One whole line that says 220; its words mean nothing to us."""
    return data[:4] == b"220 " and data.find(b"\n") == len(data) - 1 <= MAX_LINE
