"""One partition of the spool: the façade over files, index and commits.

Its whole promise: `accept` answers only when a message is on disk; every recipient of it is handed to
delivery, now or after a restart, until a `settle` for it is on disk; and an event that rode on a settle,
defer or record is read by the events process at least once. Nothing here knows why a message is deferred or
where it goes.

A partition has one owner, who calls it from one event loop. It fails in three ways: SpoolFull (no room: try
later), SpoolCorrupt (this message is damaged), SpoolBroken (a write or sync failed: restart it elsewhere).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from operator import add, mul
from pathlib import Path

from mta.errors import SpoolBroken, SpoolCorrupt, SpoolError, SpoolFull
from mta.message.envelope import Envelope, decode_envelope
from mta.spool.batch import Done, Filled, Outcome, as_spool_error
from mta.spool.checksum import crc32
from mta.spool.commit import Committer
from mta.spool.deferrals import Deferrals
from mta.spool.files import Room
from mta.spool.heads import HeadReader, check_head
from mta.spool.index import Index, Place
from mta.spool.opening import Opened, make_ready
from mta.spool.options import SpoolOptions
from mta.spool.pool import MemoryPool
from mta.spool.quarantine import Damage
from mta.spool.record import (
    ACCEPT_OVERHEAD,
    MAX_MESSAGE,
    RECORD_SIZE,
    Deferral,
    RecordKind,
    body_check,
    decode_accept_head,
    encode_deferral,
)
from mta.spool.stored import Recovered, SpoolStats, Stored, Waiting
from mta.spool.upkeep import Upkeep

__all__ = ["Partition", "Recovered", "SpoolOptions", "SpoolStats", "Stored"]

logger = logging.getLogger(__name__)

_DEFER, _RECORD = int(RecordKind.DEFER), int(RecordKind.RECORD)
#: Joining a body's parts costs a copy: worth it for the memory pool, not for a giant.
_MAX_YOUNG = 1 << 20
#: What the fields of a record can hold.
_MAX_RECIPIENTS, _MAX_SIZE = (1 << 16) - 1, (1 << 32) - (1 << 20)
_ROOM_IS_FRESH = 0.1
#: Memory that an envelope takes, as a multiple of what it takes on disk.
_DECODED = 4
#: With so many bytes to spare a message is taken without a closer look until the room is measured again.
_PLENTY = 1 << 30
#: A disk that is just about full comes and goes: the log is told once in so many seconds.
_SILENCE = 60.0
#: A message of this size makes no difference to that.
_LITTLE = _PLENTY >> 4


class Partition:
    """An open partition; make one with `open`, end it with `close`."""

    def __init__(
        self, directory: Path, options: SpoolOptions, loop: asyncio.AbstractEventLoop, opened: Opened
    ) -> None:
        found = opened.found
        self.directory = directory
        self._options, self._lock, self._loop = options, opened.lock, loop
        self._files, self._clock, self._max_backlog = options.files, options.clock, options.max_backlog
        self._accepts, self._settles, self._marks = opened.accepts, opened.settles, opened.marks
        self._heads = HeadReader(self._accepts.in_use)
        self._index: Index = found.index
        self._deferrals: Deferrals | None = found.deferrals
        self._shelf = found.shelf
        self._pool = MemoryPool(options.memory_pool)
        self._quarantine = opened.quarantine
        self._next = opened.next_message
        #: Whether something acknowledged may be missing: there was damage, or files that nobody understands.
        self.found_damage = bool(found.damage or found.ignored)
        self._sequence = found.deferrals.highest
        self._room_checked = self._silent_until = float("-inf")
        self._has_plenty = self._is_short = False
        self._is_closed = False
        #: Called after each commit, when everybody has been told of theirs.
        self.on_committed: Callable[[], None] | None = None
        #: Called once, on the loop, when a write or sync has failed for good; the text says how.
        self.on_broken: Callable[[str], None] | None = None
        #: Called with each message that turns out to be damaged.
        self.on_damaged: Callable[[int], None] | None = None
        self._committer = Committer(
            loop=loop,
            clock=options.clock,
            accepts=self._accepts,
            settles=self._settles,
            accept_segment=opened.accept_segment,
            settle_segment=opened.settle_segment,
            index=self._index,
            marks=self._marks,
            pace=options.pace,
            max_backlog=options.max_backlog,
            settled=self._settled,
            stored=self._stored,
            committed=self._committed,
            broke=self._broke,
        )
        #: settle(message, recipient, event): this recipient is delivered or has failed for good; on disk,
        #: with its event, 50 ms later.
        self.settle = self._committer.settle
        self._index.mourn(self._committer.give_up)
        self._upkeep = Upkeep(
            directory=directory,
            options=options,
            loop=loop,
            committer=self._committer,
            accepts=self._accepts,
            settles=self._settles,
            index=self._index,
        )
        self._upkeep.start()

    def __repr__(self) -> str:
        state = self._committer.broken or ("closed" if self._is_closed else "open")
        return f"<Partition {self.directory} {state} messages={self._index.messages}>"

    @property
    def is_busy(self) -> bool:
        """Whether something is being written, or waits for it, other than outcomes."""
        return self._committer.is_busy or self._upkeep.is_busy

    @property
    def is_stalled(self) -> bool:
        """Whether outcomes wait in memory for room on the disk: better to start no further deliveries."""
        return self._committer.is_stalled

    @property
    def recipients(self) -> int:
        """How many recipients nothing has become of yet."""
        return self._index.recipients

    def keep_in_memory(self, most: int) -> None:
        """From now on the places of at most so many messages, about, are kept in memory, 0 for all."""
        self._index.limit = most

    @classmethod
    def open(cls, directory: Path, *, options: SpoolOptions, loop: asyncio.AbstractEventLoop) -> Partition:
        """Lock, read and make ready a partition, creating it if need be.

        Damage goes to quarantine and doesn't stop it. Raises SpoolError when the partition is in use, is of
        another format version, or can't be read at all.
        """
        return cls(directory, options, loop, make_ready(directory, options))

    def recovered(self) -> Iterator[Recovered]:
        """What waited when the partition was opened, each message once, oldest first.

        Messages are read as the iteration reaches them, so it may be spread over time; what is settled
        meanwhile is left out. The second call gives nothing.
        """
        deferrals, self._deferrals = self._deferrals, None
        if deferrals is None:
            return
        before, read, find = self._next, self._heads.read, deferrals.find
        for message, place, settled in self._index.walk():
            if message >= before:
                break
            try:
                size, _, encoded = decode_accept_head(read(message, place))
                envelope = decode_envelope(encoded)
            except (SpoolCorrupt, ValueError) as error:
                logger.error("spool message unreadable message=%d why=%r", message, str(error))
                continue
            waiting = []
            for recipient in range(len(envelope.recipients)):
                if not settled >> recipient & 1:
                    known = find(message, recipient)
                    waiting.append(
                        Waiting(recipient, known.attempts, known.due) if known else Waiting(recipient, 0, 0.0)
                    )
            yield Recovered(message, envelope, size, waiting)
        deferrals.forget()

    def refusal(self, size: int) -> SpoolError | None:
        """Why a message of `size` bytes can't be taken now; None when it can. Cheap enough for every MAIL."""
        if self._has_plenty and size < _LITTLE and self._committer.backlog <= self._max_backlog:
            return None
        error = self._takes_no_mail() or self._has_no_room(size)
        if self._is_short or error is not None:
            self._note_shortage()
        return error

    @property
    def shortage(self) -> str:
        """Why the disk has no room for any message now, "" when it has, or when it is not asked for any."""
        if self._committer.broken or self._options.deliver_only:
            return ""
        error = self._takes_no_mail() or self._has_no_room(0)
        return str(error or "")

    def _note_shortage(self) -> None:
        """Say in the log when the disk gets too full for new mail, and when it no longer is."""
        now, shortage = self._clock.now(), self.shortage
        if shortage and now >= self._silent_until:
            logger.warning("spool=%s event=full new-mail=refused reason=%r", self.directory, shortage)
            self._is_short, self._silent_until = True, now + _SILENCE
        elif self._is_short and not shortage:
            logger.warning("spool=%s event=room-again", self.directory)
            self._is_short = False

    def _takes_no_mail(self) -> SpoolError | None:
        """Why no message of any size can be taken."""
        committer, options = self._committer, self._options
        if committer.broken:
            return SpoolBroken(committer.broken)
        if options.deliver_only:
            return SpoolFull("this spool only delivers")
        if committer.backlog > options.max_backlog:
            return SpoolFull("no room for outcomes")
        return None

    def _has_no_room(self, size: int) -> SpoolError | None:
        """What the disk lacks for a message of `size` bytes; remembers for a moment when it has plenty."""
        now, options = self._clock.now(), self._options
        if now - self._room_checked > _ROOM_IS_FRESH:
            try:
                self._room = self._files.room(self.directory)
            except OSError as error:
                return as_spool_error(error)
            self._room_checked = now
        free, _, inodes = self._room
        if inodes is not None and inodes < options.min_free_inodes:
            return SpoolFull(f"{inodes} inodes left")
        if free < options.min_free_space:
            return SpoolFull(f"{free} bytes free, less than min-free-space")
        if not self._upkeep.has_room(size, free):
            return SpoolFull(f"{free} bytes free")
        if not self._has_plenty and self._upkeep.has_room(_PLENTY, free - options.min_free_space):
            self._has_plenty = True
            self._loop.call_later(self._room_checked + _ROOM_IS_FRESH - now, self._look_closer)
        return None

    def _look_closer(self) -> None:
        """What was measured has become old."""
        self._has_plenty = False

    def accept(
        self, envelope: bytes, body: Sequence[bytes], done: Done, decoded: Envelope | None = None
    ) -> None:
        """Store a message; `done(message, None)` is called on the loop once it is on disk.

        Answers come in the order of the calls. On failure `done` gets the error (SpoolFull, SpoolBroken) and
        nothing of the message remains. Raises ValueError for bytes that are not an envelope with recipients.
        `decoded` is the same envelope, from who has it: that saves reading it here and at the first attempt.
        """
        if decoded is None:
            decoded = decode_envelope(envelope)
        recipients = len(decoded.recipients)
        size = sum(map(len, body))
        length = ACCEPT_OVERHEAD + len(envelope) + size
        if not recipients or recipients > _MAX_RECIPIENTS or length > _MAX_SIZE:
            raise ValueError(f"a message with {recipients} recipients and {size} bytes can't be stored")
        message = self._next
        if message >= MAX_MESSAGE:
            raise SpoolBroken("out of message ids")
        self._next = message + 1
        if size > _MAX_YOUNG:
            parts = [bytes(part) for part in body if part]
            check = body_check(parts)
            self._committer.accept((message, recipients, envelope, parts, size, check, length, done, None))
            return
        whole = b"".join(body)
        young = Stored(decoded, whole)
        self._committer.accept(
            (message, recipients, envelope, [whole], size, crc32(whole), length, done, young)
        )

    def _stored(self, filled: Filled) -> None:
        """These messages are on disk: the young ones of them stay in memory for their first attempt."""
        sizes = list(map(add, map(mul, map(len, filled.envelopes), repeat(_DECODED)), filled.sizes))
        self._pool.put_all(filled.messages, filled.young, sizes)

    def load(self, message: int) -> Stored:
        """A message with its body; from memory while it is young.

        Raises SpoolCorrupt when it is gone or damaged: a damaged one is put into quarantine and settled
        without an event, and the caller should forget it. Any other SpoolError: it can't be read now.
        """
        young = self._pool.find(message)
        if young is not None:
            return young
        place = self._index.place(message)
        if place is None:
            raise SpoolCorrupt(f"message {message} is not in the spool")
        head, rest = self._read_head(message, place)
        size, check, encoded = decode_accept_head(head)
        if len(rest) != size or crc32(rest) != check:
            raise self._damaged(message, place, f"body of message {message} does not match its checksum")
        try:
            return Stored(decode_envelope(encoded), rest)
        except ValueError as error:
            raise self._damaged(message, place, f"envelope of message {message}: {error}") from error

    def envelope(self, message: int) -> Envelope:
        """The envelope alone, read without the body. Errors as of `load`, but nothing is quarantined."""
        young = self._pool.find(message)
        if young is not None:
            return young.envelope
        place = self._index.place(message)
        if place is None:
            raise SpoolCorrupt(f"message {message} is not in the spool")
        try:
            return decode_envelope(decode_accept_head(self._heads.read(message, place))[2])
        except ValueError as error:
            raise SpoolCorrupt(f"envelope of message {message}: {error}") from error

    def is_waiting(self, message: int, recipient: int) -> bool:
        """Whether nothing has become of this recipient yet."""
        return self._index.is_waiting(message, recipient)

    def waits(self, message: int) -> bool:
        """Whether somebody waits for this message."""
        return self._index.waiting(message) > 0

    def size(self, message: int) -> int:
        """About how many bytes a message takes on disk, envelope included; 0 when it is gone."""
        place = self._index.place(message)
        return 0 if place is None else place.length

    def defer(self, message: int, recipient: int, *, attempts: int, due: float, event: bytes | None) -> None:
        """This recipient is tried again at `due` (epoch seconds), after `attempts` so far."""
        self._sequence += 1
        head = encode_deferral(Deferral(self._sequence, due, attempts), event or b"")
        self._committer.settle(message, recipient, head, _DEFER)

    def record(self, event: bytes) -> None:
        """Something happened that settles nobody."""
        self._committer.settle(0, 0, event, _RECORD)

    def flush(self, done: Callable[[SpoolError | None], None]) -> None:
        """Call `done` when everything said so far is on disk, or with the reason why not."""
        self._committer.flush(done)

    def close(self) -> None:
        """Commit what waits and let go of the partition. Blocks for a sync; may be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._upkeep.stop()
        self._committer.close()
        self._accepts.close()
        self._settles.close()
        self._marks.close()
        if self._shelf is not None:
            self._shelf.close()
        self._lock.close()

    def stats(self) -> SpoolStats:
        """Figures as of now."""
        try:
            room = self._files.room(self.directory)
        except OSError:
            room = Room(0, 0, None)
        return SpoolStats(
            messages=self._index.messages,
            recipients=self._index.recipients,
            bytes=self._index.bytes,
            segments=len(self._accepts.in_use),
            settle_files=len(self._settles.in_use),
            free_files=len(self._accepts.free) + len(self._settles.free),
            free_space=room.free,
            free_inodes=room.inodes,
            pool_messages=len(self._pool),
            pool_bytes=self._pool.bytes,
            batches=self._committer.batches,
            sync_seconds=self._committer.sync_seconds,
            window_p99=self._committer.window.percentile(0.99),
            backlog=self._committer.backlog,
            damaged=self._quarantine.kept,
            broken=self._committer.broken,
            dropped=self._committer.dropped,
        )

    def _read_head(self, message: int, place: Place) -> tuple[bytes, bytes]:
        """The checked head of a message's record, and its body (unchecked)."""
        segment = self._accepts.in_use.get(place.number)
        if segment is None:
            raise SpoolCorrupt(f"message {message} has lost its file")
        try:
            data = segment.read(place.length, place.at)
        except OSError as error:
            raise SpoolError(f"message {message} cannot be read now: {error.strerror}") from error
        try:
            end = check_head(data, 0, segment, message)
        except SpoolCorrupt as error:
            raise self._damaged(message, place, str(error)) from error
        return data[RECORD_SIZE:end], data[end:]

    def _damaged(self, message: int, place: Place, why: str) -> SpoolCorrupt:
        """Put a message into quarantine; once it is safe there, nobody waits for it here any more."""
        if self.on_damaged is not None:
            self.on_damaged(message)
        segment = self._accepts.in_use[place.number]
        damage = Damage(segment.path, place.number, place.at, place.at + place.length, why)
        if self._quarantine.keep(segment, damage):
            everybody = self._index.waiting(message) + self._index.settled_in_part(message).bit_count()
            for recipient in range(everybody):
                if self._index.is_waiting(message, recipient):
                    self.settle(message, recipient, b"")
        return SpoolCorrupt(why)

    def _settled(self, outcomes: list[Outcome]) -> None:
        """These outcomes are on disk: messages with nobody left no longer need their bytes."""
        messages, files = self._index.settle_all(outcomes)
        self._pool.drop_all(messages)
        for number, octets in files.items():
            segment = self._accepts.in_use[number]
            segment.live -= octets
            if not segment.live:
                self._upkeep.emptied(segment)

    def _committed(self) -> None:
        if self.on_committed is not None:
            try:
                self.on_committed()
            except Exception as error:  # a bug of theirs must not end our commits
                self._loop.call_exception_handler({"message": "spool: on_committed", "exception": error})
        self._upkeep.look_ahead()

    def _broke(self, text: str) -> None:
        self._has_plenty = False
        logger.critical("spool broken directory=%s why=%r", self.directory, text)
        if self.on_broken is not None:
            # Not from within a commit: whoever hears it may want the partition.
            self._loop.call_soon(self.on_broken, text)
