"""Where mail comes in: listeners, their TLS, logins, relaying, the texts of our DSNs, pickup."""

from __future__ import annotations

from mta.config.kinds import Directive, Kind, Scope, Status
from mta.config.table.places import GLOBAL, LISTENER, LISTENERS, SOURCE, only

__all__ = ["ROWS"]

NO = Status.NO_EFFECT
OLD = Status.DEPRECATED_ALIAS

_SUITES = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
_CIPHERS = "HIGH:!ADH:@STRENGTH"


def _in_force_for_smtp(name: str, kind: Kind, default: str, doc: str) -> tuple[Directive, Directive]:
    """A row for both kinds of listeners, of which only SMTP's obey it yet."""
    api = only(Scope.TRANSMISSIONS_API_LISTENER)
    return Directive(name, LISTENER, kind, default, doc), Directive(name, api, kind, default, doc, NO)


_GLOBAL_LISTENERS = (
    Directive(
        "smtp-listener",
        GLOBAL,
        Kind.WORDS,
        "0.0.0.0:25",
        "`ADDRESS:PORT [source=NAME]`: where to listen for SMTP; `0/0` is every address.",
        repeatable=True,
    ),
    Directive(
        "smtp-ip",
        GLOBAL,
        Kind.IP,
        None,
        "Address to listen on; old form of `smtp-listener`.",
        hint="write smtp-listener ADDRESS:PORT",
    ),
    Directive(
        "smtp-port",
        GLOBAL,
        Kind.PORT,
        "25",
        "Port to listen on; old form of `smtp-listener`.",
        repeatable=True,
        hint="write smtp-listener ADDRESS:PORT",
    ),
    Directive(
        "smtp-await-slot",
        GLOBAL,
        Kind.BOOLEAN,
        "no",
        "Lets a client wait up to four minutes for its greeting when all inbound connections are taken, "
        "instead of answering 421; as many may wait as may be in.",
    ),
)

_SERVER_TLS = (
    Directive(
        "smtp-server-tls-certificate",
        GLOBAL,
        Kind.FILE,
        None,
        "`FILE [PASSWORD]`: PEM file with certificate chain and private key for STARTTLS.",
    ),
    Directive(
        "smtp-server-tls-ca-file",
        GLOBAL,
        Kind.FILE,
        None,
        "Certificate authorities that client certificates are checked with.",
        NO,
    ),
    Directive(
        "smtp-server-tls-allow-sslv3",
        GLOBAL,
        Kind.BOOLEAN,
        "no",
        "SSL 3 is broken, and never spoken.",
        Status.OBSOLETE,
    ),
    Directive(
        "smtp-server-tls-allow-tlsv1", GLOBAL, Kind.BOOLEAN, "no", "Whether clients may use TLS 1.0.", NO
    ),
    Directive(
        "smtp-server-tls-allow-tlsv1.1", GLOBAL, Kind.BOOLEAN, "no", "Whether clients may use TLS 1.1.", NO
    ),
    Directive(
        "smtp-server-tls-allow-tlsv1.2", GLOBAL, Kind.BOOLEAN, "yes", "Whether clients may use TLS 1.2."
    ),
    Directive(
        "smtp-server-tls-allow-tlsv1.3", GLOBAL, Kind.BOOLEAN, "yes", "Whether clients may use TLS 1.3."
    ),
    Directive("smtp-server-tls-ciphers", GLOBAL, Kind.TEXT, _CIPHERS, "OpenSSL cipher list up to TLS 1.2."),
    Directive(
        "smtp-server-tls-v1.3-ciphersuites", GLOBAL, Kind.TEXT, _SUITES, "Cipher suites of TLS 1.3.", NO
    ),
    Directive(
        "smtp-server-tls-dh-key-length",
        GLOBAL,
        Kind.ENUM,
        "1024",
        "Bits of the Diffie-Hellman group.",
        NO,
        choices=("1024", "2048", "4096"),
    ),
)

