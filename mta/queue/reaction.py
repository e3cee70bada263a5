"""What a reply means for the recipient it was given for, and for the queue.

The plain rules follow RFC 5321 4.2.1 and PowerMTA's habits:

    5xx                         this recipient has failed
    4xx to RCPT or the content  this recipient waits for `retry-recipients-after`
    4xx to MAIL or before it,   the queue waits for `retry-after`
      421 anywhere

`<smtp-pattern-list>` entries and bounce rules come before them; the first entry that matches decides. What a
rule does to the queue is a `Measure`, which `Scheduler.apply` carries out. An answer that nobody can read is
temporary: mail never bounces because of a misunderstanding.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

from mta.config.patterns import ReplyAction, ReplyPattern
from mta.config.units import parse_interval
from mta.queue.policy import QueuePolicy
from mta.smtp.reply import Reply
from mta.smtp.transaction import Stage

__all__ = ["Judgement", "Measure", "MeasureKind", "Reaction", "ReplyRules"]

SERVICE_CLOSING = 421


class Reaction(enum.Enum):
    """What the scheduler does with a recipient after an attempt."""

    DELIVERED = "delivered"  # gone for good; the queue's retry list starts again
    FAILED = "failed"  # gone for good
    RETRY_RECIPIENT = "retry recipient"  # this recipient waits, the queue goes on
    RETRY_QUEUE = "retry queue"  # the whole queue waits
    RETRY_NOW = "retry now"  # to be tried again at once: another MX, another transaction


class MeasureKind(enum.Enum):
    """What a rule does beyond the recipient it was found for."""

    BACKOFF = "mode=backoff"
    NORMAL = "mode=normal"
    BOUNCE_QUEUE = "bounce-queue"
    DISABLE_SOURCE = "disable-source-ip"


class Measure(NamedTuple):
    """One thing to do to the queue; `lasting` seconds, None = as the queue's settings say."""

    kind: MeasureKind
    lasting: float | None = None


class Judgement(NamedTuple):
    """What to do with the recipient and with the queue.

    `wants_dsn` is False where a bounce rule says `delete`; `skips_host` asks for the next MX host;
    `is_ordered` says that a rule decided about the whole queue: no other host is asked, `is_by_rule` that a
    list entry decided.
    """

    reaction: Reaction
    measures: tuple[Measure, ...] = ()
    wants_dsn: bool = True
    skips_host: bool = False
    is_ordered: bool = False
    is_by_rule: bool = False

    @property
    def disables_source(self) -> bool:
        """Whether the source address is taken out of use and the queue goes on with the others."""
        return self.reaction is Reaction.RETRY_NOW and any(
            measure.kind is MeasureKind.DISABLE_SOURCE for measure in self.measures
        )


DELIVERED = Judgement(Reaction.DELIVERED)
FAILED = Judgement(Reaction.FAILED)
RETRY_RECIPIENT = Judgement(Reaction.RETRY_RECIPIENT)
RETRY_QUEUE = Judgement(Reaction.RETRY_QUEUE)

#: Actions after which no other host is asked for the queue's mail.
FOR_THE_QUEUE = frozenset({"bounce-queue", "disable-source-ip", "defer-queue"})

#: Options of actions that give a length of time.
LENGTHS = ("backoff-to-normal-after", "reenable-after")


class ReplyRules:
    """The rules that hold for one queue; made once per queue and configuration epoch."""

    __slots__ = ("_bounce_rules", "_patterns", "_policy")

    def __init__(
        self,
        policy: QueuePolicy,
        patterns: Sequence[ReplyPattern] = (),
        bounce_rules: Sequence[ReplyPattern] = (),
    ) -> None:
        self._policy = policy
        self._patterns = tuple(patterns)
        self._bounce_rules = tuple(bounce_rules)

    def judge(self, stage: Stage | None, reply: Reply) -> Judgement:
        """What `reply` to the command of `stage` means; None stands for everything before MAIL."""
        if reply.is_positive:
            return DELIVERED
        if self._patterns:
            text = str(reply)
            for pattern in self._patterns:
                if pattern.stage == "reply" and pattern.regex.search(text):
                    return self._by_actions(pattern.actions, stage, reply)
        if self._bounce_rules:
            subject = f"{status_of(reply)} {reply}"
            for rule in self._bounce_rules:
                if rule.regex.search(subject):
                    return self._by_bounce_rule(rule.action, stage, reply)
        return self._plain(stage, reply)

    def judge_connection(self, text: str) -> Judgement:
        """What a connection that never came about means; `text` is the error."""
        for pattern in self._patterns:
            if pattern.stage == "connect" and pattern.regex.search(text):
                found = self._by_actions(pattern.actions, None, Reply(SERVICE_CLOSING, text))
                return RETRY_QUEUE if found.reaction is Reaction.RETRY_RECIPIENT else found
        return RETRY_QUEUE

    def _plain(self, stage: Stage | None, reply: Reply) -> Judgement:
        if reply.is_permanent:
            if stage is None and not self._policy.bounce_upon_5xx_greeting:
                return RETRY_QUEUE
            return FAILED
        if reply.code == SERVICE_CLOSING or stage is None or stage is Stage.MAIL:
            return RETRY_QUEUE
        return RETRY_RECIPIENT

    def _by_actions(self, actions: Sequence[ReplyAction], stage: Stage | None, reply: Reply) -> Judgement:
        """`<smtp-pattern-list>`: what the actions don't say stays as it would be without them."""
        judgement = self._plain(stage, reply)
        names = {action.name for action in actions}
        if "disable-source-ip" in names and judgement.reaction is Reaction.RETRY_QUEUE:
            # What is wrong is the address: the queue goes on with the others.
            judgement = judgement._replace(reaction=Reaction.RETRY_NOW)
        measures: list[Measure] = []
        for action in actions:
            match action.name:
                case "mode=backoff" | "mode=normal" | "disable-source-ip":
                    measures.append(Measure(MeasureKind(action.name), length_of(action)))
                case "bounce-queue":
                    measures.append(Measure(MeasureKind.BOUNCE_QUEUE))
                    judgement = judgement._replace(reaction=Reaction.FAILED)
                case "bounce-rcpt" if stage is Stage.RCPT:
                    judgement = judgement._replace(reaction=Reaction.FAILED)
                case "defer-queue":
                    judgement = judgement._replace(reaction=Reaction.RETRY_QUEUE)
                case "skip-mx":
                    judgement = judgement._replace(reaction=Reaction.RETRY_NOW, skips_host=True)
        return judgement._replace(
            measures=tuple(measures), is_ordered=not names.isdisjoint(FOR_THE_QUEUE), is_by_rule=True
        )

    def _by_bounce_rule(self, action: str, stage: Stage | None, reply: Reply) -> Judgement:
        match action:
            case "delete":
                return Judgement(Reaction.FAILED, wants_dsn=False)
            case "bounce":
                return FAILED
            case "retry":
                return RETRY_RECIPIENT
            case "backoff":
                return Judgement(Reaction.RETRY_RECIPIENT, (Measure(MeasureKind.BACKOFF),))
        return self._plain(stage, reply)


def length_of(action: ReplyAction) -> float | None:
    """How long an action says it lasts; None when it doesn't say (or says `never`)."""
    for name in LENGTHS:
        text = action.arguments.get(name)
        if text:
            return parse_interval(text)
    return None


def status_of(reply: Reply) -> str:
    """The enhanced code, or the one that the basic code stands for."""
    return reply.enhanced or f"{reply.code // 100}.0.0"
