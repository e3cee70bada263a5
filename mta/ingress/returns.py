"""Back to the sender: outcomes that the sender has to hear of become DSNs, and come in again like other mail.

Called for each recipient that has failed for good (and for `relayed` and `delayed` where NOTIFY asks for
them), before the outcome is settled: the message can still be read then. The outcome is settled only when
the report is in the spool, so that a crash in between makes two reports rather than none; on a full disk it
is the other way round, the report waits in memory and the outcome makes room. Recipients of one message that
share a fate in one turn of the event loop share a report, which enters `ingress/accept` with a null return
path through the virtual MTA of its message.

Nobody is told when the return path is null, NOTIFY says so, the source has `suppress-local-dsn`, or the
recipient's queue has `deliver-local-dsn no`.

Bounded: as many reports as OUTBOX_LIMIT wait for the spool; what comes on top is counted, logged and not
sent, so that a breakdown does not grow into a second one. A full spool only makes them wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from mta.clock import Clock
from mta.config.settings import Settings
from mta.config.snapshot import DEFAULT_VMTA, Snapshot
from mta.errors import SpoolError
from mta.ingress.accept import AcceptResult, Submission
from mta.ingress.dsntexts import read_wording
from mta.ingress.queueid import QueueIds
from mta.ingress.relaying import SourcePolicy
from mta.message import headers
from mta.message.envelope import Envelope, Notify, Ret
from mta.message.event import Event
from mta.message.personal import personal_content
from mta.message.report import FULL_LIMIT, Action, Report, ReportedRecipient, compose, is_due
from mta.message.wording import Wording

__all__ = ["Returns", "ReturnsStats"]

log = logging.getLogger(__name__)

#: Reports that may wait to be accepted; a few KB each.
OUTBOX_LIMIT = 5000
#: Reports handed to the spool at once: they share its commits.
OPEN_LIMIT = 64
#: Recipients in one report.
RECIPIENT_LIMIT = 200
#: Seconds until the next try when the spool refuses.
SPOOL_PAUSE = 10.0
#: Recipients remembered as told about a delay.
TOLD_LIMIT = 100_000

_ACTIONS = {action.value: action for action in Action}

#: Our own mail needs nobody's permission, and no line that says where it came from.
_POLICY = SourcePolicy(allow_relaying=True, add_received=False, reject_invalid_vmta=False)

Accept = Callable[[Submission, Callable[[AcceptResult], None]], None]

#: Settles an outcome.
Settle = Callable[[], None]


def _nothing() -> None:
    return


class ReturnsStats(NamedTuple):
    """Reports since start: accepted, not sent because too many waited, and those waiting now."""

    sent: int
    dropped: int
    waiting: int


@dataclass(slots=True)
class _Gathering:
    """The recipients of one message that share a fate, until the loop's turn is over."""

    envelope: Envelope
    original: bytes
    settings: Settings
    recipients: list[ReportedRecipient] = field(default_factory=list)
    settles: list[Settle] = field(default_factory=list)


class _Outgoing(NamedTuple):
    """A report on its way to the spool, and the outcomes that wait for it."""

    submission: Submission
    settles: list[Settle]
    was_refused: bool = False


