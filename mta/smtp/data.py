"""The content of a message on its way in: where it ends, whether it may pass, and its bytes in wire form.

Wire form is what SMTP carries between DATA and the final dot: lines end in CRLF, a line that begins with a
dot has a second one in front. The content is kept like that from here to the receiver, so that nothing is
copied or escaped twice. `DataReader` reads DATA (RFC 5321 4.5.2), `ChunkReader` the chunks of BDAT (RFC
3030), which it brings into the same form.

Only CR LF dot CR LF ends a message. Content with a bare CR, a bare LF or a NUL is refused: servers disagree
on what those mean, and such a disagreement lets one message pass for two (CVE-2023-51764 and its
relatives). A NUL counts because some servers drop it, and then see a lone dot where we saw none.

Both readers work in any chunking and in bounded memory: content that is going to be refused is dropped as it
arrives. `refusal` is the reply to give at the end; the message is read to its end all the same, because only
then does the client listen. Hot path: one message in one chunk costs about 15 µs for 10 KB.
"""

from __future__ import annotations

from mta.smtp.reply import Reply

__all__ = [
    "BARE_LINE_END",
    "LINE_LIMIT",
    "LINE_TOO_LONG",
    "NUL_IN_CONTENT",
    "TOO_BIG",
    "ChunkReader",
    "Content",
    "DataReader",
]

#: RFC 5321 4.5.3.1.6, without the CRLF.
LINE_LIMIT = 998

BARE_LINE_END = Reply(550, "5.6.11 Message contains a bare CR or LF (RFC 5321 2.3.8)", "5.6.11")
NUL_IN_CONTENT = Reply(550, "5.6.0 Message contains a NUL character", "5.6.0")
LINE_TOO_LONG = Reply(550, "5.6.0 Message contains a line that is too long (RFC 5321 4.5.3.1.6)", "5.6.0")
TOO_BIG = Reply(552, "5.3.4 Message is larger than the limit", "5.3.4")

_END = b"\r\n.\r\n"
#: So much of the end mark may be taken for content before it is known to be the end mark.
_MARK = 2
#: Smaller pieces are gathered: one object per byte received would cost forty times its size.
_SMALL = 4096
_PIECE = 65536


class Content:
    """Checks content piece by piece and keeps it, as long as nothing speaks against it.

    `max_size` is in octets of wire form (None: no limit), `max_line` in octets without the line end.
    """

    __slots__ = (
        "_carried",
        "_carried_first",
        "_gathered",
        "_line_ends",
        "_pairs",
        "_was_cr",
        "chunks",
        "is_8bit",
        "max_line",
        "max_size",
        "refusal",
        "size",
    )

    def __init__(self, max_size: int | None, max_line: int = LINE_LIMIT) -> None:
        self.max_size = max_size
        self.max_line = max_line
        self.clear()

    def clear(self) -> None:
        """Forget everything: the next piece begins a message."""
        self.chunks: list[bytes] = []
        self.size = 0
        self.is_8bit = False
        self.refusal: Reply | None = None
        self._gathered = bytearray()
        self._pairs = self._line_ends = 0
        self._was_cr = False
        self._carried = 0
        self._carried_first = 0

    @property
    def held(self) -> int:
        """How many octets are in memory now."""
        return 0 if self.refusal is not None else self.size

    def add(self, data: bytes) -> None:
        """Check the next piece of content and keep it."""
        self.size += len(data)
        if self.refusal is not None or not data:
            return
        if self.max_size is not None and self.size > self.max_size + _MARK:
            self.refuse(TOO_BIG)
            return
        self._count(data)
        if 0 in data:
            self.refuse(NUL_IN_CONTENT)
        elif not self._lines_fit(data):
            self.refuse(LINE_TOO_LONG)
        else:
            self.is_8bit = self.is_8bit or not data.isascii()
            self._keep(data)

    def add_whole(self, data: bytes, lines: list[bytes]) -> bool:
        """Keep a whole message at once; False when it needs the longer way.

        `lines` is `data.splitlines()`, which breaks at CRLF, CR and LF alike: when two octets went at every
        break, every break was a CRLF. The caller knows that `data` ends in one.
        """
        lengths = list(map(len, lines))
        size = len(data)
        if (
            sum(lengths) + 2 * len(lengths) != size
            or max(lengths) > self.max_line
            or (self.max_size is not None and size > self.max_size)
            or 0 in data
        ):
            return False
        self.size = size
        self.chunks.append(data)
        self.is_8bit = not data.isascii()
        return True

    def refuse(self, reply: Reply) -> None:
        """Drop what is here and what comes; `reply` is the answer at the end."""
        self.refusal = reply
        self.chunks = []
        self._gathered = bytearray()

    def cut(self, count: int) -> None:
        """Take the last `count` octets back: they belonged to the end mark."""
        self.size -= count
        if self.refusal is not None or not count:
            return
        if len(self._gathered) < count:
            self._gathered = bytearray(self.chunks.pop() + self._gathered)
        removed = self._gathered[-count:]
        del self._gathered[-count:]
        self._line_ends -= removed.count(b"\r")
        self._was_cr = False

    def finish(self) -> None:
        """All content is here: make `chunks` complete and decide about the line ends."""
        if self.refusal is None and (self._was_cr or 2 * self._pairs != self._line_ends):
            self.refuse(BARE_LINE_END)
        if self.refusal is None and self.max_size is not None and self.size > self.max_size:
            self.refuse(TOO_BIG)
        self._flush()

    def _keep(self, data: bytes) -> None:
        if len(data) >= _SMALL:
            self._flush()
            self.chunks.append(data)
            return
        self._gathered += data
        if len(self._gathered) >= _PIECE:
            self._flush()

    def _flush(self) -> None:
        if self._gathered:
            self.chunks.append(bytes(self._gathered))
            self._gathered = bytearray()

    def _count(self, data: bytes) -> None:
        self._line_ends += data.count(b"\r") + data.count(b"\n")
        self._pairs += data.count(b"\r\n")
        if self._was_cr and data[0] == 10:
            self._pairs += 1
        self._was_cr = data[-1] == 13

    def _lines_fit(self, data: bytes) -> bool:
        """Whether no line is over the limit; a stuffed dot does not count (RFC 5321 4.5.3.1.6).

        Jumps to the last line end within reach instead of looking at every one.
        """
        reach = self.max_line + 2
        position, length = -self._carried, len(data)
        first = self._carried_first if self._carried else data[0]
        while length - position > self.max_line:
            end = data.rfind(b"\n", max(position, 0), max(position + reach, 0))
            if end < 0 and first == 46:
                end = data.rfind(b"\n", max(position, 0), max(position + reach + 1, 0))
            if end < 0:
                # The end of the chunk may hide the line end that makes the line just fit.
                return length - position <= reach + (first == 46) and self._carry(data, position, first)
            position = end + 1
            first = data[position] if position < length else 0
        end = data.rfind(b"\n", max(position, 0))
        if end >= 0:
            position = end + 1
            first = data[position] if position < length else 0
        return self._carry(data, position, first)

    def _carry(self, data: bytes, position: int, first: int) -> bool:
        self._carried = len(data) - position
        self._carried_first = first
        # Without a CR at its end a line of this length can only become longer.
        excess = self._carried - self.max_line - (first == 46)
        return excess <= 0 or (excess == 1 and data[-1] == 13)


