"""From bytes to replies: the client's half of RFC 5321 4.2, for any chunking and any peer.

Pure. It knows nothing of commands: which reply belongs to which is `transaction`'s business. Memory is
bounded whatever the peer sends: a line over 4 KiB, a reply over 32 KiB or over 100 lines, and anything
that isn't a reply breaks the stream for good (`RemoteProtocolError`); there is no way to find the next
reply after that. Of a long reply the beginning is kept. LF alone ends a line too, since servers do that
and nothing can be smuggled to a client.

Hot path (every delivered message): benchmarks/micro/bench_delivery.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mta.errors import RemoteProtocolError
from mta.smtp.reply import Reply
from mta.smtp.status import find_enhanced

__all__ = ["MAX_LINE", "MAX_LINES", "MAX_REPLY", "MAX_TEXT", "Phrasebook", "ReplyParser", "parse_text"]

#: Octets in one line without its end. RFC 5321 4.5.3.1.5 says 512; real servers exceed it with URLs.
MAX_LINE: Final = 4096
#: Octets and lines of one reply with all its lines.
MAX_REPLY: Final = 32 * 1024
MAX_LINES: Final = 100

#: Characters of a reply that are kept: a record is made for each of perhaps a thousand recipients.
MAX_TEXT: Final = 2048

#: What is remembered of replies: so many lines and so many chunks, and how long (octets) each may be.
REMEMBERED: Final = 1000
_LINE_LENGTH: Final = 40
_CHUNK_LENGTH: Final = 160

_CODES: Final = {str(code).encode(): code for code in range(200, 600)}


class Phrasebook:
    """Replies that come again and again ("250 2.1.0 Ok"), made once for all connections that share it.

    It knows single lines, and chunks of replies of one line: what a server answers to an envelope.
    When it is full of replies that never come again ("queued as ..."), it is emptied: the common ones are
    back at once, and that is cheaper than looking for the oldest.
    """

    __slots__ = ("chunks", "lines")

    def __init__(self) -> None:
        self.lines: dict[bytes, Reply] = {}
        self.chunks: dict[bytes, tuple[Reply, ...]] = {}

    def keep_line(self, line: bytes, reply: Reply) -> None:
        """Remember one line without its LF."""
        if len(line) <= _LINE_LENGTH:
            if len(self.lines) >= REMEMBERED:
                self.lines.clear()
            self.lines[line] = reply

    def keep_chunk(self, chunk: bytes, replies: Sequence[Reply]) -> None:
        """Remember what consists of replies of one line."""
        if len(chunk) <= _CHUNK_LENGTH:
            if len(self.chunks) >= REMEMBERED:
                self.chunks.clear()
            self.chunks[chunk] = tuple(replies)


class ReplyParser:
    """Turns what a server sends into `Reply` values."""

    __slots__ = ("_book", "_code", "_lines", "_partial", "_size", "broken", "lines")

    def __init__(self, book: Phrasebook | None = None) -> None:
        #: The error that ended the stream, once it has; replies before it are still returned by `feed`.
        self.broken: RemoteProtocolError | None = None
        #: The lines of the last reply that had several, without codes.
        self.lines: tuple[str, ...] = ()
        self._partial = b""
        self._lines: list[str] = []  # of the reply that has begun, without codes
        self._code = 0
        self._size = 0
        self._book = Phrasebook() if book is None else book

    @property
    def is_idle(self) -> bool:
        """Nothing has come that isn't part of a returned reply."""
        return not self._partial and not self._lines and self.broken is None

    def feed(self, data: bytes) -> Sequence[Reply]:
        """The replies that `data` completes, in order.

        Raises RemoteProtocolError for a broken stream. Replies that were complete before the breach are
        returned first, and then `broken` is set: a delivery that was confirmed stays confirmed.
        """
        is_whole = not self._partial and not self._lines
        if self.broken is not None:
            raise self.broken
        if is_whole and (found := self._book.chunks.get(data)) is not None:
            return found
        if self._partial:
            data = self._partial + data
            self._partial = b""
        lines = data.split(b"\n")
        rest = lines.pop()
        replies: list[Reply] = []
        known = self._book.lines
        is_new = False
        try:
            for line in lines:
                reply = known.get(line) if not self._lines else None
                if reply is None:
                    is_new = True
                    reply = self._take_line(line)
                    if reply is None:
                        continue
                replies.append(reply)
            if rest:
                if len(rest) > MAX_LINE + 1:  # its CR may be there already
                    raise RemoteProtocolError("reply line too long")
                self._partial = rest
        except RemoteProtocolError as error:
            self.broken = error
            self._lines.clear()
            if not replies:
                raise
            return replies
        if is_whole and not rest and not is_new:
            self._book.keep_chunk(data, replies)
        return replies

    def _take_line(self, raw: bytes) -> Reply | None:
        """One line without its LF: the reply it completes, or None while more lines follow."""
        line = raw[:-1] if raw[-1:] == b"\r" else raw
        if len(line) > MAX_LINE:
            raise RemoteProtocolError("reply line too long")
        code, mark = _CODES.get(line[:3]), line[3:4]
        if code is None or mark not in b" -":
            # b"" (a bare code) is in b" -" too, as RFC 5321 4.2 wants.
            raise RemoteProtocolError(f"not a reply: {parse_text(line[:80])!r}")
        if self._lines:
            self._check_same_kind(code)
        text = parse_text(line[4:])
        if mark == b"-" or self._lines:
            return self._take_part(code, text, size=len(line), last=mark != b"-")
        reply = Reply(code, text[:MAX_TEXT], find_enhanced(text))
        self._book.keep_line(raw, reply)
        return reply

    def _take_part(self, code: int, text: str, *, size: int, last: bool) -> Reply | None:
        lines = self._lines
        self._size += size
        if len(lines) >= MAX_LINES or self._size > MAX_REPLY:
            raise RemoteProtocolError("reply too long")
        lines.append(text)
        self._code = code
        if not last:
            return None
        self.lines = tuple(lines)
        enhanced = find_enhanced(lines[0])
        if enhanced:
            # "550-5.1.1 a / 550 5.1.1 b": the code once in front is what patterns and people expect.
            lines[1:] = [line.removeprefix(enhanced).lstrip() for line in lines[1:]]
        else:
            enhanced = find_enhanced(text)
        joined = " ".join(line for line in lines if line)
        lines.clear()
        self._size = 0
        return Reply(code, joined[:MAX_TEXT], enhanced)

    def _check_same_kind(self, code: int) -> None:
        """Mixed codes: the last line decides, as receivers mean it, unless one says yes and one says no."""
        before, now = self._code // 100, code // 100
        if before != now and (before < 4 or now < 4):
            raise RemoteProtocolError(f"a reply of both {self._code} and {code}")


def parse_text(raw: bytes) -> str:
    """A server's words made harmless: UTF-8, other octets and control characters as \\x escapes.

    What is stored, logged and shown is this text, so that no reply can break a line of a log or CSV, or
    send codes to a terminal.
    """
    text = raw.decode("utf-8", "backslashreplace").strip()
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else f"\\x{ord(char):02x}" if ord(char) < 256 else " " for char in text
    ).replace("\\x09", " ")
