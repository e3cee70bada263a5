"""What a row of the directive table is made of.

A `Directive` says everything the program knows about one name of the configuration language: where it may
stand, what its value looks like, what holds when nobody writes it, and whether it has an effect. The rows
themselves are in `mta.config.table`; `mta.config.directives` puts them together and answers look-ups.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Directive", "Kind", "Scope", "Status"]


class Kind(enum.Enum):
    """The shape of a value; the text of each member is what the reference page prints."""

    BOOLEAN = "yes or no"
    INTEGER = "number"  #: also `unlimited` (and `none`), which reads as 0
    PERCENT = "percentage (1..100)"
    INTERVAL = "interval"  #: 4d12h, 300s, 0; `never` reads as None
    INTERVALS = "list of intervals"  #: 10m,10m,1h,4h
    RATE = "rate"  #: 250/h, 100/15m; 0 and `unlimited` read as None
    SIZE = "size"  #: 50M, 10000K, plain bytes; 0 and `unlimited` read as None
    VOLUME_RATE = "size per time"  #: 2g/10h
    BOOLEAN_OR_INTERVAL = "yes, no, never or interval"
    ENUM = "one word of a set"  #: Directive.choices; when yes and no are among them, so are true and false
    ENUMS = "list of words of a set"
    TEXT = "text"
    TEXTS = "list"  #: comma separated
    ADDRESS = "e-mail address"
    ADDRESSES = "list of e-mail addresses"
    IP = "IP address"
    HOST_PORT = "address[:port]"  #: 127.0.0.1, 127.0.0.1:5353, [::1]:53
    PORT = "port"
    FILE = "file"
    DIRECTORY = "directory"
    HOST_NAME = "host name"
    DOMAIN_PATTERN = "domain pattern"  #: *, x.y, *.x.y, [*.]x.y, [ip/mask]
    NETWORK_INTEGER = "network and number"  #: 10.0.0.0/8 20
    NETWORK_RATE = "network and rate"
    NETWORK_VOLUME_RATE = "network and size per time"
    PATTERN_INTEGER = "domain pattern and number"  #: *.mx.example 20
    DAILY = "messages per day, day by day"  #: 50/day,100/day
    WORDS = "words"  #: several words with a meaning of their own, e.g. smtp-source-host IP NAME
    ENTRY = "entry"  #: one line of a list block (patterns, aliases, members), read by the code that builds it
    NOTHING = "no value"  #: accepted with any value or none


class Scope(enum.Enum):
    """The block a directive may stand in; the text of each member is the tag's name ('' = top level)."""

    GLOBAL = ""
    SOURCE = "source"
    DOMAIN = "domain"
    VIRTUAL_MTA = "virtual-mta"
    POOL = "virtual-mta-pool"
    ACCT_FILE = "acct-file"
    REJECT_FILE = "rejectlog-file"
    SPOOL = "spool"
    LISTENER = "smtp-listener"
    SMTP_USER = "smtp-user"
    SOURCE_GROUP = "source-group"
    BOUNCE_PROCESSOR = "bounce-processor"
    FEEDBACK_LOOP_PROCESSOR = "feedback-loop-processor"
    ADDRESS_LIST = "address-list"
    EMAIL_PATTERNS = "email-patterns"
    ALIASES = "aliases"
    PATTERN_LIST = "pattern-list"
    SMTP_PATTERN_LIST = "smtp-pattern-list"
    BOUNCE_CATEGORY_PATTERNS = "bounce-category-patterns"
    BOUNCE_RULE = "bounce-rule"
    MX_ROLLUP_LIST = "mx-rollup-list"
    REWRITE_LIST = "rewrite-list"
    DOMAIN_KEY_LIST = "domain-key-list"
    DNS = "dns"
    PROXY = "proxy"
    VAULT = "vault"
    TRANSMISSIONS_API = "transmissions-api"
    TRANSMISSIONS_API_LISTENER = "transmissions-api-listener"
    SIGNALS = "signals"
    SIGNALS_FILTER = "signals-filter"
    WORKER = "worker"


class Status(enum.Enum):
    """What happens when an operator writes the directive."""

    IN_FORCE = "in force"
    NO_EFFECT = "no effect yet"  #: known and checked, but nothing reads it: warned about
    OBSOLETE = "obsolete"  #: of a time that is over, and without effect for good: `doc` says why
    DEPRECATED_ALIAS = (
        "deprecated alias"  #: obeyed under `alias_of` (no warning is needed when it is only old)
    )
    EXTENSION = (
        "extension"  #: ours, not PowerMTA's; with `alias_of` it is obeyed under that name and warned about
    )
    FOREIGN = "not a directive"  #: seen in files, never PowerMTA's: accepted, warned about, never obeyed


@dataclass(frozen=True, slots=True)
class Directive:
    """One row of the table: one meaning of one name.

    A name with another meaning or default in another scope has a row for each meaning; no two rows may share
    both name and scope.
    """

    name: str  #: lower case, as written in files
    scopes: frozenset[Scope]
    kind: Kind
    default: str | None  #: as an operator would write it; None = nothing in force when it is not written
    doc: str  #: one sentence, ours
    status: Status = Status.IN_FORCE
    alias_of: str = ""  #: the name it is obeyed as, in the same scope
    repeatable: bool = False  #: every line counts; otherwise the last line wins
    choices: tuple[str, ...] = ()  #: for ENUM and ENUMS
    alias_value: str = "{}"  #: how an alias's value is written for `alias_of`, e.g. "{}/h"
    minimum: float | None = None  #: in base units (bytes, seconds, count)
    maximum: float | None = None
    hint: str = ""  #: what to write instead (foreign names, names without effect)
