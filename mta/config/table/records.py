"""Accounting files, the reject log, the log, and the web monitor."""

from __future__ import annotations

from mta.config.kinds import Directive, Kind, Scope, Status
from mta.config.table.places import ACCT_FILE, GLOBAL, only

__all__ = ["ROWS"]

NO = Status.NO_EFFECT
OLD = Status.DEPRECATED_ALIAS
OURS = Status.EXTENSION

_REJECT_FILE = only(Scope.REJECT_FILE)
_FILES = only(Scope.ACCT_FILE, Scope.REJECT_FILE)
_TYPES = (
    "d",
    "b",
    "t",
    "tq",
    "r",
    "f",
    "rb",
    "rs",
    "delivery",
    "bounce",
    "transient",
    "transient-queue",
    "receipt",
    "received",
    "feedback-loop",
    "remote-bounce",
    "remote-status",
)

_FILE = (
    Directive(
        "records",
        ACCT_FILE,
        Kind.ENUMS,
        "d,b",
        "Record types to write: d delivered, b bounced, t deferred, tq queue deferred, r received; f, "
        "rb and rs come with the inbound processors.",
        choices=_TYPES,
    ),
    Directive(
        "records",
        _REJECT_FILE,
        Kind.ENUMS,
        "c,r",
        "What to write: c refused connections, r refused recipients and messages.",
        OURS,
        choices=("c", "r"),
    ),
    Directive(
        "record-fields",
        ACCT_FILE,
        Kind.ENTRY,
        "*",
        "`TYPE LIST`: columns of a record type in their order; `*` is all, `!x` leaves one out, "
        "`header_X` adds a header.",
        repeatable=True,
    ),
    Directive(
        "map-header-to-field",
        ACCT_FILE,
        Kind.ENTRY,
        None,
        "`TYPE header_X FIELD`: a header that replaces a field where the message has it.",
        repeatable=True,
    ),
    Directive(
        "map-header-to-column",
        ACCT_FILE,
        Kind.ENTRY,
        None,
        "Not a PowerMTA directive.",
        Status.FOREIGN,
        repeatable=True,
        hint="write map-header-to-field",
    ),
    Directive(
        "move-to",
        _FILES,
        Kind.DIRECTORY,
        None,
        "Directory, on the same file system, that finished files are moved to.",
    ),
    Directive(
        "move-interval",
        _FILES,
        Kind.INTERVAL,
        "1d",
        "How long a file is written before the next one is begun.",
    ),
    Directive(
        "max-size", _FILES, Kind.SIZE, "250M", "Size at which the next file is begun.", minimum=1 << 20
    ),
    Directive(
        "delete-after",
        _FILES,
        Kind.INTERVAL,
        "8d",
        "Age at which finished files are deleted; with `move-to` they never are.",
    ),
    Directive(
        "iso-times",
        _FILES,
        Kind.BOOLEAN,
        "yes",
        "Times as `2026-02-08 21:54:05+0000`; otherwise epoch seconds.",
    ),
    Directive("user-string", _FILES, Kind.TEXT, None, "Content of the field userString."),
    Directive("world-readable", _FILES, Kind.BOOLEAN, "no", "Lets every local user read the files."),
    Directive(
        "count-moved-records", _FILES, Kind.BOOLEAN, "no", "Logs how many records a finished file has.", NO
    ),
    Directive("sync", _FILES, Kind.BOOLEAN, "no", "Flushes records to the disk as they are written."),
    Directive(
        "queue-filter",
        ACCT_FILE,
        Kind.TEXTS,
        None,
        "Queues whose records are written; `!` in front leaves one out.",
        NO,
    ),
    Directive(
        "privacy-policy", ACCT_FILE, Kind.WORDS, "retain", "How the local parts of addresses are hidden.", NO
    ),
    Directive(
        "retry-interval", ACCT_FILE, Kind.INTERVAL, "5m", "Wait before a pipe's program is started again."
    ),
    Directive(
        "write-timeout",
        ACCT_FILE,
        Kind.INTERVAL,
        "1m",
        "How long a pipe's program may refuse to read before it is started anew.",
    ),
    Directive("http-webhook-url", ACCT_FILE, Kind.TEXT, None, "Posts records over HTTP.", NO),
    Directive(
        "http-webhook-extra-headers",
        ACCT_FILE,
        Kind.FILE,
        None,
        "File with further headers of that request.",
        NO,
    ),
    Directive("http-webhook-certificate", ACCT_FILE, Kind.FILE, None, "Client certificate for it.", NO),
    Directive("http-webhook-ca-file", ACCT_FILE, Kind.FILE, None, "Certificate authorities for it.", NO),
    Directive(
        "http-webhook-max-interval",
        ACCT_FILE,
        Kind.INTERVAL,
        "5m",
        "Age at which a batch is sent.",
        NO,
        minimum=60,
    ),
    Directive(
        "http-webhook-transfer-encoding",
        ACCT_FILE,
        Kind.ENUM,
        None,
        "Compression of batches.",
        NO,
        choices=("gzip",),
    ),
    Directive("http-webhook-log-verbose", ACCT_FILE, Kind.BOOLEAN, "no", "Logs more about the webhook.", NO),
    Directive(
        "http-webhook-connect-timeout",
        ACCT_FILE,
        Kind.INTERVAL,
        "5s",
        "How long its connection may take.",
        NO,
    ),
    Directive(
        "http-webhook-io-timeout", ACCT_FILE, Kind.INTERVAL, "5s", "How long its server may stay silent.", NO
    ),
)

