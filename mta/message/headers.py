"""Read and edit the header block of a message in wire form, without ever rewriting what is not asked for.

A *block* is the bytes from the first field to the CRLF of the last one; the blank line is not part of it
(`header_end` finds the border). Everything here works on bytes as they came: lines end in CRLF, a folded
field goes on where the next line begins with a blank or a tab (RFC 5322 2.2.3), leading dots are still
stuffed (only a malformed field begins with a dot, so nobody looks for one). A line that is no field at all
keeps its place and has an empty name: a malformed block survives every function unchanged, except where a
field is removed by name.

This is not a MIME parser, and nothing here looks at a body. No function fails, whatever the bytes are;
only `make_field` refuses values that would break out of their field.

Names are given in lower case. Hot path: callers that look up several names lower the block once and use
`find` (a lookup is one `bytes.find`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from mta.errors import LocalProtocolError

__all__ = [
    "Field",
    "count",
    "count_received",
    "field_end",
    "fields",
    "find",
    "fold",
    "get",
    "get_all",
    "has",
    "header_end",
    "make_field",
    "prepend",
    "remove",
    "unfold",
    "value_at",
]

#: RFC 5322 2.1.1: lines should not be longer, without the line end.
LINE_LENGTH = 78


class Field(NamedTuple):
    """One field: the lower-case name ("" when the line is no field), and its bytes with every line end."""

    name: bytes
    raw: bytes

    @property
    def value(self) -> bytes:
        """What follows the colon, unfolded and without surrounding blanks."""
        return unfold(self.raw.partition(b":")[2] if self.name else self.raw)


def header_end(message: bytes) -> int:
    """Where the header block of a message ends: the length of the block, CRLF of the last field included.

    The blank line, when there is one, is `message[end:end + 2]` and the body begins behind it. A message
    without a blank line is all header.
    """
    if message.startswith(b"\r\n"):
        return 0
    end = message.find(b"\r\n\r\n")
    return len(message) if end < 0 else end + 2


def fields(block: bytes) -> Iterator[Field]:
    """Every field of a block in order; joining their `raw` gives the block again."""
    position, length = 0, len(block)
    while position < length:
        end = field_end(block, position)
        colon = block.find(b":", position, end)
        name = block[position:colon] if colon > 0 else b""
        if b" " in name or b"\t" in name or b"\n" in name:
            name = _obsolete_name(name)
        yield Field(name.lower(), block[position:end])
        position = end


def field_end(block: bytes, start: int) -> int:
    """The offset behind the field that begins at `start`, with all its continuation lines."""
    end = block.find(b"\r\n", start)
    while end >= 0:
        end += 2
        if block[end : end + 1] not in (b" ", b"\t"):
            return end
        end = block.find(b"\r\n", end)
    return len(block)


def find(lowered: bytes, name: bytes, start: int = 0) -> int:
    """The offset of the first field of this name at or behind `start` (a field border), -1 without one.

    `lowered` is `block.lower()`, made once by the caller: offsets are the same in both.
    """
    if lowered.startswith(name, start) and _is_name_end(lowered, start + len(name)):
        return start
    wanted = b"\r\n" + name
    at = lowered.find(wanted, start)
    while at >= 0:
        if _is_name_end(lowered, at + len(wanted)):
            return at + 2
        at = lowered.find(wanted, at + 2)
    return -1


def value_at(block: bytes, start: int) -> bytes:
    """The unfolded value of the field that begins at `start`."""
    return unfold(block[start : field_end(block, start)].partition(b":")[2])


def get(block: bytes, name: bytes) -> bytes | None:
    """The value of the first field of this name, unfolded; None when there is none."""
    at = find(block.lower(), name)
    return None if at < 0 else value_at(block, at)


def get_all(block: bytes, name: bytes) -> list[bytes]:
    """The values of all fields of this name, from the top."""
    lowered = block.lower()
    values: list[bytes] = []
    at = find(lowered, name)
    while at >= 0:
        end = field_end(block, at)
        values.append(unfold(block[at:end].partition(b":")[2]))
        at = find(lowered, name, end)
    return values


def has(block: bytes, name: bytes) -> bool:
    """Whether there is a field of this name."""
    return find(block.lower(), name) >= 0


def count(block: bytes, name: bytes) -> int:
    """How many fields of this name there are."""
    lowered = block.lower()
    number = 0
    at = find(lowered, name)
    while at >= 0:
        number += 1
        at = find(lowered, name, at + len(name))
    return number


def count_received(block: bytes) -> int:
    """How many servers the message has passed: RFC 5321 6.3, for loop detection."""
    return count(block, b"received")


def remove(block: bytes, names: Collection[bytes]) -> bytes:
    """The block without the fields of these names; the same object when there is none of them."""
    lowered = block.lower()
    spans: list[tuple[int, int]] = []
    for name in names:
        at = find(lowered, name)
        while at >= 0:
            end = field_end(block, at)
            spans.append((at, end))
            at = find(lowered, name, end)
    if not spans:
        return block
    kept: list[bytes] = []
    border = 0
    for start, end in sorted(spans):
        kept.append(block[border:start])
        border = end
    kept.append(block[border:])
    return b"".join(kept)


def prepend(block: bytes, *new: bytes) -> bytes:
    """The block with complete fields (line end included) in front of it, in the order given."""
    return b"".join(new) + block


def make_field(name: bytes, value: bytes) -> bytes:
    """One complete field, folded where a blank allows it.

    Raises LocalProtocolError when the value has a line end or a NUL: a value from outside must not be able
    to add fields or end the header.
    """
    if b"\r" in value or b"\n" in value or b"\0" in value:
        raise LocalProtocolError(f"a value for {name.decode('ascii', 'replace')} has a line end in it")
    return fold(name + b": " + value)


def fold(line: bytes, width: int = LINE_LENGTH) -> bytes:
    """A line broken at blanks so that every part has at most `width` octets where possible, with its CRLF.

    A word longer than the width stays whole: breaking it would change the value.
    """
    if len(line) <= width:
        return line + b"\r\n"
    parts: list[bytes] = []
    # The blank behind the colon is no place to break: some parsers take the empty first line amiss.
    earliest = line.find(b":") + 2
    while len(line) > width:
        at = line.rfind(b" ", earliest, width + 1)
        if at <= 0 or not line[:at].strip():
            at = line.find(b" ", max(width, earliest))
            if at < 0:
                break
        parts.append(line[:at])
        line = line[at:]
        earliest = 1
    parts.append(line)
    # A last part of blanks alone would be read as the end of the header by some; glue it to the one before.
    if not parts[-1].strip() and len(parts) > 1:
        parts[-2:] = [parts[-2] + parts[-1]]
    return b"\r\n".join(parts) + b"\r\n"


def unfold(value: bytes) -> bytes:
    """A field's value on one line: folding line ends go, the blanks behind them stay (RFC 5322 2.2.3)."""
    if b"\r\n" in value:
        value = value.replace(b"\r\n", b"")
    return value.strip(b" \t")


def _is_name_end(lowered: bytes, at: int) -> bool:
    """Whether a name ends here: a colon, perhaps behind blanks (obsolete syntax, RFC 5322 4.5)."""
    following = lowered[at : at + 1]
    if following == b":":
        return True
    return following in (b" ", b"\t") and lowered[at : at + 998].lstrip(b" \t").startswith(b":")


def _obsolete_name(name: bytes) -> bytes:
    """A name without the blanks before its colon; "" when blanks inside show that it is no name."""
    name = name.rstrip(b" \t")
    return b"" if b" " in name or b"\t" in name or b"\n" in name else name
