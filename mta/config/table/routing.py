"""`<domain>`: where mail goes, over which protocol details, with which TLS, and other ways of delivery."""

from __future__ import annotations

from mta.config.kinds import Directive, Kind, Status
from mta.config.table.places import DOMAIN

__all__ = ["ROWS"]

NO = Status.NO_EFFECT
OLD = Status.DEPRECATED_ALIAS

_ROUTE = (
    Directive(
        "type",
        DOMAIN,
        Kind.ENUM,
        "smtp",
        "The way of delivery.",
        choices=("smtp", "pipe", "file", "discard", "http-delivery"),
    ),
    Directive(
        "smtp-hosts",
        DOMAIN,
        Kind.TEXT,
        None,
        "Hosts to deliver to instead of the MX: `,` between equals, `;` before the next choice, "
        "`host:port`, `[ip]:port`, or `lookup-mx:DOMAIN`.",
    ),
    Directive("route", DOMAIN, Kind.TEXT, None, "Old name of `smtp-hosts`.", OLD, alias_of="smtp-hosts"),
    Directive(
        "allow-loopback-mx",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "Whether an MX record may lead to an address of this machine (test beds); otherwise such a domain "
        "is refused as a loop.",
        Status.EXTENSION,
    ),
    Directive("default-smtp-port", DOMAIN, Kind.PORT, "25", "Port where the host list or the MX gives none."),
    Directive(
        "queue-to",
        DOMAIN,
        Kind.TEXT,
        None,
        "Puts the mail of several domains into one queue of this name.",
    ),
    Directive("disable-mx-rollup", DOMAIN, Kind.BOOLEAN, "no", "Keeps the domain out of every MX roll-up."),
    Directive(
        "bounce-upon-no-mx",
        DOMAIN,
        Kind.BOOLEAN_OR_INTERVAL,
        "no",
        "Whether a domain without MX bounces instead of being reached at its own address; with an age, mail "
        "that is older bounces when that address does not answer.",
    ),
)

_PROTOCOL = (
    Directive("bounce-upon-5xx-greeting", DOMAIN, Kind.BOOLEAN, "yes", "Whether a 5xx greeting is final."),
    Directive(
        "bounce-upon-transfer-failure",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "Bounces when the connection breaks inside a message.",
    ),
    Directive(
        "bounce-upon-pix-transfer-failure",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "The same behind an old PIX firewall.",
    ),
    Directive(
        "pix-bug-workaround",
        DOMAIN,
        Kind.BOOLEAN,
        "yes",
        "Sends the final dot in a packet of its own behind an old PIX firewall.",
    ),
    Directive(
        "assume-delivery-upon-data-termination-timeout",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "Counts a message as delivered when no reply comes after its final dot.",
    ),
    Directive(
        "allow-cancel-during-transfer",
        DOMAIN,
        Kind.BOOLEAN,
        "yes",
        "Whether a shutdown may break a message off.",
    ),
    Directive(
        "smtp-421-means-mx-unavailable",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "Leaves a host that answers 421 and goes to the next MX.",
    ),
    Directive(
        "421-means-mx-unavailable",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "Older name of `smtp-421-means-mx-unavailable`.",
        OLD,
        alias_of="smtp-421-means-mx-unavailable",
    ),
    Directive(
        "smtp-553-means-invalid-mailbox",
        DOMAIN,
        Kind.BOOLEAN,
        "yes",
        "Reads a bare 553 to RCPT as 5.1.1.",
    ),
    Directive(
        "replace-smtp-421-service-response",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "Keeps the words of a 421 out of bounces.",
    ),
    Directive("connect-timeout", DOMAIN, Kind.INTERVAL, "2m", "How long a TCP connection may take."),
    Directive("smtp-greeting-timeout", DOMAIN, Kind.INTERVAL, "5m", "How long to wait for the greeting."),
    Directive(
        "smtp-multiple-line-response-timeout",
        DOMAIN,
        Kind.INTERVAL,
        "5m",
        "How long a reply of several lines may take.",
    ),
    Directive(
        "data-send-timeout",
        DOMAIN,
        Kind.INTERVAL,
        "3m",
        "How long a receiver may stop reading inside a message.",
    ),
    Directive(
        "smtp-data-termination-timeout",
        DOMAIN,
        Kind.INTERVAL,
        "10m",
        "How long to wait for the reply after the final dot.",
    ),
    Directive(
        "ignore-8bitmime", DOMAIN, Kind.BOOLEAN, "no", "Acts as if the receiver did not offer 8BITMIME."
    ),
    Directive(
        "ignore-chunking",
        DOMAIN,
        Kind.BOOLEAN,
        "yes",
        "Acts as if the receiver did not offer CHUNKING; with `no` messages go in one BDAT where it does.",
    ),
    Directive(
        "ignore-pipelining",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "Acts as if the receiver did not offer PIPELINING.",
    ),
    Directive("ignore-dsn", DOMAIN, Kind.BOOLEAN, "no", "Acts as if the receiver did not offer DSN."),
    Directive("check-spf-outbound", DOMAIN, Kind.BOOLEAN, "no", "Sends only when SPF allows our address."),
    Directive("auth-username", DOMAIN, Kind.TEXT, None, "Login at the receiver."),
    Directive("auth-password", DOMAIN, Kind.TEXT, None, "Password of that login."),
    Directive("use-unencrypted-plain-auth", DOMAIN, Kind.BOOLEAN, "no", "Logs in without TLS too."),
)