_LOG = (
    Directive(
        "log-file",
        GLOBAL,
        Kind.FILE,
        None,
        "The server's own log; without it the log goes to standard error.",
    ),
    Directive(
        "log-rotate",
        GLOBAL,
        Kind.INTEGER,
        "8",
        "Log files that `mta rotate log` keeps, the current one included; 0 leaves rotation to others.",
    ),
    Directive("log-auto-rotation", GLOBAL, Kind.BOOLEAN, "yes", "Begins a new log file at midnight.", NO),
    Directive(
        "log-file-world-readable", GLOBAL, Kind.BOOLEAN, "no", "Lets every local user read the log.", NO
    ),
)

_MONITOR = (
    Directive("http-mgmt-port", GLOBAL, Kind.PORT, "8080", "Port of the web monitor; 0 is none.", NO),
    Directive(
        "http-redirect-to-https", GLOBAL, Kind.BOOLEAN, "yes", "Sends browsers from http to https.", NO
    ),
    Directive(
        "http-access",
        GLOBAL,
        Kind.WORDS,
        None,
        "`NETWORK none|monitor|operator|admin`: who may do what in the monitor; the first line that "
        "fits decides.",
        NO,
        repeatable=True,
    ),
    Directive(
        "http-csrf-protection",
        GLOBAL,
        Kind.BOOLEAN,
        "yes",
        "Changes nothing on a request another site could have made.",
        NO,
    ),
    Directive(
        "http-api-key",
        GLOBAL,
        Kind.TEXT,
        None,
        "Key that makes a request an administrator's.",
        NO,
        repeatable=True,
    ),
    Directive(
        "http-strict-transport-security-max-age",
        GLOBAL,
        Kind.INTEGER,
        "0",
        "Seconds for which browsers insist on https.",
        NO,
    ),
    Directive(
        "http-mgmt-source",
        GLOBAL,
        Kind.TEXT,
        None,
        "Old form of `http-access NETWORK admin`.",
        NO,
        repeatable=True,
        hint="write http-access",
    ),
    Directive(
        "no-http-mgmt-source",
        GLOBAL,
        Kind.TEXT,
        None,
        "Old form of `http-access NETWORK none`.",
        NO,
        repeatable=True,
        hint="write http-access",
    ),
    Directive(
        "http-tls-allow-sslv3",
        GLOBAL,
        Kind.BOOLEAN,
        "no",
        "SSL 3 is broken, and never spoken.",
        Status.OBSOLETE,
    ),
    Directive("http-tls-allow-tlsv1", GLOBAL, Kind.BOOLEAN, "no", "Whether the monitor speaks TLS 1.0.", NO),
    Directive(
        "http-tls-allow-tlsv1.1", GLOBAL, Kind.BOOLEAN, "no", "Whether the monitor speaks TLS 1.1.", NO
    ),
    Directive(
        "http-tls-allow-tlsv1.2", GLOBAL, Kind.BOOLEAN, "yes", "Whether the monitor speaks TLS 1.2.", NO
    ),
    Directive(
        "http-tls-allow-tlsv1.3", GLOBAL, Kind.BOOLEAN, "yes", "Whether the monitor speaks TLS 1.3.", NO
    ),
    Directive(
        "http-tls-ciphers", GLOBAL, Kind.TEXT, "HIGH:!ADH:@STRENGTH", "OpenSSL cipher list up to TLS 1.2.", NO
    ),
    Directive("http-tls-tlsv1.3-ciphersuites", GLOBAL, Kind.TEXT, None, "Cipher suites of TLS 1.3.", NO),
    Directive(
        "http-tls-dh-key-length",
        GLOBAL,
        Kind.ENUM,
        "1024",
        "Bits of the Diffie-Hellman group.",
        NO,
        choices=("1024", "2048", "4096"),
    ),
    Directive(
        "http-tls-ca-file", GLOBAL, Kind.FILE, None, "Certificate authorities for browsers' certificates.", NO
    ),
    Directive("http-log-tls", GLOBAL, Kind.BOOLEAN, "no", "Logs TLS handshakes of the monitor.", NO),
    Directive("http-log-requests", GLOBAL, Kind.BOOLEAN, "no", "Logs requests to the monitor.", NO),
    Directive("http-log-data", GLOBAL, Kind.BOOLEAN, "no", "Logs what the monitor sends and gets.", NO),
    Directive("http-default-max-items", GLOBAL, Kind.INTEGER, "10", "Rows on the monitor's lists.", NO),
    Directive(
        "http-default-sort-order",
        GLOBAL,
        Kind.ENUM,
        "rcpt",
        "Order of those rows.",
        NO,
        choices=("rcpt", "name", "size"),
    ),
)

ROWS: tuple[Directive, ...] = (*_FILE, *_LOG, *_MONITOR)
