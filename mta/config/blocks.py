"""The tags of the language: which blocks exist, what their argument is, and where they may stand."""

from __future__ import annotations

import difflib
import enum
from dataclasses import dataclass

from mta.config.kinds import Scope, Status

__all__ = ["BLOCKS", "Argument", "BlockForm", "find_block", "suggest_block"]


class Argument(enum.Enum):
    """What follows the tag's name."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class BlockForm:
    """One tag; `parents` are the scopes it may stand in."""

    name: str
    scope: Scope
    argument: Argument
    doc: str
    parents: frozenset[Scope] = frozenset({Scope.GLOBAL})
    status: Status = Status.IN_FORCE
    example: str = ""  #: what an argument looks like


_ANYWHERE_OUTBOUND = frozenset({Scope.GLOBAL, Scope.VIRTUAL_MTA, Scope.POOL})
_PROCESSORS = frozenset({Scope.BOUNCE_PROCESSOR, Scope.FEEDBACK_LOOP_PROCESSOR})
_REQUIRED, _OPTIONAL, _NONE = Argument.REQUIRED, Argument.OPTIONAL, Argument.NONE

BLOCKS: tuple[BlockForm, ...] = (
    BlockForm(
        "source", Scope.SOURCE, _REQUIRED, "How to treat clients of one network.", example="10.0.0.0/8"
    ),
    BlockForm("smtp-listener", Scope.LISTENER, _REQUIRED, "Where to accept SMTP.", example="127.0.0.1:2525"),
    BlockForm("smtp-user", Scope.SMTP_USER, _REQUIRED, "A login of the listener.", example="app1"),
    BlockForm(
        "source-group",
        Scope.SOURCE_GROUP,
        _REQUIRED,
        "Connection limits shared by several sources.",
        example="partners",
    ),
    BlockForm(
        "domain",
        Scope.DOMAIN,
        _REQUIRED,
        "How to send to the domains of a pattern.",
        _ANYWHERE_OUTBOUND,
        example="*.example.com",
    ),
    BlockForm("virtual-mta", Scope.VIRTUAL_MTA, _REQUIRED, "A sending identity.", example="vmta1"),
    BlockForm(
        "virtual-mta-pool", Scope.POOL, _REQUIRED, "Virtual MTAs that are used in turn.", example="pool1"
    ),
    BlockForm(
        "acct-file", Scope.ACCT_FILE, _REQUIRED, "An accounting file or pipe.", example="/var/log/acct.csv"
    ),
    BlockForm(
        "rejectlog-file",
        Scope.REJECT_FILE,
        _REQUIRED,
        "A file of refused connections and recipients.",
        status=Status.EXTENSION,
        example="/var/log/rejects.csv",
    ),
    BlockForm("spool", Scope.SPOOL, _REQUIRED, "A directory for queued mail.", example="/var/spool/mta"),
    BlockForm("worker", Scope.WORKER, _REQUIRED, "One worker process.", status=Status.EXTENSION, example="0"),
    BlockForm(
        "smtp-pattern-list", Scope.SMTP_PATTERN_LIST, _REQUIRED, "Reactions to replies.", example="backoff"
    ),
    BlockForm(
        "bounce-category-patterns", Scope.BOUNCE_CATEGORY_PATTERNS, _NONE, "Names for kinds of failures."
    ),
    BlockForm(
        "bounce-rule",
        Scope.BOUNCE_RULE,
        _OPTIONAL,
        "What becomes of recipients whose reply matches.",
        status=Status.EXTENSION,
    ),
    BlockForm(
        "pattern-list",
        Scope.PATTERN_LIST,
        _OPTIONAL,
        "Chooses virtual MTAs by sender, recipient or header.",
        frozenset({Scope.GLOBAL, Scope.PATTERN_LIST}),
        example="choose",
    ),
    BlockForm(
        "domain-key-list", Scope.DOMAIN_KEY_LIST, _REQUIRED, "A named set of DKIM keys.", example="keys"
    ),
    BlockForm("rewrite-list", Scope.REWRITE_LIST, _REQUIRED, "Rewrites senders."),
    BlockForm("mx-rollup-list", Scope.MX_ROLLUP_LIST, _NONE, "Merges domains by MX."),
    BlockForm("aliases", Scope.ALIASES, _NONE, "Forwards local addresses."),
    BlockForm(
        "bounce-processor", Scope.BOUNCE_PROCESSOR, _OPTIONAL, "Reads returned mail.", status=Status.NO_EFFECT
    ),
    BlockForm(
        "feedback-loop-processor",
        Scope.FEEDBACK_LOOP_PROCESSOR,
        _OPTIONAL,
        "Reads complaint reports.",
        status=Status.NO_EFFECT,
    ),
    BlockForm(
        "address-list",
        Scope.ADDRESS_LIST,
        _OPTIONAL,
        "A list of addresses.",
        _PROCESSORS | {Scope.GLOBAL},
    ),
    BlockForm(
        "email-patterns",
        Scope.EMAIL_PATTERNS,
        _OPTIONAL,
        "Patterns of unusual reports.",
        _PROCESSORS,
        Status.NO_EFFECT,
    ),
    BlockForm("dns", Scope.DNS, _NONE, "The DNS cache."),
    BlockForm("proxy", Scope.PROXY, _REQUIRED, "A proxy for outbound mail."),
    BlockForm("vault", Scope.VAULT, _OPTIONAL, "A store of DKIM keys.", status=Status.NO_EFFECT),
    BlockForm(
        "transmissions-api",
        Scope.TRANSMISSIONS_API,
        _OPTIONAL,
        "Submission over HTTP.",
        status=Status.NO_EFFECT,
    ),
    BlockForm(
        "transmissions-api-listener",
        Scope.TRANSMISSIONS_API_LISTENER,
        _REQUIRED,
        "Where to accept submissions over HTTP.",
        status=Status.NO_EFFECT,
    ),
    BlockForm("signals", Scope.SIGNALS, _OPTIONAL, "A vendor's analytics.", status=Status.NO_EFFECT),
    BlockForm(
        "signals-filter", Scope.SIGNALS_FILTER, _REQUIRED, "What analytics get.", status=Status.NO_EFFECT
    ),
)

#: Other spellings of tags, seen in files or older versions.
_OTHER_NAMES = {
    "sparkpost-analytics": "signals",
    "bounce-rules": "bounce-rule",
    "reject-log-file": "rejectlog-file",
    "disk-queue": "spool",
    "vmta": "virtual-mta",
    "vmta-pool": "virtual-mta-pool",
}

_BY_NAME = {form.name: form for form in BLOCKS}


def find_block(name: str) -> BlockForm | None:
    """The form of the tag `name` (any case, older spellings too)."""
    low = name.lower()
    return _BY_NAME.get(_OTHER_NAMES.get(low, low))


def suggest_block(name: str) -> str:
    """The tag that was probably meant by `name`, or ''."""
    close = difflib.get_close_matches(name.lower(), _BY_NAME, n=1, cutoff=0.7)
    return close[0] if close else ""
