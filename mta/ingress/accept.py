"""The one way in: from a submission, however it came, to a message that is safely on disk.

`Acceptance.accept` checks what concerns the whole message (room in the spool, loops, the header block), obeys
and takes out control headers, chooses the virtual MTA, stamps our lines on top, hands everything to the spool
partition, and calls `done` when the bytes are on stable storage, or at once with the reply that refuses them.
Nobody may be told 250 before that.

Submissions come from the listener, from HTTP and pickup, and from our own DSNs. Hot path: nothing here is
proportional to the size of the body; a plain message of one recipient costs about 10 µs.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import msgspec

from mta.clock import Clock
from mta.config.snapshot import Snapshot
from mta.errors import SpoolError, SpoolFull
from mta.ingress.content import (
    CAPTURE_LIMIT,
    HEADER_LIMIT,
    Content,
    field_text,
    open_content,
    own_lines,
    strip,
)
from mta.ingress.joint import AcceptResult, Joint
from mta.ingress.queueid import QueueIds
from mta.ingress.relaying import SourcePolicy
from mta.ingress.selection import Choice, Selection
from mta.ingress.stamp import Stamp
from mta.ingress.submission import Submission
from mta.ingress.treatment import ColdShare, Portion, Treatment
from mta.message import headers
from mta.message.envelope import NORMAL_PRIORITY, Envelope, Recipient, encode_envelope
from mta.message.event import Event, encode_event
from mta.queue.key import RECIPIENT_MASK
from mta.smtp.data import TOO_BIG
from mta.smtp.reply import Reply

__all__ = ["HEADER_LIMIT", "AcceptResult", "Acceptance", "SpoolWriter", "Submission"]

log = logging.getLogger(__name__)

_NO_RECIPIENTS = Reply(554, "5.5.1 No valid recipients", "5.5.1")
_TOO_MANY = Reply(552, "5.5.3 Too many recipients", "5.5.3")
_FULL = Reply(452, "4.3.1 Insufficient system storage, try again later", "4.3.1")
_BROKEN = Reply(451, "4.3.0 Mail can't be stored now, try again later", "4.3.0")

_CAPTURED = re.compile(r"\bheader_([!-9;-~]+?)(?=[\s,]|$)", re.IGNORECASE)


class SpoolWriter(Protocol):
    """What is needed of a spool partition."""

    def refusal(self, size: int) -> SpoolError | None: ...

    def accept(
        self,
        envelope: bytes,
        body: Sequence[bytes],
        done: Callable[[int, SpoolError | None], None],
        decoded: Envelope | None = None,
    ) -> None: ...

    def record(self, event: bytes) -> None: ...

    def flush(self, done: Callable[[SpoolError | None], None]) -> None: ...


@dataclass(slots=True)
class _Rules:
    """What one configuration says about acceptance."""

    snapshot: Snapshot
    selection: Selection
    stamp: Stamp
    captured: tuple[bytes, ...]
    with_receipts: bool
    treatment: Treatment
    is_treated: bool
    is_plain: bool  # as of a `SourcePolicy`
    drops_unknown: bool


class Acceptance:
    """Takes submissions for one spool partition.

    `admitted(envelope, message, size)` is called once for each message that is on disk, before `done`; the
    size is that of the content as it came. `host_name` is the machine's name, for configurations without one.
    """

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        partition: SpoolWriter,
        clock: Clock,
        queue_ids: QueueIds,
        admitted: Callable[[Envelope, int, int], None],
        host_name: str = "localhost",
        cold: ColdShare | None = None,
    ) -> None:
        self._cold = cold
        self._snapshot = snapshot
        self._partition = partition
        self._clock = clock
        self._queue_ids = queue_ids
        self._admitted = admitted
        self._host_name = host_name
        self._rules = self._read(snapshot())

    def refusal(self, size: int) -> Reply | None:
        """Why no message of this size can be taken now; None when one can."""
        error = self._partition.refusal(size)
        return None if error is None else _reply_to(error)

    def accept(self, submission: Submission, done: Callable[[AcceptResult], None]) -> None:
        """Take one message; `done` is called exactly once, perhaps before this returns."""
        rules = self._rules
        if rules.snapshot is not (snapshot := self._snapshot()):
            rules = self._rules = self._read(snapshot)
        policy = submission.source
        content = self._check(submission) or open_content(submission)
        if isinstance(content, Reply):
            done(AcceptResult("", content))
            return
        is_plain = policy.is_plain and rules.is_plain and not submission.vmta
        if is_plain:
            choice, priority = rules.selection.usual(policy, submission.client.received_on), NORMAL_PRIORITY
        else:
            choice, priority = _choose(rules.selection, submission, content)
        if isinstance(choice, Reply):
            done(AcceptResult("", choice))
            return
        if not is_plain and (rules.is_treated or policy.is_treated):
            self._accept_treated(rules, submission, content, choice, priority, done)
            return
        queue_id = self._queue_ids.next()
        now = self._clock.now()
        recipients = rules.selection.placed(submission.recipients, choice.vmta)
        if is_plain:
            envelope = _plain_envelope(submission, choice, recipients, queue_id, now)
        else:
            origin = submission.originator
            envelope = _envelope(
                rules, submission, content, choice, origin, recipients, "", queue_id, now, priority
            )
            if policy.stripped:
                strip(submission, content)
        body = own_lines(rules.stamp, submission, content, queue_id, now) + submission.chunks
        stored = partial(self._stored, envelope, submission.size, rules.with_receipts, done)
        self._partition.accept(encode_envelope(envelope), body, stored, envelope)

    def _accept_treated(
        self,
        rules: _Rules,
        submission: Submission,
        content: Content,
        choice: Choice,
        priority: int,
        done: Callable[[AcceptResult], None],
    ) -> None:
        """Take a message that becomes several, or another than it was."""
        portions = rules.treatment.divide(submission, choice)
        if isinstance(portions, Reply):
            done(AcceptResult("", portions))
            return
        if any(len(portion.recipients) > RECIPIENT_MASK for portion in portions):
            done(AcceptResult("", _TOO_MANY))
            return
        strip(submission, content)
        now = self._clock.now()
        # Handed in in one turn of the loop, they share a commit: all of them are safe, or none.
        joint = Joint(len(portions), done)
        for portion in portions:
            queue_id = self._queue_ids.next()
            body, template = _portion_body(rules, submission, content, portion, queue_id, now)
            envelope = _envelope(
                rules,
                submission,
                content,
                portion.choice,
                portion.originator,
                tuple(portion.recipients),
                portion.job_id,
                queue_id,
                now,
                priority,
            )
            if portion.schedule:
                envelope = msgspec.structs.replace(envelope, schedule=portion.schedule)
            if any(recipient.personal is not None for recipient in portion.recipients) or template:
                envelope = msgspec.structs.replace(
                    envelope, is_personal=True, template=template, drops_unknown=rules.drops_unknown
                )
            stored = partial(self._stored, envelope, submission.size, rules.with_receipts, joint.done)
            self._partition.accept(encode_envelope(envelope), body, stored, envelope)

    def _stored(
        self,
        envelope: Envelope,
        size: int,
        with_receipts: bool,
        done: Callable[[AcceptResult], None],
        message: int,
        error: SpoolError | None,
    ) -> None:
        """A message is on disk, or can't be."""
        if error is not None:
            log.warning("queue-id=%s not stored: %s", envelope.queue_id, error)
            done(AcceptResult("", _reply_to(error)))
            return
        self._admitted(envelope, message, size)
        result = AcceptResult(envelope.queue_id)
        if with_receipts:
            # Said to be ours only when its `r` records can't be lost either. Should they wait for room on
            # the disk, the message is safe all the same.
            self._record_receipts(envelope)
            self._partition.flush(partial(_tell, done, result))
        else:
            done(result)

    def _check(self, submission: Submission) -> Reply | None:
        count, size = len(submission.recipients), submission.size
        if not count and not submission.condemned:
            return _NO_RECIPIENTS
        if count > RECIPIENT_MASK:
            return _TOO_MANY
        limit = submission.source.max_message_size
        if limit is not None and size > limit:
            return TOO_BIG
        error = self._partition.refusal(size)
        return None if error is None else _reply_to(error)

    def _read(self, snapshot: Snapshot) -> _Rules:
        captured: set[bytes] = set()
        with_receipts = False
        for file in snapshot.acct_files:
            mappings = file.settings.texts("map-header-to-field")
            for line in (*file.settings.texts("record-fields"), *mappings):
                captured.update(name.lower().encode("ascii") for name in _CAPTURED.findall(line))
            kinds = {kind.lower() for kind in file.settings.texts("records")}
            with_receipts = with_receipts or not kinds.isdisjoint(("r", "receipt", "received"))
        selection = Selection(snapshot)
        treatment = Treatment(snapshot, selection, self._cold)
        is_treated = treatment.is_needed
        return _Rules(
            snapshot,
            selection,
            Stamp(snapshot.host_name() or self._host_name),
            tuple(sorted(captured)),
            with_receipts,
            treatment,
            is_treated,
            not (captured or is_treated),
            snapshot.top.boolean("mailmerge-expands-undefined-variables"),
        )

    def _record_receipts(self, envelope: Envelope) -> None:
        """One `r` record for each recipient."""
        now = self._clock.now()
        for recipient in envelope.recipients:
            self._partition.record(
                encode_event(
                    Event(
                        "r",
                        self._queue_ids.next(),
                        now,
                        time_queued=envelope.received,
                        originator=envelope.originator,
                        recipient=recipient.address,
                        orcpt=recipient.orcpt,
                        source_type=envelope.source_type,
                        source_mta=envelope.source_mta,
                        received_source_ip=envelope.source_ip,
                        received_destination_ip=envelope.received_on,
                        source_user=envelope.source_user,
                        vmta=envelope.vmta_pool or envelope.vmta,
                        job_id=envelope.job_id,
                        envelope_id=envelope.envelope_id,
                        queue=f"{recipient.queue_domain}/{envelope.vmta}",
                        vmta_pool=envelope.vmta_pool,
                        queue_id=envelope.queue_id,
                        captured=envelope.captured,
                    )
                )
            )


