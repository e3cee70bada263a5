"""`<source>`: what a client may do, and what is done to its mail."""

from __future__ import annotations

from mta.config.kinds import Directive, Kind, Scope, Status
from mta.config.table.places import SOURCE, only

__all__ = ["ROWS"]

NO = Status.NO_EFFECT

_HEADERS = (
    Directive(
        "add-date-header",
        SOURCE,
        Kind.ENUM,
        "no",
        "Adds a Date line when there is none; `override` also replaces one.",
        choices=("no", "yes", "override"),
    ),
    Directive(
        "date-header-time",
        SOURCE,
        Kind.ENUM,
        "reception",
        "Which time an added Date line tells: when the message came, or when it goes.",
        choices=("reception", "delivery"),
    ),
    Directive("add-message-id-header", SOURCE, Kind.BOOLEAN, "no", "Adds a Message-ID when there is none."),
    Directive("add-received-header", SOURCE, Kind.BOOLEAN, "yes", "Puts our Received line on top."),
    Directive(
        "remove-received-headers",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Takes the Received lines away that the message came with.",
    ),
    Directive(
        "hide-message-source",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Leaves the client's name and address out of our Received line.",
    ),
    Directive(
        "remove-header",
        only(Scope.SOURCE, Scope.DOMAIN),
        Kind.TEXTS,
        None,
        'Header lines that are not sent on; `""` takes an inherited list back.',
    ),
    Directive("bcc", SOURCE, Kind.ADDRESS, None, "Address that gets a copy of every message of this source."),
)

_AUTH = (
    Directive("allow-auth", SOURCE, Kind.BOOLEAN, "yes", "Whether AUTH is offered."),
    Directive("require-auth", SOURCE, Kind.BOOLEAN, "no", "Takes no mail before a login."),
    Directive(
        "smtp-max-auth-failure-rate",
        SOURCE,
        Kind.RATE,
        "unlimited",
        "Failed logins in a time after which the client is locked out.",
    ),
    Directive(
        "allow-unencrypted-plain-auth",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Lets passwords cross a connection without TLS.",
    ),
    Directive(
        "allow-starttls", SOURCE, Kind.BOOLEAN, "no", "Whether STARTTLS is offered; needs a certificate."
    ),
    Directive("require-starttls-before-auth", SOURCE, Kind.BOOLEAN, "no", "Offers AUTH only inside TLS."),
    Directive(
        "broken-auth-clients",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Offers logins in a second EHLO line, `AUTH=`, for clients from before RFC 2554.",
    ),
)

_EXTENSIONS = (
    Directive("verp-default", SOURCE, Kind.BOOLEAN, "no", "Gives each recipient a return path of its own."),
    Directive("allow-mailmerge", SOURCE, Kind.BOOLEAN, "no", "Offers PowerMTA's mail-merge commands."),
    Directive(
        "always-allow-api-submission",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Another way to write `allow-mailmerge`.",
        Status.DEPRECATED_ALIAS,
        alias_of="allow-mailmerge",
    ),
    Directive("allow-chunking", SOURCE, Kind.BOOLEAN, "yes", "Offers CHUNKING (BDAT)."),
    Directive("allow-smtputf8", SOURCE, Kind.BOOLEAN, "yes", "Offers SMTPUTF8."),
)

