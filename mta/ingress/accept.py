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
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from mta.clock import Clock
from mta.config.snapshot import Snapshot
from mta.errors import SpoolError, SpoolFull
from mta.ingress.queueid import QueueIds
from mta.ingress.relaying import SourcePolicy
from mta.ingress.selection import Choice, Selection
from mta.ingress.stamp import Stamp
from mta.message import headers
from mta.message.envelope import Envelope, Recipient, encode_envelope
from mta.message.event import Event, encode_event
from mta.queue.key import RECIPIENT_MASK
from mta.smtp.data import TOO_BIG
from mta.smtp.reply import Reply

__all__ = ["HEADER_LIMIT", "AcceptResult", "Acceptance", "SpoolWriter", "Submission"]

log = logging.getLogger(__name__)

#: Octets of a header block; Postfix has 100 KiB.
HEADER_LIMIT = 128 * 1024
#: Characters of a job id, envelope id or captured header that are kept.
_VALUE_LIMIT = 256
_CAPTURE_LIMIT = 1024

_NO_RECIPIENTS = Reply(554, "5.5.1 No valid recipients", "5.5.1")
_TOO_MANY = Reply(552, "5.5.3 Too many recipients", "5.5.3")
_LOOP = Reply(554, "5.4.6 Too many hops: this message goes round in a loop", "5.4.6")
_HEADER_TOO_BIG = Reply(552, "5.3.4 Message header is larger than the limit", "5.3.4")
_FULL = Reply(452, "4.3.1 Insufficient system storage, try again later", "4.3.1")
_BROKEN = Reply(451, "4.3.0 Mail can't be stored now, try again later", "4.3.0")

_FIELD_START = re.compile(rb"[!-9;-~]+[ \t]*:")
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


class AcceptResult(NamedTuple):
    """The queue id of a message that is on disk, or the reply that refuses it."""

    queue_id: str
    refusal: Reply | None = None


@dataclass(slots=True)
class Submission:
    """One message as it was handed in.

    `recipients` are (address, NOTIFY bits, ORCPT); `chunks` the content in wire form, `size` its octets.
    `vmta` forces a virtual MTA or pool, as our own DSNs do. `protocol` is the `with` of the Received line.
    """

    originator: str
    recipients: list[tuple[str, int, str]]
    chunks: list[bytes]
    size: int
    source: SourcePolicy
    helo: str = ""
    source_ip: str = ""
    received_on: str = ""
    user: str = ""
    protocol: str = "ESMTP"
    source_type: str = "smtp"
    is_8bit: bool = False
    is_smtputf8: bool = False
    ret: int = 0
    envelope_id: str = ""
    job_id: str = ""
    vmta: str = ""
    suppress_dsn: bool = False


@dataclass(slots=True)
class _Rules:
    """What one configuration says about acceptance."""

    epoch: int
    selection: Selection
    stamp: Stamp
    captured: tuple[bytes, ...]
    with_receipts: bool


