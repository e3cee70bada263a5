"""Looking into a partition without the daemon: list, show, verify, export.

Reads only, takes no lock, and works on a copy as well as beside a running daemon. Beside a running one the
picture is of one moment, file by file: a message that compaction moves while we look may be missed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import NamedTuple

from mta.errors import SpoolCorrupt, SpoolError
from mta.message.envelope import Envelope, decode_envelope
from mta.spool.checksum import crc32
from mta.spool.files import Files
from mta.spool.heads import HeadReader, check_head
from mta.spool.index import Place
from mta.spool.lock import lock_holder
from mta.spool.quarantine import Damage
from mta.spool.record import RECORD_SIZE, FileState, decode_accept_head
from mta.spool.recovery import ACCEPT_FOLDER, survey
from mta.spool.scan import HOLE, Scanner
from mta.spool.shelf import DiskShelf

__all__ = ["Inspection", "Listed", "RecipientState", "Report", "as_file", "partitions_below"]

#: So much of a file is searched in one go.
_PIECE = 1 << 20
#: Messages whose places are in memory; the places of those before them are in pages on disk.
MOST_IN_MEMORY = 1 << 16


class RecipientState(NamedTuple):
    """One recipient, at `position` in the envelope. `due` is 0.0 for one that was never deferred."""

    position: int
    address: str
    queue: str
    is_settled: bool
    attempts: int
    due: float


class Listed(NamedTuple):
    """One message that somebody waits for. `size` is the body's length in wire form."""

    partition: Path
    message: int
    envelope: Envelope
    size: int
    recipients: tuple[RecipientState, ...]

    @property
    def waiting(self) -> int:
        return sum(not recipient.is_settled for recipient in self.recipients)


@dataclass(frozen=True, slots=True)
class Report:
    """The result of `verify`. `holder` is the process that has the partition open, "" for none."""

    partition: Path
    holder: str
    accept_files: int
    settle_files: int
    free_files: int
    messages: int
    recipients: int
    bytes: int
    quarantined: int
    damage: tuple[Damage, ...] = field(default=())


def partitions_below(path: Path) -> list[Path]:
    """The partition at `path`, or those in its sub-directories. SpoolError when there is none."""
    if (path / ACCEPT_FOLDER).is_dir():
        return [path]
    try:
        found = sorted(entry for entry in path.iterdir() if (entry / ACCEPT_FOLDER).is_dir())
    except OSError as error:
        raise SpoolError(f"{path}: {error.strerror}") from error
    if not found:
        raise SpoolError(f"{path} holds no spool")
    return found


def as_file(body: bytes) -> bytes:
    """A body as a message file: wire form without the dots that SMTP doubles (RFC 5321 4.5.2)."""
    body = body.replace(b"\r\n..", b"\r\n.")
    return body[1:] if body.startswith(b"..") else body