def _tell(done: Callable[[AcceptResult], None], result: AcceptResult, error: SpoolError | None) -> None:
    """The receipts of a message are on disk, or wait for room there."""
    done(result)


def _reply_to(error: SpoolError) -> Reply:
    return _FULL if isinstance(error, SpoolFull) else _BROKEN


def _choose(selection: Selection, submission: Submission, content: Content) -> tuple[Choice | Reply, int]:
    """The virtual MTA and the priority of a message for which either may be another than usual."""
    policy, client, block = submission.source, submission.client, content.block
    if not (submission.vmta or content.vmta_header is not None or policy.pattern_list):
        return selection.usual(policy, client.received_on), NORMAL_PRIORITY
    recipients = [address for address, _, _ in submission.recipients]
    priority = selection.priority(
        policy, block=block, originator=submission.originator, recipients=recipients
    )
    if submission.vmta:
        return selection.named(submission.vmta, policy), priority
    choice = selection.choose(
        policy,
        header=content.vmta_header,
        block=block,
        originator=submission.originator,
        recipients=recipients,
        received_on=client.received_on,
    )
    return choice, priority


def _plain_envelope(
    submission: Submission, choice: Choice, recipients: tuple[Recipient, ...], queue_id: str, now: float
) -> Envelope:
    """The envelope of a message whose content isn't asked for anything."""
    policy, client = submission.source, submission.client
    vmta, pool = choice
    return Envelope(
        queue_id,
        now,
        submission.originator,
        vmta,
        recipients,
        submission.job_id,
        submission.envelope_id,
        pool,
        submission.ret or policy.ret_default,
        submission.is_8bit,
        submission.is_smtputf8,
        submission.source_type,
        client.source_mta,
        client.user,
        client.received_on,
        client.source_ip,
        submission.suppress_dsn or policy.suppress_dsn,
    )