_INBOUND_CHECKS = (
    Directive(
        "check-dkim-inbound", SOURCE, Kind.BOOLEAN, "no", "Verifies DKIM signatures of incoming mail.", NO
    ),
    Directive(
        "trace-dkim-check",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Writes the DNS work of that check into the result header.",
        NO,
    ),
    Directive("check-spf-inbound", SOURCE, Kind.BOOLEAN, "no", "Checks SPF of incoming mail.", NO),
    Directive(
        "check-spf-inbound-best-guess",
        SOURCE,
        Kind.NOTHING,
        None,
        "A guess about domains without SPF is no result, and PowerMTA has dropped it.",
        Status.OBSOLETE,
    ),
    Directive(
        "check-spf-inbound-max-void-lookups",
        SOURCE,
        Kind.INTEGER,
        "2",
        "Empty DNS answers that SPF puts up with.",
        NO,
    ),
    Directive(
        "trace-spf-check",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Writes the DNS work of the SPF check into the result header.",
        NO,
    ),
    Directive(
        "reject-spf-check-temperror",
        SOURCE,
        Kind.BOOLEAN,
        "yes",
        "Puts mail off when SPF can't be looked up.",
        NO,
    ),
    Directive(
        "reject-spf-check-permerror",
        SOURCE,
        Kind.BOOLEAN,
        "yes",
        "Refuses mail when the SPF record is wrong.",
        NO,
    ),
    Directive("reject-spf-check-fail", SOURCE, Kind.BOOLEAN, "yes", "Refuses mail that SPF forbids.", NO),
    Directive("check-iprev-inbound", SOURCE, Kind.BOOLEAN, "no", "Checks the client's reverse DNS.", NO),
    Directive(
        "trace-iprev-check",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Writes the DNS work of that check into the result header.",
        NO,
    ),
    Directive(
        "reject-iprev-check-temperror",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Puts mail off when reverse DNS can't be looked up.",
        NO,
    ),
    Directive(
        "reject-iprev-check-permerror",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Refuses mail when reverse DNS is wrong.",
        NO,
    ),
    Directive(
        "reject-iprev-check-fail",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Refuses mail when reverse DNS does not lead back.",
        NO,
    ),
    Directive(
        "check-mfrom-inbound",
        SOURCE,
        Kind.BOOLEAN,
        None,
        "Sender ID (RFC 4406) was given up: SPF and DMARC say what it was to say.",
        Status.OBSOLETE,
        hint="write check-spf-inbound",
    ),
)

_DSN = (
    Directive(
        "suppress-local-dsn",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Writes no DSN for mail of this source; accounting is the same.",
    ),
    Directive(
        "dsn-return-default",
        SOURCE,
        Kind.ENUM,
        "system",
        "What a DSN returns when the client did not say.",
        choices=("headers", "full", "system"),
    ),
)

_VIRTUAL_MTA = (
    Directive(
        "default-virtual-mta",
        SOURCE,
        Kind.TEXT,
        None,
        "Virtual MTA or pool for mail that names none; `by-smtp-source-ip` takes the one that owns the "
        "address the client connected to.",
    ),
    Directive(
        "reject-invalid-virtual-mta",
        SOURCE,
        Kind.BOOLEAN,
        "yes",
        "Refuses mail that names a virtual MTA we don't have.",
    ),
    Directive(
        "allow-empty-x-virtual-mta",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Lets an empty x-virtual-mta header stand for the default.",
    ),
    Directive(
        "process-x-virtual-mta",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Obeys the header x-virtual-mta and takes it out.",
    ),
    Directive("retain-x-virtual-mta", SOURCE, Kind.BOOLEAN, "no", "Leaves that header in."),
    Directive("add-x-virtual-mta-header", SOURCE, Kind.BOOLEAN, "no", "Adds x-virtual-mta to what is sent."),
    Directive("pattern-list", SOURCE, Kind.TEXT, None, "`<pattern-list>` that chooses the virtual MTA."),
    Directive(
        "rewrite-list",
        only(Scope.SOURCE, Scope.VIRTUAL_MTA, Scope.POOL),
        Kind.TEXT,
        None,
        "`<rewrite-list>` for sender addresses.",
    ),
)

