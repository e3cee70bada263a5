"""Reading the heads of records without their bodies: checked, and one message after the other."""

from __future__ import annotations

from collections.abc import Mapping

from mta.errors import SpoolCorrupt
from mta.spool.checksum import crc32
from mta.spool.index import Place
from mta.spool.record import RECORD_SIZE, unpack_record
from mta.spool.segment import Segment

__all__ = ["HeadReader", "check_head"]

#: Small records are read many at a time; a large one only as far as an envelope usually goes.
_WINDOW, _PROBE = 256 << 10, 4096


def check_head(data: bytes, at: int, segment: Segment, message: int) -> int:
    """Where the head of the record at `at` ends in `data`.

    SpoolCorrupt when it is not a sound record of this use of the file, about this message.
    """
    if len(data) - at >= RECORD_SIZE:
        check, salt, number, _, _, _, length, found = unpack_record(data, at)
        end: int = at + RECORD_SIZE + length
        header = segment.header
        is_ours = found == message and salt == header.salt and number == header.number
        if is_ours and end <= len(data) and crc32(data[at + 4 : end]) == check:
            return end
    raise SpoolCorrupt(f"record of message {message} does not match its checksum")


class HeadReader:
    """Reads heads through a window, which pays when they are asked for in the order of their places."""

    def __init__(self, segments: Mapping[int, Segment]) -> None:
        self._segments = segments
        self._segment: Segment | None = None
        self._base = 0
        self._buffer = b""

    def read(self, message: int, place: Place) -> bytes:
        """The head of a message's record. SpoolCorrupt when it is damaged, or the file is gone."""
        number, at, length = place
        segment = self._segments.get(number)
        if segment is None:
            raise SpoolCorrupt(f"message {message} has lost its file")
        here = at - self._base
        if segment is self._segment and here >= 0 and here + min(length, _PROBE) <= len(self._buffer):
            try:
                return self._buffer[here + RECORD_SIZE : check_head(self._buffer, here, segment, message)]
            except SpoolCorrupt:
                pass  # a long head, or the file has changed since: look again
        wanted = _WINDOW if length <= _PROBE else _PROBE
        buffer = segment.read_past_damage(wanted, at)
        if len(buffer) >= RECORD_SIZE:
            head = RECORD_SIZE + unpack_record(buffer, 0)[6]
            if len(buffer) < head <= length:
                buffer = segment.read_past_damage(head, at)
        self._segment, self._base, self._buffer = segment, at, buffer
        return buffer[RECORD_SIZE : check_head(buffer, 0, segment, message)]
