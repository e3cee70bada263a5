"""A message in the canonical forms that DKIM hashes (RFC 6376 3.4).

What goes in is the message as it will go over the wire, dots stuffed; what comes out is made of what the
receiver has after taking the stuffing away. The body is brought into its form in pieces and by whole-buffer
operations that run at C speed, because a loop over its lines would cost as much as an RSA signature. Nothing
fails, whatever the bytes are.
"""

from __future__ import annotations

import enum
import hashlib
import re
from binascii import b2a_base64
from itertools import repeat
from typing import TypeAlias

from mta.message import headers

__all__ = ["KEPT_SHAPES", "LARGEST_SHAPE", "Canon", "Fields", "Signable", "hash_body"]

_RUNS = re.compile(rb"  +")
_BLANKS, _COLONS = repeat(b" "), repeat(b":")

#: The body is hashed in pieces of about this size, so that a 50 MB message is not copied as a whole.
PIECE = 256 * 1024
#: Of so many sets of field names others may keep what they have found out, and of none that is larger: a
#: stream of mail has a few.
KEPT_SHAPES, LARGEST_SHAPE = 256, 100

#: The names of all fields from the top, as they are written but for blanks, and what each comes to: the value
#: in relaxed form, or (simple) the whole field.
Fields: TypeAlias = tuple[tuple[bytes, ...], tuple[bytes, ...]]


class Canon(enum.Enum):
    """How header or body are brought into a form that survives small changes (RFC 6376 3.4)."""

    SIMPLE = b"simple"
    RELAXED = b"relaxed"

    __hash__ = object.__hash__  # there is one of each; Enum's own is a function in Python


class Signable:
    """One message while it is being signed, once or several times."""

    __slots__ = ("_body", "_body_hashes", "_message", "block", "relaxed")

    def __init__(self, message: bytes) -> None:
        end = headers.header_end(message)
        block = message[:end]
        if block and not block.endswith(b"\r\n"):
            block += b"\r\n"
        #: The header block as the receiver will have it, and its fields in relaxed form.
        self.block = block = _unstuff(block)
        self.relaxed = _relaxed_fields(block)
        self._message = message
        self._body = end + 2
        self._body_hashes: dict[Canon, tuple[bytes, int]] = {}

    def body_hash(self, canon: Canon) -> tuple[bytes, int]:
        """The values of bh=, base64, and of l=, the octets that went into it."""
        found = self._body_hashes.get(canon)
        if found is None:
            digest, length = hash_body(self._message, self._body, canon)
            found = self._body_hashes[canon] = (b2a_base64(digest, newline=False), length)
        return found

    def simple(self) -> Fields:
        """Every field as it is."""
        found = list(headers.fields(self.block))
        return tuple([field.name for field in found]), tuple([field.raw for field in found])


def hash_body(message: bytes, start: int, canon: Canon) -> tuple[bytes, int]:
    """SHA-256 over the canonical form (RFC 6376 3.4.3, 3.4.4) of the body that begins at `start`, and the
    octets of that form."""
    if len(message) - start <= PIECE:
        piece = _canonical_lines(message[start:], canon)
        end = _end_of_text(piece)
        if end or canon is Canon.SIMPLE:
            end += 2
        if end < len(piece):
            piece = piece[:end]
        return hashlib.sha256(piece).digest(), end
    digest = hashlib.sha256()
    length = 0
    waiting = 0  # line ends behind the last text: hashed only when more text follows
    is_empty = True
    while start < len(message):
        end = _end_of_piece(message, start)
        piece = _canonical_lines(message[start:end], canon)
        start = end
        text = _end_of_text(piece)
        if text:
            digest.update(b"\r\n" * waiting)
            digest.update(memoryview(piece)[:text])
            length += 2 * waiting + text
            waiting, is_empty = 0, False
        waiting += (len(piece) - text) // 2
    if not is_empty or canon is Canon.SIMPLE:
        digest.update(b"\r\n")
        length += 2
    return digest.digest(), length


def _canonical_lines(lines: bytes, canon: Canon) -> bytes:
    """Whole lines of a body in canonical form, but for the empty ones at its end."""
    lines = _unstuff(lines)
    if not lines.endswith(b"\r\n"):
        lines += b"\r\n"  # the end of data is a line of its own: the receiver will see one
    return _relax_lines(lines) if canon is Canon.RELAXED else lines


def _end_of_piece(message: bytes, start: int) -> int:
    """The end of a line about PIECE octets further on."""
    if len(message) - start <= PIECE:
        return len(message)
    end = message.find(b"\r\n", start + PIECE)
    return len(message) if end < 0 else end + 2


def _unstuff(lines: bytes) -> bytes:
    """What the receiver has after RFC 5321 4.5.2: one dot less on each line that begins with one."""
    if b"." not in lines:  # ten times as fast as looking for the line end as well
        return lines
    if lines.startswith(b"."):
        lines = lines[1:]
    return lines.replace(b"\r\n.", b"\r\n") if b"\r\n." in lines else lines


def _relax_lines(lines: bytes) -> bytes:
    """Runs of blanks and tabs become one blank, those at line ends go."""
    if b"\t" in lines:
        lines = lines.replace(b"\t", b" ")
    if b" " not in lines:  # base64
        return lines
    if b"  " in lines:
        # The only regular expression over bodies: halving runs by replace until none is left takes three to
        # four times as long on indented HTML, and this one can't backtrack.
        lines = _RUNS.sub(b" ", lines)
    return lines.replace(b" \r\n", b"\r\n") if b" \r\n" in lines else lines


def _end_of_text(piece: bytes) -> int:
    """Where the line ends begin that end a piece (which ends in CRLF)."""
    end = len(piece) - 2
    while end >= 2 and piece.startswith(b"\r\n", end - 2):
        end -= 2
    return end


def _relaxed_fields(block: bytes) -> Fields:
    """RFC 6376 3.4.2 over a whole block at once: unfold, squeeze blanks. Lines that are no fields are left
    out; a name that isn't one has blanks in it, or is empty. Hot path: of each field it has one step."""
    if b"\t" in block:
        block = block.replace(b"\t", b" ")
    if b"\r\n " in block:
        block = block.replace(b"\r\n ", b" ")
    while b"  " in block:
        block = block.replace(b"  ", b" ")
    parts = list(map(bytes.partition, block[:-2].split(b"\r\n"), _COLONS))
    names, colons, values = zip(*parts, strict=True)
    if b"" in colons:
        parts = [part for part in parts if part[1]]
        if not parts:
            return (), ()
        names, _, values = zip(*parts, strict=True)
    return names, tuple(map(bytes.strip, values, _BLANKS))
