"""`<domain>`: DKIM, DSNs, and what is recorded about deliveries."""

from __future__ import annotations

from mta.config.kinds import Directive, Kind, Scope, Status
from mta.config.table.places import DOMAIN, GLOBAL, only

__all__ = ["ROWS"]

NO = Status.NO_EFFECT
OURS = Status.EXTENSION
_CANON = ("simple", "relaxed")
_ALGORITHMS = ("rsa-sha1", "rsa-sha256", "ed25519-sha256")

_DKIM = (
    Directive(
        "dkim-sign",
        DOMAIN,
        Kind.ENUM,
        "no",
        "Signs mail for this destination with the `domain-key` that fits the sender.",
        choices=("yes", "no", "if-x-dkim-options-present"),
    ),
    Directive(
        "dk-sign",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "DomainKeys (RFC 4870) gave way to DKIM in 2007, and no receiver checks it.",
        Status.OBSOLETE,
        hint="write dkim-sign",
    ),
    Directive(
        "dkim-algorithm",
        DOMAIN,
        Kind.ENUM,
        "rsa-sha256",
        "Which kind of key signs where there are several (not written: one of each); rsa-sha1 is taken for "
        "rsa-sha256, ed25519-sha256 is our extension.",
        choices=_ALGORITHMS,
    ),
    Directive(
        "dkim-body-canon", DOMAIN, Kind.ENUM, "relaxed", "Canonicalisation of the body.", choices=_CANON
    ),
    Directive(
        "dkim-headers-canon", DOMAIN, Kind.ENUM, "relaxed", "Canonicalisation of the headers.", choices=_CANON
    ),
    Directive("dkim-headers", DOMAIN, Kind.TEXTS, None, "Headers to sign besides the usual ones."),
    Directive(
        "dkim-disallow-adding-headers",
        DOMAIN,
        Kind.TEXTS,
        None,
        "Headers that nobody may add afterwards without breaking the signature.",
    ),
    Directive(
        "dkim-identity",
        DOMAIN,
        Kind.TEXT,
        "sender-or-from",
        "Address or domain that signs; the default takes the Sender line, else From.",
    ),
    Directive(
        "dkim-identity-fallback", DOMAIN, Kind.TEXT, None, "Another one for when no key fits the first."
    ),
    Directive(
        "dkim-add-body-limit",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "Signs only the length the body has now: anybody can add text to such mail (RFC 6376 8.2).",
    ),
    Directive("dkim-add-timestamp", DOMAIN, Kind.BOOLEAN, "no", "Writes the time of signing."),
    Directive(
        "dkim-expire-after", DOMAIN, Kind.INTERVAL, "never", "Age at which the signature stops being valid."
    ),
    Directive("dkim-query-method", DOMAIN, Kind.TEXT, None, "The q= tag."),
    Directive(
        "second-dkim-sign",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "Adds a second signature with settings of its own.",
    ),
    Directive(
        "second-dkim-identity",
        DOMAIN,
        Kind.TEXT,
        "sender-or-from",
        "`dkim-identity` of the second signature.",
    ),
    Directive(
        "second-dkim-identity-fallback",
        DOMAIN,
        Kind.TEXT,
        None,
        "`dkim-identity-fallback` of the second signature.",
    ),
    Directive(
        "second-dkim-algorithm",
        DOMAIN,
        Kind.ENUM,
        "rsa-sha256",
        "`dkim-algorithm` of the second signature.",
        choices=_ALGORITHMS,
    ),
    Directive(
        "second-dkim-body-canon",
        DOMAIN,
        Kind.ENUM,
        "relaxed",
        "`dkim-body-canon` of the second signature.",
        choices=_CANON,
    ),
    Directive(
        "second-dkim-headers-canon",
        DOMAIN,
        Kind.ENUM,
        "relaxed",
        "`dkim-headers-canon` of the second signature.",
        choices=_CANON,
    ),
    Directive("second-dkim-headers", DOMAIN, Kind.TEXTS, None, "`dkim-headers` of the second signature."),
    Directive(
        "second-dkim-disallow-adding-headers",
        DOMAIN,
        Kind.TEXTS,
        None,
        "`dkim-disallow-adding-headers` of the second signature.",
    ),
    Directive(
        "second-dkim-add-body-limit",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "`dkim-add-body-limit` of the second signature.",
    ),
    Directive(
        "second-dkim-add-timestamp",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "`dkim-add-timestamp` of the second signature.",
    ),
    Directive(
        "second-dkim-expire-after",
        DOMAIN,
        Kind.INTERVAL,
        "never",
        "`dkim-expire-after` of the second signature.",
    ),
    Directive(
        "second-dkim-query-method",
        DOMAIN,
        Kind.TEXT,
        None,
        "`dkim-query-method` of the second signature.",
    ),
)

_DSN = (
    Directive(
        "deliver-local-dsn",
        DOMAIN,
        Kind.BOOLEAN,
        "yes",
        "Whether we write DSNs about mail to this domain.",
    ),
    Directive(
        "deliver-bounces",
        DOMAIN,
        Kind.BOOLEAN,
        "yes",
        "Another name for `deliver-local-dsn`.",
        OURS,
        alias_of="deliver-local-dsn",
        hint="PowerMTA writes deliver-local-dsn, or suppress-local-dsn in <source>",
    ),
    Directive(
        "dsn-format",
        DOMAIN,
        Kind.ENUM,
        "standard",
        "Shape of our DSNs: a report that programs can read, or one text.",
        choices=("standard", "plain-text"),
    ),
    Directive("bcc-upon-delivery", DOMAIN, Kind.ADDRESS, None, "Address that gets a copy of delivered mail."),
)

_RECORDS = (
    Directive(
        "disable-acct-records",
        DOMAIN,
        Kind.ENUMS,
        None,
        "Record types that are not written for this queue.",
        choices=("d", "b", "t", "tq"),
    ),
    Directive(
        "track-recipient-events",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "Keeps a queue's last 50 results in memory for the operator.",
    ),
    Directive(
        "max-events-recorded",
        DOMAIN,
        Kind.INTEGER,
        "10",
        "Errors of a domain that are kept for the operator.",
    ),
    Directive("log-resolution", DOMAIN, Kind.BOOLEAN, "no", "Logs DNS work."),
    Directive(
        "log-transfer-failures",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "Logs connections that break inside a message.",
    ),
    Directive("log-disabled-ips", DOMAIN, Kind.BOOLEAN, "no", "Logs when a local address is disabled."),
    Directive(
        "log-messages", DOMAIN, Kind.BOOLEAN, "no", "Logs mail that the bounce processor filtered.", NO
    ),
    Directive(
        "log-bounces",
        GLOBAL,
        Kind.BOOLEAN,
        "no",
        "Meant to log one line for each bounce; write b records to an <acct-file>.",
        NO,
        hint="PowerMTA writes b records to <acct-file>",
    ),
)

_RULES = (
    Directive(
        "regex",
        only(Scope.GLOBAL, Scope.BOUNCE_RULE),
        Kind.ENTRY,
        None,
        '`"PATTERN" action ACTION`: what to do with a recipient whose status and reply match: delete, '
        "bounce, retry or backoff.",
        repeatable=True,
    ),
)

ROWS: tuple[Directive, ...] = (*_DKIM, *_DSN, *_RECORDS, *_RULES)