_DSN_TEXTS = (
    Directive("custom-dsn-from-header", GLOBAL, Kind.TEXT, None, "From line of the DSNs we write."),
    Directive(
        "dsn-failed-from-template",
        GLOBAL,
        Kind.TEXT,
        None,
        "From line of failure DSNs, with `${...}` variables.",
    ),
    Directive(
        "dsn-failed-subject-template",
        GLOBAL,
        Kind.TEXT,
        None,
        "Subject of failure DSNs, with `${...}` variables.",
    ),
    Directive(
        "dsn-failed-body-template-from",
        GLOBAL,
        Kind.FILE,
        None,
        "File with the text part of failure DSNs, with `${...}` variables: hostname, originator, recipient, "
        "subject, retryAfter, bounceAfter, date, timeQueued, response.",
    ),
)

_RELAYING = (
    Directive(
        "always-allow-relaying",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Whether clients of this source may send to every domain.",
    ),
    Directive(
        "allow-relay",
        SOURCE,
        Kind.BOOLEAN,
        "no",
        "Another name for `always-allow-relaying`.",
        Status.EXTENSION,
        alias_of="always-allow-relaying",
        hint="PowerMTA writes always-allow-relaying",
    ),
    Directive(
        "relay-domain",
        GLOBAL,
        Kind.DOMAIN_PATTERN,
        None,
        "Recipient domain that mail is accepted for from anybody; our own host names always are.",
        repeatable=True,
    ),
    Directive(
        "relay-address",
        GLOBAL,
        Kind.TEXT,
        None,
        "Recipient, or `/regex/` of recipients, that mail is accepted for from anybody.",
        repeatable=True,
    ),
    Directive(
        "relay-debug",
        GLOBAL,
        Kind.BOOLEAN,
        "no",
        "Refuses relaying with a 4xx, so that nothing bounces while rules are tried out.",
    ),
)

_LISTENER = (
    Directive(
        "source",
        LISTENER,
        Kind.TEXT,
        None,
        "`<source NAME>` whose settings are laid over those of the client's address.",
    ),
    Directive("immediate-tls", LISTENER, Kind.BOOLEAN, "no", "TLS from the first byte, as on port 465."),
    Directive("await-slot", LISTENER, Kind.BOOLEAN, "no", "`smtp-await-slot` for this listener."),
    Directive(
        "tls-certificate",
        LISTENER,
        Kind.FILE,
        None,
        "`FILE [PASSWORD]`: certificate of this listener in place of the server's.",
    ),
    Directive(
        "tls-certificate",
        only(Scope.TRANSMISSIONS_API_LISTENER),
        Kind.FILE,
        None,
        "`FILE [PASSWORD]`: certificate of the submission API.",
        NO,
    ),
    Directive(
        "tls-ca-file",
        LISTENERS,
        Kind.FILE,
        None,
        "Certificate authorities for client certificates on this listener.",
        NO,
    ),
    Directive(
        "tls-allow-sslv3",
        LISTENERS,
        Kind.BOOLEAN,
        "no",
        "SSL 3 is broken, and never spoken.",
        Status.OBSOLETE,
    ),
    Directive("tls-allow-tlsv1", LISTENERS, Kind.BOOLEAN, "no", "Whether this listener speaks TLS 1.0.", NO),
    Directive(
        "tls-allow-tlsv1.1", LISTENERS, Kind.BOOLEAN, "no", "Whether this listener speaks TLS 1.1.", NO
    ),
    *_in_force_for_smtp("tls-allow-tlsv1.2", Kind.BOOLEAN, "yes", "Whether this listener speaks TLS 1.2."),
    *_in_force_for_smtp("tls-allow-tlsv1.3", Kind.BOOLEAN, "yes", "Whether this listener speaks TLS 1.3."),
    *_in_force_for_smtp("tls-ciphers", Kind.TEXT, _CIPHERS, "OpenSSL cipher list up to TLS 1.2."),
    Directive("tls-tlsv1.3-ciphersuites", LISTENERS, Kind.TEXT, _SUITES, "Cipher suites of TLS 1.3.", NO),
    Directive(
        "tls-dh-key-length",
        LISTENERS,
        Kind.ENUM,
        "1024",
        "Bits of the Diffie-Hellman group.",
        NO,
        choices=("1024", "2048", "4096"),
    ),
)

