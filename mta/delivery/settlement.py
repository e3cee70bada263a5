"""What becomes of a recipient after an attempt: told to the scheduler, the settle log, and the sender.

For each outcome, in this order and without a pause in between:

    delivered   scheduler (gone)          settle log: d
    deferred    scheduler (when again?)   settle log: t, with attempts and due time
    failed      a DSN through `returns`   scheduler (gone), settle log: b
    untried     scheduler (to the front, uncounted)

The DSN is handed over first: should we crash in between, two of them are better than none. What a reply
means is judged by the queue's rules; whether a recipient is out of time or attempts the scheduler says, and
it then ends as `4.4.7` in category `message-expired`.

Not done here: deciding which message goes where, and writing accounting files (they are made from the log).
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Protocol

from mta.clock import Clock
from mta.delivery.attempt import Attempt
from mta.delivery.connection import Facts
from mta.delivery.policy import DeliveryPolicy
from mta.delivery.session import Session
from mta.message.envelope import Envelope, Notify, Recipient
from mta.message.event import Event, EventValues, encode_event, encode_values
from mta.message.personal import personal_envelope
from mta.queue.key import RECIPIENT_BITS, RECIPIENT_MASK, QueueKey
from mta.queue.reaction import RETRY_QUEUE, RETRY_RECIPIENT, Judgement, Measure, Reaction, ReplyRules
from mta.queue.scheduler import Settled
from mta.queue.slot import Slot
from mta.smtp.reply import Reply
from mta.smtp.status import consistent
from mta.smtp.transaction import Fate, Outcome, Stage, internal_reply, is_internal

__all__ = ["EventLog", "Returns", "Settlement", "SettlementStats", "permanent"]

log = logging.getLogger(__name__)

MESSAGE_EXPIRED = "message-expired"
EXPIRED = internal_reply(451, "4.4.7", "message expired")
DELETED = internal_reply(550, "5.0.0", "deleted by administrator")
#: What a bounce says instead of the words of a 421 (replace-smtp-421-service-response).
UNAVAILABLE = Reply(421, "4.3.2 Service not available", "4.3.2")

# Plain names and numbers: an enum's operators cost more than what they decide.
_DELIVERED, _DEFERRED, _FAILED, _UNTRIED = Fate
_REACTION_DELIVERED = Reaction.DELIVERED
_SUCCESS, _DELAY = int(Notify.SUCCESS), int(Notify.DELAY)


class Books(Protocol):
    """The part of the scheduler that is told about results."""

    def settle(self, slot: Slot, now: float, ref: int, reaction: Reaction, text: str = "") -> Settled: ...
    def put_back(self, slot: Slot, refs: list[int]) -> None: ...
    def apply(self, slot: Slot, now: float, measure: Measure, reason: str = "") -> list[int]: ...


class EventLog(Protocol):
    """The part of a spool partition that keeps results."""

    def settle(self, message: int, recipient: int, event: bytes) -> None: ...
    def defer(
        self, message: int, recipient: int, *, attempts: int, due: float, event: bytes | None
    ) -> None: ...
    def record(self, event: bytes) -> None: ...


class Categories(Protocol):
    """What names a bounce category; `mta.queue.classify.Classifier`."""

    def category(self, status: str, diag: str) -> str: ...


#: Called for every final failure, for `relayed` where the sender asked for SUCCESS, and for each deferral
#: where it asked for DELAY: envelope, index of the recipient, what happened, number of the message, and what
#: settles the outcome. It decides whether a DSN is due, and settles when there is none, or it is on disk.
Returns = Callable[[Envelope, int, Event, int, Callable[[], None]], None]


#: Called for each delivery where bcc-upon-delivery gives an address: the address, then the envelope, the
#: recipient's index and the message's number. Sends a copy there.
Copies = Callable[[str, Envelope, int, int], None]


class SettlementStats(NamedTuple):
    """Recipients since start. `uncertain` ones may be delivered twice: the dot's reply never came."""

    delivered: int
    deferred: int
    failed: int
    expired: int
    uncertain: int


