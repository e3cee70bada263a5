"""`<domain>`: how many connections, how fast, how often, how long."""

from __future__ import annotations

from mta.config.kinds import Directive, Kind, Scope, Status
from mta.config.table.places import DOMAIN, TOP_AND_DOMAIN, VIRTUAL_MTA, only

__all__ = ["ROWS"]

NO = Status.NO_EFFECT
OLD = Status.DEPRECATED_ALIAS
OURS = Status.EXTENSION

_VMTA_AND_POOL = only(Scope.VIRTUAL_MTA, Scope.POOL)

_CONNECTIONS = (
    Directive(
        "max-smtp-out",
        DOMAIN,
        Kind.INTEGER,
        "20",
        "Connections of one queue (domain/vmta) at once.",
        minimum=0,
    ),
    Directive("backoff-max-smtp-out", DOMAIN, Kind.INTEGER, "20", "Connections of a queue in backoff."),
    Directive(
        "max-smtp-out-per-source-ip",
        DOMAIN,
        Kind.INTEGER,
        None,
        "Old form of `source-ip-max-smtp-out 0/0 N`.",
        OLD,
        alias_of="source-ip-max-smtp-out",
        alias_value="0/0 {}",
    ),
    Directive(
        "source-ip-max-smtp-out",
        DOMAIN,
        Kind.NETWORK_INTEGER,
        None,
        "Connections of a queue per local address in a network.",
        repeatable=True,
    ),
    Directive("max-connect-rate", DOMAIN, Kind.RATE, "unlimited", "New connections of a queue in a time."),
    Directive(
        "backoff-max-connect-rate",
        DOMAIN,
        Kind.RATE,
        None,
        "The same in backoff (default: `max-connect-rate`).",
    ),
    Directive(
        "source-ip-max-connect-rate",
        DOMAIN,
        Kind.NETWORK_RATE,
        None,
        "New connections per local address in a network.",
        repeatable=True,
    ),
    Directive(
        "connection-idle-timeout",
        DOMAIN,
        Kind.INTERVAL,
        "0",
        "How long a connection without work is kept for the next message.",
        maximum=600,
    ),
    Directive(
        "smtp-out-rampup-interval",
        DOMAIN,
        Kind.INTERVAL,
        "0",
        "Shortest time before a queue opens one more connection beside those it has.",
    ),
    Directive(
        "mx-connection-attempts",
        DOMAIN,
        Kind.INTEGER,
        "10",
        "Addresses of MX hosts tried one after the other before the queue waits.",
    ),
)

_RATES = (
    Directive(
        "max-msg-rate",
        DOMAIN,
        Kind.RATE,
        "unlimited",
        "Recipients that a queue tries in a time, failures included.",
    ),
    Directive(
        "backoff-max-msg-rate", DOMAIN, Kind.RATE, None, "The same in backoff (default: `max-msg-rate`)."
    ),
    Directive(
        "source-ip-max-msg-rate",
        DOMAIN,
        Kind.NETWORK_RATE,
        None,
        "Recipients tried per local address in a network.",
        repeatable=True,
    ),
    Directive(
        "max-msg-per-hour",
        DOMAIN,
        Kind.INTEGER,
        None,
        "Old form of `max-msg-rate N/h`.",
        OLD,
        alias_of="max-msg-rate",
        alias_value="{}/h",
    ),
    Directive(
        "backoff-max-msg-per-hour",
        DOMAIN,
        Kind.INTEGER,
        None,
        "Old form of `backoff-max-msg-rate N/h`.",
        OLD,
        alias_of="backoff-max-msg-rate",
        alias_value="{}/h",
    ),
    Directive(
        "max-data-volume-rate",
        DOMAIN,
        Kind.VOLUME_RATE,
        "unlimited",
        "Bytes that a queue delivers in a time.",
    ),
    Directive("backoff-max-data-volume-rate", DOMAIN, Kind.VOLUME_RATE, None, "The same in backoff."),
    Directive(
        "source-ip-max-data-volume-rate",
        DOMAIN,
        Kind.NETWORK_VOLUME_RATE,
        None,
        "Bytes per local address in a network.",
        repeatable=True,
    ),
    Directive(
        "max-msg-per-connection",
        DOMAIN,
        Kind.INTEGER,
        "0",
        "Messages after which a connection is closed and a new one opened; 0 is no limit.",
        minimum=0,
    ),
    Directive(
        "max-rcpt-per-message",
        DOMAIN,
        Kind.INTEGER,
        "1000",
        "Recipients in one transaction; the others of the message go in further ones.",
    ),
    Directive(
        "max-rcpt-per-transaction",
        DOMAIN,
        Kind.INTEGER,
        "1000",
        "Another name for `max-rcpt-per-message`.",
        OLD,
        alias_of="max-rcpt-per-message",
    ),
    Directive(
        "max-errors-per-connection",
        DOMAIN,
        Kind.INTEGER,
        "unlimited",
        "Refused recipients after which a connection is closed.",
    ),
)

