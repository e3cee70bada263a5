"""What must survive in a damaged image, found by comparing bytes with the sound one.

Independent of recovery: it knows where each record of the sound image lies and asks whether the damaged one
still has these bytes at that place of some file, under a sound header of the same use. A record that is there
must be obeyed, whatever happened around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from mta.spool.record import (
    DATA_START,
    FileHeader,
    FileState,
    FormatVersionError,
    RecordKind,
    decode_accept_head,
    decode_file_header,
)
from mta.spool.recovery import ACCEPT_FOLDER, SETTLE_FOLDER
from mta.spool.scan import HOLE, Scanner
from tests.reliability.damage import Image

__all__ = ["Oracle", "Place"]


class Place(NamedTuple):
    """A record of the sound image."""

    folder: str
    header: FileHeader
    at: int
    content: bytes


@dataclass(slots=True)
class Oracle:
    """The records of one sound image: copies of each message, settlements of each recipient."""

    messages: dict[int, list[Place]] = field(default_factory=dict)
    recipients: dict[int, int] = field(default_factory=dict)
    settled: dict[tuple[int, int], list[Place]] = field(default_factory=dict)

    @classmethod
    def of(cls, image: Image) -> Oracle:
        """Read a sound image."""
        found = cls()
        for name, content in image.items():
            folder = name.rpartition("/")[0]
            header = _header(content)
            if header is None or header.state != FileState.IN_USE or not _is_spool_file(name):
                continue
            for kind, at, recipient, message, head, follow in _records(content, header):
                place = Place(folder, header, at, content[at:follow])
                if kind in (RecordKind.ACCEPT, RecordKind.MOVED):
                    found.messages.setdefault(message, []).append(place)
                    found.recipients[message] = recipient
                    assert decode_accept_head(head)
                elif kind == RecordKind.SETTLE:
                    found.settled.setdefault((message, recipient), []).append(place)
        return found

    def due(self, damaged: Image) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
        """(message, recipient) that must be sent, and those that must not, with this image.

        In neither are recipients whose message or settlement is damaged: a lost settlement may repeat.
        """
        headers = {
            name: header
            for name, content in damaged.items()
            if _is_spool_file(name) and (header := _header(content)) is not None
        }
        ways: dict[tuple[str, FileHeader], list[bytes]] = {}
        for name, header in headers.items():
            ways.setdefault((name.rpartition("/")[0], header), []).append(damaged[name])

        def is_there(place: Place) -> bool:
            files = ways.get((place.folder, place.header), [])
            end = place.at + len(place.content)
            return any(content[place.at : end] == place.content for content in files)

        wanted, done = set(), set()
        for message, copies in self.messages.items():
            is_sound = any(is_there(copy) for copy in copies)
            for recipient in range(self.recipients[message]):
                settlements = self.settled.get((message, recipient), [])
                if any(is_there(settlement) for settlement in settlements):
                    done.add((message, recipient))
                elif is_sound and not settlements:
                    wanted.add((message, recipient))
        return wanted, done


def _is_spool_file(name: str) -> bool:
    folder, _, last = name.rpartition("/")
    return folder in (ACCEPT_FOLDER, SETTLE_FOLDER) and last.isdigit()


def _header(content: bytes) -> FileHeader | None:
    try:
        return decode_file_header(content[:DATA_START])
    except FormatVersionError:
        return None


def _records(content: bytes, header: FileHeader) -> Iterator[tuple[int, int, int, int, bytes, int]]:
    def read(length: int, at: int) -> bytes:
        return content[at : at + length]

    for found in Scanner(read, header, len(content), bodies=True):
        assert found[0] != HOLE, "the sound image has a hole"
        yield found
