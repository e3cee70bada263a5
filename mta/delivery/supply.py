"""The next message for a connection: drawn from the scheduler, loaded from the spool, signed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from mta.delivery.attempt import Attempt
from mta.delivery.session import Session
from mta.delivery.signing import SigningJob
from mta.delivery.tailoring import tailored
from mta.errors import MtaError, SpoolCorrupt, SpoolError
from mta.message.envelope import Envelope, Recipient
from mta.queue.entries import Entry
from mta.queue.key import RECIPIENT_BITS, RECIPIENT_MASK, QueueKey
from mta.queue.reaction import Reaction
from mta.queue.scheduler import Settled
from mta.queue.slot import Slot

__all__ = ["Draws", "MessageSigner", "Store", "Stored", "Withheld", "make_attempt", "take_stored"]

log = logging.getLogger(__name__)


class Stored(Protocol):
    """A stored message; `mta.spool.stored.Stored` is one."""

    @property
    def envelope(self) -> Envelope: ...
    @property
    def body(self) -> bytes: ...


class Withheld(MtaError):
    """This message is not to be delivered now; `keep` takes its recipients until it is."""

    def __init__(self, stored: Stored, keep: Callable[[QueueKey, list[Entry]], None]) -> None:
        super().__init__("withheld")
        self.stored = stored
        self.keep = keep


class Store(Protocol):
    """The part of a spool partition that gives messages back; `load` may raise Withheld."""

    def load(self, message: int) -> Stored: ...


class Draws(Protocol):
    """The part of the scheduler that gives messages out."""

    def draw(self, slot: Slot, now: float) -> list[int]: ...
    def settle(self, slot: Slot, now: float, ref: int, reaction: Reaction) -> Settled: ...
    def put_back(self, slot: Slot, refs: Iterable[int]) -> None: ...
    def let_go(self, slot: Slot, refs: Iterable[int]) -> list[Entry]: ...


class MessageSigner(Protocol):
    """`mta.delivery.signing.Signer`."""

    def headers(
        self, envelope: Envelope, body: bytes, message: int, domain: str | None = None
    ) -> bytes | SigningJob: ...

    def prepare(self, job: SigningJob, done: Callable[[bytes], None]) -> None: ...


def take_stored(scheduler: Draws, store: Store, slot: Slot, now: float) -> tuple[list[int], Stored] | None:
    """Draw the next message that can be read: its references, and itself. None when there is none now.

    Of a message that each recipient gets another way it is one recipient at a time.

    A damaged one is left to the spool's quarantine: its recipients leave the queue, but nothing is recorded
    as failed, so that whoever repairs it gets it back. One that can't be read otherwise is tried later.
    """
    while refs := scheduler.draw(slot, now):
        message = refs[0] >> RECIPIENT_BITS
        try:
            stored = store.load(message)
            if stored.envelope.is_personal and len(refs) > 1:
                scheduler.put_back(slot, refs[1:])
                refs = refs[:1]
            return refs, stored
        except Withheld as error:
            error.keep(slot.key, scheduler.let_go(slot, refs))
            continue
        except SpoolCorrupt as error:
            log.error("message=%d event=damaged error=%r", message, str(error))
            reaction = Reaction.FAILED
        except SpoolError as error:
            log.error("message=%d event=unreadable error=%r", message, str(error))
            reaction = Reaction.RETRY_RECIPIENT
        for ref in refs:
            scheduler.settle(slot, now, ref, reaction)
    return None


def make_attempt(refs: list[int], stored: Stored, signer: MessageSigner, session: Session) -> Attempt:
    """The message as it goes down `session`, with its signature made or under way."""
    now = session.now
    envelope, body, number = stored.envelope, stored.body, refs[0] >> RECIPIENT_BITS
    removed = session.policy.removed_headers
    if removed or envelope.is_personal or envelope.lacks_date:
        envelope, body, number = tailored(envelope, body, refs[0], removed, now)
    recipients: Sequence[Recipient] = envelope.recipients
    if len(recipients) > 1:
        recipients = [recipients[ref & RECIPIENT_MASK] for ref in refs]
    size = len(body)
    attempt = Attempt(
        envelope=envelope,
        recipients=recipients,
        size=size,
        extensions=session.extensions,
        refs=refs,
        body=body,
        held=size,
        started_at=now,
    )
    if not body.endswith(b"\r\n") and body:
        attempt.end = b"\r\n.\r\n"
    head = signer.headers(envelope, body, number, session.slot.key.domain)
    if not head:
        return attempt
    if isinstance(head, bytes):
        attempt.put_in_front(head)
    else:
        # The signature is made while the envelope travels; only the body has to wait for it.
        attempt.head = None
        signer.prepare(head, partial(session.signed, attempt))
    return attempt