_LOGINS = (
    Directive("password", only(Scope.SMTP_USER), Kind.TEXT, None, "Password of this login, as it is."),
    Directive(
        "authentication-method",
        only(Scope.SMTP_USER),
        Kind.ENUM,
        "password",
        "What proves the login; only `password` logs anybody in yet.",
        choices=("password", "certificate", "system"),
    ),
    Directive(
        "tls-certificate",
        only(Scope.SMTP_USER),
        Kind.FILE,
        None,
        "Client certificate that this login must show.",
        NO,
    ),
    Directive(
        "source",
        only(Scope.SMTP_USER),
        Kind.TEXT,
        "{auth}",
        "`<source NAME>` whose settings hold after this login.",
    ),
    Directive(
        "max-smtp-in",
        only(Scope.SOURCE_GROUP),
        Kind.INTEGER,
        "unlimited",
        "Inbound connections of all sources of the group together.",
    ),
    Directive(
        "reserved-smtp-in",
        only(Scope.SOURCE_GROUP),
        Kind.INTEGER,
        "unlimited",
        "Inbound connections of total-max-smtp-in that are kept free for the group.",
    ),
)

_PICKUP = (
    Directive(
        "pickup",
        GLOBAL,
        Kind.WORDS,
        None,
        "`DIRECTORY BAD-DIRECTORY`: takes message files from the first, puts the unusable ones into the "
        "second.",
    ),
    Directive(
        "pickup-retry-interval",
        GLOBAL,
        Kind.INTERVAL,
        None,
        "How often the pickup directory is looked through.",
    ),
    Directive("pickup-remove-dot", GLOBAL, Kind.BOOLEAN, "no", "Undoes dot stuffing in pickup files."),
    Directive(
        "dummy-smtp-ip",
        GLOBAL,
        Kind.IP,
        None,
        "Address of the dummy that `dummy-smtp-port` opens (default: all).",
    ),
    Directive(
        "dummy-smtp-port",
        GLOBAL,
        Kind.PORT,
        "0",
        "Port of a dummy that takes every message from whoever reaches it and keeps none; 0 is no dummy.",
    ),
    Directive("dummy-smtp-await-slot", GLOBAL, Kind.BOOLEAN, "no", "`smtp-await-slot` for the dummy."),
    Directive("dummy-smtp-has-chunking", GLOBAL, Kind.BOOLEAN, "no", "Whether the dummy offers CHUNKING."),
    Directive(
        "dummy-smtp-has-pipelining", GLOBAL, Kind.BOOLEAN, "no", "Whether the dummy offers PIPELINING."
    ),
    Directive("dummy-smtp-has-verp", GLOBAL, Kind.BOOLEAN, "no", "Whether the dummy offers VERP."),
    Directive("dummy-smtp-has-mailmerge", GLOBAL, Kind.BOOLEAN, None, "Whether the dummy offers mail merge."),
    Directive(
        "dummy-smtp-latency",
        GLOBAL,
        Kind.INTEGER,
        "0",
        "Milliseconds that the dummy waits before it answers to a message.",
    ),
    Directive(
        "dummy-smtp-update-stats",
        GLOBAL,
        Kind.BOOLEAN,
        "yes",
        "Whether `mta show status` counts what the dummy takes.",
    ),
    Directive(
        "dummy-smtp-blacklist",
        GLOBAL,
        Kind.FILE,
        None,
        "File with addresses and domains, one a line, that the dummy refuses with 550 5.1.1.",
    ),
    Directive("dummy-smtp-log-blacklist", GLOBAL, Kind.BOOLEAN, None, "Logs those refusals."),
    Directive(
        "dummy-smtp-blacklist-bounce-method",
        GLOBAL,
        Kind.TEXT,
        None,
        "`random` refuses half of those on the list, unless the percentage says otherwise; without it all.",
    ),
    Directive(
        "dummy-smtp-blacklist-bounce-percent",
        GLOBAL,
        Kind.PERCENT,
        None,
        "How many of those on the list the dummy refuses, chosen at random for each recipient.",
    ),
)

ROWS: tuple[Directive, ...] = (
    *_GLOBAL_LISTENERS,
    *_LISTENER,
    *_SERVER_TLS,
    *_LOGINS,
    *_RELAYING,
    *_DSN_TEXTS,
    *_PICKUP,
)