def _envelope(
    rules: _Rules,
    submission: Submission,
    content: Content,
    choice: Choice,
    originator: str,
    recipients: tuple[Recipient, ...],
    job_id: str,
    queue_id: str,
    now: float,
    priority: int,
) -> Envelope:
    """The envelope of a message of which more is asked: that of plain mail, and what its content says."""
    policy, client = submission.source, submission.client
    job_id = job_id or submission.job_id or content.job_id
    if policy.job_prefix:
        job_id = (client.user if policy.job_prefix == "{auth}" else policy.job_prefix) + job_id
    captured: dict[str, str] = {}
    if rules.captured:
        lowered = content.block.lower()
        for name in rules.captured:
            if (at := headers.find(lowered, name)) >= 0:
                captured[name.decode("ascii")] = field_text(content.block, at, CAPTURE_LIMIT)
    return msgspec.structs.replace(
        _plain_envelope(submission, choice, recipients, queue_id, now),
        originator=originator,
        job_id=job_id,
        envelope_id=submission.envelope_id or content.envelope_id,
        captured=captured,
        schedule=content.schedule,
        lacks_date=policy.dates_at_delivery and _lacks_date(policy, content),
        priority=priority,
        dkim_options=content.dkim_options,
        dkim_key=content.dkim_key,
    )


def _lacks_date(policy: SourcePolicy, content: Content) -> bool:
    """Whether a Date line is to be added."""
    if policy.add_date == "yes":
        return not headers.has(content.block, b"date")
    return policy.add_date == "override"


def _portion_body(
    rules: _Rules,
    submission: Submission,
    content: Content,
    portion: Portion,
    queue_id: str,
    now: float,
) -> tuple[Sequence[bytes], tuple[int, ...]]:
    """The content as one virtual MTA sends it, and the lengths that make a template of it."""
    policy, choice, block = submission.source, portion.choice, content.block
    included = rules.treatment.header_lines(choice.vmta, choice.pool)
    lines = own_lines(rules.stamp, submission, content, queue_id, now, included)
    if policy.add_vmta_header and not headers.has(block, b"x-virtual-mta"):
        lines.append(b"x-virtual-mta: %b\r\n" % choice.vmta.encode("utf-8"))
    chunks = submission.chunks
    changed = rules.treatment.rewritten(block, policy, choice.vmta)
    if changed is not block:
        chunks = [changed + chunks[0][len(block) :], *chunks[1:]]
    template: tuple[int, ...] = ()
    if submission.parts:
        template = (sum(map(len, lines)), len(chunks[0]), *submission.parts[1:])
    return [*lines, *chunks], template