class DataReader(Content):
    """The content behind DATA, up to the final dot."""

    __slots__ = ("_is_fresh", "_tail")

    def clear(self) -> None:
        super().clear()
        # The line end of the command before counts: a message may consist of the final dot alone.
        self._tail = b"\r\n"
        self._is_fresh = True

    def feed(self, data: bytes) -> int:
        """Take the next octets from the wire.

        Answers how many of them were the message's, -1 when all were and there are more to come. After any
        other answer the message is complete: `refusal` or `chunks` (without the final dot) and `size`.
        """
        if self._is_fresh and data.endswith(_END):
            lines = data.splitlines()
            if lines.index(b".") == len(lines) - 1:
                del lines[-1]
                if self.add_whole(data[:-3], lines):
                    return len(data)
        self._is_fresh = False
        tail = self._tail
        at = (tail + data[:4]).find(_END) - len(tail)
        if at < -len(tail):
            at = data.find(_END)
            if at < 0:
                self._tail = (tail + data)[-4:] if len(data) < 4 else data[-4:]
                self.add(data)
                return -1
        content_end = at + 2
        if content_end < 0:
            self.cut(-content_end)
        else:
            self.add(data[:content_end])
        self.finish()
        return at + 5


class ChunkReader(Content):
    """The content of all BDAT chunks of one message; `finish` brings it into wire form."""

    __slots__ = ("_missing",)

    def clear(self) -> None:
        super().clear()
        self._missing = 0

    def expect(self, octets: int) -> None:
        """A BDAT command announced this many octets."""
        self._missing = octets
        if self.max_size is not None and self.size + octets > self.max_size and self.refusal is None:
            self.refuse(TOO_BIG)

    def feed(self, data: bytes) -> int:
        """Take the next octets from the wire; answers as `DataReader.feed` does, for one chunk."""
        if len(data) < self._missing:
            self._missing -= len(data)
            self.add(data)
            return -1
        used = self._missing
        self._missing = 0
        self.add(data if used == len(data) else data[:used])
        return used

    def finish(self) -> None:
        """The last chunk is here: double leading dots and end the last line."""
        super().finish()
        if self.refusal is not None:
            return
        chunks = self.chunks
        if chunks and not chunks[-1].endswith(b"\n"):
            chunks.append(b"\r\n")
        at_line_start = True
        for index, chunk in enumerate(chunks):
            stuffed = chunk.replace(b"\n.", b"\n..") if b"\n." in chunk else chunk
            if at_line_start and chunk[:1] == b".":
                stuffed = b"." + stuffed
            chunks[index] = stuffed
            at_line_start = chunk.endswith(b"\n")
        self.size = sum(map(len, chunks))
