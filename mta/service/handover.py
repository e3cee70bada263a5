"""The spool as acceptance sees it where several workers share the queues.

A message is divided into shares by the owners of its recipients. Ours goes to our partition, each other one
to its owner, all at the same time; acceptance hears of it when every share is on a disk. A share that its
owner doesn't take (down, full, slow, or nobody knows) goes to our own partition too, and is passed on later
(`passage.py`): the client sees all or nothing.

When our own partition fails after a colleague has taken its share, the client is refused and comes again:
that share is then delivered twice. With one worker none of this exists; acceptance has the partition itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from mta.errors import SpoolError
from mta.message.envelope import Envelope, decode_envelope
from mta.service.colleagues import Colleague
from mta.service.intake import Admit
from mta.service.layout import Layout
from mta.service.passage import Passage
from mta.service.share import Share, Verdict, divide, share_of
from mta.service.sharenames import ShareNames
from mta.spool.partition import Partition
from mta.spool.stored import Waiting

__all__ = ["TURNS_TO_GATHER", "Enter", "Handover"]

#: Turns of the loop that a commit waits for more (`mta.spool.pace`). Shares are there right after a commit,
#: clients only when they have heard its answer and said MAIL, RCPT and DATA: with the two turns of a worker
#: alone, shares and our own messages take commits by turns, each half as full. Eight turns make a fifth
#: fewer commits (10 and 30 sessions a worker); sixteen make hardly fewer than that.
TURNS_TO_GATHER = 8

#: Looking a member up in its class costs more than the rest of some steps.
TAKEN = Verdict.TAKEN

#: Enters recipients of a stored message into our queues; None: all of them, never tried before.
Enter = Callable[[Envelope, int, Iterable[Waiting] | None], None]
#: Told 0, as a message of several shares has no number that would mean anything to acceptance.
Stored = Callable[[int, SpoolError | None], None]


class Handover:
    """Stores messages where they belong; an `ingress.accept.SpoolWriter`."""

    def __init__(
        self,
        number: int,
        *,
        partition: Partition,
        layout: Callable[[], Layout],
        colleagues: Mapping[int, Colleague],
        enter: Enter,
        admit: Admit,
        passage: Passage,
        names: ShareNames,
    ) -> None:
        """`enter` takes all recipients of a message into our queues, `admit` those that are still ours.

        `names` hear of shares that wait here for their owners, who may have them as well.
        """
        # Our own partition has to be able to take every share, and records are nobody else's.
        self.refusal = partition.refusal
        self.record = partition.record
        self.flush = partition.flush
        self._number = number
        self._partition = partition
        self._layout = layout
        self._colleagues = colleagues
        self._enter = enter
        self._admit = admit
        self._passage = passage
        self._names = names
        self.handed = 0
        self.held = 0

    def __repr__(self) -> str:
        return f"<Handover handed={self.handed} held={self.held}>"

    def accept(
        self, envelope: bytes, body: Sequence[bytes], done: Stored, decoded: Envelope | None = None
    ) -> None:
        """Store a message; `done(0, None)` once all of it is on a disk. Hot path."""
        known = decode_envelope(envelope) if decoded is None else decoded
        layout = self._layout()
        owner = layout.sole_owner(known.recipients)
        if owner is None:
            self._divide(known, envelope, body, layout, done)
        elif owner == self._number:
            self._partition.accept(envelope, body, partial(self._kept, known, layout, done), known)
        else:
            share = Share(known, envelope, body)
            self._colleagues[owner].offer(share, partial(self._answered, owner, share, done))

    def _divide(
        self, envelope: Envelope, encoded: bytes, body: Sequence[bytes], layout: Layout, done: Stored
    ) -> None:
        """Store a message whose recipients have several owners."""
        parts = divide(envelope, layout.owner)
        settled = _Parts(len(parts), done).settled
        for owner, indices in parts.items():
            share = share_of(envelope, encoded, body, indices)
            if owner == self._number:
                kept = partial(self._kept, share.envelope, layout, settled)
                self._partition.accept(share.encoded, share.body, kept, share.envelope)
            else:
                self._colleagues[owner].offer(share, partial(self._answered, owner, share, settled))

    def _kept(
        self, envelope: Envelope, layout: Layout, settled: Stored, message: int, error: SpoolError | None
    ) -> None:
        if error is None:
            if self._layout() is layout:
                self._enter(envelope, message, None)
            else:
                self._admit(envelope, message, ())
        settled(0, error)

    def _answered(self, owner: int, share: Share, settled: Stored, verdict: Verdict) -> None:
        if verdict is TAKEN:
            self.handed += 1
            settled(0, None)
        else:
            self._partition.accept(
                share.encoded, share.body, partial(self._held, owner, share, settled), share.envelope
            )

    def _held(
        self, owner: int, share: Share, settled: Stored, message: int, error: SpoolError | None
    ) -> None:
        if error is None:
            self.held += 1
            self._names.add(share.name, message)
            for recipient in range(len(share.envelope.recipients)):
                self._passage.add(owner, message, recipient)
        settled(0, error)


class _Parts:
    """Counts the shares of one message until the last one is on a disk."""

    __slots__ = ("_done", "_error", "_left")

    def __init__(self, count: int, done: Stored) -> None:
        self._left = count
        self._done = done
        self._error: SpoolError | None = None

    def settled(self, _: int, error: SpoolError | None) -> None:
        self._error = self._error or error
        self._left -= 1
        if not self._left:
            self._done(0, self._error)