class Settlement:
    """Turns outcomes into events; one per worker."""

    def __init__(
        self,
        *,
        scheduler: Books,
        store: EventLog,
        categories: Callable[[], Categories],
        rules: Callable[[QueueKey], ReplyRules],
        policies: Callable[[QueueKey], DeliveryPolicy],
        returns: Returns,
        clock: Clock,
        name: str = "",
        sent: Callable[[float, int, int, int], None] | None = None,
        ended: Callable[[Envelope, bool], None] | None = None,
        copies: Copies | None = None,
    ) -> None:
        """`name` makes event ids unique among workers. `sent(now, recipients, messages, octets)` is told of
        deliveries, `ended` of each recipient of a job that is delivered (True) or has failed for good.
        `copies` sends what bcc-upon-delivery wants."""
        self._scheduler = scheduler
        self._store = store
        self._categories = categories
        self._rules = rules
        self._policies = policies
        self._returns = returns
        self._clock = clock
        self._sent = sent
        self._ended = ended
        self._copies = copies
        # The start time makes ids unique over restarts: steady time never goes back.
        prefix = f"{name}{int(clock.now() * 1e6):x}-"
        self._event_ids = map((prefix.replace("%", "%%") + "%x").__mod__, itertools.count(1))
        self._condemned: deque[tuple[QueueKey, int, Reply]] = deque()
        self._delivered = self._deferred = self._failed = self._expired = self._uncertain = 0

    def stats(self) -> SettlementStats:
        return SettlementStats(self._delivered, self._deferred, self._failed, self._expired, self._uncertain)

    def __repr__(self) -> str:
        return f"<Settlement {self._delivered} delivered, {self._deferred} deferred, {self._failed} failed>"

    # -- results of a transaction ----------------------------------------------------------------------

    def conclude(self, session: Session, attempt: Attempt) -> bool:
        """Every recipient has its outcome; returns whether all are delivered (the hot path)."""
        refs = attempt.refs
        if attempt.is_delivered:
            delivered = len(refs)
            self._deliver(session, attempt, refs, attempt.outcomes[0])
        else:
            delivered = self._conclude_each(session, attempt)
        if delivered:
            session.delivered += delivered
            self._delivered += delivered
            if self._sent is not None:
                self._sent(session.now, delivered, 1, attempt.size)
        return delivered == len(refs)

    def _conclude_each(self, session: Session, attempt: Attempt) -> int:
        """The outcomes differ, or are none to be glad of; returns how many are delivered all the same."""
        now, refs = session.now, attempt.refs
        untried: list[int] = []
        delivered = 0
        for index, outcome in enumerate(attempt.outcomes):
            ref, fate = refs[index], outcome.fate
            if fate is _DELIVERED:
                delivered += 1
                self._deliver(session, attempt, [ref], outcome)
            elif fate is _UNTRIED:
                if outcome.stage is Stage.RCPT and not untried:
                    session.most_recipients = max(1, index)  # the rest was one too many
                untried.append(ref)
            else:
                self._refuse(session, attempt, ref, outcome, now)
        if untried:
            self._scheduler.put_back(session.slot, untried)
        return delivered

    def _deliver(self, session: Session, attempt: Attempt, refs: list[int], outcome: Outcome) -> None:
        """These recipients are delivered, by one and the same reply."""
        envelope, reply, policy, facts = attempt.envelope, outcome.reply, session.policy, session.facts
        action = "delivered" if facts.has_dsn else "relayed"
        status = consistent(reply.code, reply.enhanced)
        is_recorded = "d" not in policy.disabled_records
        if outcome.uncertain:
            self._uncertain += len(refs)
        for ref in refs:
            message, index = ref >> RECIPIENT_BITS, ref & RECIPIENT_MASK
            recipient = envelope.recipients[index]
            settled = self._scheduler.settle(session.slot, session.now, ref, _REACTION_DELIVERED)
            if envelope.job_id and self._ended is not None:
                self._ended(envelope, True)
            values = self._values(
                "d",
                envelope,
                recipient,
                session.queue_name,
                facts,
                action,
                status,
                reply,
                "success",
                attempt.size,
                attempt.started_at if settled.attempts == 1 else 0.0,
            )
            encoded = encode_values(values) if is_recorded else b""
            if policy.bcc_upon_delivery and self._copies is not None:
                self._copies(policy.bcc_upon_delivery, envelope, index, message)
            if recipient.notify & _SUCCESS and not facts.has_dsn:
                # The next hop will not tell the sender; RFC 3461 5.2.2 makes it our business.
                settle = partial(self._store.settle, message, index, encoded)
                self._returns(envelope, index, Event(*values), message, settle)
            else:
                self._store.settle(message, index, encoded)

    def _refuse(self, session: Session, attempt: Attempt, ref: int, outcome: Outcome, now: float) -> None:
        """Deferred or failed, as the queue's rules see it."""
        slot = session.slot
        if outcome.uncertain:
            self._uncertain += 1
            log.warning(
                "queue_id=%s recipient=%d event=uncertain remote=%r",
                attempt.envelope.queue_id,
                ref & RECIPIENT_MASK,
                session.facts.mta_name,
            )
        if outcome.stage is Stage.END and is_internal(outcome.reply):
            queue_id = attempt.envelope.queue_id
            session.policy.log.broke_off(slot.key, queue_id, session.facts, outcome.reply)
        session.count_refusal()
        judgement = self._judge(session, outcome)
        self.take_measures(slot, judgement, outcome.reply, now)
        if judgement.skips_host:
            session.leave_host()
        self._settle(
            slot,
            attempt.envelope,
            ref,
            outcome,
            judgement,
            session.facts,
            now,
            started_at=attempt.started_at,
        )

    def _judge(self, session: Session, outcome: Outcome) -> Judgement:
        fate, reply, stage = outcome.fate, outcome.reply, outcome.stage
        if fate is _FAILED and not reply.is_permanent:
            return Judgement(Reaction.FAILED)  # by order of the operator (bounce-upon-transfer-failure)
        if fate is _DEFERRED and reply.is_permanent:
            return RETRY_RECIPIENT  # 552 for "too many recipients"
        is_lost = is_internal(reply) and fate is _DEFERRED and stage is not Stage.END
        judgement = self._rules(session.slot.key).judge(
            # A connection that never carried anything and breaks is the queue's trouble, not the recipient's.
            None if is_lost and not session.completed else stage,
            reply,
        )
        if judgement is RETRY_QUEUE and reply.code == 421 and session.policy.mx_unavailable_on_421:
            return Judgement(Reaction.RETRY_NOW, skips_host=True)
        if judgement is RETRY_QUEUE and session.delivered and reply.code == 421:
            # "Enough for one connection": the next one finds out whether it is more than that.
            return RETRY_RECIPIENT
        if is_lost and session.completed and judgement is RETRY_QUEUE:
            return RETRY_RECIPIENT
        return judgement

    # -- without a transaction -------------------------------------------------------------------------

    def finish(self, slot: Slot, envelope: Envelope, ref: int, reply: Reply, facts: Facts, size: int) -> None:
        """What became of one recipient of a delivery without SMTP; after 421 the whole queue waits."""
        now = self._clock.now()
        if reply.is_permanent:
            self.fail(slot, envelope, [ref], reply, facts)
            return
        if reply.code // 100 != 2:
            outcome = Outcome(Fate.DEFERRED, reply, Stage.MAIL)
            judgement = RETRY_QUEUE if reply.code == 421 else RETRY_RECIPIENT
            self._settle(slot, envelope, ref, outcome, judgement, facts, now)
            return
        message, index = ref >> RECIPIENT_BITS, ref & RECIPIENT_MASK
        self._scheduler.settle(slot, now, ref, Reaction.DELIVERED)
        self._delivered += 1
        if self._sent is not None:
            self._sent(now, 1, 1, size)
        if self._ended is not None and envelope.job_id:
            self._ended(envelope, True)
        event = Event(
            *self._values(
                "d",
                envelope,
                envelope.recipients[index],
                str(slot.key),
                facts,
                action="delivered",
                status=reply.enhanced,
                reply=reply,
                category="success",
                size=size,
            )
        )
        policy = self._policies(slot.key)
        if policy.bcc_upon_delivery and self._copies is not None:
            self._copies(policy.bcc_upon_delivery, envelope, index, message)
        encoded = encode_event(event) if "d" not in policy.disabled_records else b""
        settle = partial(self._store.settle, message, index, encoded)
        if envelope.recipients[index].notify & _SUCCESS:
            self._returns(envelope, index, event, message, settle)
        else:
            settle()

    def fail(self, slot: Slot, envelope: Envelope, refs: list[int], reply: Reply, facts: Facts) -> None:
        """These can't be sent at all: no route, or a greeting that refuses."""
        now = self._clock.now()
        outcome = Outcome(Fate.FAILED, reply, Stage.MAIL)
        for ref in refs:
            self._settle(slot, envelope, ref, outcome, Judgement(Reaction.FAILED), facts, now)

    def expire(self, key: QueueKey, ref: int, envelope: Envelope, reply: Reply = EXPIRED) -> None:
        """Out of time, attempts or luck: the scheduler has let go of it already."""
        if reply is EXPIRED:
            self._expired += 1
        else:
            self._failed += 1
        category = MESSAGE_EXPIRED if reply is EXPIRED else ""
        self._bounce(envelope, ref, key, Facts(), reply, consistent(reply.code, reply.enhanced), category)

    def delete(
        self, key: QueueKey, ref: int, envelope: Envelope, *, with_dsn: bool, is_recorded: bool = True
    ) -> None:
        """The operator has taken it out of its queue."""
        self._failed += 1
        status = consistent(DELETED.code, DELETED.enhanced)
        self._bounce(
            envelope, ref, key, Facts(), DELETED, status, wants_dsn=with_dsn, is_recorded=is_recorded
        )

    def remind(self, key: QueueKey, ref: int, envelope: Envelope, words: str) -> None:
        """No attempt is made at this recipient, for the reason that `words` give: the sender may be told."""
        reply = internal_reply(451, "4.4.1", words)
        index = ref & RECIPIENT_MASK
        if envelope.is_personal:
            envelope = personal_envelope(envelope, index)
        event = Event(
            *self._values(
                "t",
                envelope,
                envelope.recipients[index],
                str(key),
                Facts(),
                action="delayed",
                status="4.4.1",
                reply=reply,
                category="",
            )
        )
        self._returns(envelope, index, event, ref >> RECIPIENT_BITS, _nothing)

    def take_measures(self, slot: Slot, judgement: Judgement, reply: Reply, now: float) -> None:
        """What a rule does to the queue; whom it condemns is failed later, some at a time (`condemned`)."""
        for measure in judgement.measures:
            for ref in self._scheduler.apply(slot, now, measure, str(reply)):
                self._condemned.append((slot.key, ref, permanent(reply)))

    def condemn(self, key: QueueKey, refs: Iterable[int], reply: Reply) -> None:
        """These have been taken out of their queue and are failed with `reply`, some at a time."""
        self._condemned.extend((key, ref, reply) for ref in refs)

    def condemned(self, limit: int) -> list[tuple[QueueKey, int, Reply]]:
        """Recipients that a rule has taken out of their queue, to be failed by `expire` with that reply."""
        return [self._condemned.popleft() for _ in range(min(limit, len(self._condemned)))]

    def queue_failure(self, slot: Slot, reply: Reply, facts: Facts) -> None:
        """The queue as a whole could not be served (tq)."""
        if "tq" in self._policies(slot.key).disabled_records:
            return
        event = Event(
            "tq",
            next(self._event_ids),
            self._clock.wall(),
            dsn_status=_temporary(consistent(reply.code, reply.enhanced)),
            dsn_diag=f"smtp;{reply}",
            dsn_mta=facts.mta_name,
            delivery_type="smtp",
            delivery_source_ip=facts.source_ip,
            delivery_destination_ip=facts.destination_ip,
            vmta=slot.key.vmta,
            queue=str(slot.key),
        )
        self._store.record(encode_event(event))

    # -- inside ----------------------------------------------------------------------------------------

    def _settle(
        self,
        slot: Slot,
        envelope: Envelope,
        ref: int,
        outcome: Outcome,
        judgement: Judgement,
        facts: Facts,
        now: float,
        *,
        started_at: float = 0.0,
    ) -> None:
        reply, key = outcome.reply, slot.key
        status = self._status(key, outcome)
        settled = self._scheduler.settle(slot, now, ref, judgement.reaction, str(reply))
        is_final = judgement.reaction is Reaction.FAILED or settled.is_expired
        if is_final and reply.code == 421 and self._policies(key).replaces_421:
            reply = UNAVAILABLE
        if judgement.reaction is Reaction.FAILED:
            self._failed += 1
            if judgement.is_by_rule:
                reply = permanent(reply)
                status = consistent(reply.code, reply.enhanced)
            self._bounce(envelope, ref, key, facts, reply, status, wants_dsn=judgement.wants_dsn)
        elif settled.is_expired:
            self._expired += 1
            self._bounce(envelope, ref, key, facts, reply, "4.4.7", MESSAGE_EXPIRED)
        else:
            self._deferred += 1
            event = Event(
                *self._values(
                    "t",
                    envelope,
                    envelope.recipients[ref & RECIPIENT_MASK],
                    str(key),
                    facts,
                    action="delayed",
                    status=_temporary(status),
                    reply=reply,
                    category=self._categories().category(_temporary(status), str(reply)),
                    first_attempt=started_at if settled.attempts == 1 else 0.0,
                )
            )
            if envelope.recipients[ref & RECIPIENT_MASK].notify & _DELAY and envelope.originator:
                self._returns(envelope, ref & RECIPIENT_MASK, event, ref >> RECIPIENT_BITS, _nothing)
            is_recorded = "t" not in self._policies(key).disabled_records
            self._store.defer(
                ref >> RECIPIENT_BITS,
                ref & RECIPIENT_MASK,
                attempts=settled.attempts,
                due=settled.due,
                event=encode_event(event) if is_recorded else None,
            )

    def _bounce(
        self,
        envelope: Envelope,
        ref: int,
        key: QueueKey,
        facts: Facts,
        reply: Reply,
        status: str,
        category: str = "",
        *,
        wants_dsn: bool = True,
        is_recorded: bool = True,
    ) -> None:
        index = ref & RECIPIENT_MASK
        if envelope.is_personal:
            envelope = personal_envelope(envelope, index)
        event = Event(
            *self._values(
                "b",
                envelope,
                envelope.recipients[index],
                str(key),
                facts,
                action="failed",
                status=status,
                reply=reply,
                category=category or self._categories().category(status, str(reply)),
            )
        )
        if self._ended is not None and envelope.job_id:
            self._ended(envelope, False)
        message = ref >> RECIPIENT_BITS
        is_recorded = is_recorded and "b" not in self._policies(key).disabled_records
        settle = partial(self._store.settle, message, index, encode_event(event) if is_recorded else b"")
        if wants_dsn and envelope.originator:
            self._returns(envelope, index, event, message, settle)
        else:
            settle()

    def _status(self, key: QueueKey, outcome: Outcome) -> str:
        reply = outcome.reply
        is_bare_553 = reply.code == 553 and not reply.enhanced and outcome.stage is Stage.RCPT
        if is_bare_553 and self._policies(key).bare_553_means_invalid_mailbox:
            return "5.1.1"
        return consistent(reply.code, reply.enhanced)

    def _values(
        self,
        kind: str,
        envelope: Envelope,
        recipient: Recipient,
        queue: str,
        facts: Facts,
        action: str,
        status: str,
        reply: Reply,
        category: str,
        size: int = 0,
        first_attempt: float = 0.0,
    ) -> EventValues:
        """An event as the values of its fields: most are encoded and nothing else. Hot path."""
        mta_name, source_ip, destination_ip, esmtp, tls_protocol, tls_cipher, _, delivery_type = facts
        return (
            kind,
            next(self._event_ids),
            self._clock.wall(),
            envelope.received,
            envelope.originator,
            recipient.address,
            recipient.orcpt,
            action,
            status,
            f"smtp;{reply.code} {reply.text}",
            mta_name,
            category,
            envelope.source_type,
            envelope.source_mta,
            delivery_type,
            source_ip,
            destination_ip,
            esmtp,
            size,
            envelope.vmta,
            envelope.job_id,
            envelope.envelope_id,
            queue,
            envelope.vmta_pool,
            envelope.source_user,
            envelope.source_ip,
            envelope.received_on,
            tls_protocol,
            tls_cipher,
            envelope.queue_id,
            first_attempt,
            "",
            envelope.captured,
        )


def _nothing() -> None:
    """A deferral does not wait for the report about it."""


def _temporary(status: str) -> str:
    """A deferral is 4.x.x whatever the receiver thought it was."""
    return f"4{status[1:]}" if status[0] == "5" else status


def permanent(reply: Reply) -> Reply:
    """Rules may make a temporary reply final; the record of a final failure needs a permanent code."""
    if reply.is_permanent:
        return reply
    return Reply(550, reply.text, f"5{reply.enhanced[1:]}" if reply.enhanced else "")
