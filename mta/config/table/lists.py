"""Lists of patterns: virtual MTA choice, reactions to replies, categories, roll-ups, rewriting."""

from __future__ import annotations

from mta.config.kinds import Directive, Kind, Scope, Status
from mta.config.table.places import only

__all__ = ["ROWS"]

NO = Status.NO_EFFECT
_PATTERNS = only(Scope.PATTERN_LIST)
_REPLIES = only(Scope.SMTP_PATTERN_LIST)

_PATTERN_LIST = (
    Directive(
        "header", _PATTERNS, Kind.ENTRY, None, "`NAME /regex/ RESULT`: looks at a header.", repeatable=True
    ),
    Directive(
        "mail-from",
        _PATTERNS,
        Kind.ENTRY,
        None,
        "`/regex/ RESULT`: looks at the envelope sender.",
        repeatable=True,
    ),
    Directive(
        "rcpt-to",
        _PATTERNS,
        Kind.ENTRY,
        None,
        "`/regex/ RESULT`: looks at the recipients; the first that fits decides for the message.",
        repeatable=True,
    ),
    Directive("*", _PATTERNS, Kind.ENTRY, None, "A result for whatever gets this far.", repeatable=True),
    Directive(
        "virtual-mta=", _PATTERNS, Kind.ENTRY, None, "Result: the virtual MTA or pool to send through."
    ),
    Directive(
        "recipient-priority=",
        _PATTERNS,
        Kind.ENTRY,
        None,
        "Result: the order inside the queue, 0 to 100; higher ones go first, others have 50.",
    ),
    Directive("call-to:", _PATTERNS, Kind.ENTRY, None, "Result: go on in another list."),
)

_REPLY_LIST = (
    Directive(
        "reply",
        _REPLIES,
        Kind.ENTRY,
        None,
        "`/regex/ ACTION[,ACTION...]`: what to do when a reply matches.",
        repeatable=True,
    ),
    Directive("mode=backoff", _REPLIES, Kind.ENTRY, None, "Action: the queue goes into backoff."),
    Directive("mode=normal", _REPLIES, Kind.ENTRY, None, "Action: the queue leaves backoff."),
    Directive(
        "backoff-to-normal-after=",
        _REPLIES,
        Kind.ENTRY,
        None,
        "After mode=backoff: how long, whatever the domain says.",
    ),
    Directive("skip-mx", _REPLIES, Kind.ENTRY, None, "Action: keep the mail and try the next MX."),
    Directive("bounce-queue", _REPLIES, Kind.ENTRY, None, "Action: bounce everything in the queue."),
    Directive("bounce-rcpt", _REPLIES, Kind.ENTRY, None, "Action: bounce this recipient."),
    Directive(
        "disable-source-ip",
        _REPLIES,
        Kind.ENTRY,
        None,
        "Action: leave the local address out of use for this queue.",
    ),
    Directive("reenable-after=", _REPLIES, Kind.ENTRY, None, "After disable-source-ip: how long."),
    Directive("defer-queue", _REPLIES, Kind.ENTRY, None, "Action: the queue waits as after a failure."),
)

_OTHERS = (
    Directive(
        "/regex/ category",
        only(Scope.BOUNCE_CATEGORY_PATTERNS),
        Kind.ENTRY,
        None,
        "The category of a result whose `X.Y.Z;reply` matches; the first line that fits decides. A "
        "block of yours replaces the default list.",
        repeatable=True,
    ),
    Directive(
        "mx",
        only(Scope.MX_ROLLUP_LIST),
        Kind.ENTRY,
        None,
        "`MX-PATTERN NAME.rollup [rollup-by-ip]`: puts domains with these MX hosts into one queue.",
        repeatable=True,
    ),
    Directive(
        "mail-from",
        only(Scope.REWRITE_LIST),
        Kind.ENTRY,
        None,
        "`FROM TO`: rewrites the envelope sender.",
        repeatable=True,
    ),
    Directive(
        "from-domain",
        only(Scope.REWRITE_LIST),
        Kind.ENTRY,
        None,
        "`PATTERN DOMAIN`: rewrites the domain in the From line.",
        repeatable=True,
    ),
)

ROWS: tuple[Directive, ...] = (*_PATTERN_LIST, *_REPLY_LIST, *_OTHERS)