_PRIORITY = (
    Directive(
        "queue-priority",
        DOMAIN,
        Kind.INTEGER,
        "50",
        "When connections are short, queues with a higher number get theirs first and may take others' away.",
        minimum=0,
        maximum=100,
    ),
    Directive(
        "delivery-priority",
        DOMAIN,
        Kind.INTEGER,
        None,
        "Old name of `queue-priority`.",
        OLD,
        alias_of="queue-priority",
    ),
    Directive(
        "allow-priority-interruption",
        DOMAIN,
        Kind.BOOLEAN,
        "yes",
        "Whether a queue of higher priority may take this one's connection between two messages.",
    ),
    Directive(
        "allow-priority-interruption-during-transfer",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "Even in the middle of a message, which is sent again later.",
    ),
)

_RETRY = (
    Directive(
        "retry-after",
        DOMAIN,
        Kind.INTERVALS,
        "10m",
        "Waits of a queue after each failure in a row, the last one repeating; a delivery starts the "
        "list anew.",
    ),
    Directive("backoff-retry-after", DOMAIN, Kind.INTERVALS, "1h", "The same in backoff."),
    Directive(
        "retry-recipients-after",
        DOMAIN,
        Kind.INTERVAL,
        "10m",
        "Wait of one recipient after a 4xx of its own.",
    ),
    Directive("retry-after-dns-error", DOMAIN, Kind.INTERVAL, "1m", "Wait of a queue after DNS failed."),
    Directive("retry-upon-new-mail", DOMAIN, Kind.BOOLEAN, "no", "New mail wakes a waiting queue."),
    Directive(
        "bounce-after",
        DOMAIN,
        Kind.INTERVAL,
        "4d12h",
        "Age at which a recipient that is still waiting bounces as message-expired.",
    ),
    Directive(
        "max-retries",
        DOMAIN,
        Kind.INTEGER,
        None,
        "Failed attempts after which a recipient bounces as message-expired, if `bounce-after` has not "
        "struck before.",
        OURS,
        minimum=0,
        hint="PowerMTA bounds retries by age only: bounce-after",
    ),
    Directive(
        "initial-pts",
        DOMAIN,
        Kind.INTEGER,
        None,
        "Seconds to wait after the first 4xx; each further wait is twice as long, up to `max-pts`.",
        OURS,
        minimum=0,
        hint="PowerMTA writes retry-after and retry-recipients-after",
    ),
    Directive(
        "max-pts",
        DOMAIN,
        Kind.INTEGER,
        None,
        "Longest wait, in seconds, that `initial-pts` grows to.",
        OURS,
        minimum=0,
        hint="PowerMTA writes retry-after",
    ),
    Directive(
        "pts-expiration",
        DOMAIN,
        Kind.INTEGER,
        None,
        "A companion of `initial-pts` seen on web pages; nothing is derived from it.",
        Status.FOREIGN,
        hint="write bounce-after",
    ),
    Directive(
        "notify-of-delay-every",
        DOMAIN,
        Kind.INTERVAL,
        "4h",
        "How often senders who asked for it (NOTIFY=DELAY) are told that mail is late; `never` tells nobody.",
    ),
)