_TLS = (
    Directive("use-starttls", DOMAIN, Kind.BOOLEAN, "yes", "Encrypts where the receiver can."),
    Directive(
        "require-starttls",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "Sends nothing in the clear: without TLS the queue waits.",
    ),
    Directive("use-dane", DOMAIN, Kind.BOOLEAN, "no", "Checks certificates against TLSA records.", NO),
    Directive("use-mta-sts", DOMAIN, Kind.BOOLEAN, "no", "Fetches and obeys MTA-STS policies.", NO),
    Directive("reuse-ssl-session", DOMAIN, Kind.BOOLEAN, "no", "Resumes TLS sessions.", NO),
    Directive(
        "smtp-tls-allow-sslv3",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "SSL 3 is broken, and never spoken.",
        Status.OBSOLETE,
    ),
    Directive(
        "smtp-tls-allow-tlsv1", DOMAIN, Kind.BOOLEAN, "no", "Whether TLS 1.0 may be spoken to receivers."
    ),
    Directive(
        "smtp-tls-allow-tlsv1.1",
        DOMAIN,
        Kind.BOOLEAN,
        "yes",
        "Whether TLS 1.1 may be spoken to receivers.",
    ),
    Directive(
        "smtp-tls-allow-tlsv1.2",
        DOMAIN,
        Kind.BOOLEAN,
        "yes",
        "Whether TLS 1.2 may be spoken to receivers.",
    ),
    Directive(
        "smtp-tls-allow-tlsv1.3",
        DOMAIN,
        Kind.BOOLEAN,
        "yes",
        "Whether TLS 1.3 may be spoken to receivers.",
    ),
    Directive(
        "smtp-tls-ciphers", DOMAIN, Kind.TEXT, "HIGH:!ADH:@STRENGTH", "OpenSSL cipher list up to TLS 1.2."
    ),
    Directive(
        "smtp-tls-tlsv1.3-ciphersuites",
        DOMAIN,
        Kind.TEXT,
        "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256",
        "Cipher suites of TLS 1.3.",
        NO,
    ),
    Directive(
        "smtp-tls-ca-file",
        DOMAIN,
        Kind.FILE,
        None,
        "Certificate authorities that receivers are checked with.",
    ),
    Directive("smtp-client-certificate", DOMAIN, Kind.FILE, None, "Certificate we show to receivers."),
)

_OTHER_TYPES = (
    Directive(
        "file-format",
        DOMAIN,
        Kind.ENUM,
        "newfile-plain",
        "Layout of files for `type file`.",
        choices=("newfile-plain", "newfile-pickup", "append-mbox"),
    ),
    Directive("file-destination", DOMAIN, Kind.TEXT, None, "Path for `type file`, with `$to` and its kin."),
    Directive("command", DOMAIN, Kind.TEXT, None, "Program for `type pipe`, with the same variables."),
    Directive(
        "macro-variables-preserve-case",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "Leaves upper case in those variables.",
    ),
    Directive(
        "discard-as-bounce", DOMAIN, Kind.BOOLEAN, "no", "Writes b records, not d, for discarded mail."
    ),
    Directive(
        "http-delivery-url",
        DOMAIN,
        Kind.TEXT,
        None,
        "Where `type http-delivery` posts to, `http://` or `https://`; the certificate is checked with "
        "`smtp-tls-ca-file` or the authorities of this machine.",
    ),
    Directive(
        "http-delivery-extra-headers",
        DOMAIN,
        Kind.FILE,
        None,
        "File with further headers of that request, one a line; it is read again for each connection.",
    ),
    Directive("add-x-msys-api-header", DOMAIN, Kind.BOOLEAN, None, "SparkPost's option header.", NO),
    Directive("sparkpost-sandbox", DOMAIN, Kind.BOOLEAN, "no", "SparkPost's sandbox option.", NO),
    Directive("sparkpost-ip-pool", DOMAIN, Kind.TEXT, None, "SparkPost's pool option.", NO),
)

ROWS: tuple[Directive, ...] = (*_ROUTE, *_PROTOCOL, *_TLS, *_OTHER_TYPES)