@dataclass(slots=True)
class _Content:
    """A message between parsing its header and writing it down."""

    block: bytes
    prefix: bytes = b""
    vmta_header: bytes | None = None
    job_id: str = ""
    envelope_id: str = ""
    captured: dict[str, str] = field(default_factory=dict)


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
    ) -> None:
        self._snapshot = snapshot
        self._partition = partition
        self._clock = clock
        self._queue_ids = queue_ids
        self._admitted = admitted
        self._host_name = host_name
        self._rules = self._read(snapshot())
        self.accepted = 0

    def refusal(self, size: int) -> Reply | None:
        """Why no message of this size can be taken now; None when one can."""
        error = self._partition.refusal(size)
        return None if error is None else _reply_to(error)

    def accept(self, submission: Submission, done: Callable[[AcceptResult], None]) -> None:
        """Take one message; `done` is called exactly once, perhaps before this returns."""
        rules = self._rules
        if rules.epoch != (snapshot := self._snapshot()).epoch:
            rules = self._rules = self._read(snapshot)
        refusal = self._check(submission)
        if refusal is not None:
            done(AcceptResult("", refusal))
            return
        content = _open(submission)
        if isinstance(content, Reply):
            done(AcceptResult("", content))
            return
        choice = _choose(rules.selection, submission, content)
        if isinstance(choice, Reply):
            done(AcceptResult("", choice))
            return
        queue_id = self._queue_ids.next()
        now = self._clock.now()
        envelope = _envelope(rules, submission, content, choice, queue_id, now)
        body = _stamped(rules.stamp, submission, content, queue_id, now)

        def committed(message: int, error: SpoolError | None) -> None:
            if error is not None:
                log.warning("queue-id=%s not stored: %s", queue_id, error)
                done(AcceptResult("", _reply_to(error)))
                return
            self.accepted += 1
            self._admitted(envelope, message, submission.size)
            if rules.with_receipts:
                # Said to be ours only when its `r` records can't be lost either. Should they wait for room
                # on the disk, the message is safe all the same.
                self._record_receipts(envelope)
                self._partition.flush(lambda error: done(AcceptResult(queue_id)))
            else:
                done(AcceptResult(queue_id))

        self._partition.accept(encode_envelope(envelope), body, committed, envelope)

    def _check(self, submission: Submission) -> Reply | None:
        if not submission.recipients:
            return _NO_RECIPIENTS
        if len(submission.recipients) > RECIPIENT_MASK:
            return _TOO_MANY
        limit = submission.source.max_message_size
        if limit is not None and submission.size > limit:
            return TOO_BIG
        return self.refusal(submission.size)

    def _read(self, snapshot: Snapshot) -> _Rules:
        captured: set[bytes] = set()
        with_receipts = False
        for file in snapshot.acct_files:
            mappings = file.settings.texts("map-header-to-field")
            for line in (*file.settings.texts("record-fields"), *mappings):
                captured.update(name.lower().encode("ascii") for name in _CAPTURED.findall(line))
            kinds = {kind.lower() for kind in file.settings.texts("records")}
            with_receipts = with_receipts or not kinds.isdisjoint(("r", "receipt", "received"))
        return _Rules(
            snapshot.epoch,
            Selection(snapshot),
            Stamp(snapshot.host_name() or self._host_name),
            tuple(sorted(captured)),
            with_receipts,
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


def _reply_to(error: SpoolError) -> Reply:
    return _FULL if isinstance(error, SpoolFull) else _BROKEN


def _open(submission: Submission) -> _Content | Reply:
    """Find the header block and do to it what the source's settings say. Changes `submission.chunks`."""
    policy = submission.source
    block = _header_block(submission.chunks)
    if len(block) > HEADER_LIMIT:
        return _HEADER_TOO_BIG
    lowered = block.lower()
    hops = lowered.count(b"\nreceived:") + lowered.startswith(b"received:")
    if hops > policy.max_message_hops:
        return _LOOP
    content = _Content(block)
    if block and not _FIELD_START.match(block):
        _make_body(submission, content)
        return content
    if policy.process_vmta and (at := headers.find(lowered, b"x-virtual-mta")) >= 0:
        content.vmta_header = headers.value_at(block, at)
    if policy.process_job and (at := headers.find(lowered, b"x-job")) >= 0:
        content.job_id = _value(block, at, _VALUE_LIMIT)
    if policy.job_header and not content.job_id:
        at = headers.find(lowered, policy.job_header.encode("utf-8"))
        content.job_id = _value(block, at, _VALUE_LIMIT) if at >= 0 else ""
    if policy.process_envid and (at := headers.find(lowered, b"x-envid")) >= 0:
        content.envelope_id = _value(block, at, _VALUE_LIMIT)
    return content


def _header_block(chunks: list[bytes]) -> bytes:
    """The header block; afterwards it lies whole in the first chunk."""
    if not chunks:
        return b""
    first = chunks[0]
    if len(chunks) > 1 and b"\r\n\r\n" not in first and not first.startswith(b"\r\n"):
        count = 1
        length = len(first)
        while count < len(chunks) and length <= HEADER_LIMIT:
            length += len(chunks[count])
            count += 1
            # The blank line may lie across two chunks: look at what they are together.
            if b"\r\n\r\n" in chunks[count - 2][-3:] + chunks[count - 1]:
                break
        first = b"".join(chunks[:count])
        chunks[:count] = [first]
    return first[: headers.header_end(first)]


def _make_body(submission: Submission, content: _Content) -> None:
    """The first line is no header field: what follows is a body, or mail out of an mbox file."""
    chunks = submission.chunks
    if content.block.startswith((b"From ", b">From ")):
        end = content.block.index(b"\r\n") + 2
        chunks[0] = chunks[0][end:]
        content.block = content.block[end:]
        if not content.block or _FIELD_START.match(content.block):
            return
    # Our lines will stand in front of it; without a blank line it would become part of the header.
    chunks.insert(0, b"\r\n")
    content.block = b""


def _value(block: bytes, at: int, limit: int) -> str:
    """A header value as text that can't break a line, a record or a log."""
    text = headers.value_at(block, at)[: 4 * limit].decode("utf-8", "replace")
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text).strip()
    return text[:limit]