_CONTROL_HEADERS = (
    Directive(
        "process-x-job",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Takes the job id from the header x-job and takes the header out.",
    ),
    Directive("retain-x-job", SOURCE, Kind.BOOLEAN, "no", "Leaves that header in."),
    Directive(
        "jobid-header",
        SOURCE,
        Kind.TEXT,
        None,
        "Another header to take the job id from when x-job gives none.",
    ),
    Directive(
        "jobid-prefix",
        SOURCE,
        Kind.TEXT,
        None,
        "Text in front of every job id; `{auth}` is the login's name.",
    ),
    Directive(
        "process-x-envid",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Takes the envelope id from the header x-envid and takes the header out.",
    ),
    Directive("process-x-dkim-options", SOURCE, Kind.BOOLEAN, "no", "Obeys the header X-DKIM-Options."),
    Directive("retain-x-dkim-options", SOURCE, Kind.BOOLEAN, "no", "Leaves that header in."),
    Directive(
        "process-x-dkim-key",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Signs with the private key in the header X-DKIM-Key.",
    ),
    Directive("retain-x-dkim-key", SOURCE, Kind.BOOLEAN, "no", "Leaves that header in, key and all."),
    Directive(
        "process-x-schedule",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Sends in the windows that the header x-schedule gives (`YYYY-MM-DD HH:MM:SS / YYYY-MM-DD HH:MM:SS`, "
        "more behind commas), which stand instead of `bounce-after`; takes the header out.",
    ),
    Directive("retain-x-schedule", SOURCE, Kind.BOOLEAN, "no", "Leaves that header in."),
)

_LIMITS = (
    Directive(
        "suppression-lists",
        SOURCE,
        Kind.TEXTS,
        None,
        "`<address-list>` blocks with recipients that are refused.",
    ),
    Directive(
        "accept-invalid-recipients",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Takes recipients that would be refused and bounces them at once.",
    ),
    Directive(
        "max-message-size",
        SOURCE,
        Kind.SIZE,
        "unlimited",
        "Largest message in bytes, announced with SIZE; 0 is no limit.",
    ),
    Directive(
        "max-message-hops",
        SOURCE,
        Kind.INTEGER,
        "100",
        "Received lines above which a message is taken for a loop.",
        minimum=1,
    ),
    Directive("max-rcpt-per-message", SOURCE, Kind.INTEGER, "0", "Recipients of one message; 0 is no limit."),
    Directive(
        "too-many-rcpts-fails-message",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Refuses the whole message when it has too many recipients, not just the extra ones.",
    ),
    Directive(
        "source-group",
        SOURCE,
        Kind.TEXT,
        None,
        "`<source-group>` whose limits count this source's connections.",
    ),
    Directive("smtp-service", SOURCE, Kind.BOOLEAN, "yes", "With `no` the greeting is a refusal."),
    Directive(
        "smtp-command-timeout",
        SOURCE,
        Kind.INTERVAL,
        "10m",
        "How long a client may take for its next command.",
    ),
    Directive(
        "smtp-data-timeout", SOURCE, Kind.INTERVAL, "10m", "How long a client may pause inside a message."
    ),
    Directive(
        "disconnect-on-transient-error",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Drops the connection where a 4xx would be the answer.",
    ),
    Directive("auto-qualify-domain", SOURCE, Kind.BOOLEAN, "yes", "Completes host names without a dot."),
)

_BOTH_SIDES = only(Scope.SOURCE, Scope.DOMAIN)
_LOGGING = (
    Directive("log-connections", _BOTH_SIDES, Kind.BOOLEAN, "no", "Logs when connections open and close."),
    Directive("log-commands", _BOTH_SIDES, Kind.BOOLEAN, "no", "Logs the SMTP dialogue."),
    Directive(
        "log-data",
        _BOTH_SIDES,
        Kind.BOOLEAN,
        "no",
        "Logs the SMTP dialogue and the lines of the messages as well.",
    ),
    Directive(
        "log-tls",
        _BOTH_SIDES,
        Kind.BOOLEAN,
        "no",
        "Logs for each connection which TLS it uses, if any.",
    ),
)

ROWS: tuple[Directive, ...] = (
    *_AUTH,
    *_LIMITS,
    *_VIRTUAL_MTA,
    *_CONTROL_HEADERS,
    *_HEADERS,
    *_DSN,
    *_EXTENSIONS,
    *_INBOUND_CHECKS,
    *_LOGGING,
)