_BACKOFF = (
    Directive(
        "backoff-notify",
        DOMAIN,
        Kind.ADDRESSES,
        None,
        "Whom to tell when a queue enters or leaves backoff.",
    ),
    Directive(
        "backoff-to-normal-after",
        DOMAIN,
        Kind.INTERVAL,
        "never",
        "Time after which backoff ends by itself.",
    ),
    Directive("backoff-to-normal-after-delivery", DOMAIN, Kind.BOOLEAN, "no", "A delivery ends backoff."),
    Directive(
        "backoff-upon-all-sources-disabled",
        DOMAIN,
        Kind.BOOLEAN,
        "no",
        "Backoff when no local address is left.",
    ),
    Directive(
        "backoff-reroute-to-virtual-mta",
        DOMAIN,
        Kind.TEXT,
        None,
        "Virtual MTA that takes the queue's mail over during backoff.",
    ),
    Directive(
        "reroute-to-virtual-mta",
        TOP_AND_DOMAIN,
        Kind.TEXT,
        None,
        "Virtual MTA that takes the queue's mail over.",
    ),
    Directive(
        "reenable-source-ip-after",
        DOMAIN,
        Kind.INTERVAL,
        "never",
        "How long a local address stays disabled for a queue.",
    ),
    Directive(
        "disabled-source-ip-notify",
        DOMAIN,
        Kind.ADDRESSES,
        None,
        "Whom to tell when a local address is disabled or comes back.",
    ),
    Directive(
        "smtp-pattern-list", DOMAIN, Kind.TEXT, None, "`<smtp-pattern-list>` with reactions to replies."
    ),
    Directive(
        "max-cold-virtual-mta-msg",
        DOMAIN,
        Kind.DAILY,
        "0/day",
        "Messages a day that go to each cold virtual MTA; one entry for each day, the last one repeating.",
    ),
)

_VIRTUAL_MTA = (
    Directive(
        "max-smtp-out",
        _VMTA_AND_POOL,
        Kind.INTEGER,
        "unlimited",
        "Connections of the whole virtual MTA at once, over all its queues.",
        minimum=0,
    ),
    Directive(
        "max-smtp-msg-rate",
        _VMTA_AND_POOL,
        Kind.RATE,
        "unlimited",
        "Recipients that the whole virtual MTA tries in a time.",
    ),
    Directive(
        "max-smtp-data-volume-rate",
        _VMTA_AND_POOL,
        Kind.VOLUME_RATE,
        "unlimited",
        "Bytes that the whole virtual MTA delivers in a time.",
    ),
    Directive(
        "virtual-mta",
        only(Scope.POOL),
        Kind.TEXT,
        None,
        "A member of the pool; members take turns.",
        repeatable=True,
    ),
    Directive(
        "cold-virtual-mta",
        _VMTA_AND_POOL,
        Kind.TEXT,
        None,
        "Virtual MTA that is being warmed up with some of this one's mail.",
        repeatable=True,
    ),
    Directive(
        "auto-cold-virtual-mta",
        VIRTUAL_MTA,
        Kind.WORDS,
        None,
        "`IP NAME`: an older way to write a cold virtual MTA. It is called as this one with `.cold` behind, "
        "and has everything of this one but the address.",
        repeatable=True,
    ),
)

ROWS: tuple[Directive, ...] = (*_CONNECTIONS, *_RATES, *_PRIORITY, *_RETRY, *_BACKOFF, *_VIRTUAL_MTA)