def _choose(selection: Selection, submission: Submission, content: _Content) -> Choice | Reply:
    if submission.vmta:
        return selection.named(submission.vmta, submission.source)
    return selection.choose(
        submission.source,
        header=content.vmta_header,
        block=content.block,
        originator=submission.originator,
        recipients=[address for address, _, _ in submission.recipients],
        received_on=submission.received_on,
    )


def _envelope(
    rules: _Rules, submission: Submission, content: _Content, choice: Choice, queue_id: str, now: float
) -> Envelope:
    policy = submission.source
    job_id = submission.job_id or content.job_id
    if policy.job_prefix:
        job_id = (submission.user if policy.job_prefix == "{auth}" else policy.job_prefix) + job_id
    captured: dict[str, str] = {}
    if rules.captured:
        lowered = content.block.lower()
        for name in rules.captured:
            if (at := headers.find(lowered, name)) >= 0:
                captured[name.decode("ascii")] = _value(content.block, at, _CAPTURE_LIMIT)
    queue_domain = rules.selection.queue_domain
    vmta, pool = choice
    return Envelope(
        queue_id,
        now,
        submission.originator,
        vmta,
        tuple(
            [
                Recipient(address, queue_domain(address, vmta), notify, orcpt)
                for address, notify, orcpt in submission.recipients
            ]
        ),
        job_id,
        submission.envelope_id or content.envelope_id,
        pool,
        submission.ret,
        submission.is_8bit,
        submission.is_smtputf8,
        submission.source_type,
        f"{submission.helo} ({submission.source_ip})" if submission.source_ip else submission.helo,
        submission.user,
        submission.received_on,
        submission.source_ip,
        submission.suppress_dsn or policy.suppress_dsn,
        captured=captured,
    )


def _stamped(
    stamp: Stamp, submission: Submission, content: _Content, queue_id: str, now: float
) -> Sequence[bytes]:
    """The content as it goes to disk: our lines, then the message without what was to be taken out."""
    policy = submission.source
    chunks = submission.chunks
    block = content.block
    if policy.stripped and block:
        kept = headers.remove(block, policy.stripped)
        if kept is not block:
            chunks[0] = kept + chunks[0][len(block) :]
            block = kept
    lines: list[bytes] = []
    if policy.add_received:
        recipients = submission.recipients
        lines.append(
            stamp.received(
                helo=submission.helo,
                source_ip="" if policy.hide_source else submission.source_ip,
                protocol=submission.protocol,
                queue_id=queue_id,
                recipient=recipients[0][0] if len(recipients) == 1 else "",
                now=now,
            )
        )
    if policy.add_date != "no" and not headers.has(block, b"date"):
        lines.append(stamp.date_line(now))
    if policy.add_message_id and not headers.has(block, b"message-id"):
        lines.append(stamp.message_id_line(queue_id))
    return [*lines, *chunks] if lines else chunks
