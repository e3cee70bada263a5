"""Blocks for other services: reports that come in, DNS, proxies, Vault, HTTP submission, SparkPost."""

from __future__ import annotations

from mta.config.kinds import Directive, Kind, Scope, Status
from mta.config.table.places import only

__all__ = ["ROWS"]

NO = Status.NO_EFFECT
OURS = Status.EXTENSION

_PROCESSORS = only(Scope.BOUNCE_PROCESSOR, Scope.FEEDBACK_LOOP_PROCESSOR)
_ADDRESSES = only(Scope.ADDRESS_LIST)
_PROXY = only(Scope.PROXY)
_API = only(Scope.TRANSMISSIONS_API, Scope.TRANSMISSIONS_API_LISTENER)
_SIGNALS = only(Scope.SIGNALS, Scope.SIGNALS_FILTER)

_INBOUND = (
    Directive(
        "deliver-unmatched-email",
        _PROCESSORS,
        Kind.BOOLEAN,
        None,
        "Sends mail on that was no report (default: yes, unless it is forwarded).",
        NO,
    ),
    Directive(
        "deliver-matched-email", _PROCESSORS, Kind.BOOLEAN, "no", "Sends reports on after recording them.", NO
    ),
    Directive("deliver-email", _PROCESSORS, Kind.NOTHING, None, "PowerMTA has dropped it.", NO),
    Directive(
        "forward-unmatched-to",
        _PROCESSORS,
        Kind.ADDRESS,
        None,
        "Who gets mail that was no report.",
        NO,
        repeatable=True,
    ),
    Directive(
        "forward-errors-to",
        _PROCESSORS,
        Kind.ADDRESS,
        None,
        "Who gets reports that could not be read.",
        NO,
        repeatable=True,
    ),
    Directive(
        "address",
        _ADDRESSES,
        Kind.TEXT,
        None,
        "An address, a local part or a `/regex/`.",
        repeatable=True,
    ),
    Directive(
        "address-file",
        _ADDRESSES,
        Kind.FILE,
        None,
        "File with one address or local part on each line.",
        repeatable=True,
    ),
    Directive("domain", _ADDRESSES, Kind.TEXT, None, "Every address of a domain.", repeatable=True),
    Directive(
        "body-pattern-file",
        only(Scope.EMAIL_PATTERNS),
        Kind.FILE,
        None,
        "File with regular expressions whose named groups are the fields of a report.",
        NO,
        repeatable=True,
    ),
    Directive(
        "log-match-info", only(Scope.EMAIL_PATTERNS), Kind.BOOLEAN, "no", "Logs which of them matched.", NO
    ),
)

_NETWORK = (
    Directive(
        "precached-domains-file",
        only(Scope.DNS),
        Kind.FILE,
        None,
        "File with domains, one a line, whose DNS answers are kept fresh.",
    ),
    Directive(
        "precached-refresh-interval",
        only(Scope.DNS),
        Kind.INTERVAL,
        "5m",
        "How often they are asked for, whatever the TTL of the answers.",
    ),
    Directive(
        "precached-max-domains", only(Scope.DNS), Kind.INTEGER, "500", "How many of the file are used."
    ),
    Directive("server", _PROXY, Kind.HOST_PORT, None, "Address of the proxy."),
    Directive(
        "client",
        _PROXY,
        Kind.WORDS,
        None,
        "`IP[:PORT] NAME`: the address at the proxy and the EHLO name for it.",
    ),
    Directive(
        "protocol-version", _PROXY, Kind.ENUM, "1", "Version of the HAProxy protocol.", choices=("1", "2")
    ),
    Directive("server-url", only(Scope.VAULT), Kind.TEXT, None, "The Vault server that keeps keys.", NO),
    Directive("access-token", only(Scope.VAULT), Kind.TEXT, None, "Token for it.", NO),
    Directive("cache-ttl", only(Scope.VAULT), Kind.INTERVAL, "24h", "How long a key from it is kept.", NO),
)

_HTTP = (
    Directive("api-key", _API, Kind.TEXT, None, "A key that may submit mail.", NO, repeatable=True),
    Directive("log-requests", _API, Kind.BOOLEAN, "no", "Logs submissions.", NO),
    Directive("log-data", _API, Kind.BOOLEAN, "no", "Logs what is sent and got.", NO),
    Directive("log-tls", _API, Kind.BOOLEAN, "no", "Logs TLS handshakes.", NO),
)

_SPARKPOST = (
    Directive("api-key", _SIGNALS, Kind.TEXT, None, "Key for SparkPost Signals.", NO),
    Directive("upload-url", _SIGNALS, Kind.TEXT, None, "Where its events are sent.", NO),
    Directive("engagement-tracking", _SIGNALS, Kind.TEXT, "no", "Tracks opens and clicks.", NO),
    Directive("enable-click-tracking", _SIGNALS, Kind.BOOLEAN, "yes", "Tracks clicks.", NO),
    Directive(
        "enable-top-open-pixel", _SIGNALS, Kind.BOOLEAN, "yes", "Tracks opens with an image at the top.", NO
    ),
    Directive(
        "enable-bottom-open-pixel",
        _SIGNALS,
        Kind.BOOLEAN,
        "yes",
        "Tracks opens with an image at the end.",
        NO,
    ),
    Directive("customer-id", _SIGNALS, Kind.TEXT, None, "Number of the SparkPost account.", NO),
    Directive("tracking-domain", _SIGNALS, Kind.TEXT, None, "Domain of the tracking links.", NO),
    Directive("use-https", _SIGNALS, Kind.BOOLEAN, None, "Makes those links https.", NO),
    Directive(
        "custom-message-id-header", _SIGNALS, Kind.TEXT, None, "Header that ties events to messages.", NO
    ),
    Directive(
        "process-x-sp-subaccount-id", _SIGNALS, Kind.BOOLEAN, "no", "Obeys the header X-SP-Subaccount-Id.", NO
    ),
    Directive("retain-x-sp-subaccount-id", _SIGNALS, Kind.BOOLEAN, "no", "Leaves that header in.", NO),
    Directive("log-verbose", _SIGNALS, Kind.BOOLEAN, "no", "Logs more about Signals.", NO),
    Directive("min-free-space", _SIGNALS, Kind.SIZE, "20M", "Free space under which events are dropped.", NO),
    Directive(
        "privacy-policy",
        _SIGNALS,
        Kind.ENUM,
        "retain",
        "How recipients are hidden.",
        NO,
        choices=("retain", "sha1"),
    ),
    Directive(
        "sender-or-from",
        _SIGNALS,
        Kind.ENTRY,
        None,
        "`PATTERN ACTION`: which senders take part.",
        NO,
        repeatable=True,
    ),
)

_WORKER = (
    Directive(
        "cpus",
        only(Scope.WORKER),
        Kind.TEXT,
        None,
        "Processors that this worker runs on, as in `0,2-3` (default: any).",
        Status.EXTENSION,
    ),
    Directive(
        "domains",
        only(Scope.WORKER),
        Kind.DOMAIN_PATTERN,
        None,
        "A domain pattern (or a macro) whose queues this worker owns; a worker with such lines serves no "
        "other domains.",
        Status.EXTENSION,
        repeatable=True,
    ),
    Directive(
        "role",
        only(Scope.WORKER),
        Kind.ENUM,
        "both",
        "Whether this worker takes mail in, delivers it, or both.",
        Status.EXTENSION,
        choices=("ingress", "delivery", "both"),
    ),
)

ROWS: tuple[Directive, ...] = (*_INBOUND, *_NETWORK, *_HTTP, *_SPARKPOST, *_WORKER)