class Returns:
    """Turns outcomes into reports, for one worker."""

    def __init__(
        self,
        *,
        accept: Accept,
        load: Callable[[int], bytes],
        snapshot: Callable[[], Snapshot],
        queue_ids: QueueIds,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        host_name: str = "localhost",
    ) -> None:
        """`load` gives a stored message in wire form or raises SpoolError; `host_name` is the machine's."""
        self._accept = accept
        self._load = load
        self._snapshot = snapshot
        self._queue_ids = queue_ids
        self._clock = clock
        self._loop = loop
        self._host_name = host_name
        self._gathering: dict[tuple[int, Action, int], _Gathering] = {}
        self._outbox: deque[_Outgoing] = deque()
        self._open = 0
        self._is_leaving = False
        self._resume: asyncio.TimerHandle | None = None
        self._told: dict[tuple[int, int], float] = {}
        self._wording = read_wording(snapshot())
        self._epoch = snapshot().epoch
        self._sent = self._dropped = 0

    def __call__(
        self, envelope: Envelope, index: int, event: Event, message: int, settle: Settle = _nothing
    ) -> None:
        """Report what `event` says about a recipient, if anybody is to be told; then call `settle`, at once
        when there is no report, else when it is on disk. Never raises."""
        action = _ACTIONS.get(event.dsn_action)
        if action is None or not self._is_wanted(action, envelope, index, message):
            settle()
            return
        settings = self._snapshot().effective(envelope.recipients[index].queue_domain, envelope.vmta)
        # A report has one shape, and speaks of one queue's retry-after; recipients with a return path or a
        # text of their own get reports of their own.
        place = (message, action, ~index if envelope.is_personal else id(settings))
        gathering = self._gathering.get(place)
        if gathering is None:
            if len(self._gathering) + len(self._outbox) >= OUTBOX_LIMIT:
                self._drop(envelope)
                settle()
                return
            gathering = _Gathering(envelope, self._original(envelope, index, message), settings)
            if not self._gathering:
                self._loop.call_soon(self._gathered)
            self._gathering[place] = gathering
        gathering.settles.append(settle)
        gathering.recipients.append(
            ReportedRecipient(
                event.recipient,
                event.dsn_status,
                event.dsn_diag,
                event.dsn_mta,
                event.orcpt,
                event.time_logged if event.dsn_mta else 0.0,
            )
        )

    def stats(self) -> ReturnsStats:
        waiting = len(self._gathering) + len(self._outbox) + self._open
        return ReturnsStats(self._sent, self._dropped, waiting)

    def flush(self) -> None:
        """Hand everything that waits to the spool now, before its last commit."""
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        self._is_leaving = True
        self._gathered()

    def close(self) -> None:
        """Take nothing up any more; outcomes whose report was never tried stay open for the next start."""
        if self._resume is not None:
            self._resume.cancel()
        if self._outbox:
            log.warning("event=stopped unsent_reports=%d", len(self._outbox))
        self._outbox.clear()

    def _is_wanted(self, action: Action, envelope: Envelope, index: int, message: int) -> bool:
        recipient = envelope.recipients[index]
        if not envelope.originator or envelope.suppress_dsn or not is_due(action, recipient.notify):
            return False
        settings = self._snapshot().effective(recipient.queue_domain, envelope.vmta)
        if not settings.boolean("deliver-local-dsn"):
            return False
        every = settings.interval("notify-of-delay-every")
        return action is not Action.DELAYED or self._is_news(envelope, (message, index), every)

    def _is_news(self, envelope: Envelope, recipient: tuple[int, int], every: float | None) -> bool:
        """Whether it is time to speak of a delay (again); a restart may repeat it early. None: never."""
        now = self._clock.now()
        if every is None or now - self._told.get(recipient, envelope.received) < every:
            return False
        self._told.pop(recipient, None)
        if len(self._told) >= TOLD_LIMIT:
            del self._told[next(iter(self._told))]
        self._told[recipient] = now
        return True

    def _original(self, envelope: Envelope, index: int, message: int) -> bytes:
        """What the report returns of the message: its header, or all of it where RET says so."""
        try:
            content = self._load(message)
        except SpoolError as error:
            log.warning("queue_id=%s event=unreadable the report has no header: %s", envelope.queue_id, error)
            return b""
        if envelope.is_personal:
            content = personal_content(envelope, index, content)
        if envelope.ret == Ret.FULL and len(content) <= FULL_LIMIT:
            return content
        return content[: headers.header_end(content)]

    def _words(self) -> Wording:
        """The operator's words, as the configuration in force has them."""
        snapshot = self._snapshot()
        if snapshot.epoch != self._epoch:
            self._wording, self._epoch = read_wording(snapshot), snapshot.epoch
        return self._wording

    def _gathered(self) -> None:
        gatherings, self._gathering = self._gathering, {}
        for (_, action, _), gathering in gatherings.items():
            recipients = gathering.recipients
            for start in range(0, len(recipients), RECIPIENT_LIMIT):
                stop = start + RECIPIENT_LIMIT
                submission = self._submission(action, gathering, recipients[start:stop])
                self._outbox.append(_Outgoing(submission, gathering.settles[start:stop]))
        self._submit()

    def _submission(
        self, action: Action, gathering: _Gathering, recipients: list[ReportedRecipient]
    ) -> Submission:
        envelope, settings = gathering.envelope, gathering.settings
        report = Report(
            action,
            self._snapshot().host_name() or self._host_name,
            envelope.originator,
            tuple(recipients),
            envelope.received,
            envelope.queue_id,
            envelope.vmta,
            envelope.envelope_id,
            Ret(envelope.ret),
            envelope.received + (settings.interval("bounce-after") or 0.0),
            self._words(),
            settings.text("dsn-format") == "plain-text",
            settings.text("retry-after"),
            settings.text("bounce-after"),
        )
        content = compose(
            report, gathering.original, now=self._clock.wall(), report_id=self._queue_ids.next()
        )
        return Submission(
            "",
            # RFC 3461 6: nobody wants a report about a report.
            [(envelope.originator, int(Notify.NEVER), "")],
            [content],
            len(content),
            _POLICY,
            source_type="dsn",
            is_8bit=not content.isascii(),
            is_smtputf8=report.is_utf8,
            vmta="" if envelope.vmta == DEFAULT_VMTA else envelope.vmta,
        )

    def _submit(self) -> None:
        """Hand reports to the spool, not too many at once."""
        while self._outbox and self._resume is None and (self._open < OPEN_LIMIT or self._is_leaving):
            outgoing = self._outbox.popleft()
            self._open += 1
            self._accept(outgoing.submission, partial(self._accepted, outgoing))

    def _accepted(self, outgoing: _Outgoing, result: AcceptResult) -> None:
        self._open -= 1
        submission = outgoing.submission
        refusal = result.refusal
        if refusal is None:
            self._sent += 1
            log.info("queue_id=%s event=report to=%r", result.queue_id, submission.recipients[0][0])
        elif refusal.is_temporary:
            self._outbox.append(_Outgoing(submission, [] if outgoing.was_refused else outgoing.settles, True))
            if self._resume is None:
                log.warning("event=postponed reports=%d reason=%r", len(self._outbox), str(refusal))
                self._resume = self._loop.call_later(SPOOL_PAUSE, self._go_on)
        else:
            log.error("event=refused report to=%r reason=%r", submission.recipients[0][0], str(refusal))
        if refusal is None or not refusal.is_temporary or outgoing.was_refused:
            # Also when the disk stays full: there only outcomes make room, for this report too.
            for settle in outgoing.settles:
                settle()
        if self._outbox and self._resume is None:
            self._loop.call_soon(self._submit)

    def _go_on(self) -> None:
        self._resume = None
        self._submit()

    def _drop(self, envelope: Envelope) -> None:
        self._dropped += 1
        if self._dropped & (self._dropped - 1) == 0:  # the first, second, fourth, eighth …: not a line each
            log.error(
                "queue_id=%s event=dropped reports=%d more than %d reports wait for the spool",
                envelope.queue_id,
                self._dropped,
                OUTBOX_LIMIT,
            )

    def __repr__(self) -> str:
        sent, dropped, waiting = self.stats()
        return f"<Returns sent={sent} dropped={dropped} waiting={waiting}>"