class Inspection:
    """One look at a partition; use it in a `with` statement. SpoolError when it can't be read at all.

    Of a long spool only so many places are in memory, about; the others are in a temporary directory.
    """

    def __init__(
        self, partition: Path, files: Files | None = None, most_in_memory: int = MOST_IN_MEMORY
    ) -> None:
        self.partition = partition
        if not (partition / ACCEPT_FOLDER).is_dir():
            raise SpoolError(f"{partition} holds no spool")
        files = files or Files()
        try:
            with ExitStack() as opened:
                self._found = survey(files, partition, limit=most_in_memory, shelf=_shelf(files, opened))
                opened.callback(self._found.close)
                self._opened = opened.pop_all()
        except OSError as error:
            raise SpoolError(f"{partition}: {error.strerror or error}") from error
        self._segments = {segment.number: segment for segment in self._found.accepts}

    def __enter__(self) -> Inspection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def __repr__(self) -> str:
        return f"<Inspection {self.partition} {self._found.index!r}>"

    def messages(self) -> Iterator[Listed]:
        """Every message that somebody waits for, oldest first; unreadable ones are left to `verify`."""
        return self._read(self._found.index.walk())

    def _read(self, rows: Iterable[tuple[int, Place, int]]) -> Iterator[Listed]:
        heads = HeadReader(self._segments)
        for message, place, settled in rows:
            try:
                size, _, encoded = decode_accept_head(heads.read(message, place))
                envelope = decode_envelope(encoded)
            except (SpoolCorrupt, ValueError):
                continue
            yield Listed(self.partition, message, envelope, size, self._states(message, envelope, settled))

    def find(self, name: str) -> Listed | None:
        """A message by queue id, or by its number in the partition."""
        index = self._found.index
        number = int(name) if name.isascii() and name.isdigit() and len(name) < 20 else 0
        place = index.place(number) if number and index.waiting(number) else None
        if place is not None and str(number) == name:
            for listed in self._read([(number, place, index.settled_in_part(number))]):
                return listed
        said = self._offsets_of(name.encode("utf-8", "surrogateescape"))
        rows = (row for row in index.walk() if _holds(row[1], said)) if said else ()
        return next((listed for listed in self._read(rows) if listed.envelope.queue_id == name), None)

    def _offsets_of(self, text: bytes) -> dict[int, list[int]]:
        """Where these octets stand, by the numbers of accept files: to decode every envelope takes longer."""
        found: dict[int, list[int]] = {}
        for number, segment in self._segments.items() if text else ():
            for start in range(0, segment.size, _PIECE):
                piece = segment.read_past_damage(min(_PIECE + len(text) - 1, segment.size - start), start)
                at = piece.find(text)
                while at >= 0:
                    found.setdefault(number, []).append(start + at)
                    at = piece.find(text, at + 1)
        return found

    def body(self, message: int) -> bytes:
        """The body in wire form. SpoolCorrupt when it doesn't match its checksum."""
        head, body = self._record(message)
        size, check, _ = decode_accept_head(head)
        if len(body) != size or crc32(body) != check:
            raise SpoolCorrupt(f"body of message {message} does not match its checksum")
        return body

    def verify(self) -> Report:
        """Read every byte that counts, and report what doesn't check out."""
        found = self._found
        damage = {(one.path, one.at): one for _, one in found.damage}
        torn = {segment.number for segment in found.unsealed}
        for segment in found.accepts:
            if segment.header.state != FileState.IN_USE or segment.number in torn:
                continue  # the survey has checked the bodies of files without an end
            scanner = Scanner(segment.read_past_damage, segment.header, segment.size, bodies=True)
            for kind, at, _, _, _, follow in scanner:
                if kind == HOLE:
                    one = Damage(segment.path, segment.number, at, follow, "checksum does not match")
                    damage.setdefault((segment.path, at), one)
        files = [*found.accepts, *found.settles]
        return Report(
            partition=self.partition,
            holder=lock_holder(self.partition),
            accept_files=sum(one.header.state == FileState.IN_USE for one in found.accepts),
            settle_files=sum(one.header.state == FileState.IN_USE for one in found.settles),
            free_files=sum(one.header.state != FileState.IN_USE for one in files),
            messages=found.index.messages,
            recipients=found.index.recipients,
            bytes=found.index.bytes,
            quarantined=sum(1 for _ in (self.partition / "quarantine").glob("*.txt")),
            damage=tuple(damage.values()),
        )

    def _states(self, message: int, envelope: Envelope, settled: int) -> tuple[RecipientState, ...]:
        """What has become of each recipient; `settled` is the bit mask of who needs nothing more."""
        states = []
        for index, recipient in enumerate(envelope.recipients):
            known = self._found.deferrals.find(message, index)
            queue = f"{recipient.queue_domain}/{envelope.vmta}"
            is_settled = bool(settled >> index & 1)
            attempts, due = (known.attempts, known.due) if known else (0, 0.0)
            states.append(RecipientState(index, recipient.address, queue, is_settled, attempts, due))
        return tuple(states)

    def _record(self, message: int) -> tuple[bytes, bytes]:
        """Head and body of a message's record; SpoolCorrupt when the head is not what it was."""
        place = self._found.index.place(message)
        segment = self._segments.get(place.number) if place else None
        if place is None or segment is None:
            raise SpoolCorrupt(f"message {message} is not in the spool")
        data = segment.read_past_damage(place.length, place.at)
        end = check_head(data, 0, segment, message)
        return data[RECORD_SIZE:end], data[end:]


def _holds(place: Place, offsets: dict[int, list[int]]) -> bool:
    """Whether one of the offsets is within the record."""
    number, at, length = place
    known = offsets.get(number)
    if known is None:
        return False
    first = bisect_left(known, at)
    return first < len(known) and known[first] < at + length


def _shelf(files: Files, opened: ExitStack) -> DiskShelf | None:
    """Where places lie that are too many for memory; None where temporary files have no place."""
    try:
        directory = opened.enter_context(TemporaryDirectory(prefix="mta-spool-"))
    except OSError:
        return None
    return DiskShelf(Path(directory), files)
